/** A slot never runs two tasks beyond what its update order allows, as the engines of the hosts see it. */
import type { TaskAssignment } from '../../model/assignments.ts';
import { TaskState } from '../../model/states.ts';
import type { View } from '../../store/store.ts';
import type { Committed } from './committed.ts';

/** So long a task waits at most for the one before it (control/starter.ts), and a little for the word of it. */
const PATIENCE_MS = 60_000;

/**
 * What is wrong with the container of `task` having started while those of `others` run; undefined: nothing. Two may run while
 * one takes the other's place start-first, where the other's node was lost when this one was let start, or where the other
 * would not end in time.
 */
export function runsBesides(
  view: View,
  committed: Committed,
  task: TaskAssignment,
  others: readonly TaskAssignment[],
  nowMs: number,
): string | undefined {
  const mine = view.tasks.get(task.id);
  // It is told of its end already, or its node is not one of ours any more.
  if (mine === undefined || mine.desiredState > TaskState.COMPLETE) return undefined;
  const startedAt = committed.startedAt.get(task.id) ?? nowMs;
  for (const other of others) {
    if (other.id === task.id || slotOf(other) !== slotOf(task)) continue;
    const theirs = view.tasks.get(other.id);
    if (theirs === undefined || theirs.desiredState >= TaskState.REMOVE) continue;
    if ((committed.lostAt.get(other.nodeId) ?? -1) >= startedAt || view.nodes.get(other.nodeId) === undefined) continue;
    if (mine.replaces === other.id || theirs.replaces === task.id) continue;
    const leaving = theirs.desiredState > TaskState.COMPLETE;
    if (leaving && mine.replaces !== undefined) continue;
    const endedAt = committed.endedAt.get(other.id) ?? nowMs;
    if (leaving && (nowMs - endedAt >= PATIENCE_MS || committed.clockJumpedAt >= endedAt)) continue;
    return (
      `slot ${slotOf(task)} of ${task.serviceName} runs twice: ${task.id} on ${task.nodeId} started ` +
      `while ${other.id} runs on ${other.nodeId}`
    );
  }
  return undefined;
}

function slotOf({ serviceId, slot, nodeId }: TaskAssignment): string {
  return `${serviceId}/${slot === 0 ? nodeId : slot}`;
}
