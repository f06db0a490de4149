/**
 * A manager's way to the one that leads: one connection, kept, on which it passes on what nodes ask of it and what its users ask
 * of its API, each on a stream of its own. Promises: what is under way fails soon after another leads (LAST_WORD_MS) or the leader
 * is silent for SILENT_MS, so nobody waits for one that was paused or lost power; when it fails before the leader took it up, that is said.
 */
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Clock, Log, Timer } from '../model/clock.ts';
import type { Identity } from '../pki/identity.ts';
import { AwakeTime } from './awake.ts';
import { ByteStream } from './byte-stream.ts';
import { dialManager } from './connect.ts';
import { brokenBy, exchange, NotTheLeader, readJson, refusalOf, RequestError } from './http.ts';
import { PATHS, PEER_HEADER, type AssertedPeer, type ManagerAddress } from './messages.ts';

export interface LeaderLinkOptions {
  /** What this manager proves itself by now. */
  identity(): Identity;
  clock: Clock;
  log: Log;
}

/** The leader is not known, cannot be reached, or leads no more: nothing of what was asked has come to it. */
export class LeaderAway extends Error {
  override readonly name = 'LeaderAway';
}

/** For a stream to begin, dialling included. */
const OPEN_MS = 3_000;
/** For a plain request: less than who asked waits for its answer. */
const REQUEST_MS = 8_000;
/**
 * What a leader has answered before it gave the lead up, its own demotion for one, may be heard of after the next leader is: etcd tells
 * of that one on another connection.
 */
const LAST_WORD_MS = 500;
const PING_MS = 1_000;
/** A leader whose connection says nothing for so long is gone, or not fit to lead. */
const SILENT_MS = 4_000;
/** How late a timer may be before this process counts as having slept. */
const LATE_MS = 200;

export class LeaderLink {
  readonly #options: LeaderLinkOptions;
  readonly #connections = new Set<ClientHttp2Session>();
  #leader: ManagerAddress | undefined;
  /** The one for what comes next, and what it was dialled with. */
  #kept: { connection: ClientHttp2Session; identity: Identity } | undefined;
  #closed = false;

  constructor(options: LeaderLinkOptions) {
    this.#options = options;
  }

  get leader(): ManagerAddress | undefined {
    return this.#leader;
  }

  /**
   * Who leads now, as far as this manager knows. With another leader than before all that is under way breaks off, LAST_WORD_MS
   * later; with none it does not: who does not see the leader may still be heard by it.
   */
  leaderIs(leader: ManagerAddress | undefined): void {
    const before = this.#leader;
    this.#leader = leader;
    const same = leader?.nodeId === before?.nodeId && leader?.address === before?.address;
    if (leader !== undefined && !same) this.#retire();
  }

  /** A stream of bytes to the leader's API. Rejects with LeaderAway, or the signal's reason. */
  async tunnel(signal?: AbortSignal): Promise<Duplex> {
    signal?.throwIfAborted();
    const stream = this.#connect().request({ ':method': 'POST', ':path': PATHS.api }, { endStream: false });
    const given = Promise.withResolvers<never>();
    const abort = () => given.reject(signal?.reason as Error);
    signal?.addEventListener('abort', abort);
    const timer = this.#options.clock.after(OPEN_MS, () => given.reject(late(OPEN_MS)));
    try {
      await Promise.race([begun(stream), given.promise]);
      return new ByteStream(stream);
    } catch (error) {
      stream.destroy();
      throw error;
    } finally {
      timer.cancel();
      signal?.removeEventListener('abort', abort);
    }
  }

  /**
   * Passes a plain request on, for the one who asked it here. Resolves with the answer; rejects with RequestError as the leader
   * refuses, or NotTheLeader if there is no word of it.
   */
  async passOn(path: string, body: unknown, peer: AssertedPeer): Promise<unknown> {
    const given = Promise.withResolvers<never>();
    const timer = this.#options.clock.after(REQUEST_MS, () => given.reject(late(REQUEST_MS)));
    try {
      const headers = { [PEER_HEADER]: JSON.stringify(peer) };
      return await Promise.race([exchange(this.#connect(), 'POST', path, body as object, headers), given.promise]);
    } catch (error) {
      if (error instanceof RequestError) throw error;
      this.#options.log.warn({ err: error, path }, 'the leader did not answer what was passed on to it');
      throw new NotTheLeader('');
    } finally {
      timer.cancel();
    }
  }

  /** Ends it, and all that is under way. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#breakOff();
  }

  /** Nothing more goes over the connections of now. */
  #retire(): void {
    this.#kept = undefined;
    for (const connection of this.#connections) {
      const timer = this.#options.clock.after(LAST_WORD_MS, () => connection.destroy());
      connection.once('close', () => timer.cancel());
      connection.close();
    }
  }

  #breakOff(): void {
    this.#kept = undefined;
    for (const connection of this.#connections) connection.destroy();
  }

  /** @throws LeaderAway */
  #connect(): ClientHttp2Session {
    const { log, clock } = this.#options;
    const identity = this.#options.identity();
    const leader = this.#leader;
    if (leader === undefined) throw new LeaderAway('nobody leads the swarm now, as far as this manager knows');
    if (leader.nodeId === identity.nodeId) throw new LeaderAway('this manager is itself to lead the swarm');
    if (this.#closed) throw new LeaderAway('this manager is stopping');
    const kept = this.#kept;
    if (kept?.identity === identity && !kept.connection.closed && !kept.connection.destroyed) return kept.connection;
    kept?.connection.close(); // what is under way there comes to its end
    const connection = dialManager(leader.address, identity, clock, identity);
    connection.on('error', (error) => log.debug({ err: error, leader }, 'the connection to the leader broke'));
    connection.on('close', () => this.#connections.delete(connection));
    this.#connections.add(connection);
    this.#kept = { connection, identity };
    watch(connection, clock);
    return connection;
  }
}

/** Ends a connection on which nothing is heard, be it that it is still being dialled. */
function watch(connection: ClientHttp2Session, clock: Clock): void {
  const awake = new AwakeTime(clock, PING_MS, LATE_MS);
  let heardMs = awake.now();
  let timer: Timer;
  const look = (): void => {
    if (connection.destroyed) return;
    if (awake.now() - heardMs > SILENT_MS) {
      connection.destroy(new LeaderAway(`the leader was not heard for ${SILENT_MS / 1000} s`));
      return;
    }
    if (!connection.connecting)
      connection.ping((error) => {
        if (error === null) heardMs = awake.now();
      });
    timer = clock.after(PING_MS, look);
  };
  timer = clock.after(PING_MS, look);
  connection.once('close', () => timer.cancel());
}

/** Resolves when the leader has taken a stream. Rejects with LeaderAway. */
async function begun(stream: ClientHttp2Stream): Promise<void> {
  const status = await new Promise<number>((resolve, reject) => {
    stream.once('response', (headers) => resolve(headers[':status'] ?? 0));
    stream.on('error', (error) => reject(new LeaderAway(brokenBy(error).message, { cause: error })));
    stream.once('close', () => reject(new LeaderAway('the connection to the leader ended')));
  });
  if (status === 200) return;
  const { message } = refusalOf(status, await readJson(stream).catch(() => undefined));
  throw new LeaderAway(message);
}

function late(limitMs: number): LeaderAway {
  return new LeaderAway(`the leader did not answer within ${limitMs / 1000} s`);
}
