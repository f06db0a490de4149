/**
 * Which manager an agent dials next, and after which pause. No manager is special: first the others it was told of, then the
 * one that just failed, then those it was started with and nobody names any more. One that names the leader is followed at once.
 * Pauses grow with each round through all of them; without a leader they stay short, because there will be one in seconds.
 */
import type { Random } from '../model/clock.ts';

export interface KnownManagers {
  /** host:port, as the last manager named them. */
  named: readonly string[];
  /** host:port, as this node was started with. */
  configured: readonly string[];
}

/**
 * What came of dialling a manager, or of a session with it:
 * - `lost`: there was a session, and it broke. `left`: the manager ended it because it leads no more, or stops.
 * - `failed`: there was none. `referred`: because `leader` leads, '' if nobody is known to.
 * - `replaced`, `removed`: as the session was told.
 */
export type Outcome =
  | { kind: 'lost' | 'left' | 'failed' | 'replaced' | 'removed' }
  | { kind: 'referred'; leader: string };

export interface Backoff {
  first: number;
  most: number;
}

/** The longest pause while there is no leader. */
const LEADERLESS_MS = 1_000;
/** Managers that disagree about who leads must not make an agent spin. */
const DIALS_WITHOUT_PAUSE = 2;

export class ManagerChoice {
  readonly #backoffMs: Backoff;
  readonly #random: Random;
  #queue: string[] = [];
  /** Tries in a row that came to no session. */
  #failures = 0;
  #withoutPause = 0;

  constructor(backoffMs: Backoff, random: Random) {
    this.#backoffMs = backoffMs;
    this.#random = random;
  }

  /** The one to dial now, if `last` was dialled before ('' at first). There must be at least one. */
  next(known: KnownManagers, last: string): string {
    if (this.#queue.length === 0) this.#queue = round(known, last);
    return this.#queue.shift()!;
  }

  /** Milliseconds to wait before `next`, after what came of dialling `address`. */
  pauseAfter(address: string, outcome: Outcome, known: KnownManagers): number {
    const { kind } = outcome;
    if (kind === 'lost' || kind === 'left') {
      this.#failures = 0;
      this.#withoutPause = 0;
      this.#queue = [];
      // Replaced, too: another with this node's certificate is connected. Two that take turns must not do so quickly.
    } else this.#failures += 1;
    const managers = round(known, address);
    if (this.#atOnce(outcome, address, managers)) return 0;
    this.#withoutPause = 0;
    const { first, most } = this.#backoffMs;
    const grown = Math.min(first * 2 ** Math.floor(this.#failures / managers.length), most);
    const longest = kind === 'removed' ? most : kind === 'referred' ? Math.min(grown, LEADERLESS_MS) : grown;
    return longest * (0.5 + this.#random() / 2);
  }

  #atOnce(outcome: Outcome, address: string, managers: readonly string[]): boolean {
    const { kind } = outcome;
    if (kind === 'referred' && outcome.leader !== '' && outcome.leader !== address)
      this.#queue = [outcome.leader, ...this.#queue.filter((other) => other !== outcome.leader)];
    else if (kind !== 'left' || managers.length === 1) return false;
    this.#withoutPause += 1;
    return this.#withoutPause <= DIALS_WITHOUT_PAUSE;
  }
}

/** All of them, each once: the named ones that follow `last` in their order, `last`, and the others. Pure. */
export function round({ named, configured }: KnownManagers, last: string): string[] {
  return [...new Set([...from(named, last), ...from(configured, last)])];
}

/** As a ring that is entered behind `last`. */
function from(ring: readonly string[], last: string): string[] {
  const at = ring.indexOf(last) + 1;
  return [...ring.slice(at), ...ring.slice(0, at)];
}
