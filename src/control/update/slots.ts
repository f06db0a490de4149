/** What a rollout sees of a service: its slots, which of them are dirty, and what of the past it still needs. Pure. */
import { isTaskDirty } from '../../model/dirty.ts';
import type { Service, Task } from '../../model/objects.ts';
import { asksForConfirm } from '../../model/rollouts.ts';
import { TaskState } from '../../model/states.ts';
import type { View } from '../../store/store.ts';
import { demandOn, fitsPlacement } from '../global.ts';
import { newest, slotsOf, specOf, standing, type Slot } from '../tasks.ts';
import type { RolloutSlot } from './decide.ts';

/** The slots a rollout is about: for a global service those of the nodes that take tasks now. */
export function rolloutSlots(view: View, service: Service): RolloutSlot[] {
  const isDirty = dirtiness(service);
  return slotsOf(view.tasks.by('service', service.id)).flatMap(
    (slot) => rolloutSlot(view, service, slot, isDirty) ?? [],
  );
}

/** One of them; undefined if the rollout is not about this slot. */
export function rolloutSlot(view: View, service: Service, slot: Slot, isDirty: Dirtiness): RolloutSlot | undefined {
  const { current, outgoing, tasks } = slot;
  const isGlobal = current.slot === 0;
  if (isGlobal && demandOn(view.nodes.get(current.nodeId), service.spec.TaskTemplate.Placement) !== 'run')
    return undefined;
  const dirty = isDirty(view, current);
  const outgoingIsClean = dirty && outgoing !== undefined && !isDirty(view, outgoing);
  return { current, ...(outgoing === undefined ? {} : { outgoing }), tasks, dirty, outgoingIsClean };
}

/** Says of a task of one service whether it is dirty. */
export type Dirtiness = (view: View, task: Task) => boolean;

/** Compares specs once per version, not once per task. */
export function dirtiness(service: Service): Dirtiness {
  const verdicts = new Map<number, boolean | 'unless its node fits'>();
  const verdictOn = (view: View, task: Task) => {
    const spec = specOf(view, task, service);
    if (isTaskDirty(task, spec, service, () => true)) return true;
    return isTaskDirty(task, spec, service, () => false) && 'unless its node fits';
  };
  return (view, task) => {
    let verdict = verdicts.get(task.specVersion);
    if (verdict === undefined) {
      verdict = verdictOn(view, task);
      verdicts.set(task.specVersion, verdict);
    }
    if (typeof verdict === 'boolean') return verdict;
    const node = view.nodes.get(task.nodeId);
    return node === undefined || !fitsPlacement(node, service.spec.TaskTemplate.Placement);
  };
}

/** A rollback is an update to the spec of before, asked for by its status. */
export function isUnderWay(service: Service | undefined): boolean {
  const state = service?.updateStatus?.state;
  return state === 'updating' || state === 'rollback_started';
}

export function isPaused(service: Service): boolean {
  const state = service.updateStatus?.state;
  return state === 'paused' || state === 'rollback_paused';
}

/** The stopped task of a slot that the present version took the place of: what a rollback would bring back. */
export function keptTask(slot: Slot): Task | undefined {
  const { specVersion } = standing(slot);
  return newest(
    slot.tasks.filter((task) => task.specVersion !== specVersion && task.status.state === TaskState.SHUTDOWN),
  );
}

/** True if the rollout of a service still needs that task of a slot, whatever the history limit says. */
export function isNeeded(service: Service | undefined, slot: Slot, task: Task): boolean {
  if (service === undefined || !isUnderWay(service)) return false;
  // What has failed is counted from the tasks themselves.
  if (task.rollout?.failedAt !== undefined && task.rollout.id === service.rollout?.id) return true;
  return asksForConfirm(service.spec.Labels) && keptTask(slot)?.id === task.id;
}
