/**
 * Who leads, and whether it lives, as etcd shows it: reads the leader's key and its rounds, and watches them, for whoever
 * observes the leader or wants to take its place.
 */
import type { Clock, Timer } from '../../model/clock.ts';
import type { Leader } from '../shared.ts';
import { EtcdError, type Condition, type EtcdApi } from './api.ts';
import type { Keys } from './keys.ts';
import { pause } from './pause.ts';

const RETRY_MS = 100;
/** What was seen counts for so long after the way to etcd was lost. */
const STALE_MS = 2_000;

/** The leader's key, read. */
export interface Seen {
  leader: Leader;
  term: string;
  /** So long after its last write nobody else may lead. */
  ttlMs: number;
}

/** What the leader's key holds. */
export function leaderText({ leader: { nodeId, address }, term, ttlMs }: Seen): string {
  return JSON.stringify({ nodeId, address, term, ttlMs });
}

function seenIn(text: string): Seen {
  const { nodeId, address, term, ttlMs } = JSON.parse(text) as Leader & Seen;
  return { leader: { nodeId, address }, term, ttlMs };
}

export interface LeaderWatchDeps {
  api: EtcdApi;
  keys: Keys;
  clock: Clock;
}

export class LeaderWatch {
  readonly #deps: LeaderWatchDeps;
  readonly #stopped = new AbortController();
  readonly #listeners = new Set<() => void>();
  #running: Promise<void> | undefined;
  /** The values of the keys, and the revision as of which they hold. */
  #leader: string | null = null;
  #round: string | null = null;
  #revision = 0;
  /** When the round was first seen, by the monotonic clock: not before it was written. */
  #roundAtMs = 0;
  #known = false;
  #stale: Timer | undefined;

  constructor(deps: LeaderWatchDeps) {
    this.#deps = deps;
  }

  /** Who leads; undefined: nobody, or that is not known. */
  get leader(): Leader | undefined {
    return this.#known && this.#leader !== null ? seenIn(this.#leader).leader : undefined;
  }

  /** Whether the leadership that began in this revision is known to have ended. */
  hasEnded(term: string, revision: number): boolean {
    if (!this.#known || this.#revision < revision) return false;
    return this.#leader === null || seenIn(this.#leader).term !== term;
  }

  /** Calls `listener` after each change of any of this. Returns the end of it. */
  watch(listener: () => void): () => void {
    this.#running ??= this.#run();
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Resolves when nobody leads, or who leads has written nothing for its time, with what must still hold in etcd for this to be
   * true. Rejects with the signal's reason when aborted.
   */
  async opening(signal: AbortSignal): Promise<Condition[]> {
    const { keys, clock } = this.#deps;
    for (;;) {
      signal.throwIfAborted();
      const leftMs = this.#leftMs();
      if (leftMs <= 0) {
        const leader = { key: keys.leader, value: this.#leader };
        return this.#leader === null ? [leader] : [leader, { key: keys.round, value: this.#round }];
      }
      const changed = new AbortController();
      const unwatch = this.watch(() => changed.abort());
      // At least so long that the clock moves on.
      await pause(clock, Math.max(1, leftMs), AbortSignal.any([signal, changed.signal]));
      unwatch();
    }
  }

  /** The keys were read or heard of. */
  tell(values: { leader?: string | null; round?: string | null }, revision: number): void {
    if (revision < this.#revision) return;
    const { leader = this.#leader, round = this.#round } = values;
    if (round !== this.#round) this.#roundAtMs = this.#deps.clock.monotonic();
    const same = this.#known && leader === this.#leader;
    this.#revision = revision;
    this.#leader = leader;
    this.#round = round;
    this.#known = true;
    if (!same) this.#notify();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#stale?.cancel();
    this.#forget();
    await this.#running;
  }

  /** Until this manager may try to lead, if nothing changes. */
  #leftMs(): number {
    if (!this.#known) return STALE_MS;
    if (this.#leader === null) return 0;
    return this.#roundAtMs + seenIn(this.#leader).ttlMs - this.#deps.clock.monotonic();
  }

  async #run(): Promise<void> {
    const { api, keys, clock } = this.#deps;
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      try {
        const { rows, revision } = await api.range(keys.pulse);
        if (signal.aborted) return;
        this.#stale?.cancel();
        this.#stale = undefined;
        const values = new Map(rows.map(({ key, value }) => [key, value]));
        this.tell({ leader: values.get(keys.leader) ?? null, round: values.get(keys.round) ?? null }, revision);
        await this.#watch(revision + 1);
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
      }
      this.#stale ??= clock.after(STALE_MS, () => this.#forget());
      await pause(clock, RETRY_MS, signal);
    }
  }

  /** Watches until that breaks off, or `stop`. */
  #watch(fromRevision: number): Promise<EtcdError> {
    const { api, keys } = this.#deps;
    const { signal } = this.#stopped;
    const broken = Promise.withResolvers<EtcdError>();
    const watch = api.watch(keys.pulse, fromRevision, {
      events: (events) => {
        for (const { key, value, revision } of events) {
          if (key === keys.leader) this.tell({ leader: value }, revision);
          else if (key === keys.round) this.tell({ round: value }, revision);
        }
      },
      ended: (error) => broken.resolve(error),
    });
    const stop = () => {
      watch.stop();
      broken.resolve(new EtcdError('unknown', 'stopped'));
    };
    signal.addEventListener('abort', stop);
    return broken.promise.finally(() => signal.removeEventListener('abort', stop));
  }

  #forget(): void {
    this.#known = false;
    this.#notify();
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}
