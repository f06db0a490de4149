/**
 * Nodes on which a version of a service keeps failing: five failures in five minutes put a node last for it (SwarmKit's
 * figures). Told by the rows of tasks that failed, so a new leader knows what the history still shows.
 */
import type { Clock } from '../../model/clock.ts';
import { serviceSpecId, type Task } from '../../model/objects.ts';
import { TaskState } from '../../model/states.ts';

const WINDOW_MS = 5 * 60_000;
const MANY = 5;
/** Of more failures than this on one node the oldest are forgotten: enough to compare failing nodes by. */
const KEPT = 100;

const NONE: ReadonlyMap<string, number> = new Map();

export class Failures {
  readonly #clock: Clock;
  #prunedMs = 0;
  /** Spec version → node id → times, oldest first, in ms since the epoch. */
  readonly #times = new Map<string, Map<string, number[]>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Counts a failure that the change of a row shows. Tasks made for their node cannot go elsewhere: theirs do not count. */
  apply(before: Task | undefined, after: Task | undefined): void {
    if (after === undefined || !hasFailed(after) || (before !== undefined && hasFailed(before))) return;
    if (after.nodeId === '' || after.slot === 0) return;
    const nowMs = this.#clock.now();
    // Of a task that had failed before this began, the row says when.
    const atMs = before === undefined ? Math.min(Date.parse(after.status.timestamp), nowMs) : nowMs;
    if (!(atMs > nowMs - WINDOW_MS)) return;
    const specId = serviceSpecId(after.serviceId, after.specVersion);
    let byNode = this.#times.get(specId);
    if (byNode === undefined) this.#times.set(specId, (byNode = new Map()));
    const times = byNode.get(after.nodeId) ?? [];
    byNode.set(after.nodeId, [...times, atMs].sort((a, b) => a - b).slice(-KEPT));
  }

  clear(): void {
    this.#times.clear();
  }

  /** The nodes that keep failing the spec version: node id → its recent failures. */
  of(specId: string): ReadonlyMap<string, number> {
    const byNode = this.#times.get(specId);
    if (byNode === undefined) return NONE;
    const failing = new Map<string, number>();
    const nowMs = this.#clock.now();
    for (const [nodeId, times] of byNode) {
      const recent = times.filter((atMs) => atMs > nowMs - WINDOW_MS);
      if (recent.length === 0) byNode.delete(nodeId);
      else byNode.set(nodeId, recent);
      if (recent.length >= MANY) failing.set(nodeId, recent.length);
    }
    if (byNode.size === 0) this.#times.delete(specId);
    return failing;
  }

  /** Forgets what is too old to count: a look at everything, now and then. */
  prune(): void {
    const nowMs = this.#clock.monotonic();
    if (nowMs - this.#prunedMs < WINDOW_MS) return;
    this.#prunedMs = nowMs;
    for (const specId of this.#times.keys()) this.of(specId);
  }
}

function hasFailed({ status }: Task): boolean {
  return status.state === TaskState.FAILED || status.state === TaskState.REJECTED;
}
