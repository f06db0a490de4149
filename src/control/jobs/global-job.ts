/**
 * Global jobs: one task that completes on every node that is ready, active and what the placement asks for; on one that
 * comes later too, as long as the job is there. The node is the slot. A change of the service's spec is a new run: on each
 * node the task of the run before is stopped before the next one is made.
 *
 * Keys: a service's id for all its nodes, `serviceId/nodeId` for one.
 */
import type { Service } from '../../model/objects.ts';
import { TaskState } from '../../model/states.ts';
import type { Event, Transaction, View } from '../../store/store.ts';
import { updateInChunks } from '../chunks.ts';
import { altersDemand, demandOn } from '../global.ts';
import { Loop } from '../loop.ts';
import { isDone } from '../restart.ts';
import { createTask, endTask, hasToStop, isOver, isWanted, mustLeave, slotOf, type ControlDeps } from '../tasks.ts';
import { continueJobSlot } from './slot.ts';

export function globalJobLoop(deps: ControlDeps): Loop {
  const { store } = deps;
  return new Loop(deps, {
    name: 'global-job',

    *initial(view) {
      for (const service of view.services.by('mode', 'GlobalJob')) yield service.id;
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
    if (isGlobalJob(after) && after.spec !== before?.spec) yield after.id;
  } else if (event.table === 'tasks') {
    const { before, after } = event;
    const task = (after ?? before)!;
    if (task.slot !== 0 || task.jobIteration === undefined) return;
    const ended = after === undefined || isOver(after);
    const needsALook = ended || !isWanted(after) || mustLeave(view.nodes.get(task.nodeId));
    const isNews = before === undefined || before.desiredState !== after?.desiredState || ended !== isOver(before);
    if (needsALook && isNews) yield `${task.serviceId}/${task.nodeId}`;
  } else if (event.table === 'nodes') {
    const { before, after } = event;
    if (!altersDemand(before, after)) return;
    const nodeId = (after ?? before)!.id;
    for (const service of view.services.by('mode', 'GlobalJob')) yield `${service.id}/${nodeId}`;
  }
}

function isGlobalJob(service: Service | undefined): service is Service & Required<Pick<Service, 'jobStatus'>> {
  return service?.spec.Mode.GlobalJob !== undefined && service.jobStatus !== undefined;
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
  if (!isGlobalJob(service)) return;
  const node = tx.nodes.get(nodeId);
  const { iteration } = service.jobStatus;
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
}
