/**
 * Global services: one task on every node that is ready, active and what the placement asks for. The node is the slot.
 * Promises that a paused or unreachable-but-not-down node keeps what it has and gets nothing new.
 */
import type { Node } from '../model/objects.ts';
import type { Placement } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import { continueSlot } from './handover.ts';
import type { Loop } from './loop.ts';
import { perNodeLoop } from './per-node.ts';
import { nodeMatches, parseConstraints } from './scheduler/constraints.ts';
import { platformFits } from './scheduler/platform.ts';
import { createTask, endTask, isOver, isWanted, mustLeave, slotOf, type ControlDeps } from './tasks.ts';

/** What a global service wants of a node: a task, what is there and no more, or none. */
export type NodeDemand = 'run' | 'keep' | 'leave';

export function demandOn(node: Node | undefined, placement: Placement | undefined): NodeDemand {
  if (node === undefined || mustLeave(node) || !fitsPlacement(node, placement)) return 'leave';
  return node.status.state === 'ready' && node.spec.Availability === 'active' ? 'run' : 'keep';
}

/** True if a node meets a placement's constraints and platforms. Throws ConstraintError if they cannot be read. */
export function fitsPlacement(node: Node, placement: Placement = {}): boolean {
  return (
    nodeMatches(parseConstraints(placement.Constraints ?? []), node) &&
    platformFits(placement.Platforms ?? [], node.description?.platform)
  );
}

export function globalLoop(deps: ControlDeps): Loop {
  return perNodeLoop(deps, {
    name: 'global',
    mode: 'Global',

    concerns({ before, after }, task, view) {
      if (view.services.get(task.serviceId)?.spec.Mode.Global === undefined) return false;
      if (before !== undefined && !isWanted(before)) return false;
      return after === undefined || !isWanted(after) || isOver(after) || mustLeave(view.nodes.get(task.nodeId));
    },

    settle(tx, { key, service, nodeId, node }) {
      const slot = slotOf(tx.tasks.by('slot', key));
      switch (demandOn(node, service.spec.TaskTemplate.Placement)) {
        case 'keep':
          return;
        case 'leave':
          for (const task of slot?.tasks ?? []) endTask(tx, task, TaskState.SHUTDOWN, deps);
          return;
        case 'run':
          if (slot === undefined) createTask(tx, service, { nodeId }, deps);
          else continueSlot(tx, service, slot, deps);
      }
    },
  });
}
