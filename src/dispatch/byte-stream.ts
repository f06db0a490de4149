/**
 * An HTTP/2 stream as what speaks HTTP/1.1 needs it, as a socket would be. Of its own it cannot serve: text that Node's HTTP
 * writes to it in several pieces comes out damaged, and one that is broken off with no error looks like one that ended.
 * This one ends only if the other side did; else it is closed, without an error: whoever speaks on it notices by that.
 */
import { constants, type Http2Stream } from 'node:http2';
import { Duplex } from 'node:stream';

export class ByteStream extends Duplex {
  readonly #stream: Http2Stream;

  /** Takes the stream over: nobody else may read or write it. */
  constructor(stream: Http2Stream) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
    let ended = false;
    stream.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) stream.pause();
    });
    stream.once('end', () => {
      // A stream that was given up by the other side ends, too.
      ended = stream.rstCode === constants.NGHTTP2_NO_ERROR && !stream.aborted;
      if (ended) this.push(null);
    });
    stream.on('error', () => this.destroy());
    stream.once('close', () => {
      if (ended && !this.readableEnded) this.once('end', () => this.destroy());
      else this.destroy();
    });
    stream.pause();
  }

  override _read(): void {
    this.#stream.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#stream.write(chunk, (error) => this.#written(error, done));
  }

  override _final(done: () => void): void {
    this.#stream.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL);
    this.#stream.destroy();
    done(error);
  }

  #written(error: Error | null | undefined, done: () => void): void {
    if (error !== undefined && error !== null) this.destroy();
    done();
  }
}
