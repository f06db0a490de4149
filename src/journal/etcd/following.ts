/**
 * A follower: reads all rows as of one revision, then watches from there. When the watch breaks off it watches anew from what
 * was told last; if what came after that is not kept any more, all rows are read again.
 */
import type { Clock } from '../../model/clock.ts';
import { JournalUnavailable } from '../journal.ts';
import type { FollowListener, Following } from '../shared.ts';
import { EtcdError, type EtcdApi, type Row, type RowEvent } from './api.ts';
import { only, type Keys } from './keys.ts';
import { pause } from './pause.ts';
import { Reader } from './redo.ts';

/** How long the first rows may take. */
const FIRST_ROWS_MS = 5_000;
const RETRY_MS = 100;
const PAGE_ROWS = 2_000;

export interface FollowingDeps {
  api: EtcdApi;
  keys: Keys;
  clock: Clock;
}

interface Waiter {
  revision: number;
  reached: PromiseWithResolvers<void>;
}

/** All that lies in the followed range, as of one revision. Rejects with EtcdError. */
export async function readAll(api: EtcdApi, keys: Keys): Promise<{ rows: Row[]; revision: number }> {
  const first = await api.range(keys.all, { limit: PAGE_ROWS });
  const { revision, rows } = first;
  for (let page = first; page.more;) {
    const from = `${page.rows.at(-1)!.key}\0`;
    page = await api.range({ from, to: keys.all.to }, { limit: PAGE_ROWS, revision });
    for (const row of page.rows) rows.push(row);
  }
  return { rows, revision };
}

export class EtcdFollowing implements Following {
  readonly #deps: FollowingDeps;
  readonly #listener: FollowListener;
  readonly #reader: Reader;
  readonly #stopped = new AbortController();
  readonly #waiters = new Set<Waiter>();
  #revision = -1;
  #running: Promise<void> = Promise.resolve();

  private constructor(deps: FollowingDeps, listener: FollowListener) {
    this.#deps = deps;
    this.#listener = listener;
    this.#reader = new Reader(deps.keys);
  }

  /** As SharedJournal's `follow`. */
  static async start(deps: FollowingDeps, listener: FollowListener, signal: AbortSignal): Promise<EtcdFollowing> {
    const following = new EtcdFollowing(deps, listener);
    await following.#first(signal);
    following.#running = following.#follow();
    return following;
  }

  get revision(): number {
    return this.#revision;
  }

  /** Resolves when it has been stopped. */
  get ended(): Promise<void> {
    return this.#running;
  }

  async reached(revision: number): Promise<void> {
    if (this.#revision >= revision) return;
    const waiter: Waiter = { revision, reached: Promise.withResolvers() };
    this.#waiters.add(waiter);
    const stop = () => waiter.reached.reject(new Error('the journal is followed no more'));
    this.#stopped.signal.addEventListener('abort', stop);
    if (this.#stopped.signal.aborted) stop();
    else void this.#look(waiter);
    try {
      await waiter.reached.promise;
    } finally {
      this.#stopped.signal.removeEventListener('abort', stop);
      this.#waiters.delete(waiter);
    }
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }

  async #first(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    const untilMs = clock.monotonic() + FIRST_ROWS_MS;
    for (;;) {
      try {
        if (signal.aborted) throw new JournalUnavailable('the journal is closed');
        await this.#readAnew();
        return;
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        if (clock.monotonic() >= untilMs)
          throw new JournalUnavailable(`the cluster's state cannot be read: ${error.message}`, { cause: error });
      }
      await pause(clock, RETRY_MS, signal);
    }
  }

  async #readAnew(): Promise<void> {
    const { rows, revision } = await readAll(this.#deps.api, this.#deps.keys);
    if (this.#stopped.signal.aborted) return;
    this.#listener.replace(this.#reader.rows(rows), revision);
    this.#told(revision);
  }

  async #follow(): Promise<void> {
    const { clock } = this.#deps;
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      const error = await this.#watch();
      if (error.failure === 'compacted') await this.#fillGap();
      await pause(clock, RETRY_MS, signal);
    }
  }

  /** Watches until that breaks off, or `stop`. */
  #watch(): Promise<EtcdError> {
    const { api, keys } = this.#deps;
    const { signal } = this.#stopped;
    const broken = Promise.withResolvers<EtcdError>();
    const watch = api.watch(keys.all, this.#revision + 1, {
      events: (events) => this.#hear(events),
      ended: (error) => broken.resolve(error),
    });
    const stop = () => {
      watch.stop();
      broken.resolve(new EtcdError('unknown', 'stopped'));
    };
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    return broken.promise.finally(() => signal.removeEventListener('abort', stop));
  }

  #hear(events: readonly RowEvent[]): void {
    for (let i = 0; i < events.length && !this.#stopped.signal.aborted;) {
      const { revision } = events[i]!;
      let end = i + 1;
      while (events[end]?.revision === revision) end++;
      const changes = this.#reader.changes(events.slice(i, end));
      if (changes.length > 0) this.#listener.apply(changes, revision);
      this.#told(revision);
      i = end;
    }
  }

  /** What came after the last that was told is not kept any more: all rows are told again. */
  async #fillGap(): Promise<void> {
    try {
      await this.#readAnew();
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      // The next watch says again that there is a gap.
    }
  }

  /** The keeper's revision, and the newest one up to that in which anything was written here. */
  async #newest(): Promise<{ revision: number; last: number }> {
    const { api, keys } = this.#deps;
    const { revision, rows } = await api.range(only(keys.round));
    return { revision, last: rows[0]?.modRevision ?? 0 };
  }

  /** Revisions that others' writes made are heard of by nobody: whether there is anything to wait for must be asked. */
  async #look(waiter: Waiter): Promise<void> {
    const { clock } = this.#deps;
    while (this.#waiters.has(waiter) && !this.#stopped.signal.aborted) {
      try {
        const { revision, last } = await this.#newest();
        if (revision >= waiter.revision) {
          waiter.revision = Math.min(waiter.revision, last);
          this.#told(last <= this.#revision ? revision : this.#revision);
          return;
        }
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
      }
      await pause(clock, RETRY_MS, this.#stopped.signal);
    }
  }

  #told(revision: number): void {
    this.#revision = Math.max(this.#revision, revision);
    for (const waiter of this.#waiters) if (waiter.revision <= this.#revision) waiter.reached.resolve();
  }
}
