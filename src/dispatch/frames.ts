/**
 * Messages on a stream: four bytes of length, big-endian, then that many bytes of JSON. The reader never holds more
 * than one frame of the greatest length allowed, whatever the other side sends.
 */

const HEADER_BYTES = 4;

/** What came is no message; the connection it came on cannot be understood any further. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/** One frame of a JSON text. */
export function encodeFrame(json: string): Buffer {
  const size = Buffer.byteLength(json);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + size);
  frame.writeUInt32BE(size);
  frame.write(json, HEADER_BYTES);
  return frame;
}

export class FrameReader {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #size = 0;

  /** `maxBytes` bounds the JSON of one frame. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Takes what arrived and yields each message it completes. Throws FrameError; the reader is of no use after that. */
  *push(chunk: Buffer): Iterable<unknown> {
    if (this.#size === 0 && this.#isOneMessage(chunk)) {
      yield parse(chunk.toString('utf8', HEADER_BYTES));
      return;
    }
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    while (this.#size >= HEADER_BYTES) {
      const length = this.#header();
      if (length > this.#maxBytes)
        throw new FrameError(`a message of ${length} bytes; at most ${this.#maxBytes} are taken`);
      if (this.#size < HEADER_BYTES + length) return;
      const all = this.#joined();
      this.#chunks = [all.subarray(HEADER_BYTES + length)];
      this.#size = all.length - HEADER_BYTES - length;
      yield parse(all.toString('utf8', HEADER_BYTES, HEADER_BYTES + length));
    }
  }

  /** As small ones nearly always come: whole and alone. */
  #isOneMessage(chunk: Buffer): boolean {
    const size = chunk.length - HEADER_BYTES;
    return size >= 0 && size <= this.#maxBytes && chunk.readUInt32BE() === size;
  }

  #header(): number {
    const first = this.#chunks[0]!;
    return (first.length >= HEADER_BYTES ? first : this.#joined()).readUInt32BE();
  }

  #joined(): Buffer {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks, this.#size)];
    return this.#chunks[0]!;
  }
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new FrameError('a message that is not JSON', { cause: error });
  }
}
