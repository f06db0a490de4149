/**
 * The shape that all control loops share: watch the store, mark what an event makes dirty, and reconcile just that.
 *
 * A loop promises: no dirty key is lost; `reconcile` never runs twice at once; what failed is tried again, with
 * growing pauses, and a key that always fails holds up no other; after `stop()` resolves, the loop writes nothing more.
 */
import type { Clock, Log, Timer } from '../model/clock.ts';
import type { Event, Store, View } from '../store/store.ts';

export interface LoopDeps {
  store: Store;
  clock: Clock;
  log: Log;
}

/** Takes a key that is dirty. */
export type Mark = (key: string) => void;

/** What one loop adds to the common shape. Keys are whatever it reconciles one by one: service ids, node ids … */
export interface LoopLogic {
  name: string;
  /** Keys that are dirty when the loop starts: usually all of its objects. */
  initial(view: View): Iterable<string>;
  /** Calls `mark` for the keys that an event makes dirty. Not a generator: every loop is asked about every event. */
  affected(event: Event, view: View, mark: Mark): void;
  /** Makes the store right for these keys. Keys it could not finish it may mark again through `Loop.mark`. */
  reconcile(keys: ReadonlySet<string>): Promise<void>;
  /** How long to gather keys before a run, in milliseconds. Default 0: the next turn. */
  gatherMs?: number;
}

const RETRY_MS = { first: 100, most: 10_000 };

export class Loop {
  readonly #deps: LoopDeps;
  readonly #logic: LoopLogic;
  readonly #taint: Mark = (key) => void this.#dirty.add(key);
  #dirty = new Set<string>();
  /** Keys that become dirty at a time: on the monotonic clock, the earliest asked for. */
  readonly #alarms = new Map<string, { atMs: number; timer: Timer }>();
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  #unwatch: (() => void) | undefined;
  /** The last pause of keys that failed and have not succeeded since. */
  readonly #pausesMs = new Map<string, number>();

  constructor(deps: LoopDeps, logic: LoopLogic) {
    this.#deps = deps;
    this.#logic = logic;
  }

  start(): void {
    const { store } = this.#deps;
    const { result, stop } = store.viewAndWatch(
      (view) => [...this.#logic.initial(view)],
      (events) => {
        store.view((view) => {
          for (const event of events) this.#logic.affected(event, view, this.#taint);
        });
        this.#schedule(this.#logic.gatherMs ?? 0);
      },
    );
    this.#unwatch = stop;
    for (const key of result) this.#dirty.add(key);
    this.#schedule(0);
  }

  /** Resolves when the run under way, if any, has ended. */
  async stop(): Promise<void> {
    this.#unwatch?.();
    this.#unwatch = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const { timer } of this.#alarms.values()) timer.cancel();
    this.#alarms.clear();
    this.#dirty.clear();
    await this.#running;
  }

  /**
   * Marks a key dirty; with `delayMs`, at that time. For what depends on the clock, not on an event. A key has one
   * alarm: the earliest asked for. A `reconcile` that finds itself early asks again. Whole milliseconds, rounded up: a
   * part of one (specs are in nanoseconds) may be less than a clock can move by, and would be asked for again for ever.
   */
  mark(key: string, delayMs = 0): void {
    if (this.#unwatch === undefined) return;
    if (delayMs > 0) {
      this.#setAlarm(key, Math.ceil(delayMs));
      return;
    }
    this.#dirty.add(key);
    this.#schedule(0);
  }

  #setAlarm(key: string, delayMs: number): void {
    const { clock } = this.#deps;
    const atMs = clock.monotonic() + delayMs;
    const set = this.#alarms.get(key);
    if (set !== undefined && set.atMs <= atMs) return;
    set?.timer.cancel();
    const timer = clock.after(delayMs, () => {
      this.#alarms.delete(key);
      this.mark(key);
    });
    this.#alarms.set(key, { atMs, timer });
  }

  #schedule(delayMs: number): void {
    if (this.#unwatch === undefined || this.#dirty.size === 0) return;
    if (this.#timer !== undefined || this.#running !== undefined) return;
    this.#timer = this.#deps.clock.after(delayMs, () => {
      this.#timer = undefined;
      this.#running = this.#run();
    });
  }

  async #run(): Promise<void> {
    const keys = this.#dirty;
    this.#dirty = new Set();
    const error = await this.#attempt(keys);
    if (error !== undefined) {
      // A journal that takes nothing refuses every key alike; any other failure is one key's, which must not be the others'.
      const shared = error.name === 'JournalUnavailable';
      if (shared || keys.size === 1) this.#retryLater(keys, error);
      else await this.#oneByOne(keys);
    }
    this.#running = undefined;
    this.#schedule(this.#logic.gatherMs ?? 0);
  }

  async #oneByOne(keys: ReadonlySet<string>): Promise<void> {
    for (const key of keys) {
      if (this.#unwatch === undefined) return;
      const error = await this.#attempt(new Set([key]));
      if (error !== undefined) this.#retryLater([key], error);
    }
  }

  /** Undefined if all went well, else what was thrown. */
  async #attempt(keys: ReadonlySet<string>): Promise<Error | undefined> {
    try {
      await this.#logic.reconcile(keys);
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
    if (this.#pausesMs.size > 0) for (const key of keys) this.#pausesMs.delete(key);
    return undefined;
  }

  #retryLater(keys: Iterable<string>, error: Error): void {
    const { log } = this.#deps;
    for (const key of keys) {
      const pauseMs = Math.min(Math.max((this.#pausesMs.get(key) ?? 0) * 2, RETRY_MS.first), RETRY_MS.most);
      this.#pausesMs.set(key, pauseMs);
      this.mark(key, pauseMs);
    }
    log.error({ err: error, loop: this.#logic.name, keys: [...keys].slice(0, 10) }, 'reconcile failed; trying again');
  }
}
