/**
 * What the loops of global services and global jobs share: one place on each node, looked at by itself. A node's coming,
 * going and changing costs one look at each service of the mode.
 *
 * Keys: a service's id for all its nodes, `serviceId/nodeId` for one place.
 */
import type { Node, Service, Task } from '../model/objects.ts';
import type { ServiceMode } from '../model/specs.ts';
import type { Event, Transaction, View } from '../store/store.ts';
import { updateInChunks } from './chunks.ts';
import { Loop } from './loop.ts';
import type { ControlDeps } from './tasks.ts';

export interface PerNode {
  name: string;
  mode: keyof ServiceMode;
  /** True if a task's change asks for a look at its place. */
  concerns: (event: Extract<Event, { table: 'tasks' }>, task: Task, view: View) => boolean;
  /** Makes the place of a service on a node right; the node may be gone. */
  settle: (tx: Transaction, place: { key: string; service: Service; nodeId: string; node: Node | undefined }) => void;
}

export function perNodeLoop(deps: ControlDeps, { name, mode, concerns, settle }: PerNode): Loop {
  const { store } = deps;
  return new Loop(deps, {
    name,

    *initial(view) {
      for (const service of view.services.by('mode', mode)) yield service.id;
    },

    affected(event, view, mark) {
      if (event.table === 'services') {
        const { before, after } = event;
        if (after?.spec.Mode[mode] !== undefined && after.spec !== before?.spec) mark(after.id);
      } else if (event.table === 'tasks') {
        const task = (event.after ?? event.before)!;
        if (task.slot === 0 && concerns(event, task, view)) mark(`${task.serviceId}/${task.nodeId}`);
      } else if (event.table === 'nodes') {
        const { before, after } = event;
        if (!altersDemand(before, after)) return;
        const nodeId = (after ?? before)!.id;
        for (const service of view.services.by('mode', mode)) mark(`${service.id}/${nodeId}`);
      }
    },

    async reconcile(keys) {
      const places = store.view((view) => new Set([...keys].flatMap((key) => placesOf(view, key))));
      await updateInChunks(store, places, (tx, key) => {
        const [serviceId = '', nodeId = ''] = key.split('/');
        const service = tx.services.get(serviceId);
        if (service?.spec.Mode[mode] !== undefined) settle(tx, { key, service, nodeId, node: tx.nodes.get(nodeId) });
      });
    },
  });
}

function placesOf(view: View, key: string): string[] {
  if (key.includes('/')) return [key];
  const nodeIds = new Set([...view.nodes.all()].map((node) => node.id));
  for (const task of view.tasks.by('service', key)) nodeIds.add(task.nodeId);
  return [...nodeIds].map((nodeId) => `${key}/${nodeId}`);
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
