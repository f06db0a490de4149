/**
 * A manager's port 2377: HTTP/2 over TLS 1.3. Whoever connects may present a certificate; which routes need one of this
 * cluster is decided here, route by route. What is not HTTP/2, or not understood, is closed or refused, and harms no one.
 */
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { timestamp, type Timer } from '../model/clock.ts';
import {
  CertificateNotCurrent,
  parseCertificate,
  UntrustedCertificate,
  verifyCertificate,
  type CertifiedNode,
  type Identity,
  type NodeRole,
} from '../pki/identity.ts';
import type { RootCa } from '../pki/authority.ts';
import { attach, release, seen } from './attach.ts';
import { FrameError } from './frames.ts';
import { readJson, RequestError, respondError, respondJson } from './http.ts';
import { join, renew } from './join.ts';
import { parseRenewalRequest, PATHS } from './messages.ts';
import { NodeRemoved } from './node-writes.ts';
import { Session } from './session.ts';
import { Sessions, type SessionsDeps } from './sessions.ts';
import { STREAM_ID_HEADER, Streams } from './streams.ts';

export interface DispatchOptions extends SessionsDeps {
  /** The cluster's authority, key included. */
  root: RootCa;
  /** This manager's own certificate, which agents check; `useIdentity` brings the next one. */
  identity: Identity;
  /** The roles in which nodes may join. Default: both. */
  roles?: readonly NodeRole[];
  /** The shortest time between two rounds of changes to one agent. */
  flushMs?: number;
  /** A connection on which nothing happens for so long is closed. Default 60 s. */
  idleMs?: number;
}

/** Who asks: `node` if its certificate is of this cluster, else why it is not. */
interface Peer {
  address: string;
  node?: CertifiedNode;
  refusal: string;
}

interface Route {
  /** Whether only nodes of this cluster may ask: those with a certificate, until they are removed from the store. */
  nodesOnly: boolean;
  handle(stream: ServerHttp2Stream, peer: Peer, headers: IncomingHttpHeaders): Promise<void> | void;
}

const HANDSHAKE_MS = 10_000;
/** A connection on which nothing happens; sessions have heartbeats. */
const IDLE_MS = 60_000;
/** A plain request, from its headers to its answer. */
const REQUEST_MS = 10_000;
const CLOSE_MS = 1_500;
const DEFAULT_FLUSH_MS = 20;

export class DispatchServer {
  readonly #options: DispatchOptions;
  readonly #sessions: Sessions;
  /** Logs, execs and the like of nodes. */
  readonly streams: Streams;
  readonly #server: Http2SecureServer;
  readonly #connections = new Set<ServerHttp2Session>();
  /**
   * Who has proved on a connection to be a node. It counts for as long as the connection lasts: a certificate that expires
   * under a session ends nothing.
   */
  readonly #nodes = new WeakMap<Http2Session, CertifiedNode>();
  /** Those that have not come as far as HTTP/2 too. */
  readonly #sockets = new Set<Socket>();
  readonly #routes: Record<string, Route>;

  constructor(options: DispatchOptions) {
    this.#options = options;
    this.streams = new Streams({
      ...options,
      ask: (nodeId, streamId, request) => this.#sessions.askForStream(nodeId, streamId, request),
    });
    this.#sessions = new Sessions(options, (nodeId) => this.streams.lost(nodeId));
    this.#routes = {
      [`GET ${PATHS.ca}`]: {
        nodesOnly: false,
        handle: (stream) =>
          respondJson(stream, 200, { certificate: options.root.certificate, time: timestamp(options.clock.now()) }),
      },
      [`POST ${PATHS.certificate}`]: {
        nodesOnly: false,
        handle: (stream, peer) => this.#inTime(stream, () => this.#join(stream, peer)),
      },
      [`POST ${PATHS.renewal}`]: {
        nodesOnly: true,
        handle: (stream, peer) => this.#inTime(stream, () => this.#renew(stream, peer)),
      },
      [`POST ${PATHS.attach}`]: this.#nodeRequest((body, nodeId) => attach(options, body, nodeId)),
      [`POST ${PATHS.attachmentsSeen}`]: this.#nodeRequest((body, nodeId) => seen(options, body, nodeId)),
      [`POST ${PATHS.attachmentsRelease}`]: this.#nodeRequest((body, nodeId) => release(options, body, nodeId)),
      [`POST ${PATHS.session}`]: { nodesOnly: true, handle: (stream, peer) => this.#openSession(stream, peer) },
      [`POST ${PATHS.stream}`]: {
        nodesOnly: true,
        handle: (stream, peer, headers) =>
          this.streams.accept(stream, peer.node!.nodeId, String(headers[STREAM_ID_HEADER])),
      },
    };
    this.#server = this.#createServer();
  }

