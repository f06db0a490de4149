/**
 * A thin client of etcd (API v3, from etcd 3.4 on) over gRPC. A call that finds an endpoint silent goes on to the next one, if
 * asking twice does no harm. What cannot be asked twice says how it failed (EtcdError). gRPC is loaded when the first
 * client is made, because a worker has no use for it.
 */
import type * as Grpc from '@grpc/grpc-js';
import type { Clock } from '../../model/clock.ts';
import { EtcdError, type EtcdApi, type Failure, type Range, type Rows, type Txn, type TxnOutcome } from './api.ts';
import type { WatchListener } from './api.ts';
import { Channels, type Channel, type EtcdIdentity, type EtcdParties } from './channels.ts';
import { Codec } from './messages.ts';
import { rowsOf, txnOutcome, txnRequest, type WireRange, type WireTxn } from './wire.ts';
import { WatchStream } from './watch-stream.ts';

export interface EtcdClientOptions extends EtcdParties {
  /** host:port each; the best first, such as that of the member on this host. */
  endpoints: readonly string[];
  clock: Clock;
  /** How long one endpoint is given for one call. */
  tryMs?: number;
}

/** One method of etcd, with the messages that it takes and gives. */
export interface Call {
  /** Such as `KV/Range`. */
  method: string;
  request: [message: string, value: object];
  answer: string;
  /** Asking twice does no harm. */
  again: boolean;
  tryMs?: number;
}

const TRY_MS = 1_500;

export class EtcdClient implements EtcdApi {
  readonly #grpc: typeof Grpc;
  readonly #codec: Codec;
  readonly #channels: Channels;
  readonly #clock: Clock;
  readonly #tryMs: number;

  private constructor(grpc: typeof Grpc, codec: Codec, options: EtcdClientOptions) {
    this.#grpc = grpc;
    this.#codec = codec;
    this.#channels = new Channels(grpc, options.endpoints, options);
    this.#clock = options.clock;
    this.#tryMs = options.tryMs ?? TRY_MS;
  }

  /** Loads what it needs; connects when it is first asked. */
  static async make(options: EtcdClientOptions): Promise<EtcdClient> {
    const [grpc, codec] = await Promise.all([import('@grpc/grpc-js'), Codec.load()]);
    return new EtcdClient(grpc, codec, options);
  }

  get endpoints(): readonly string[] {
    return this.#channels.endpoints;
  }

  /** Calls under way to those not named any more end where they are; their streams move. */
  setEndpoints(endpoints: readonly string[]): void {
    this.#channels.setEndpoints(endpoints);
  }

  /** Connections are made anew with it; calls under way end on the old ones. */
  setIdentity(identity: EtcdIdentity): void {
    this.#channels.setIdentity(identity);
  }

  async range(range: Range, { limit = 0, revision = 0 } = {}): Promise<Rows> {
    const request = { ...bytesOf(range), limit, revision };
    return rowsOf(
      await this.ask<WireRange>({
        method: 'KV/Range',
        request: ['RangeRequest', request],
        answer: 'RangeResponse',
        again: true,
      }),
    );
  }

  async txn(txn: Txn, tryMs?: number): Promise<TxnOutcome> {
    const request: Call['request'] = ['TxnRequest', txnRequest(txn)];
    const call: Call = { method: 'KV/Txn', request, answer: 'TxnResponse', again: false, ...(tryMs && { tryMs }) };
    return txnOutcome(await this.ask<WireTxn>(call));
  }

  watch(range: Range, fromRevision: number, listener: WatchListener): { stop(): void } {
    const metadata = new this.#grpc.Metadata();
    // A member that is cut off from the others says so and breaks off, in the place of keeping still.
    metadata.set('hasleader', 'true');
    return new WatchStream({
      channels: this.#channels,
      codec: this.#codec,
      clock: this.#clock,
      connectMs: this.#tryMs,
      metadata,
      request: { createRequest: { ...bytesOf(range), startRevision: fromRevision } },
      listener,
      failed: (error, channel) => this.#failed(error, channel, 'Watch'),
    });
  }

