/**
 * One watch on one endpoint, until it breaks off. A connection whose other end lost power says nothing, for ever: so etcd is
 * asked for a word every so often, and silence ends the watch.
 */
import type * as Grpc from '@grpc/grpc-js';
import type { Clock, Timer } from '../../model/clock.ts';
import { EtcdError, type WatchListener } from './api.ts';
import type { Channel, Channels } from './channels.ts';
import { asNumber, type Codec, type Wide } from './messages.ts';
import { eventOf, type WireEvent } from './wire.ts';

/** How often etcd is asked for a word, and after how long without one it is given up. */
const PING_MS = 500;
const SILENT_MS = 1_500;

interface Answer {
  canceled: boolean;
  compactRevision: Wide;
  cancelReason: string;
  events: WireEvent[];
}

export interface WatchStreamDeps {
  channels: Channels;
  codec: Codec;
  clock: Clock;
  connectMs: number;
  metadata: Grpc.Metadata;
  request: object;
  listener: WatchListener;
  failed: (error: Grpc.ServiceError, channel: Channel) => EtcdError;
}

export class WatchStream {
  readonly #deps: WatchStreamDeps;
  #stream: Grpc.ClientDuplexStream<object, Answer> | undefined;
  #ping: Timer | undefined;
  #release = () => {};
  #heardAt = 0;
  #over = false;

  constructor(deps: WatchStreamDeps) {
    this.#deps = deps;
    void this.#open();
  }

  stop(): void {
    if (this.#over) return;
    this.#over = true;
    this.#ping?.cancel();
    this.#release();
    this.#stream?.cancel();
  }

  async #open(): Promise<void> {
    const { channels, connectMs } = this.#deps;
    let channel: Channel | undefined;
    try {
      channel = channels.current();
      await channel.ready(connectMs);
    } catch (error) {
      if (channel !== undefined) channels.turnFrom(channel);
      this.#end(error as EtcdError);
      return;
    }
    if (!this.#over) this.#watch(channel);
  }

  #watch(channel: Channel): void {
    const { channels, codec, metadata, request, failed } = this.#deps;
    const stream = channel.client.makeBidiStreamRequest(
      '/etcdserverpb.Watch/Watch',
      (message: object) => codec.encode('WatchRequest', message),
      (bytes: Buffer) => codec.decode('WatchResponse', bytes) as Answer,
      metadata,
    );
    this.#stream = stream;
    this.#release = channel.stream(() => this.#end(new EtcdError('unknown', 'the way to etcd is made anew')));
    const brokenOff = (error: EtcdError) => {
      if (!this.#over) channels.turnFrom(channel);
      this.#end(error);
    };
    stream.on('data', (answer: Answer) => this.#hear(answer));
    stream.on('error', (error: Grpc.ServiceError) => brokenOff(failed(error, channel)));
    stream.on('end', () => brokenOff(new EtcdError('unknown', `etcd at ${channel.endpoint} ended the watch`)));
    stream.write(request);
    this.#heardAt = this.#deps.clock.monotonic();
    this.#askForAWord(() => brokenOff(new EtcdError('unknown', `etcd at ${channel.endpoint} keeps silent`)));
  }

  #askForAWord(silent: () => void): void {
    const { clock } = this.#deps;
    this.#ping = clock.after(PING_MS, () => {
      if (clock.monotonic() - this.#heardAt > SILENT_MS) {
        silent();
        return;
      }
      this.#stream?.write({ progressRequest: {} });
      this.#askForAWord(silent);
    });
  }

  #hear({ canceled, compactRevision, cancelReason, events }: Answer): void {
    if (this.#over) return;
    this.#heardAt = this.#deps.clock.monotonic();
    if (canceled) {
      const compacted = asNumber(compactRevision) > 0;
      this.#end(new EtcdError(compacted ? 'compacted' : 'unknown', `etcd ended the watch: ${cancelReason}`));
    } else if (events.length > 0) {
      this.#deps.listener.events(events.map(eventOf));
    }
  }

  #end(error: EtcdError): void {
    if (this.#over) return;
    this.stop();
    this.#deps.listener.ended(error);
  }
}
