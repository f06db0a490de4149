/** Waiting for "something may have changed", without losing what happened between looking and waiting. */
import type { Clock } from '../model/clock.ts';

export class Wakeup {
  #count = 0;
  readonly #waiting = new Set<() => void>();

  /** How often it was woken; take it before looking, hand it to `after` for waiting. */
  get count(): number {
    return this.#count;
  }

  wake(): void {
    this.#count++;
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  /** Settles at the first wake after `seen`, at once if that has been; with a delay, after that at the latest. */
  after(seen: number, clock?: Clock, delayMs?: number): Promise<void> {
    if (this.#count !== seen) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = clock === undefined || delayMs === undefined ? undefined : clock.after(delayMs, () => done());
      const done = (): void => {
        timer?.cancel();
        this.#waiting.delete(done);
        resolve();
      };
      this.#waiting.add(done);
    });
  }
}
