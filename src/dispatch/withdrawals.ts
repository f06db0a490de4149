/**
 * Removal before stop: which tasks, no longer wanted, some node may still send connections to. A task is withdrawn when
 * every node that balances it has confirmed the round of facts that takes it out, or when its time is over. Kept in
 * memory only: a manager that has just begun makes it again from the store. Pure but for the sets it keeps; what an
 * operation costs follows what is leaving, never tasks times nodes.
 */
import type { Task } from '../model/objects.ts';
import { TaskState } from '../model/states.ts';
import { isBalanced, isServing } from './facts.ts';

/** Tasks that leave together and are balanced by the same nodes. */
interface Batch {
  /** Begun in this round; a node that confirms it, or a later one, has taken the tasks out. */
  round: number;
  tasks: Set<string>;
  /** Those that have yet to confirm. */
  nodes: Set<string>;
}

export class Withdrawals {
  /** In the order of their rounds. */
  readonly #batches = new Set<Batch>();
  readonly #batchOf = new Map<string, Batch>();
  #round = 0;

  /** Begins a round. A task that no node balances is withdrawn already. */
  begin(batches: Iterable<{ tasks: Iterable<string>; nodes: Iterable<string> }>): number {
    const round = ++this.#round;
    for (const { tasks, nodes } of batches) {
      const batch = { round, tasks: new Set(tasks), nodes: new Set(nodes) };
      for (const taskId of batch.tasks) this.end(taskId);
      if (batch.nodes.size === 0) continue;
      this.#batches.add(batch);
      for (const taskId of batch.tasks) this.#batchOf.set(taskId, batch);
    }
    return round;
  }

  /** True while some node may still send it connections. */
  has(taskId: string): boolean {
    return this.#batchOf.has(taskId);
  }

  /** The newest round that this node has yet to confirm. */
  roundOf(nodeId: string): number | undefined {
    return [...this.#batches].findLast((batch) => batch.nodes.has(nodeId))?.round;
  }

  /** All that the node was told in rounds up to this one is in force there. Returns the tasks that are withdrawn now. */
  confirmed(nodeId: string, round: number): string[] {
    const withdrawn: string[] = [];
    for (const batch of this.#batches) {
      if (batch.round > round) break;
      if (batch.nodes.delete(nodeId) && batch.nodes.size === 0) withdrawn.push(...this.#finish(batch));
    }
    return withdrawn;
  }

  /** Nobody waits for this node any more. Returns the tasks that are withdrawn now. */
  lost(nodeId: string): string[] {
    return this.confirmed(nodeId, Infinity);
  }

  /** The time of a round is over. Returns its tasks that are withdrawn by that, not by their nodes. */
  expired(round: number): string[] {
    return [...this.#batches].filter((batch) => batch.round === round).flatMap((batch) => this.#finish(batch));
  }

  /** It has ended by itself. */
  end(taskId: string): void {
    const batch = this.#batchOf.get(taskId);
    if (batch === undefined) return;
    this.#batchOf.delete(taskId);
    batch.tasks.delete(taskId);
    if (batch.tasks.size === 0) this.#batches.delete(batch);
  }

  #finish(batch: Batch): string[] {
    this.#batches.delete(batch);
    for (const taskId of batch.tasks) this.#batchOf.delete(taskId);
    return [...batch.tasks];
  }
}

/** True for a task that runs until its agent stops it, and may get connections until every node has heard of that. */
export function isLeaving(task: Task): boolean {
  return isBalanced(task) && task.desiredState >= TaskState.SHUTDOWN;
}

/** True if this change begins it: a task that was out of balancing already has nothing to wait for. */
export function beginsToLeave(before: Task | undefined, after: Task | undefined): boolean {
  return before !== undefined && after !== undefined && isServing(before) && isLeaving(after);
}
