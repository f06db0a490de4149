/**
 * Time in which this process was awake. A process that was stopped, starved or busy cannot have heard anyone, so it must
 * not count that time against others: a manager that was paused for a minute finds its nodes as alive as before.
 */
import type { Clock } from '../model/clock.ts';

export class AwakeTime {
  readonly #clock: Clock;
  readonly #tickMs: number;
  readonly #toleranceMs: number;
  #last: number;
  #asleepMs = 0;

  /** Somebody calls `now()` at least every `tickMs`; being late by more than `toleranceMs` counts as sleep. */
  constructor(clock: Clock, tickMs: number, toleranceMs: number) {
    this.#clock = clock;
    this.#tickMs = tickMs;
    this.#toleranceMs = toleranceMs;
    this.#last = clock.monotonic();
  }

  /** Milliseconds from an arbitrary start, sleep left out. */
  now(): number {
    const monotonic = this.#clock.monotonic();
    const gap = monotonic - this.#last;
    if (gap > this.#tickMs + this.#toleranceMs) this.#asleepMs += gap - this.#tickMs;
    this.#last = monotonic;
    return monotonic - this.#asleepMs;
  }
}
