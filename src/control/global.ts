/**
 * Global services: one task on every node that is ready, active and what the placement asks for. The node is the slot.
 * Promises that a node's coming, going and changing costs one look at each global service, and that a paused or
 * unreachable-but-not-down node keeps what it has and gets nothing new.
 *
 * Keys: a service's id for all its nodes, `serviceId/nodeId` for one.
 */
import type { Node, Service } from '../model/objects.ts';
import type { Placement } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import type { Event, Transaction, View } from '../store/store.ts';
import { updateInChunks } from './chunks.ts';
import { continueSlot } from './handover.ts';
import { Loop } from './loop.ts';
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
  const { store } = deps;
  return new Loop(deps, {
    name: 'global',

    *initial(view) {
      for (const service of view.services.by('mode', 'Global')) yield service.id;
    },

    affected,

    async reconcile(keys) {
      const places = store.view((view) => new Set([...keys].flatMap((key) => placesOf(view, key))));
      await updateInChunks(store, places, (tx, key) => settleNode(tx, key, deps));
    },
  });
}

function* affected(event: Event, view: View): Iterable<string> {
  if (event.table === 'services') {
    const { before, after } = event;
    if (isGlobal(after) && after.spec !== before?.spec) yield after.id;
  } else if (event.table === 'tasks') {
    const { before, after } = event;
    const task = (after ?? before)!;
    if (task.slot !== 0 || !isGlobal(view.services.get(task.serviceId))) return;
    const needsALook =
      after === undefined || !isWanted(after) || isOver(after) || mustLeave(view.nodes.get(task.nodeId));
    if (needsALook && (before === undefined || isWanted(before))) yield `${task.serviceId}/${task.nodeId}`;
  } else if (event.table === 'nodes') {
    const { before, after } = event;
    if (!altersDemand(before, after)) return;
    const nodeId = (after ?? before)!.id;
    for (const service of view.services.by('mode', 'Global')) yield `${service.id}/${nodeId}`;
  }
}

/** True if a node's change can alter what is demanded on it. */
export function altersDemand(before: Node | undefined, after: Node | undefined): boolean {
  return (
    before?.spec !== after?.spec ||
    before?.description !== after?.description ||
    before?.status.state !== after?.status.state ||
    before?.status.address !== after?.status.address
  );
}

function isGlobal(service: Service | undefined): service is Service {
  return service?.spec.Mode.Global !== undefined;
}

function placesOf(view: View, key: string): string[] {
  if (key.includes('/')) return [key];
  const nodeIds = new Set([...view.nodes.all()].map((node) => node.id));
  for (const task of view.tasks.by('service', key)) nodeIds.add(task.nodeId);
  return [...nodeIds].map((nodeId) => `${key}/${nodeId}`);
}

function settleNode(tx: Transaction, key: string, deps: ControlDeps): void {
  const [serviceId = '', nodeId = ''] = key.split('/');
  const service = tx.services.get(serviceId);
  if (!isGlobal(service)) return;
  const node = tx.nodes.get(nodeId);
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
}
