/**
 * What the scenarios of a shared journal's contract (shared.contract.ts) play in: clients whose way can be cut and whose clock
 * can be stopped, followers that remember what they were told.
 */
import type { Clock, Timer } from '../model/clock.ts';
import type { Change } from './journal.ts';
import type { FollowListener, Leader, SharedJournal } from './shared.ts';

/** One manager's way to the keeper, and what can befall it. */
export interface SharedClient {
  journal: SharedJournal;
  clock: PausableClock;
  /** Nothing gets through any more, and nobody says so. */
  cut(): void;
  /** What is asked is done, but no answer comes. */
  loseAnswers(): void;
  mend(): void;
}

export interface SharedWorld {
  clock: Clock;
  /** How long nobody else leads after a leader has fallen silent. */
  ttlMs: number;
  client(): Promise<SharedClient>;
  /** Forgets all history. */
  compact(): Promise<void>;
  loseQuorum(): void | Promise<void>;
  regainQuorum(): void;
  /** Runs `scenario` to its end, letting time pass. */
  run<T>(scenario: () => Promise<T>): Promise<T>;
  dispose(): Promise<void>;
}

/** A clock that can be stopped, as that of a process is which gets no time; others notice nothing. */
export class PausableClock implements Clock {
  readonly #clock: Clock;
  #missedMs = 0;
  #pausedAt: number | undefined;
  #late: (() => void)[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.now();
  }

  monotonic(): number {
    return (this.#pausedAt ?? this.#clock.monotonic()) - this.#missedMs;
  }

  after(delayMs: number, fn: () => void): Timer {
    let cancelled = false;
    const fire = () => {
      if (!cancelled) fn();
    };
    const timer = this.#clock.after(delayMs, () => {
      if (this.#pausedAt === undefined) fire();
      else this.#late.push(fire);
    });
    return {
      cancel() {
        cancelled = true;
        timer.cancel();
      },
    };
  }

  pause(): void {
    this.#pausedAt = this.#clock.monotonic();
  }

  /** `unnoticed`: the clock has not gone on either, as after the whole machine was halted. */
  resume({ unnoticed = false } = {}): void {
    if (unnoticed) this.#missedMs += this.#clock.monotonic() - this.#pausedAt!;
    this.#pausedAt = undefined;
    for (const fire of this.#late.splice(0)) fire();
  }
}

/** What a follower was told. */
export class Follower implements FollowListener {
  rows = new Map<string, string>();
  replaced = 0;
  revisions: number[] = [];
  applied: (readonly Change[])[] = [];

  replace(rows: Map<string, string>, revision: number): void {
    this.rows = new Map(rows);
    this.replaced++;
    this.revisions.push(revision);
  }

  apply(changes: readonly Change[], revision: number): void {
    for (const { key, value } of changes) {
      if (value === null) this.rows.delete(key);
      else this.rows.set(key, value);
    }
    this.applied.push(changes);
    this.revisions.push(revision);
  }

  /** The values of row `n`, in the order they were told. */
  get counted(): string[] {
    return this.applied.flatMap((changes) => changes.flatMap(({ key, value }) => (key === 'n' ? [String(value)] : [])));
  }
}

export const leaderOf = (nodeId: string): Leader => ({ nodeId, address: `${nodeId}:2377` });
/** The time of a leadership that is not to run out however slow the machine is, and of one that is. */
export const LONG_MS = 20_000;
export const SHORT_MS = 1_500;

export const never = () => new AbortController().signal;
export const count = (i: number): Change[][] => [[{ key: 'n', value: String(i) }]];
export const upTo = (last: number) => Array.from({ length: last }, (_, i) => String(i + 1));

/** What a promise comes to. */
export async function outcome(promise: Promise<unknown>): Promise<Error | 'done'> {
  try {
    await promise;
    return 'done';
  } catch (error) {
    return error as Error;
  }
}

/** A promise, and whether it is pending. */
export function state<T>(promise: Promise<T>): { promise: Promise<T>; pending: boolean } {
  const state = { promise, pending: true };
  const settled = () => (state.pending = false);
  promise.then(settled, settled);
  return state;
}
