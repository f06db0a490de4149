/**
 * Time, randomness and logging as the rooms see them: interfaces only. Parts receive them through their
 * constructors, so that a whole cluster can run under a fake clock and a seed (design.md, section 3).
 */

/** A pending timer; `cancel()` is idempotent and may be called after it has fired. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since the Unix epoch; may jump, so use it for what people read. */
  now(): number;
  /** Milliseconds from an arbitrary start; never jumps back. Use it for time-outs. */
  monotonic(): number;
  /** Calls `fn` once, after at least `delayMs`. A pending timer keeps no process alive. */
  after(delayMs: number, fn: () => void): Timer;
}

/** Uniform in [0, 1). */
export type Random = () => number;

/** Structured log, pino's call shape: fields first, then the sentence. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Log;
}

/** A log that goes nowhere: for tests and tools. */
export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLog,
};

/** RFC 3339 with milliseconds, UTC: how every stored time is written. */
export function timestamp(nowMs: number): string {
  if (nowMs !== last.nowMs) last = { nowMs, written: new Date(nowMs).toISOString() };
  return last.written;
}

/** Thousands of rows are written in one millisecond: they share its string. */
let last = { nowMs: NaN, written: '' };
