/** Waiting that ends: by a signal, or by a time. What is waited for goes on all the same, and its outcome is then dropped. */
import type { Clock } from '../model/clock.ts';

/** What `promise` comes to, or a rejection with the signal's reason if that is aborted first. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** What `promise` comes to, or a rejection with `message` if that takes longer than `delayMs`. */
export async function inTime<T>(clock: Clock, delayMs: number, promise: Promise<T>, message: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = clock.after(delayMs, () => late.reject(new Error(message)));
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    timer.cancel();
  }
}

/** Resolves after `delayMs`, or as soon as the signal is aborted. */
export async function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted || delayMs === 0) return;
  const over = Promise.withResolvers<void>();
  const end = () => over.resolve();
  const timer = clock.after(delayMs, end);
  signal.addEventListener('abort', end);
  await over.promise;
  signal.removeEventListener('abort', end);
  timer.cancel();
}
