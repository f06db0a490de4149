/**
 * Start-first: a task that `replaces` another of its slot starts at once beside it, and when it has arrived, and has run
 * for a moment if nothing else proves it, the other is asked to end. If it never does, the other stays. Updates, drains
 * and moves make such tasks (`replaceTask`, `moveTask`); what becomes of one that fails on its way is for the restart
 * policy (`continueSlot`).
 *
 * Keys: ids of tasks that have arrived.
 */
import { timestamp } from '../model/clock.ts';
import { updateConfigOf } from '../model/defaults.ts';
import { isTaskDirty } from '../model/dirty.ts';
import type { Service, Task } from '../model/objects.ts';
import { probeOf } from '../model/readiness.ts';
import type { ServiceSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import type { Transaction } from '../store/store.ts';
import { updateInChunks } from './chunks.ts';
import { Elapsed } from './elapsed.ts';
import { Loop, type LoopDeps } from './loop.ts';
import { slotFate } from './restart.ts';
import {
  endTask,
  hasArrived,
  isLost,
  isOver,
  isWanted,
  replaceTask,
  specOf,
  type ControlDeps,
  type Slot,
} from './tasks.ts';

/**
 * How long a new task that is never asked whether it serves has to run before the one it replaces goes. A process that
 * cannot run (a wrong argument, a missing setting) ends well within it, and yet is seen to run before it does.
 */
const SETTLE_MS = 1_000;

/**
 * How much longer, in milliseconds, a task made from `spec` has to run before what it replaces may go, when it was seen to
 * run `ranMs` ago; 0: no longer. A check that only the image has is not known here.
 */
export function settlesInMs({ Labels, TaskTemplate }: ServiceSpec, ranMs: number): number {
  const [check = 'NONE'] = TaskTemplate.ContainerSpec?.Healthcheck?.Test ?? [];
  const isAsked = check !== 'NONE' || probeOf(Labels) !== undefined;
  return isAsked ? 0 : Math.max(0, SETTLE_MS - ranMs);
}

export function handoverLoop(deps: LoopDeps): Loop {
  const { store } = deps;
  const elapsed = new Elapsed(deps.clock);
  const loop: Loop = new Loop(deps, {
    name: 'handover',

    *initial(view) {
      for (const task of view.tasks.all()) if (takesOver(task)) yield task.id;
    },

    affected({ table, before, after }, _, mark) {
      if (table === 'tasks' && takesOver(after) && !takesOver(before)) mark(after.id);
    },

    async reconcile(keys) {
      await updateInChunks(store, keys, (tx, id) => {
        const leftMs = handOver(tx, id, deps, elapsed);
        if (leftMs > 0) loop.mark(id, leftMs);
        else elapsed.forget(id);
      });
    },
  });
  return loop;
}

/** Asks the task that this one replaces to end, if that is due. Returns in how many milliseconds to look again; 0: never. */
function handOver(tx: Transaction, id: string, deps: LoopDeps, elapsed: Elapsed): number {
  const task = tx.tasks.get(id);
  if (!takesOver(task)) return 0;
  const outgoing = tx.tasks.get(task.replaces);
  const service = tx.services.get(task.serviceId);
  if (outgoing === undefined || !isWanted(outgoing) || service === undefined) return 0;
  const nowMs = deps.clock.now();
  const { settlesSince = timestamp(nowMs) } = task;
  const sinceMs = Date.parse(settlesSince);
  const leftMs = settlesInMs(specOf(tx, task, service), elapsed.since(id, sinceMs, Math.max(0, nowMs - sinceMs)));
  if (leftMs === 0) endTask(tx, outgoing, TaskState.SHUTDOWN, deps);
  else if (task.settlesSince === undefined) tx.tasks.update({ ...task, settlesSince });
  return leftMs;
}

function takesOver(task: Task | undefined): task is Task & { replaces: string } {
  return task?.replaces !== undefined && hasArrived(task);
}

/** True if a task that serves is to stay until the next one has arrived: not only in updates. */
export function startsFirst({ spec }: Pick<Service, 'spec'>): boolean {
  return updateConfigOf(spec).Order === 'start-first';
}

/** Does what the restart policy says of a slot. An outgoing task stays as long as it serves; it is not started again. */
export function continueSlot(tx: Transaction, service: Service, slot: Slot, deps: ControlDeps): void {
  const { current, outgoing } = slot;
  const hasGone = outgoing !== undefined && (isOver(outgoing) || isLost(tx.nodes.get(outgoing.nodeId)));
  if (hasGone) endTask(tx, outgoing, TaskState.SHUTDOWN, deps);
  const isDirty = (task: Task) => isTaskDirty(task, specOf(tx, task, service), service, () => true);
  // The service has gone back to what the outgoing task was made from: the rollout takes away what was to follow it (update/).
  if (outgoing !== undefined && !hasGone && isDirty(current) && !isDirty(outgoing)) return;
  const { TaskTemplate } = specOf(tx, current, service);
  const fate = slotFate(slot, TaskTemplate, tx.nodes.get(current.nodeId), service.spec.Labels);
  const startFirst = outgoing !== undefined || startsFirst(service);
  if (fate.kind === 'replace') replaceTask(tx, service, slot, { ...fate, startFirst }, deps);
  else if (fate.kind === 'finish') endTask(tx, current, TaskState.SHUTDOWN, deps);
}
