/**
 * The restart policy: what becomes of a slot whose task has ended or must leave its node. Pure; all it needs is the
 * slot's history, so that a manager that has just started decides as the last one would have (orchestration.md 2.3).
 */
import { restartPolicyOf } from '../model/defaults.ts';
import type { Node, Task } from '../model/objects.ts';
import { longestDelayMs, quickFailuresAfter, restartDelayMs } from '../model/restart-backoff.ts';
import type { Labels, TaskSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import { isOver, isWanted, mustLeave, type Slot } from './tasks.ts';

export type SlotFate =
  /** All is well, or the slot is finished: nothing to do. */
  | { kind: 'keep' }
  /** The policy wants no further task: the current one is only asked to end. */
  | { kind: 'finish' }
  /** Another task, to start after a delay; absent `quickFailures` count as none. */
  | { kind: 'replace'; delayMs: number; quickFailures?: number };

const KEEP: SlotFate = { kind: 'keep' };

/**
 * What to do with a slot. `spec` is what its current task was made from, `node` the one the task is on, undefined if
 * that is gone; for a task without a node it is not looked at. Leaving a node is no failure: it takes no delay and
 * counts as no attempt; but what is to run once (condition `none`) is not run again elsewhere. `labels` are those of the
 * service; how a crash loop is slowed: model/restart-backoff.ts.
 */
export function slotFate(slot: Slot, spec: TaskSpec, node: Node | undefined, labels: Labels): SlotFate {
  const { current } = slot;
  if (isDone(current)) return KEEP;
  const leaves = current.nodeId !== '' && mustLeave(node);
  if (isWanted(current) && !isOver(current) && !leaves) return KEEP;
  // It was refused while it was made ready. The delay before it holds for the next one as well: it is looked at again
  // when it would have been started.
  if (current.desiredState === TaskState.READY && endedByItself(current) && !leaves) return KEEP;
  if (!mayRestart(slot, spec)) return isWanted(current) ? { kind: 'finish' } : KEEP;
  if (leaves || !endedByItself(current)) return { kind: 'replace', delayMs: 0 };
  const delayMs = restartPolicyOf(spec).Delay / 1e6;
  const mostMs = longestDelayMs(labels);
  if (mostMs === 0) return { kind: 'replace', delayMs };
  const quickFailures = quickFailuresAfter(current);
  return { kind: 'replace', delayMs: restartDelayMs(delayMs, quickFailures, mostMs), quickFailures };
}

/** True if the policy allows another task after the slot's current one. */
export function mayRestart({ current, tasks }: Slot, spec: TaskSpec): boolean {
  const { Condition, MaxAttempts, Window } = restartPolicyOf(spec);
  if (Condition === 'none') return false;
  // A job's tasks are never run again once they have completed: `any` is `on-failure` for them.
  if (isDone(current)) return false;
  if (Condition === 'on-failure' && current.status.state === TaskState.COMPLETE) return false;
  if (MaxAttempts === 0 || !endedByItself(current)) return true;
  // The window ends where the task ended, not now: what is decided once stays so.
  const since = Window === 0 ? -Infinity : endedAt(current) - Window / 1e6;
  const restarts = tasks.filter(
    (task) =>
      task.id !== current.id &&
      task.specVersion === current.specVersion &&
      endedByItself(task) &&
      endedAt(task) >= since,
  );
  return restarts.length < MaxAttempts;
}

/** True for a task of a job that has done what it was made for. */
export function isDone({ jobIteration, status }: Task): boolean {
  return jobIteration !== undefined && status.state === TaskState.COMPLETE;
}

/** True for a task that ended without being asked to. */
export function endedByItself({ status: { state } }: Task): boolean {
  return state === TaskState.COMPLETE || state === TaskState.FAILED || state === TaskState.REJECTED;
}

function endedAt(task: Task): number {
  return Date.parse(task.status.timestamp);
}
