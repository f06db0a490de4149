/**
 * Which nodes live, as far as a manager can tell.
 *
 * - A node with a session that says nothing for `silenceMs` and a heartbeat period is gone: 3 s in a small cluster. That
 *   is how a power cut or a cut cable looks. A pause of 2 s is survived.
 * - A node whose connection was closed has a kernel that closed it, so its containers most likely live and only its
 *   daemon is away (restart, upgrade, crash): it has `returnMs` to come back. So has one that a new manager knows
 *   of but has not heard yet.
 * - Time in which the manager itself slept counts against nobody (AwakeTime).
 *
 * The heartbeat period stretches with the cluster, so that the rate over all nodes stays bounded.
 */
import type { Clock, Timer } from '../model/clock.ts';
import { AwakeTime } from './awake.ts';

export interface Periods {
  /** The shortest heartbeat period. */
  heartbeatMs: number;
  /** Bounds the heartbeats of all nodes together. */
  heartbeatsPerSecond: number;
  /** How long a node may be silent, on top of one heartbeat period. */
  silenceMs: number;
  /** How long a node without a session has to come (back). */
  returnMs: number;
  /** How often deadlines are looked at. */
  checkMs: number;
  /** How late a check may be before the manager counts as having slept. */
  lateMs: number;
}

export const DEFAULT_PERIODS: Periods = {
  heartbeatMs: 500,
  heartbeatsPerSecond: 2000,
  silenceMs: 2500,
  returnMs: 10_000,
  checkMs: 100,
  lateMs: 100,
};

export class Liveness {
  readonly #clock: Clock;
  readonly #periods: Periods;
  readonly #expired: (nodeId: string) => void;
  readonly #awake: AwakeTime;
  /** Node → its deadline in awake time. Entries are re-inserted when renewed, so that the first one is due first. */
  readonly #speaking = new Map<string, number>();
  readonly #away = new Map<string, number>();
  /** Nodes that a new manager has not heard yet, with their deadlines: all made at once. */
  readonly #expected = new Map<string, number>();
  #timer: Timer | undefined;

  /** `expired` is called once for a node whose time is over; the node is unknown here afterwards. */
  constructor(clock: Clock, periods: Periods, expired: (nodeId: string) => void) {
    this.#clock = clock;
    this.#periods = periods;
    this.#expired = expired;
    this.#awake = new AwakeTime(clock, periods.checkMs, periods.lateMs);
  }

  start(): void {
    this.#timer = this.#clock.after(this.#periods.checkMs, () => {
      this.start();
      this.#check();
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** What a node is told in a cluster of `nodes`. */
  periodsFor(nodes: number): { heartbeatMs: number; timeoutMs: number } {
    const heartbeatMs = Math.max(this.#periods.heartbeatMs, (nodes * 1000) / this.#periods.heartbeatsPerSecond);
    return { heartbeatMs, timeoutMs: heartbeatMs + this.#periods.silenceMs };
  }

  /** A node spoke; it was last told to speak again within `timeoutMs`. */
  heard(nodeId: string, timeoutMs: number): void {
    this.forget(nodeId);
    this.#speaking.set(nodeId, this.#awake.now() + timeoutMs);
  }

  /** A node has no session (any more) and may come (back). */
  away(nodeId: string): void {
    this.forget(nodeId);
    this.#away.set(nodeId, this.#awake.now() + this.#periods.returnMs);
  }

  /**
   * A new manager knows of this node among `nodes`, and has not heard it yet. On top of the time to come back it has that in
   * which it finds out, by its next heartbeats, that its last manager is silent: those stretch as the cluster grows.
   */
  expect(nodeId: string, nodes: number): void {
    const stretchMs = this.periodsFor(nodes).heartbeatMs - this.#periods.heartbeatMs;
    this.forget(nodeId);
    this.#expected.set(nodeId, this.#awake.now() + this.#periods.returnMs + 2 * stretchMs);
  }

  forget(nodeId: string): void {
    this.#speaking.delete(nodeId);
    this.#away.delete(nodeId);
    this.#expected.delete(nodeId);
  }

  /** False once a node's time is over, until it is heard again. */
  expects(nodeId: string): boolean {
    return this.#speaking.has(nodeId) || this.#away.has(nodeId) || this.#expected.has(nodeId);
  }

  #check(): void {
    const now = this.#awake.now();
    for (const deadlines of [this.#speaking, this.#away, this.#expected]) {
      for (const [nodeId, deadline] of deadlines) {
        if (deadline > now) break;
        deadlines.delete(nodeId);
        this.#expired(nodeId);
      }
    }
  }
}
