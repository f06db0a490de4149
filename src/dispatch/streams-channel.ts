/**
 * One end of a stream of frames (model/streams.ts) over any two-way stream: between manager and agent, and between the API
 * and a client. Promises: a writer waits while the other side does not read, so neither end holds more than its buffers; a
 * channel that breaks says so to whoever reads or writes, once and in words.
 */
import type { Duplex } from 'node:stream';
import { dataFrame, messageFrame, StreamFrames, type StreamMessage } from '../model/streams.ts';
import { brokenBy } from './http.ts';

/** The stream was cut, or its other side does not keep to the frames. */
export class ChannelBroken extends Error {
  override readonly name = 'ChannelBroken';
}

/** The other side says why it does not serve, or no longer. `status` is the HTTP status for it. */
export class ChannelRefused extends Error {
  override readonly name = 'ChannelRefused';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class Channel {
  readonly #stream: Duplex;
  readonly #incoming: AsyncGenerator<Buffer | StreamMessage, void, undefined>;
  #error: Error | undefined;
  /** Resolves when the stream is gone, for whatever reason; never rejects. */
  readonly closed: Promise<void>;

  constructor(stream: Duplex) {
    this.#stream = stream;
    this.closed = new Promise((resolve) => stream.once('close', () => resolve()));
    stream.on('error', (error) => (this.#error ??= brokenBy(error)));
    this.#incoming = this.#read();
  }

  /** What comes, in order, read only as fast as it is asked for. One reader. @throws ChannelBroken */
  frames(): AsyncGenerator<Buffer | StreamMessage, void, undefined> {
    return this.#incoming;
  }

  /** Resolves with `opened` from the other side, the first it says. Rejects with ChannelRefused, ChannelBroken */
  async opened(): Promise<{ tty: boolean }> {
    const { value } = await this.#incoming.next();
    if (value === undefined) throw new ChannelBroken('the stream ended before it began');
    if (!Buffer.isBuffer(value) && value.type === 'opened') return value;
    if (!Buffer.isBuffer(value) && value.type === 'error') throw new ChannelRefused(value.status, value.message);
    throw new ChannelBroken('the stream did not begin as it should');
  }

  /** Data up to the other side's `end`. @throws ChannelRefused if it says `error`, ChannelBroken if it says neither */
  async *data(): AsyncGenerator<Buffer, void, undefined> {
    for await (const frame of this.#incoming) {
      if (Buffer.isBuffer(frame)) yield frame;
      else if (frame.type === 'end') return;
      else if (frame.type === 'error') throw new ChannelRefused(frame.status, frame.message);
    }
    throw new ChannelBroken('the stream ended in the middle');
  }

  /** Resolves once there is room for more. Rejects with ChannelBroken */
  write(data: Uint8Array): Promise<void> {
    return this.#write(dataFrame(data));
  }

  tell(message: StreamMessage): Promise<void> {
    return this.#write(messageFrame(message));
  }

  /** Nothing more will be written. */
  end(): void {
    this.#stream.end();
  }

  /** Gives it up, whatever is on its way; the reason is what readers and writers here are told. */
  destroy(reason?: string): void {
    if (reason !== undefined) this.#error ??= new Error(reason);
    this.#stream.destroy();
  }

  async *#read(): AsyncGenerator<Buffer | StreamMessage, void, undefined> {
    const frames = new StreamFrames();
    try {
      // Who stops reading may still have something to say.
      const chunks: AsyncIterable<Buffer> = this.#stream.iterator({ destroyOnReturn: false });
      for await (const chunk of chunks) yield* frames.push(chunk);
    } catch (error) {
      throw this.#broken(error as Error);
    }
    if (this.#error !== undefined) throw this.#broken(this.#error);
    // Both sides end only when they are through: there is nobody left to write to.
    this.#stream.end();
  }

  async #write(bytes: Buffer): Promise<void> {
    const stream = this.#stream;
    if (!stream.writable) throw this.#broken(new Error('the stream is closed'));
    if (stream.write(bytes)) return;
    const room = Promise.withResolvers<void>();
    const closed = (): void => room.reject(this.#broken(new Error('the stream was closed')));
    stream.once('drain', room.resolve);
    stream.once('close', closed);
    try {
      await room.promise;
    } finally {
      stream.off('drain', room.resolve);
      stream.off('close', closed);
    }
  }

  #broken(error: Error): ChannelBroken {
    const cause = this.#error ?? error;
    return new ChannelBroken(cause.message, { cause });
  }
}
