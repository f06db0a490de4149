/** A clock that moves only when told: timers fire in order of their time, then of their making. */
import type { Clock, Timer } from '../model/clock.ts';

interface Pending {
  at: number;
  order: number;
  fn: () => void;
}

export class FakeClock implements Clock {
  #now: number;
  #elapsed = 0;
  #order = 0;
  readonly #pending = new Set<Pending>();

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#now = startMs;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#elapsed;
  }

  after(delayMs: number, fn: () => void): Timer {
    const timer = { at: this.#elapsed + Math.max(0, delayMs), order: this.#order++, fn };
    this.#pending.add(timer);
    return { cancel: () => this.#pending.delete(timer) };
  }

  /** Moves time on by `ms`, firing every timer due on the way; between two timers, promises get to run. */
  async advance(ms: number): Promise<void> {
    const end = this.#elapsed + ms;
    await settle();
    for (let next = this.#next(end); next !== undefined; next = this.#next(end)) {
      this.#moveTo(next.at);
      this.#pending.delete(next);
      next.fn();
      await settle();
    }
    this.#moveTo(end);
  }

  /** Sets the wall clock by `ms`, forward or back: no time passes, and no timer is the wiser. */
  jump(ms: number): void {
    this.#now += ms;
  }

  #next(end: number): Pending | undefined {
    let first: Pending | undefined;
    for (const timer of this.#pending) {
      if (timer.at > end) continue;
      if (first === undefined || timer.at < first.at || (timer.at === first.at && timer.order < first.order))
        first = timer;
    }
    return first;
  }

  #moveTo(elapsed: number): void {
    this.#now += elapsed - this.#elapsed;
    this.#elapsed = elapsed;
  }
}

/** Lets everything that is ready to run, run: promises and immediates, several rounds deep. */
export async function settle(rounds = 5): Promise<void> {
  for (let i = 0; i < rounds; i++) await new Promise((resolve) => setImmediate(resolve));
}
