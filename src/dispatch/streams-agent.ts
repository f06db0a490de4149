/**
 * The agent's end of streams: opens those its manager asks for, on one connection for all of them, apart from the session's.
 * The connection is dialled when the first is asked for and closed when there has been none for a while; pings keep it, and
 * find out if the manager is gone.
 */
import type { ClientHttp2Session } from 'node:http2';
import type { Clock, Log, Timer } from '../model/clock.ts';
import type { StreamRequest } from '../model/streams.ts';
import type { Identity } from '../pki/identity.ts';
import { dialManager } from './connect.ts';
import { brokenBy } from './http.ts';
import { PATHS } from './messages.ts';
import { Channel, ChannelBroken } from './streams-channel.ts';
import { STREAM_ID_HEADER } from './streams.ts';

/**
 * Serves one stream: says `opened`, then what there is, then `end`. What it rejects with is told to the manager, with its
 * `status` if it has one.
 */
export type ServeStream = (request: StreamRequest, channel: Channel) => Promise<void>;

export interface AgentStreamsOptions {
  /** host:port of the manager of the session. */
  address: string;
  /** What this node proves itself by now. */
  identity(): Identity;
  serve: ServeStream;
  clock: Clock;
  log: Log;
}

/** Well below the time after which a manager closes a connection on which nothing happens. */
const PING_MS = 20_000;

export class AgentStreams {
  readonly #options: AgentStreamsOptions;
  readonly #channels = new Set<Channel>();
  #connection: ClientHttp2Session | undefined;
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: AgentStreamsOptions) {
    this.#options = options;
  }

  /** The manager asks for a stream. */
  open(streamId: string, request: StreamRequest): void {
    if (this.#closed) return;
    const { log } = this.#options;
    const stream = this.#connect().request(
      { ':method': 'POST', ':path': PATHS.stream, [STREAM_ID_HEADER]: streamId },
      { endStream: false },
    );
    const channel = new Channel(stream);
    this.#channels.add(channel);
    void channel.closed.then(() => this.#channels.delete(channel));
    stream.on('error', (error) => log.debug({ err: brokenBy(error), request: request.kind }, 'a stream broke'));
    stream.once('response', (headers) => {
      if (headers[':status'] === 200) void this.#serve(request, channel);
      else {
        log.debug({ status: headers[':status'], request: request.kind }, 'the manager no longer wants a stream');
        channel.destroy();
      }
    });
  }

  /** Ends all streams and the connection. Idempotent. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    for (const channel of this.#channels) channel.destroy('the session with the manager ended');
    this.#connection?.destroy();
  }

  async #serve(request: StreamRequest, channel: Channel): Promise<void> {
    const { log, serve } = this.#options;
    try {
      await serve(request, channel);
    } catch (error) {
      // A manager that has gone, or has seen enough.
      if (error instanceof ChannelBroken) return channel.destroy();
      const { message, status = 500 } = error as Error & { status?: number };
      log.debug({ err: error, request: request.kind }, 'a stream cannot be served');
      await channel.tell({ type: 'error', status, message }).catch(() => {});
    }
    channel.end();
  }

  #connect(): ClientHttp2Session {
    if (this.#connection !== undefined && !this.#connection.closed && !this.#connection.destroyed)
      return this.#connection;
    const { address, clock, log } = this.#options;
    const identity = this.#options.identity();
    const connection = dialManager(address, identity, clock, identity);
    connection.on('error', (error) => log.debug({ err: error, manager: address }, 'the connection for streams broke'));
    this.#connection = connection;
    this.#timer?.cancel();
    this.#watch(connection);
    return connection;
  }

  /** Comes by itself while the connection stands: closes it when it is of no use, else asks whether the manager is there. */
  #watch(connection: ClientHttp2Session): void {
    let answered = true;
    const look = (): void => {
      if (connection.destroyed) return;
      if (!answered) connection.destroy();
      else if (this.#channels.size === 0) connection.close();
      else if (!connection.connecting) {
        answered = false;
        connection.ping(() => (answered = true));
      }
      this.#timer = this.#options.clock.after(PING_MS, look);
    };
    this.#timer = this.#options.clock.after(PING_MS, look);
  }
}
