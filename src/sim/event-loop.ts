/**
 * The one thread of a simulated world: what happens, in the order of its time and then of its making. Between two events
 * everything that is ready runs: promises and immediates. Nothing else may make a simulated part go on, so that a seed says
 * all there is to say of a run; `trace` sums up what happened, for comparing two runs.
 */
import type { Timer } from '../model/clock.ts';
import { hashOf } from './seeded.ts';

interface Entry {
  readonly at: number;
  readonly order: number;
  readonly name: string;
  fn: (() => void) | undefined;
}

/** So many events at one instant are a circle: time would never go on. */
const MOST_AT_ONCE = 20_000;

export class EventLoop {
  #now = 0;
  #order = 0;
  #atOnce = 0;
  #trace = 0x811c9dc5;
  /** A binary heap: the first is the next. */
  readonly #heap: Entry[] = [];
  events = 0;

  /** Milliseconds since the world began. */
  get now(): number {
    return this.#now;
  }

  /** What happened so far, as one number. */
  get trace(): number {
    return this.#trace;
  }

  /** Puts a line into the trace. */
  note(line: string): void {
    this.#trace = hashOf(line, this.#trace);
  }

  /** Calls `fn` once, `delayMs` from now. */
  after(delayMs: number, name: string, fn: () => void): Timer {
    const entry: Entry = { at: this.#now + Math.max(0, delayMs), order: this.#order++, name, fn };
    this.#push(entry);
    return {
      cancel: () => {
        entry.fn = undefined;
      },
    };
  }

  /**
   * Lets `ms` pass. `each` is called after every event, once nothing is ready to run any more.
   * @throws Error if time does not go on, or what an event or `each` throws
   */
  async run(ms: number, each: () => void = () => {}): Promise<void> {
    const end = this.#now + ms;
    await ready();
    for (let next = this.#heap[0]; next !== undefined && next.at <= end; next = this.#heap[0]) {
      this.#pop();
      if (next.fn === undefined) continue;
      this.#moveTo(next);
      next.fn();
      await ready();
      each();
    }
    this.#now = end;
    this.#atOnce = 0;
  }

  #moveTo({ at, name }: Entry): void {
    this.#atOnce = at > this.#now ? 0 : this.#atOnce + 1;
    if (this.#atOnce > MOST_AT_ONCE) throw new Error(`time stands still at ${at} ms: ${name} again and again`);
    this.#now = at;
    this.events++;
    this.note(`${Math.round(at * 1000)} ${name}`);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!isBefore(entry, heap[above]!)) break;
      heap[at] = heap[above]!;
      at = above;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && isBefore(heap[below + 1]!, heap[below]!)) below++;
      if (!isBefore(heap[below]!, last)) break;
      heap[at] = heap[below]!;
      at = below;
    }
    heap[at] = last;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** Two rounds: what reports status gathers it in an immediate, and what that sends may be gathered again. */
async function ready(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
}
