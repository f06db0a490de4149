/**
 * Brings the tasks of an updated service to its new spec, a slot at a time, stop-first: the new task is made ready
 * while the old one stops. The next slot waits until the last is running; what fails meanwhile is restarted by the
 * restart policy. Nothing is remembered between steps: each follows from the tasks as they are.
 *
 * Keys: service ids.
 */
import { timestamp, type Clock } from '../model/clock.ts';
import { rollbackConfigOf, updateConfigOf } from '../model/defaults.ts';
import { isTaskDirty } from '../model/dirty.ts';
import type { Node, Service, Task } from '../model/objects.ts';
import { TaskState } from '../model/states.ts';
import type { Event, Transaction, View } from '../store/store.ts';
import { altersDemand, demandOn, fitsPlacement } from './global.ts';
import { Elapsed } from './elapsed.ts';
import { Loop } from './loop.ts';
import { endedByItself } from './restart.ts';
import { isRunning, isWanted, replaceTask, slotsOf, specOf, type ControlDeps } from './tasks.ts';

const NS_PER_MS = 1_000_000;
/** How many slots may be on their way at once. */
const PARALLELISM = 1;

/** What an update sees of a slot: what stands in it, and whether that must be replaced. */
export interface UpdateSlot {
  task: Task;
  dirty: boolean;
}

export interface UpdateStep {
  /** Slots to be replaced, now or later. */
  dirty: number;
  /** Slots that have their new task, which does not run yet. */
  arriving: number;
  /** What stands in the slots to replace now. */
  replace: Task[];
}

/** The next step of an update to `specVersion`. Slots that do not run cost nothing to replace, and go first. */
export function updateStep(slots: readonly UpdateSlot[], specVersion: number, parallelism: number): UpdateStep {
  const dirty = slots
    .filter((slot) => slot.dirty)
    .map(({ task }) => task)
    .sort((a, b) => Number(isRunning(a)) - Number(isRunning(b)) || a.slot - b.slot);
  const arriving = slots.filter(
    ({ task, dirty }) => !dirty && task.specVersion === specVersion && !hasArrived(task),
  ).length;
  return { dirty: dirty.length, arriving, replace: dirty.slice(0, Math.max(0, parallelism - arriving)) };
}

/** True once a task does what its spec says, or has done it. One that failed for good has not: the update stays with it. */
function hasArrived(task: Task): boolean {
  if (isWanted(task)) return isRunning(task);
  return !endedByItself(task) || task.status.state === TaskState.COMPLETE;
}

/**
 * How long to go on watching an update whose last task has just begun to run: the monitor period from then on, as in
 * Docker; clients take `completed` as the end of the watch. Node clocks may be off, so never longer than one period.
 */
export function watchLeftMs(slots: readonly UpdateSlot[], service: Service, nowMs: number): number {
  const config =
    service.updateStatus?.state === 'rollback_started' ? rollbackConfigOf(service.spec) : updateConfigOf(service.spec);
  const monitorMs = config.Monitor / NS_PER_MS;
  return Math.min(monitorMs, Math.max(0, latestMs(slots, service) + monitorMs - nowMs));
}

/** When a task of the new spec last reached a state, by the clock of its node. */
function latestMs(slots: readonly UpdateSlot[], service: Service): number {
  return Math.max(
    0,
    ...slots.map(({ task }) => (task.specVersion === service.specVersion ? Date.parse(task.status.timestamp) : 0)),
  );
}

export function updateLoop(deps: ControlDeps): Loop {
  const { store } = deps;
  const elapsed = new Elapsed(deps.clock);
  const loop: Loop = new Loop(deps, {
    name: 'update',

    *initial(view) {
      for (const service of view.services.all()) if (isUnderWay(service)) yield service.id;
      for (const task of view.tasks.all()) if (isOutdated(view, task)) yield task.serviceId;
    },

    affected,

    async reconcile(keys) {
      await Promise.all(
        [...keys].map(async (serviceId) => {
          const againMs = await store.update((tx) => step(tx, serviceId, deps, elapsed));
          if (againMs !== undefined) loop.mark(serviceId, againMs);
          else elapsed.forget(serviceId);
        }),
      );
    },
  });
  return loop;
}

