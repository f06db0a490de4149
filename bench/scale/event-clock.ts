/**
 * A clock that jumps from one due timer to the next. Unlike the tests' fake clock it is made for a hundred thousand pending
 * timers: what fires at one moment lies in one list, and the moments in a heap.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { Clock, Timer } from '../../src/model/clock.ts';

interface Pending {
  fn: (() => void) | undefined;
}

export class EventClock implements Clock {
  readonly #startMs = Date.UTC(2026, 0, 1);
  #elapsed = 0;
  readonly #due = new Map<number, Pending[]>();
  /** The moments of `#due`, the next one on top. */
  readonly #moments: number[] = [];

  now(): number {
    return this.#startMs + this.#elapsed;
  }

  monotonic(): number {
    return this.#elapsed;
  }

  after(delayMs: number, fn: () => void): Timer {
    const at = this.#elapsed + Math.max(0, delayMs);
    const pending: Pending = { fn };
    const list = this.#due.get(at);
    if (list === undefined) {
      this.#due.set(at, [pending]);
      this.#push(at);
    } else list.push(pending);
    return { cancel: () => (pending.fn = undefined) };
  }

  /** Goes on until `done` says so, looked at after each moment. Rejects when that has not come within `withinMs` of simulated time. */
  async runUntil(done: () => boolean, what: string, withinMs: number): Promise<void> {
    const end = this.#elapsed + withinMs;
    await turn();
    while (!done()) {
      const at = this.#pop();
      if (at === undefined || at > end) throw new Error(`${what}: not within ${withinMs / 1000} simulated seconds`);
      this.#elapsed = at;
      const list = this.#due.get(at)!;
      this.#due.delete(at);
      for (const { fn } of list) fn?.();
      await turn();
    }
  }

  /** Goes on for `ms`. */
  async run(ms: number): Promise<void> {
    let over = false;
    this.after(ms, () => (over = true));
    await this.runUntil(() => over, 'time', ms);
  }

  #push(at: number): void {
    const heap = this.#moments;
    let child = heap.push(at) - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (heap[parent]! <= at) break;
      heap[child] = heap[parent]!;
      child = parent;
    }
    heap[child] = at;
  }

  #pop(): number | undefined {
    const heap = this.#moments;
    const [top] = heap;
    const last = heap.pop();
    if (heap.length === 0 || last === undefined) return top;
    let hole = 0;
    for (let child = 1; child < heap.length; child = 2 * hole + 1) {
      if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child += 1;
      if (heap[child]! >= last) break;
      heap[hole] = heap[child]!;
      hole = child;
    }
    heap[hole] = last;
    return top;
  }
}
