/**
 * How much time has passed since moments that are written down in wall time. The wall clock counts once, when a moment is
 * first asked about, for it is all that a new manager has; from then on the monotonic clock does. So a wall clock that is
 * set back an hour keeps nothing waiting for an hour, and one that is set forward ends no wait.
 */
import type { Clock } from '../model/clock.ts';

export class Elapsed {
  readonly #clock: Clock;
  /** By key: the moment asked about, and when it was, on the monotonic clock. */
  readonly #moments = new Map<string, { momentMs: number; atMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Milliseconds since the moment, negative if it lies ahead: `firstMs` when it is first asked about under this key, and
   * from there on as time goes.
   */
  since(key: string, momentMs: number, firstMs: number): number {
    const nowMs = this.#clock.monotonic();
    const known = this.#moments.get(key);
    if (known?.momentMs === momentMs) return nowMs - known.atMs;
    this.#moments.set(key, { momentMs, atMs: nowMs - firstMs });
    return firstMs;
  }

  forget(key: string): void {
    this.#moments.delete(key);
  }
}
