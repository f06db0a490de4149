/** Where a log goes: the client's connection. Promises: who writes waits while the client does not read. */
import type { ServerResponse } from 'node:http';

/** The client has gone. */
export class ReaderGone extends Error {
  override readonly name = 'ReaderGone';
}

export class LogSink {
  readonly #response: ServerResponse;
  #room: Promise<void> | undefined;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  /** Whole frames, so that nobody else's come between. Resolves once there is room for more. Rejects with ReaderGone */
  async write(bytes: Buffer): Promise<void> {
    if (this.#response.destroyed) throw new ReaderGone();
    if (bytes.length > 0) this.#response.write(bytes);
    if (this.#response.writableNeedDrain) await (this.#room ??= this.#waitForRoom());
  }

  #waitForRoom(): Promise<void> {
    const response = this.#response;
    return new Promise((resolve, reject) => {
      const settle = (done: () => void) => () => {
        this.#room = undefined;
        response.off('drain', drained).off('close', closed);
        done();
      };
      const drained = settle(resolve);
      const closed = settle(() => reject(new ReaderGone()));
      response.on('drain', drained).on('close', closed);
    });
  }
}
