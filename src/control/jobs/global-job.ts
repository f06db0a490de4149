/**
 * Global jobs: one task that completes on every node that is ready, active and what the placement asks for; on one that
 * comes later too, as long as the job is there. The node is the slot. A change of the service's spec is a new run: on each
 * node the task of the run before is stopped before the next one is made.
 *
 * Keys: a service's id for all its nodes, `serviceId/nodeId` for one.
 */
import { TaskState } from '../../model/states.ts';
import { demandOn } from '../global.ts';
import type { Loop } from '../loop.ts';
import { perNodeLoop } from '../per-node.ts';
import { isDone } from '../restart.ts';
import { createTask, endTask, hasToStop, isOver, isWanted, mustLeave, slotOf, type ControlDeps } from '../tasks.ts';
import { continueJobSlot } from './slot.ts';

export function globalJobLoop(deps: ControlDeps): Loop {
  return perNodeLoop(deps, {
    name: 'global-job',
    mode: 'GlobalJob',

    concerns({ before, after }, task, view) {
      if (task.jobIteration === undefined) return false;
      const ended = after === undefined || isOver(after);
      const needsALook = ended || !isWanted(after) || mustLeave(view.nodes.get(task.nodeId));
      const isNews = before === undefined || before.desiredState !== after?.desiredState || ended !== isOver(before);
      return needsALook && isNews;
    },

    settle(tx, { key, service, nodeId, node }) {
      const iteration = service.jobStatus?.iteration;
      const [present, earlier] = [true, false].map((is) =>
        tx.tasks.by('slot', key).filter((task) => (task.jobIteration === iteration) === is),
      );
      for (const task of earlier!) endTask(tx, task, TaskState.SHUTDOWN, deps);
      const slot = slotOf(present!);
      switch (demandOn(node, service.spec.TaskTemplate.Placement)) {
        case 'keep':
          return;
        case 'leave':
          // What has completed stays completed, but for a node that is gone, with which it is history.
          for (const task of slot?.tasks ?? [])
            if (node === undefined || !isDone(task)) endTask(tx, task, TaskState.SHUTDOWN, deps);
          return;
        case 'run':
          if (slot !== undefined) continueJobSlot(tx, service, slot, deps);
          else if (!earlier!.some((task) => hasToStop(tx, task))) createTask(tx, service, { nodeId }, deps);
      }
    },
  });
}
