/**
 * A running task on its way out, until its stop signal: first every node takes it out of balancing, then the
 * connections it has may end. Promises: neither wait is longer than its bound, whether a manager is there or not; a
 * daemon that was restarted in the middle begins them again.
 */
import type { TaskAssignment } from '../model/assignments.ts';
import type { Clock, Log } from '../model/clock.ts';
import { DEFAULT_DRAIN_MS } from '../model/readiness.ts';

/** Longer than the manager waits: it is its word that counts, unless it cannot be had. */
const WITHDRAWN_WITHIN_MS = 3_000;
/** What was sent here just before may be on its way, by a slow line or a busy host, and is not seen until it arrives. */
const ARRIVING_MS = 200;
const LOOK_MS = 75;

export interface DepartureDeps {
  clock: Clock;
  log: Log;
  /** Resolves when this node sends connections where it was last told to. */
  settled: () => Promise<void>;
  /** How many connections the task serves now. */
  connections: (pid: number) => Promise<number>;
}

export class Departure {
  readonly #deps: DepartureDeps;
  /** On the monotonic clock. */
  #beganMs: number | undefined;
  #withdrawnMs: number | undefined;
  /** Somebody did send connections here when it began to leave. */
  #wasBalanced = false;
  #outHere: Promise<true> | undefined;

  constructor(deps: DepartureDeps) {
    this.#deps = deps;
  }

  /** In how many milliseconds to ask again, or sooner if the assignment changes; 0: nothing keeps it from its stop signal. */
  async waitMs(task: TaskAssignment, pid: number): Promise<number> {
    const nowMs = this.#deps.clock.monotonic();
    this.#beganMs ??= nowMs;
    if (task.balanced === true) this.#wasBalanced = true;
    if (this.#withdrawnMs === undefined) {
      const leftMs = this.#beganMs + WITHDRAWN_WITHIN_MS - nowMs;
      if (leftMs > 0) {
        if (task.balanced === true) return leftMs;
        if (!(await this.#isOutHere())) return Math.min(leftMs, LOOK_MS);
      }
      this.#withdrawnMs = nowMs;
    }
    const leftMs = this.#withdrawnMs + (task.drainMs ?? DEFAULT_DRAIN_MS) - nowMs;
    const arrivingMs = this.#wasBalanced ? this.#withdrawnMs + ARRIVING_MS - nowMs : 0;
    if (leftMs > 0 && arrivingMs > 0) return Math.min(leftMs, arrivingMs);
    if (leftMs <= 0 || (await this.#connections(pid)) === 0) return 0;
    return Math.min(leftMs, LOOK_MS);
  }

  /**
   * The managers wait for this node as for any other, unless they had given it up: it comes back, and hears in one breath
   * that its tasks are not wanted and where connections are to go instead.
   */
  #isOutHere(): Promise<boolean> {
    const { settled, clock } = this.#deps;
    this.#outHere ??= settled().then(() => true);
    const notYet = new Promise<false>((resolve) => clock.after(LOOK_MS, () => resolve(false)));
    return Promise.race([this.#outHere, notYet]);
  }

  async #connections(pid: number): Promise<number> {
    try {
      return await this.#deps.connections(pid);
    } catch (error) {
      // Most likely it has just ended; whatever it is, a stop does not wait for what cannot be seen.
      this.#deps.log.debug({ error: String(error) }, 'the connections of a task could not be counted');
      return 0;
    }
  }
}
