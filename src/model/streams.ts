/**
 * Streams between a manager and a node, of which each carries one log, one exec or one answer of a node's engine: what may
 * be asked for, and how data and messages share one stream of bytes. The same frames go between the API and `drover exec`.
 *
 * A frame is a byte (0: data, 1: message), four bytes of length, big-endian, and that many bytes: data as it is, or one
 * message as JSON. Who serves a stream says `opened` first and `end` or `error` last; a stream that ends without either was cut.
 */

/** What a manager may ask a node for. `taskId` is that of a task of this very node. */
export type StreamRequest =
  | {
      /** What the engine answers on `GET /containers/{the task's}/{what}`, byte for byte. */
      kind: 'read';
      taskId: string;
      what: 'logs' | 'top' | 'stats';
      query: Record<string, string>;
    }
  | {
      /** A further process in the task's container: the engine's own words for it (`POST /containers/{id}/exec`). */
      kind: 'exec';
      taskId: string;
      exec: ExecSpec;
    };

export interface ExecSpec {
  Cmd: string[];
  Tty: boolean;
  AttachStdin: boolean;
  Env?: string[];
  User?: string;
  WorkingDir?: string;
  Privileged?: boolean;
}

export type StreamMessage =
  /** The stream stands. `tty`: the container's (or the exec's) output is raw, not framed by stdout and stderr. */
  | { type: 'opened'; tty: boolean }
  /** It could not be, or broke off: an HTTP status and a sentence. The last message. */
  | { type: 'error'; status: number; message: string }
  /** All there was has been sent; to the one who serves: there will be no more input. */
  | { type: 'end'; exitCode?: number }
  /** The terminal has another size, in characters. */
  | { type: 'resize'; height: number; width: number };

const DATA = 0;
const MESSAGE = 1;
const HEADER_BYTES = 5;
/** A message is an error's sentence at most. */
const MAX_MESSAGE_BYTES = 64 * 1024;

/** What came is no frame: the stream cannot be understood any further. */
export class StreamFrameError extends Error {
  override readonly name = 'StreamFrameError';
}

export function dataFrame(data: Uint8Array): Buffer {
  return Buffer.concat([header(DATA, data.length), data]);
}

export function messageFrame(message: StreamMessage): Buffer {
  const json = Buffer.from(JSON.stringify(message));
  return Buffer.concat([header(MESSAGE, json.length), json]);
}

function header(type: number, bytes: number): Buffer {
  const head = Buffer.allocUnsafe(HEADER_BYTES);
  head.writeUInt8(type, 0);
  head.writeUInt32BE(bytes, 1);
  return head;
}

/** Takes frames apart, however the bytes were cut. Holds no data back, so it never holds more than one message. */
export class StreamFrames {
  /** The header or the message that is not whole yet. */
  #pending = Buffer.alloc(0);
  #type = DATA;
  /** Bytes of the present frame that are still to come; undefined between frames. */
  #remaining: number | undefined;

  /** What `chunk` brings: data in pieces, messages whole. @throws StreamFrameError; of no use after that */
  *push(chunk: Buffer): Iterable<Buffer | StreamMessage> {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#remaining === undefined) rest = this.#readHeader(rest);
      else if (this.#type === DATA) {
        const data = rest.subarray(0, this.#remaining);
        rest = this.#take(rest, data.length);
        yield data;
      } else {
        this.#pending = Buffer.concat([this.#pending, rest.subarray(0, this.#remaining)]);
        rest = this.#take(rest, this.#remaining);
        if (this.#remaining !== undefined) return;
        const message = parseMessage(this.#pending);
        this.#pending = Buffer.alloc(0);
        yield message;
      }
    }
  }

  #take(rest: Buffer, bytes: number): Buffer {
    const left = this.#remaining! - Math.min(bytes, rest.length);
    this.#remaining = left === 0 ? undefined : left;
    return rest.subarray(bytes);
  }

  #readHeader(chunk: Buffer): Buffer {
    const missing = HEADER_BYTES - this.#pending.length;
    const head = Buffer.concat([this.#pending, chunk.subarray(0, missing)]);
    this.#pending = head;
    if (head.length < HEADER_BYTES) return chunk.subarray(missing);
    this.#pending = Buffer.alloc(0);
    this.#type = head.readUInt8(0);
    const bytes = head.readUInt32BE(1);
    if (this.#type > MESSAGE) throw new StreamFrameError(`a frame of the unknown type ${this.#type}`);
    if (this.#type === MESSAGE && (bytes === 0 || bytes > MAX_MESSAGE_BYTES))
      throw new StreamFrameError(`a message of ${bytes} bytes; 1 to ${MAX_MESSAGE_BYTES} are taken`);
    this.#remaining = bytes === 0 ? undefined : bytes;
    return chunk.subarray(missing);
  }
}

function parseMessage(json: Buffer): StreamMessage {
  let value: Record<string, unknown> | null;
  try {
    value = JSON.parse(json.toString());
  } catch (error) {
    throw new StreamFrameError('a message that is not JSON', { cause: error });
  }
  const { type, tty, status, message, exitCode, height, width } = value ?? {};
  if (type === 'opened') return { type, tty: tty === true };
  if (type === 'end') return typeof exitCode === 'number' ? { type, exitCode } : { type };
  if (type === 'error' && isCount(status) && typeof message === 'string') return { type, status, message };
  if (type === 'resize' && isCount(height) && isCount(width)) return { type, height, width };
  throw new StreamFrameError(`a message that is not understood: ${String(type)}`);
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 65_535;
}
