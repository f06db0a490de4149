/** Waiting under a clock that can be a simulated one. */
import type { Clock } from '../../model/clock.ts';

/** Resolves after `delayMs`, or as soon as the signal is aborted. */
export async function pause(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return;
  const over = Promise.withResolvers<void>();
  const end = () => over.resolve();
  const timer = clock.after(delayMs, end);
  signal?.addEventListener('abort', end);
  await over.promise;
  signal?.removeEventListener('abort', end);
  timer.cancel();
}