  close(): void {
    this.#channels.close();
  }

  /** Any call with one request and one answer. */
  ask<T>(call: Call): Promise<T> {
    return this.#anywhere(call, (channel) => this.#askAt<T>(channel, call));
  }

  /** The answers of a call with many; at the current endpoint only. */
  async *stream(call: Omit<Call, 'again'>): AsyncGenerator {
    const channel = this.#channels.current();
    await channel.ready(this.#tryMs);
    const [message, value] = call.request;
    const stream = channel.client.makeServerStreamRequest(
      `/etcdserverpb.${call.method}`,
      (request: object) => this.#codec.encode(message, request),
      (bytes: Buffer) => this.#codec.decode(call.answer, bytes),
      value,
      new this.#grpc.Metadata(),
    );
    const done = channel.stream(() => stream.cancel());
    try {
      yield* stream as AsyncIterable<unknown>;
    } catch (error) {
      throw this.#failed(error as Grpc.ServiceError, channel, call.method);
    } finally {
      done();
      stream.cancel();
    }
  }

  /** Asks the current endpoint, then the others, as long as none answers and asking again does no harm. */
  async #anywhere<T>(call: Pick<Call, 'again' | 'tryMs'>, ask: (channel: Channel) => Promise<T>): Promise<T> {
    const { again, tryMs = this.#tryMs } = call;
    let left = this.#channels.endpoints.length;
    for (;;) {
      const channel = this.#channels.current();
      try {
        await channel.ready(tryMs);
        return await channel.hold(ask(channel));
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        const { failure } = error;
        if (failure !== 'unsent' && failure !== 'unknown') throw error;
        // Exchanged while the call waited for it, which says nothing of any endpoint.
        if (failure === 'unsent' && channel.retired) continue;
        this.#channels.turnFrom(channel);
        if (--left <= 0 || !(again || failure === 'unsent')) throw error;
      }
    }
  }

  #askAt<T>(channel: Channel, { method, request: [message, value], answer, tryMs }: Call): Promise<T> {
    return new Promise((resolve, reject) => {
      const call = channel.client.makeUnaryRequest(
        `/etcdserverpb.${method}`,
        (request: object) => this.#codec.encode(message, request),
        (bytes: Buffer) => this.#codec.decode(answer, bytes) as T,
        value,
        (error, result) => {
          timer.cancel();
          if (error !== null) reject(this.#failed(error, channel, method));
          else resolve(result as T);
        },
      );
      const timer = this.#clock.after(tryMs ?? this.#tryMs, () => call.cancel());
    });
  }

  #failed(error: Grpc.ServiceError, { endpoint }: Channel, method: string): EtcdError {
    const { code, details } = error;
    const text = details.replace(/^etcdserver: /, '');
    const said = code === this.#grpc.status.CANCELLED ? 'no answer in time' : text;
    return new EtcdError(failureOf(this.#grpc.status, code, details), `etcd at ${endpoint}, ${method}: ${said}`);
  }
}

function failureOf(status: typeof Grpc.status, code: Grpc.status, details: string): Failure {
  switch (code) {
    case status.UNAVAILABLE:
      return /^(No connection established|Name resolution failed)/.test(details) ? 'unsent' : 'unknown';
    case status.RESOURCE_EXHAUSTED:
      if (details.includes('database space exceeded')) return 'full';
      return details.startsWith('etcdserver: ') ? 'refused' : 'unknown';
    case status.OUT_OF_RANGE:
      return details.includes('compacted') ? 'compacted' : 'refused';
    case status.INVALID_ARGUMENT:
    case status.NOT_FOUND:
    case status.ALREADY_EXISTS:
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
    case status.FAILED_PRECONDITION:
    case status.UNIMPLEMENTED:
      return 'refused';
    default:
      return 'unknown';
  }
}

function bytesOf({ from, to }: Range): { key: Buffer; rangeEnd: Buffer } {
  return { key: Buffer.from(from), rangeEnd: Buffer.from(to) };
}
