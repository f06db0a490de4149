/**
 * A manager asks a node for a stream: over the session it names the stream and what is to be in it, and the node opens that
 * stream to this manager, on a connection that it keeps for streams alone, so that a reader who is slow never delays a
 * heartbeat. Promises: `open` settles within its deadline, whatever the node does; only the node that was asked can bring a
 * stream, once; a node whose session ends loses its streams at once.
 *
 * Memory: of each stream the manager holds what HTTP/2's window lets in, 64 KiB, and what one read takes out of it.
 */
import type { ServerHttp2Stream } from 'node:http2';
import type { Clock, Random } from '../model/clock.ts';
import { newId } from '../model/ids.ts';
import type { StreamRequest } from '../model/streams.ts';
import { RequestError } from './http.ts';
import { Channel, ChannelBroken } from './streams-channel.ts';

/** The header by which a node says which stream it brings. */
export const STREAM_ID_HEADER = 'drover-stream';

/** From asking a node to the word that its engine has begun. */
const OPEN_MS = 10_000;

export interface OpenStream {
  channel: Channel;
  /** Whether what comes is raw, or framed by stdout and stderr. */
  tty: boolean;
}

export interface OpenOptions {
  /** Gives up waiting, and later the stream. */
  signal?: AbortSignal;
  openMs?: number;
}

/** The node cannot be asked now: it has no session, did not answer in time, or went away. Worth another try later. */
export class NodeAway extends Error {
  override readonly name = 'NodeAway';
}

interface Waiting {
  nodeId: string;
  resolve(channel: Channel): void;
  reject(error: Error): void;
}

export interface StreamsDeps {
  clock: Clock;
  random: Random;
  /** Sends the wish over the node's session; false if it has none. */
  ask(nodeId: string, streamId: string, request: StreamRequest): boolean;
}

/** What those need who ask for streams. */
export type StreamOpener = Pick<Streams, 'open'>;

export class Streams {
  readonly #deps: StreamsDeps;
  readonly #waiting = new Map<string, Waiting>();
  readonly #open = new Map<string, Set<Channel>>();

  constructor(deps: StreamsDeps) {
    this.#deps = deps;
  }

  /**
   * Resolves once the node serves the stream. Rejects with NodeAway, with ChannelRefused if the node's engine says no, with
   * the signal's reason. The caller reads it to its end or destroys it.
   */
  async open(nodeId: string, request: StreamRequest, options: OpenOptions = {}): Promise<OpenStream> {
    const { clock } = this.#deps;
    const { signal, openMs = OPEN_MS } = options;
    signal?.throwIfAborted();
    const given = Promise.withResolvers<never>();
    const late = new NodeAway(`it did not answer within ${openMs / 1000} s`);
    const timer = clock.after(openMs, () => given.reject(late));
    const aborted = (): void => given.reject(signal!.reason as Error);
    signal?.addEventListener('abort', aborted, { once: true });
    const coming = this.#ask(nodeId, request);
    let channel: Channel | undefined;
    try {
      channel = await Promise.race([coming.channel, given.promise]);
      const { tty } = await Promise.race([channel.opened(), given.promise]);
      const stands = channel;
      const drop = (): void => stands.destroy();
      signal?.addEventListener('abort', drop, { once: true });
      void stands.closed.then(() => signal?.removeEventListener('abort', drop));
      return { channel, tty };
    } catch (error) {
      coming.giveUp();
      channel?.destroy();
      throw error instanceof ChannelBroken ? new NodeAway(error.message, { cause: error }) : error;
    } finally {
      timer.cancel();
      signal?.removeEventListener('abort', aborted);
    }
  }

  /** A node brings a stream. @throws RequestError 404 if it was not asked for that one */
  accept(stream: ServerHttp2Stream, nodeId: string, streamId: string): void {
    const waiting = this.#waiting.get(streamId);
    if (waiting === undefined || waiting.nodeId !== nodeId)
      throw new RequestError(404, 'this stream is not, or no longer, awaited from this node');
    this.#waiting.delete(streamId);
    stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' });
    const channel = new Channel(stream);
    const ofNode = this.#open.get(nodeId) ?? new Set();
    this.#open.set(nodeId, ofNode.add(channel));
    void channel.closed.then(() => {
      ofNode.delete(channel);
      if (ofNode.size === 0 && this.#open.get(nodeId) === ofNode) this.#open.delete(nodeId);
    });
    waiting.resolve(channel);
  }

  /** The node's session is over: nothing more will come of it. */
  lost(nodeId: string): void {
    for (const [streamId, waiting] of this.#waiting) {
      if (waiting.nodeId !== nodeId) continue;
      this.#waiting.delete(streamId);
      waiting.reject(new NodeAway('its session ended'));
    }
    for (const channel of this.#open.get(nodeId) ?? []) channel.destroy('the node went away');
  }

  /** Ends all of them. */
  close(): void {
    const nodes = new Set([...this.#open.keys(), ...[...this.#waiting.values()].map(({ nodeId }) => nodeId)]);
    for (const nodeId of nodes) this.lost(nodeId);
  }

  /** How many streams stand, and how many are awaited. */
  get counts(): { open: number; awaited: number } {
    return { open: [...this.#open.values()].reduce((sum, set) => sum + set.size, 0), awaited: this.#waiting.size };
  }

  #ask(nodeId: string, request: StreamRequest): { channel: Promise<Channel>; giveUp: () => void } {
    const streamId = newId(this.#deps.random);
    const { promise, resolve, reject } = Promise.withResolvers<Channel>();
    this.#waiting.set(streamId, { nodeId, resolve, reject });
    if (!this.#deps.ask(nodeId, streamId, request)) {
      this.#waiting.delete(streamId);
      reject(new NodeAway('it has no session with this manager'));
    }
    return {
      channel: promise,
      giveUp: () => {
        this.#waiting.delete(streamId);
        // Settled already, or of no interest to anybody any more.
        reject(new NodeAway('given up'));
        promise.catch(() => {});
      },
    };
  }
}
