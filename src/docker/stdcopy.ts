/**
 * Docker's framing of stdout and stderr on one connection: 8 bytes (stream, 0, 0, 0, big-endian length), then the
 * data. Promises: pieces come out in order and as soon as they arrive, however the bytes were cut on the way.
 */

const HEADER_BYTES = 8;

export type StdStream = 'stdin' | 'stdout' | 'stderr' | 'systemerr';
const STREAMS: readonly StdStream[] = ['stdin', 'stdout', 'stderr', 'systemerr'];

export interface StdPiece {
  stream: StdStream;
  data: Buffer;
}

/** Takes framed bytes apart; a long frame may come out in several pieces of the same stream. */
export class StdDemuxer {
  #header = Buffer.alloc(0);
  #stream: StdStream = 'stdout';
  #remaining = 0;

  /** The pieces that `chunk` completes or continues. @throws RangeError if the bytes are not framed so. */
  push(chunk: Buffer): StdPiece[] {
    const pieces: StdPiece[] = [];
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#remaining > 0) {
        const data = rest.subarray(0, this.#remaining);
        this.#remaining -= data.length;
        rest = rest.subarray(data.length);
        pieces.push({ stream: this.#stream, data });
      } else rest = this.#readHeader(rest);
    }
    return pieces;
  }

  #readHeader(chunk: Buffer): Buffer {
    const missing = HEADER_BYTES - this.#header.length;
    this.#header = Buffer.concat([this.#header, chunk.subarray(0, missing)]);
    if (this.#header.length === HEADER_BYTES) {
      const stream = STREAMS[this.#header.readUInt8(0)];
      if (stream === undefined || this.#header.readUIntBE(1, 3) !== 0) throw new RangeError('not a stdcopy frame');
      this.#stream = stream;
      this.#remaining = this.#header.readUInt32BE(4);
      this.#header = Buffer.alloc(0);
    }
    return chunk.subarray(missing);
  }
}

/** One frame, for those who write the format. */
export function stdFrame(stream: StdStream, data: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt8(STREAMS.indexOf(stream), 0);
  header.writeUInt32BE(data.length, 4);
  return Buffer.concat([header, data]);
}