function* affected(event: Event, view: View): Iterable<string> {
  if (event.table === 'services') {
    const { before, after } = event;
    if (before === undefined || after === undefined) return;
    // A user who declares the same again clears the status: what is under way goes on.
    if (before.specVersion !== after.specVersion || before.updateStatus !== after.updateStatus) yield after.id;
  } else if (event.table === 'tasks') {
    const { before, after } = event;
    const { serviceId } = (after ?? before)!;
    const moved = before?.status.state !== after?.status.state || before?.desiredState !== after?.desiredState;
    if (moved && isUnderWay(view.services.get(serviceId))) yield serviceId;
  } else if (event.table === 'nodes') {
    // A node may stop (or begin) to fit a placement that changed; a paused or silent one's tasks are updated afterwards.
    const { before, after } = event;
    if (after === undefined || !altersDemand(before, after)) return;
    for (const task of view.tasks.by('node', after.id)) if (isOutdated(view, task)) yield task.serviceId;
  }
}

/** A rollback is an update to the spec of before, asked for by its status. */
function isUnderWay(service: Service | undefined): boolean {
  const state = service?.updateStatus?.state;
  return state === 'updating' || state === 'rollback_started';
}

function isOutdated(view: View, task: Task): boolean {
  const service = view.services.get(task.serviceId);
  return service !== undefined && service.specVersion !== task.specVersion;
}

/** Takes the next step of a service's update; returns in how many milliseconds to look again, if time decides. */
function step(tx: Transaction, serviceId: string, deps: ControlDeps, elapsed: Elapsed): number | undefined {
  const service = tx.services.get(serviceId);
  if (service === undefined) return undefined;
  const slots = updateSlots(tx, service);
  const next = updateStep(slots, service.specVersion, PARALLELISM);
  for (const task of next.replace) replaceTask(tx, service, task, 0, deps);
  if (next.dirty > 0 && !isUnderWay(service)) tx.services.update(begun(service, deps.clock));
  if (next.dirty > 0 || next.arriving > 0 || !isUnderWay(service)) return undefined;
  const latest = latestMs(slots, service);
  // What is seen now has happened by now, whatever the clock of its node says.
  const sinceMs = elapsed.since(serviceId, latest, Math.max(0, deps.clock.now() - latest));
  const leftMs = watchLeftMs(slots, service, latest + sinceMs);
  if (leftMs > 0) return leftMs;
  tx.services.update(completed(service, deps.clock));
  return undefined;
}

/** The slots an update is about: for a global service those of the nodes that take tasks now. */
function updateSlots(view: View, service: Service): UpdateSlot[] {
  const isDirty = dirtiness(view, service);
  const slots: UpdateSlot[] = [];
  for (const { current: task } of slotsOf(view.tasks.by('service', service.id))) {
    const node = view.nodes.get(task.nodeId);
    if (task.slot === 0 && demandOn(node, service.spec.TaskTemplate.Placement) !== 'run') continue;
    slots.push({ task, dirty: isDirty(task, node) });
  }
  return slots;
}

/** Whether tasks of the service are dirty; compares specs once per version, not once per task. */
function dirtiness(view: View, service: Service): (task: Task, node: Node | undefined) => boolean {
  const verdicts = new Map<number, boolean | 'unless its node fits'>();
  const verdictOn = (task: Task) => {
    const spec = specOf(view, task, service);
    if (isTaskDirty(task, spec, service, () => true)) return true;
    return isTaskDirty(task, spec, service, () => false) && 'unless its node fits';
  };
  return (task, node) => {
    const verdict = verdicts.get(task.specVersion) ?? verdictOn(task);
    verdicts.set(task.specVersion, verdict);
    if (typeof verdict === 'boolean') return verdict;
    return node === undefined || !fitsPlacement(node, service.spec.TaskTemplate.Placement);
  };
}

function begun(service: Service, clock: Clock): Service {
  const startedAt = timestamp(clock.now());
  return { ...service, updateStatus: { state: 'updating', startedAt, message: 'update in progress' } };
}

function completed(service: Service, clock: Clock): Service {
  const completedAt = timestamp(clock.now());
  const startedAt = service.updateStatus?.startedAt ?? completedAt;
  const outcome =
    service.updateStatus?.state === 'rollback_started'
      ? ({ state: 'rollback_completed', message: 'rollback completed' } as const)
      : ({ state: 'completed', message: 'update completed' } as const);
  return { ...service, updateStatus: { ...outcome, startedAt, completedAt } };
}
