/**
 * A manager's port 2377: HTTP/2 over TLS 1.3. Whoever connects may present a certificate; which routes need one of this
 * cluster is decided here, route by route. What is not HTTP/2, or not understood, is closed or refused, and harms no one.
 *
 * With several managers only the one that leads (`lead` … `follow`, any number of times) lets agents in; one that follows names
 * the leader, and passes on to it what asks for certificates. What was passed on once is never passed on again.
 */
import {
  createSecureServer,
  type Http2SecureServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions } from 'node:tls';
import { timestamp, type Timer } from '../model/clock.ts';
import type { Identity, NodeRole } from '../pki/identity.ts';
import { attach, release, seen } from './attach.ts';
import { rootCaOf } from './authority.ts';
import { FrameError } from './frames.ts';
import { NotTheLeader, readJson, RequestError, respondError, respondJson, respondRefusal } from './http.ts';
import { join, renew } from './join.ts';
import { LeaderLink } from './leader-link.ts';
import {
  parseRenewalRequest,
  PATHS,
  PEER_HEADER,
  type AssertedPeer,
  type EtcdKind,
  type ManagerAddress,
} from './messages.ts';
import { NodeRemoved } from './node-writes.ts';
import { NO_CERTIFICATE, Peers, type Peer } from './peers.ts';
import { parsePlaceRequest, type GivePlace } from './place.ts';
import { Session } from './session.ts';
import { Sessions, type SessionsDeps } from './sessions.ts';
import { STREAM_ID_HEADER, Streams } from './streams.ts';
import { Tunnels, type ServeApi } from './tunnels.ts';

export interface DispatchOptions extends SessionsDeps {
  /** This manager's own certificate, which agents check; `useIdentity` brings the next one. */
  identity: Identity;
  /** Rejects with RequestError if nobody can take that role now. */
  checkRole?(role: NodeRole, etcd: EtcdKind): Promise<void>;
  /** Serves the API to other managers while this one leads. Absent: it is not served to them. */
  api?: ServeApi;
  /** Lets another manager in while this one leads. Absent: there can be no other. */
  givePlace?: GivePlace;
  /** The shortest time between two rounds of changes to one agent. */
  flushMs?: number;
  /** A connection on which nothing happens for so long is closed. Default 60 s. */
  idleMs?: number;
}

/** The time in which this manager leads. */
interface Term {
  sessions: Sessions;
  started: Promise<void>;
  /** All that has to be written before sessions are let in is written. */
  open: boolean;
  unwatch(): void;
}

interface Route {
  /**
   * Who may ask. Nodes of this cluster: those with a certificate, until they are removed from the store. Managers: those whose
   * certificate and whose row in the store say so.
   */
  who: 'anyone' | 'nodes' | 'managers';
  /** A manager that follows does not answer. */
  leaderOnly: boolean;
  /** While nobody leads it is kept for a moment: agents by the thousand need not dial again and again. */
  waits?: true;
  handle(stream: ServerHttp2Stream, peer: Peer, headers: IncomingHttpHeaders): Promise<void> | void;
}

const HANDSHAKE_MS = 10_000;
/** A connection on which nothing happens; sessions have heartbeats. */
const IDLE_MS = 60_000;
/** A plain request, from its headers to its answer. */
const REQUEST_MS = 10_000;
const CLOSE_MS = 1_500;
/** How long an agent is kept waiting for a leader: less than it waits for its welcome. */
const WAIT_MS = 3_000;
const DEFAULT_FLUSH_MS = 20;

export class DispatchServer {
  readonly #options: DispatchOptions;
  readonly #link: LeaderLink;
  readonly #tunnels: Tunnels | undefined;
  #identity: Identity;
  #term: Term | undefined;
  #closed = false;
  /** Ends the waiting of those that wait for somebody to lead. */
  readonly #waiting = new Set<() => void>();
  /** Logs, execs and the like of nodes. */
  readonly streams: Streams;
  readonly #server: Http2SecureServer;
  readonly #connections = new Set<ServerHttp2Session>();
  readonly #peers: Peers;
  /** Those that have not come as far as HTTP/2 too. */
  readonly #sockets = new Set<Socket>();
  readonly #routes: Record<string, Route>;

