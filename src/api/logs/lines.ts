/**
 * An engine's log of one container, taken apart into lines: framed by stdout and stderr, or raw from a terminal. Each line
 * begins with its time, always in the same 30 characters, so that times compare as text.
 */

export interface LogLine {
  /** RFC 3339 in UTC with nine digits behind the point. */
  at: string;
  /** 1: stdout, 2: stderr. */
  stream: number;
  /** All behind the time and its space: details, if they were asked for, and the message, its line end included. */
  rest: Buffer;
}

const AT_CHARS = 30;
const FRAME_HEADER = 8;
const NEWLINE = 0x0a;
/** Engines cut messages at 16 KiB. */
const MAX_LINE_BYTES = 1024 * 1024;

/** The bytes are not those of an engine's log. */
export class NotALog extends Error {
  override readonly name = 'NotALog';
}

export class LogLines {
  readonly #tty: boolean;
  #pending = Buffer.alloc(0);

  constructor(tty: boolean) {
    this.#tty = tty;
  }

  /** The lines that `chunk` completes. They refer to its bytes. @throws NotALog; of no use after that */
  push(chunk: Buffer): LogLine[] {
    const bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const lines: LogLine[] = [];
    let at = 0;
    for (;;) {
      const { start, end } = this.#tty ? rawLine(bytes, at) : frame(bytes, at);
      if (end - start > MAX_LINE_BYTES) throw new NotALog(`a line of more than ${MAX_LINE_BYTES} bytes`);
      if (end > bytes.length) break;
      lines.push(lineOf(bytes, start, end, this.#tty ? 1 : bytes[at]!));
      at = end;
    }
    // A copy, so that a few bytes do not keep a whole chunk.
    this.#pending = at === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(at));
    return lines;
  }

  /** What was left without a line end when the log ended. */
  end(): LogLine[] {
    const rest = this.#pending;
    this.#pending = Buffer.alloc(0);
    if (rest.length === 0) return [];
    if (!this.#tty) throw new NotALog('it ended in the middle of a line');
    return [lineOf(rest, 0, rest.length, 1)];
  }
}

/** Where the frame at `at` has its line; `end` is beyond the bytes if it is not whole yet. */
function frame(bytes: Buffer, at: number): { start: number; end: number } {
  const start = at + FRAME_HEADER;
  if (start > bytes.length) return { start, end: start };
  const stream = bytes[at]!;
  if (stream !== 1 && stream !== 2) throw new NotALog(`a frame of the unknown stream ${stream}`);
  return { start, end: start + bytes.readUInt32BE(at + 4) };
}

function rawLine(bytes: Buffer, at: number): { start: number; end: number } {
  const newline = bytes.indexOf(NEWLINE, at);
  return { start: at, end: newline < 0 ? bytes.length + 1 : newline + 1 };
}

function lineOf(bytes: Buffer, start: number, end: number, stream: number): LogLine {
  const at = bytes.toString('latin1', start, Math.min(start + AT_CHARS, end));
  if (at.length < AT_CHARS || at[10] !== 'T' || at[29] !== 'Z') throw new NotALog(`a line without its time: "${at}"`);
  return { at, stream, rest: bytes.subarray(Math.min(start + AT_CHARS + 1, end), end) };
}

/** A moment as lines carry it. */
export function lineTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000000Z');
}

/** The same moment as engines read it in `since`: seconds since the epoch with nine digits behind the point. */
export function secondsAt(at: string): string {
  return `${Math.floor(Date.parse(at) / 1000)}.${at.slice(20, 29)}`;
}