  /** Starts to serve, after every node that was ready has become `unknown`. Resolves with the port (0: any free one). */
  async listen(host: string, port: number): Promise<number> {
    await this.#sessions.start();
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

  /** From the next connection on, this manager shows this certificate; connections that stand are left alone. */
  useIdentity(identity: Identity): void {
    this.#server.setSecureContext(tlsContext(identity));
  }

  /** Tells the agents, and ends. Idempotent. */
  async close(): Promise<void> {
    this.#sessions.close();
    this.streams.close();
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
    const route = Object.hasOwn(this.#routes, request) ? this.#routes[request] : undefined;
    const peer = this.#peerOf(stream);
    if (route === undefined) this.#refuse(stream, new RequestError(404, 'page not found'));
    else if (route.nodesOnly && peer.node === undefined) this.#refuse(stream, new RequestError(401, peer.refusal));
    else if (route.nodesOnly && this.#isRemoved(peer))
      this.#refuse(stream, new RequestError(410, new NodeRemoved().message));
    else void this.#handle(route, stream, peer, { request, headers });
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
    if (error instanceof RequestError) respondError(stream, error.status, error.message);
    else if (error instanceof FrameError) respondError(stream, 400, error.message);
    else {
      this.#options.log.error({ err: error, request }, 'a request could not be served');
      respondError(stream, 500, 'the manager could not serve this request; its log says why');
    }
    stream.resume(); // what still comes of the body goes nowhere
    stream.once('finish', () => stream.close());
  }

  async #join(stream: ServerHttp2Stream, peer: Peer): Promise<void> {
    const { roles = ['worker', 'manager'] } = this.#options;
    const body = await readJson(stream);
    respondJson(stream, 200, await join({ ...this.#options, roles }, body, peer.node, peer.address));
  }

  async #renew(stream: ServerHttp2Stream, peer: Peer): Promise<void> {
    const { csr } = parseRenewalRequest(await readJson(stream));
    respondJson(stream, 200, { certificate: await renew(this.#options, csr, peer.node!.nodeId) });
  }

  /** A plain request of a node: JSON in, JSON out (an empty object if there is nothing to say). */
  #nodeRequest(answer: (body: unknown, nodeId: string) => Promise<object | void>): Route {
    const handle = async (stream: ServerHttp2Stream, { node }: Peer): Promise<void> =>
      respondJson(stream, 200, (await answer(await readJson(stream), node!.nodeId)) ?? {});
    return { nodesOnly: true, handle: (stream, peer) => this.#inTime(stream, () => handle(stream, peer)) };
  }

  #isRemoved({ node }: Peer): boolean {
    return node !== undefined && this.#options.store.view((view) => view.nodes.get(node.nodeId)) === undefined;
  }

  #openSession(stream: ServerHttp2Stream, peer: Peer): void {
    const { clock, log, flushMs = DEFAULT_FLUSH_MS } = this.#options;
    // oxlint-disable-next-line no-new -- it lives by the stream's events
    new Session(stream, {
      nodeId: peer.node!.nodeId,
      peerAddress: peer.address,
      host: this.#sessions,
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

  #peerOf(stream: ServerHttp2Stream): Peer {
    const { clock, root, identity } = this.#options;
    const connection = stream.session;
    const socket = connection?.socket as TLSSocket | undefined;
    const address = (socket?.remoteAddress ?? '').replace(/^::ffff:/, '');
    const known = connection === undefined ? undefined : this.#nodes.get(connection);
    if (known !== undefined) return { address, node: known, refusal: '' };
    const certificate = socket?.getPeerX509Certificate();
    if (connection === undefined || certificate === undefined)
      return { address, refusal: 'a certificate of this cluster is needed' };
    try {
      const node = verifyCertificate(certificate, parseCertificate(root.certificate), clock.now());
      if (node.clusterId !== identity.clusterId)
        throw new UntrustedCertificate('the certificate is not of this cluster');
      this.#nodes.set(connection, node);
      return { address, node, refusal: '' };
    } catch (error) {
      if (error instanceof CertificateNotCurrent)
        return { address, refusal: new CertificateNotCurrent(error.life, error.nowMs, "the manager's clock").message };
      if (!(error instanceof UntrustedCertificate)) throw error;
      return { address, refusal: error.message };
    }
  }
}

function tlsContext({ key, certificate, rootCertificate }: Identity): SecureContextOptions {
  return { key, cert: certificate, ca: rootCertificate, minVersion: 'TLSv1.3' };
}
