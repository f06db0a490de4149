/**
 * The manager's end of a simulated connection: as much of an HTTP/2 stream as a `Session` asks of one. What the session
 * writes are the very frames that would go out by TLS; they are kept in `Transit` until `take`, and while there are many, it is told
 * to wait, as a real stream tells it.
 */
import type { ServerHttp2Stream } from 'node:http2';
import type { Place, Transit } from './transit.ts';

type Handler = (data?: Buffer) => void;

/** A stream's buffer and what the kernel takes beyond it. */
const HIGH_WATER_BYTES = 64 * 1024;

export class Wire {
  readonly session = { destroy: () => {}, close: () => {}, once: () => {} };
  destroyed = false;
  writableEnded = false;
  readonly #handlers = new Map<string, Handler>();
  readonly #transit: Transit;
  readonly #written: () => void;
  #frames: Place[] = [];
  #taken: (() => void)[] = [];
  #bytes = 0;
  #needsDrain = false;

  /** `written` is called when there is something to take and was nothing before. */
  constructor(transit: Transit, written: () => void) {
    this.#transit = transit;
    this.#written = written;
  }

  /** What a Session takes it for. */
  get stream(): ServerHttp2Stream {
    return this as unknown as ServerHttp2Stream;
  }

  get writableNeedDrain(): boolean {
    return this.#needsDrain;
  }

  on(event: string, handler: Handler): this {
    this.#handlers.set(event, handler);
    return this;
  }

  once(): this {
    return this;
  }

  respond(): void {}

  resume(): void {}

  write(frame: Buffer, taken?: () => void): void {
    if (this.#frames.push(this.#transit.put(frame)) === 1) this.#written();
    if (taken !== undefined) this.#taken.push(taken);
    this.#bytes += frame.length;
    if (this.#bytes >= HIGH_WATER_BYTES) this.#needsDrain = true;
  }

  end(): void {
    this.writableEnded = true;
    this.#written();
  }

  /** The frames on their way; they count as delivered. */
  take(): Place[] {
    const frames = this.#frames;
    this.#frames = [];
    this.#bytes = 0;
    return frames;
  }

  /** Tells the session that what it wrote before the last `take` is gone. */
  drain(): void {
    const taken = this.#taken;
    this.#taken = [];
    for (const fn of taken) fn();
    if (!this.#needsDrain) return;
    this.#needsDrain = false;
    this.#handlers.get('drain')?.();
  }

  /** The agent's frame has come. */
  receive(frame: Buffer): void {
    this.#handlers.get('data')?.(frame);
  }

  /** The connection is gone. */
  close(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.#handlers.get('close')?.();
  }
}
