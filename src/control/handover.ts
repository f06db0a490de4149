/**
 * Start-first: a task that `replaces` another of its slot starts at once beside it, and when it has arrived the other is
 * asked to end. If it never arrives, the other stays. Updates, drains and moves make such tasks (`replaceTask`,
 * `moveTask`); what becomes of one that fails on its way is for the restart policy (`continueSlot`).
 *
 * Keys: ids of tasks that have arrived.
 */
import { updateConfigOf } from '../model/defaults.ts';
import type { Service, Task } from '../model/objects.ts';
import { TaskState } from '../model/states.ts';
import type { Transaction } from '../store/store.ts';
import { updateInChunks } from './chunks.ts';
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

export function handoverLoop(deps: LoopDeps): Loop {
  const { store } = deps;
  return new Loop(deps, {
    name: 'handover',

    *initial(view) {
      for (const task of view.tasks.all()) if (takesOver(task)) yield task.id;
    },

    *affected({ table, before, after }) {
      if (table === 'tasks' && takesOver(after) && !takesOver(before)) yield after.id;
    },

    async reconcile(keys) {
      await updateInChunks(store, keys, (tx, id) => {
        const task = tx.tasks.get(id);
        const outgoing = takesOver(task) ? tx.tasks.get(task.replaces) : undefined;
        if (outgoing !== undefined && isWanted(outgoing)) endTask(tx, outgoing, TaskState.SHUTDOWN, deps);
      });
    },
  });
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
  if (outgoing !== undefined && (isOver(outgoing) || isLost(tx.nodes.get(outgoing.nodeId))))
    endTask(tx, outgoing, TaskState.SHUTDOWN, deps);
  const { TaskTemplate } = specOf(tx, current, service);
  const fate = slotFate(slot, TaskTemplate, tx.nodes.get(current.nodeId), service.spec.Labels);
  const startFirst = outgoing !== undefined || startsFirst(service);
  if (fate.kind === 'replace') replaceTask(tx, service, slot, { ...fate, startFirst }, deps);
  else if (fate.kind === 'finish') endTask(tx, current, TaskState.SHUTDOWN, deps);
}
