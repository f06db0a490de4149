/**
 * Forgets what nobody needs: tasks on their way to removal once nothing of them runs, dead tasks beyond the history
 * limit, spec versions that no task and no revision of a stack refers to, removed networks without a task. Promises that a finished slot keeps its last
 * task, and one that has completed in the present run of a job: without it the slot would look free and be filled again;
 * and that a rollout keeps what it still counts or may go back to.
 *
 * Keys: `slot:` and a slot's key, `service:` and a service's id for all its slots, `version:` and a spec version's id, `network:` and a network's id.
 */
import { DEFAULT_TASK_HISTORY_RETENTION_LIMIT, restartPolicyOf } from '../model/defaults.ts';
import { CLUSTER_ROW, serviceSpecId, type Task } from '../model/objects.ts';
import { asksForConfirm } from '../model/rollouts.ts';
import { TaskState } from '../model/states.ts';
import { slotKey } from '../store/schema.ts';
import type { Event, Transaction, View } from '../store/store.ts';
import { updateInChunks } from './chunks.ts';
import { Loop, type LoopDeps, type Mark } from './loop.ts';
import { isDone } from './restart.ts';
import { bySlot, isOver, isWanted, slotOf, specOf } from './tasks.ts';
import { isNeeded, isUnderWay } from './update/slots.ts';

const GATHER_MS = 100;

/**
 * The tasks of one slot to forget. `limit` dead ones are kept, the newest; all of them if it is negative. `isGone`
 * says whether the node a task is on was removed.
 */
export function reapable(tasks: readonly Task[], limit: number, isGone: (nodeId: string) => boolean): Task[] {
  const removed = tasks.filter(
    (task) => task.desiredState === TaskState.REMOVE && (isOver(task) || (task.nodeId !== '' && isGone(task.nodeId))),
  );
  if (limit < 0) return removed;
  const kept = tasks.some(isWanted) ? limit : Math.max(limit, 1);
  const run = Math.max(...tasks.map(({ jobIteration = 0 }) => jobIteration));
  const dead = tasks
    .filter((task) => task.desiredState === TaskState.SHUTDOWN && isOver(task))
    .filter((task) => !(isDone(task) && task.jobIteration === run))
    .sort((a, b) => b.meta.version - a.meta.version);
  return [...removed, ...dead.slice(kept)];
}

export function reaperLoop(deps: LoopDeps): Loop {
  const { store } = deps;
  return new Loop(deps, {
    name: 'reaper',
    gatherMs: GATHER_MS,

    *initial(view) {
      for (const task of view.tasks.all()) if (!isWanted(task)) yield `service:${task.serviceId}`;
      for (const version of view.serviceSpecs.all()) yield `version:${version.id}`;
      for (const network of view.networks.all()) if (network.removing) yield `network:${network.id}`;
    },

    affected,

    async reconcile(keys) {
      const due = store.view((view) => [...keys].flatMap((key) => dueUnder(view, key)));
      await updateInChunks(store, due, forget);
    },
  });
}

type Due = { table: 'tasks' | 'serviceSpecs' | 'networks'; id: string };

function affected(event: Event, view: View, mark: Mark): void {
  if (event.table === 'tasks') {
    const { before, after } = event;
    if (after === undefined) {
      mark(`version:${serviceSpecId(before!.serviceId, before!.specVersion)}`);
      for (const { networkId } of before!.networks)
        if (view.networks.get(networkId)?.removing) mark(`network:${networkId}`);
    } else if (!isWanted(after) && isOver(after)) {
      mark(`slot:${slotKey(after)}`);
    }
  } else if (event.table === 'services') {
    const { before, after } = event;
    if (after !== undefined && isUnderWay(before) && !isUnderWay(after) && asksForConfirm(after.spec.Labels)) {
      for (const task of view.tasks.by('service', after.id)) mark(`slot:${slotKey(task)}`);
    }
    if (before === undefined || before.specVersion === after?.specVersion) return;
    for (const version of view.serviceSpecs.by('service', before.id)) mark(`version:${version.id}`);
  } else if (event.table === 'stackRevisions') {
    const { before, after } = event;
    const kept = new Set(Object.values(after?.services ?? {}));
    for (const id of Object.values(before?.services ?? {})) if (!kept.has(id)) mark(`version:${id}`);
  } else if (event.table === 'networks') {
    if (event.after?.removing) mark(`network:${event.after.id}`);
  } else if (event.table === 'nodes' && event.after === undefined) {
    for (const task of view.tasks.by('node', event.before!.id)) if (!isWanted(task)) mark(`slot:${slotKey(task)}`);
  }
}

function dueUnder(view: View, key: string): Due[] {
  const id = key.slice(key.indexOf(':') + 1);
  if (key.startsWith('slot:')) return reapableOf(view, view.tasks.by('slot', id));
  if (key.startsWith('service:'))
    return [...bySlot(view.tasks.by('service', id))].flatMap((tasks) => reapableOf(view, tasks));
  if (key.startsWith('version:')) return isUnreferenced(view, id) ? [{ table: 'serviceSpecs', id }] : [];
  return isAbandoned(view, id) ? [{ table: 'networks', id }] : [];
}

/** A dead task stays dead and only this loop deletes; versions and networks may have got users since the look. */
function forget(tx: Transaction, { table, id }: Due): void {
  if (table === 'tasks') tx.tasks.remove(id);
  else if (table === 'serviceSpecs' && isUnreferenced(tx, id)) tx.serviceSpecs.remove(id);
  else if (table === 'networks' && isAbandoned(tx, id)) tx.networks.remove(id);
}

function isUnreferenced(view: View, id: string): boolean {
  const version = view.serviceSpecs.get(id);
  if (version === undefined || view.tasks.countBy('spec', id) > 0) return false;
  if (view.stackRevisions.countBy('spec', id) > 0) return false;
  const service = view.services.get(version.serviceId);
  return service?.specVersion !== version.version && service?.previousSpecVersion !== version.version;
}

function isAbandoned(view: View, id: string): boolean {
  return view.networks.get(id)?.removing === true && view.tasks.countBy('network', id) === 0;
}

/** Of all tasks of one slot. */
function reapableOf(view: View, tasks: readonly Task[]): Due[] {
  if (tasks.every(isWanted)) return [];
  const slot = slotOf(tasks);
  const service = slot && view.services.get(slot.current.serviceId);
  return reapable(tasks, limitOf(view, tasks), (nodeId) => view.nodes.get(nodeId) === undefined)
    .filter((task) => slot === undefined || task.desiredState === TaskState.REMOVE || !isNeeded(service, slot, task))
    .map(({ id }) => ({ table: 'tasks', id }));
}

/** Attempts are counted from history, so a limit of attempts needs as many tasks, whatever the cluster's limit. */
function limitOf(view: View, tasks: readonly Task[]): number {
  const current = slotOf(tasks)?.current;
  const service = current && view.services.get(current.serviceId);
  const attempts =
    service === undefined ? 0 : restartPolicyOf(specOf(view, current!, service).TaskTemplate).MaxAttempts;
  if (attempts > 0) return attempts + 1;
  const cluster = view.clusters.get(CLUSTER_ROW);
  return cluster?.spec.Orchestration.TaskHistoryRetentionLimit ?? DEFAULT_TASK_HISTORY_RETENTION_LIMIT;
}
