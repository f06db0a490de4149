/**
 * Whom to tell why it waits. A task that comes is told at once. When the reason of its group changes, it is told anew, a
 * bounded number of tasks a second: a node that comes and goes is not written to a hundred thousand tasks each time.
 */
import type { Clock } from '../../model/clock.ts';
import type { Task } from '../../model/objects.ts';
import type { Transaction } from '../../store/store.ts';
import { isPending } from './node-set.ts';
import type { PendingGroup } from './pending.ts';

export interface Wait {
  taskId: string;
  error: string;
}

/** First words of one run; what is left comes in the next. */
const FIRST = 10_000;
/** Tasks told anew in a second, and at once after a quiet second. */
const ANEW = 1000;
/** Tasks looked at in one run, to find those that have not heard. */
const LOOKS = 10_000;
const SECOND_MS = 1000;

export class Reasons {
  readonly #clock: Clock;
  /** How many tasks may be told anew, as of `#countedMs` on the monotonic clock. */
  #allowance = ANEW;
  #countedMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What the group waits for now. */
  set(group: PendingGroup, reason: string): void {
    if (group.reason === reason) return;
    if (group.reason !== undefined) group.retold = group.tasks.values();
    group.reason = reason;
  }

  /** Adds to `waits` the tasks to tell now. Returns the pause, in milliseconds, after which there are more to tell, if any. */
  collect(group: PendingGroup, waits: Wait[]): number | undefined {
    const { reason: error, untold } = group;
    if (error === undefined) return undefined;
    for (const taskId of untold) {
      if (waits.length >= FIRST) return 0;
      waits.push({ taskId, error });
      untold.delete(taskId);
    }
    return group.retold === undefined ? undefined : this.#tellAnew(group, group.retold, error, waits);
  }

  #tellAnew(group: PendingGroup, tasks: Iterator<Task>, error: string, waits: Wait[]): number | undefined {
    this.#refill();
    for (let looked = 0; looked < LOOKS; looked++) {
      if (this.#allowance < 1) return SECOND_MS;
      const next = tasks.next();
      if (next.done === true) {
        group.retold = undefined;
        return undefined;
      }
      const { id: taskId, status } = next.value;
      if (status.error === undefined || status.error === error) continue;
      waits.push({ taskId, error });
      this.#allowance -= 1;
    }
    return 0;
  }

  #refill(): void {
    const nowMs = this.#clock.monotonic();
    const earned = ((nowMs - this.#countedMs) * ANEW) / SECOND_MS;
    this.#allowance = Math.min(ANEW, this.#allowance + earned);
    this.#countedMs = nowMs;
  }
}

/** Writes a reason, unless the task no longer waits. */
export function tellWhy(tx: Transaction, { taskId, error }: Wait): void {
  const task = tx.tasks.get(taskId);
  if (task === undefined || !isPending(task) || task.status.error === error) return;
  tx.tasks.update({ ...task, status: { ...task.status, error } });
}