  constructor(options: DispatchOptions) {
    this.#options = options;
    this.#identity = options.identity;
    this.#peers = new Peers({ ...options, identity: () => this.#identity });
    this.#link = new LeaderLink({ ...options, identity: () => this.#identity });
    this.#tunnels = options.api && new Tunnels(options.api, options.clock);
    this.streams = new Streams({
      ...options,
      ask: (nodeId, streamId, request) => this.#term?.sessions.askForStream(nodeId, streamId, request) ?? false,
    });
    this.#routes = {
      [`GET ${PATHS.ca}`]: {
        who: 'anyone',
        leaderOnly: false,
        handle: (stream) => {
          const certificate = rootCaOf(options.store)?.certificate ?? this.#identity.rootCertificate;
          respondJson(stream, 200, { certificate, time: timestamp(options.clock.now()) });
        },
      },
      [`POST ${PATHS.certificate}`]: {
        who: 'anyone',
        leaderOnly: false,
        handle: (stream, peer, headers) => this.#inTime(stream, () => this.#join(stream, peer, headers)),
      },
      [`POST ${PATHS.renewal}`]: {
        who: 'nodes',
        leaderOnly: false,
        handle: (stream, peer, headers) => this.#inTime(stream, () => this.#renew(stream, peer, headers)),
      },
      [`POST ${PATHS.attach}`]: this.#nodeRequest((body, nodeId) => attach(options, body, nodeId)),
      [`POST ${PATHS.attachmentsSeen}`]: this.#nodeRequest((body, nodeId) => seen(options, body, nodeId)),
      [`POST ${PATHS.attachmentsRelease}`]: this.#nodeRequest((body, nodeId) => release(options, body, nodeId)),
      [`POST ${PATHS.session}`]: {
        who: 'nodes',
        leaderOnly: true,
        waits: true,
        handle: (stream, peer) => this.#openSession(stream, peer),
      },
      [`POST ${PATHS.stream}`]: {
        who: 'nodes',
        leaderOnly: true,
        handle: (stream, peer, headers) =>
          this.streams.accept(stream, peer.node!.nodeId, String(headers[STREAM_ID_HEADER])),
      },
      [`POST ${PATHS.api}`]: {
        who: 'managers',
        leaderOnly: true,
        handle: (stream, peer) => this.#tunnel(stream, peer),
      },
      [`POST ${PATHS.place}`]: {
        who: 'managers',
        leaderOnly: true,
        handle: (stream, peer) => this.#givePlace(stream, peer),
      },
    };
    this.#server = this.#createServer();
  }

  /**
   * Starts to serve; where the store leads already, as `lead` does, and before anybody can dial. Resolves with the port (0: any
   * free one).
   */
  async listen(host: string, port: number): Promise<number> {
    if (this.#options.store.leading) await this.lead();
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    this.#server.on('error', (error) => this.#options.log.error({ err: error }, 'the manager port failed'));
    return (this.#server.address() as AddressInfo).port;
  }

  /**
   * This manager leads, and its store takes writes: every node that was ready becomes `unknown` and has its time to come back,
   * then sessions are let in. Rejects if that cannot be written; then it follows. Idempotent until `follow`.
   */
  lead(): Promise<void> {
    this.#term ??= this.#newTerm();
    return this.#term.started;
  }

  /** It leads no more: sessions end in order, and their agents go on to the leader. Nothing is written afterwards. Idempotent. */
  follow(): void {
    const term = this.#term;
    this.#term = undefined;
    term?.unwatch();
    term?.sessions.close();
    this.streams.close();
  }

  /** Who leads, this manager included, as far as it knows: agents are told, and what is passed on goes there. */
  leaderIs(leader: ManagerAddress | undefined): void {
    this.#link.leaderIs(leader);
    if (leader !== undefined && leader.nodeId !== this.#identity.nodeId) this.#goOn();
  }

  #goOn(): void {
    for (const over of this.#waiting) over();
  }

  /**
   * A stream to the API of the manager that leads, over which HTTP/1.1 is spoken. It breaks as soon as another leads. Rejects with
   * LeaderAway, or the signal's reason.
   */
  tunnel(signal?: AbortSignal): Promise<Duplex> {
    return this.#link.tunnel(signal);
  }

  /** How many agents wait here for somebody to lead. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** How many streams to this manager's API stand. */
  get tunnels(): number {
    return this.#tunnels?.size ?? 0;
  }

  /** From the next connection on, this manager shows this certificate; connections that stand are left alone. */
  useIdentity(identity: Identity): void {
    this.#identity = identity;
    this.#server.setSecureContext(tlsContext(identity));
  }

  /** Tells the agents, and ends. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    this.follow();
    this.#goOn();
    this.#link.close();
    if (!this.#server.listening) return;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.close();
    const timer = this.#options.clock.after(CLOSE_MS, () => {
      for (const socket of this.#sockets) socket.destroy();
    });
    await closed;
    timer.cancel();
  }

  #createServer(): Http2SecureServer {
    const { identity, log, idleMs = IDLE_MS } = this.#options;
    const server = createSecureServer({
      ...tlsContext(identity),
      requestCert: true,
      rejectUnauthorized: false, // checked per route
      handshakeTimeout: HANDSHAKE_MS,
      settings: { maxConcurrentStreams: 1000, maxHeaderListSize: 8 * 1024 },
    });
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    server.on('session', (connection) => {
      this.#connections.add(connection);
      connection.on('close', () => this.#connections.delete(connection));
      connection.setTimeout(idleMs, () => connection.destroy());
      // Not by itself: on a connection for streams there may be nothing else for hours.
      connection.on('ping', () => connection.setTimeout(idleMs));
      connection.on('error', (error) => log.debug({ err: error }, 'a connection failed'));
    });
    server.on('tlsClientError', (error) => log.debug({ err: error }, 'a client that does not speak TLS as we do'));
    server.on('stream', (stream, headers) => this.#route(stream, headers));
    return server;
  }

  #route(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const { log } = this.#options;
    const request = `${headers[':method']} ${headers[':path']}`;
    stream.on('error', (error) => log.debug({ err: error, request }, 'a request failed'));
    const peer = this.#peers.of(stream);
    const route = Object.hasOwn(this.#routes, request) ? this.#routes[request] : undefined;
    if (route === undefined) this.#refuse(stream, new RequestError(404, 'page not found'));
    else this.#decide(route, stream, peer, { request, headers, mayWait: route.waits === true });
  }

  #decide(
    route: Route,
    stream: ServerHttp2Stream,
    peer: Peer,
    { mayWait, ...asked }: { request: string; headers: IncomingHttpHeaders; mayWait: boolean },
  ): void {
    const refusal = this.#refusal(route, peer);
    if (refusal === undefined) void this.#handle(route, stream, peer, asked);
    else if (mayWait && !this.#closed && refusal instanceof NotTheLeader && refusal.leader === '')
      this.#untilLed(() => {
        if (!stream.destroyed) this.#decide(route, stream, peer, { ...asked, mayWait: false });
      });
    else this.#refuse(stream, refusal);
  }

  /** Calls `then` as soon as somebody leads, or after a while. */
  #untilLed(then: () => void): void {
    const over = (): void => {
      timer.cancel();
      if (this.#waiting.delete(over)) then();
    };
    const timer = this.#options.clock.after(WAIT_MS, over);
    this.#waiting.add(over);
  }

  /** Why this peer is not answered, or undefined. */
  #refusal({ who, leaderOnly }: Route, peer: Peer): RequestError | undefined {
    if (who !== 'anyone' && peer.node === undefined) return new RequestError(401, peer.refusal);
    // Not looked up where it follows: its replica may not know yet of a node that is just coming.
    if (!this.#leads) return leaderOnly ? this.#notTheLeader() : undefined;
    if (who !== 'anyone' && this.#peers.rowOf(peer) === undefined)
      return new RequestError(410, new NodeRemoved().message);
    if (who === 'managers' && !this.#peers.isManager(peer))
      return new RequestError(403, 'only managers may ask for this');
    return undefined;
  }

  async #handle(
    route: Route,
    stream: ServerHttp2Stream,
    peer: Peer,
    { request, headers }: { request: string; headers: IncomingHttpHeaders },
  ): Promise<void> {
    try {
      await route.handle(stream, peer, headers);
    } catch (error) {
      this.#refuse(stream, error, request);
    }
  }

  #refuse(stream: ServerHttp2Stream, error: unknown, request?: string): void {
    if (error instanceof RequestError) respondRefusal(stream, error);
    else if (error instanceof FrameError) respondError(stream, 400, error.message);
    else {
      this.#options.log.error({ err: error, request }, 'a request could not be served');
      respondError(stream, 500, 'the manager could not serve this request; its log says why');
    }
    stream.resume(); // what still comes of the body goes nowhere
    stream.once('finish', () => stream.close());
  }

  async #join(stream: ServerHttp2Stream, peer: Peer, headers: IncomingHttpHeaders): Promise<void> {
    await this.#answer(stream, { path: PATHS.certificate, peer, headers }, (body, { node, address }) =>
      join(this.#options, body, node, address),
    );
  }

  async #renew(stream: ServerHttp2Stream, peer: Peer, headers: IncomingHttpHeaders): Promise<void> {
    await this.#answer(stream, { path: PATHS.renewal, peer, headers }, async (body, { node }) => {
      if (node === undefined) throw new RequestError(401, NO_CERTIFICATE);
      return { certificate: await renew(this.#options, parseRenewalRequest(body).csr, node.nodeId) };
    });
  }

  /** A plain request of a node: JSON in, JSON out (an empty object if there is nothing to say). */
  #nodeRequest(answer: (body: unknown, nodeId: string) => Promise<object | void>): Route {
    const handle = async (stream: ServerHttp2Stream, { node }: Peer): Promise<void> =>
      respondJson(stream, 200, (await answer(await readJson(stream), node!.nodeId)) ?? {});
    return {
      who: 'nodes',
      leaderOnly: true,
      handle: (stream, peer) => this.#inTime(stream, () => handle(stream, peer)),
    };
  }

  /** Answers a plain request for the peer or whom it speaks for, or has the leader answer it. */
  async #answer(
    stream: ServerHttp2Stream,
    { path, peer, headers }: { path: string; peer: Peer; headers: IncomingHttpHeaders },
    answer: (body: unknown, asker: AssertedPeer) => Promise<object>,
  ): Promise<void> {
    const asserted = headers[PEER_HEADER];
    const body = await readJson(stream);
    if (this.#leads) {
      const asker = asserted === undefined ? peer : this.#peers.assertedBy(peer, String(asserted));
      respondJson(stream, 200, await answer(body, asker));
      return;
    }
    if (asserted !== undefined) throw this.#notTheLeader();
    const { address, node } = peer;
    respondJson(stream, 200, (await this.#link.passOn(path, body, { address, node })) as object);
  }

  /** Without a limit of its own: who asks has one, and may ask again. */
  async #givePlace(stream: ServerHttp2Stream, { node }: Peer): Promise<void> {
    const { givePlace } = this.#options;
    if (givePlace === undefined) throw new RequestError(404, 'page not found');
    respondJson(stream, 200, await givePlace(node!.nodeId, parsePlaceRequest(await readJson(stream))));
  }

  #tunnel(stream: ServerHttp2Stream, peer: Peer): void {
    if (this.#tunnels === undefined) throw new RequestError(404, 'page not found');
    this.#tunnels.accept(stream, peer.node!.nodeId);
  }

  #newTerm(): Term {
    const { store } = this.#options;
    const sessions = new Sessions(this.#options, (nodeId) => this.streams.lost(nodeId));
    const unwatch = store.watch((events) => this.#tunnels?.changed(events));
    const started = store.leading
      ? sessions.start()
      : Promise.reject(new Error('the state of this manager takes no writes: it does not lead'));
    const term: Term = { sessions, unwatch, open: false, started };
    term.started.then(
      () => {
        term.open = true;
        if (this.#term === term) this.#goOn();
      },
      () => {
        if (this.#term === term) this.follow();
      },
    );
    return term;
  }

  get #leads(): boolean {
    return this.#term?.open === true && this.#options.store.leading;
  }

  #notTheLeader(): NotTheLeader {
    const { leader } = this.#link;
    // One that does not lead yet, or not any more, is not to be asked again at once.
    return new NotTheLeader(leader === undefined || leader.nodeId === this.#identity.nodeId ? '' : leader.address);
  }

  #openSession(stream: ServerHttp2Stream, peer: Peer): void {
    const { clock, log, flushMs = DEFAULT_FLUSH_MS } = this.#options;
    // oxlint-disable-next-line no-new -- it lives by the stream's events
    new Session(stream, {
      nodeId: peer.node!.nodeId,
      peerAddress: peer.address,
      host: this.#term!.sessions,
      clock,
      log,
      flushMs,
    });
  }

  async #inTime(stream: ServerHttp2Stream, handle: () => Promise<void>): Promise<void> {
    let timer: Timer | undefined;
    try {
      timer = this.#options.clock.after(REQUEST_MS, () => stream.close());
      await handle();
    } finally {
      timer?.cancel();
    }
  }
}

function tlsContext({ key, certificate, rootCertificate }: Identity): SecureContextOptions {
  return { key, cert: certificate, ca: rootCertificate, minVersion: 'TLSv1.3' };
}
