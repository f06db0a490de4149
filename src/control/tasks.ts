/**
 * Tasks as the orchestrators see them: what stands in a slot, how a task is made, ended and replaced. The functions
 * that take a transaction write in it and do nothing else.
 */
import type { Clock, Random } from '../model/clock.ts';
import { timestamp } from '../model/clock.ts';
import { isHeldBack } from '../model/depends-on.ts';
import { newId } from '../model/ids.ts';
import { serviceSpecId, type Node, type Service, type Task } from '../model/objects.ts';
import type { ServiceSpec } from '../model/specs.ts';
import { isTerminal, TaskState } from '../model/states.ts';
import type { Transaction, View } from '../store/store.ts';
import { needsNoAddress, pendingStatus } from './allocator/decisions.ts';
import type { LoopDeps } from './loop.ts';

export interface ControlDeps extends LoopDeps {
  random: Random;
}

/** What the writing of tasks needs besides the transaction. */
export type Maker = { readonly clock: Clock; readonly random: Random };

/** One place of a service, with the tasks that were ever there as far as history goes. */
export interface Slot {
  /** The newest task that is wanted here or, if none is, the last one. */
  current: Task;
  /** Start-first: the wanted task that stays until `current` has arrived and settled (handover.ts). */
  outgoing?: Task;
  tasks: readonly Task[];
}

/** True while the task is meant to run, now or after a delay; for a job's task, also once it has completed. */
export function isWanted(task: Task): boolean {
  return task.desiredState <= TaskState.COMPLETE;
}

/** What is asked of a task once it may start: to run on, or, of a job's, to run to its end. */
export function startedState({ jobIteration }: Pick<Task, 'jobIteration'>): TaskState {
  return jobIteration === undefined ? TaskState.RUNNING : TaskState.COMPLETE;
}

export function isRunning(task: Task): boolean {
  return isWanted(task) && task.status.state === TaskState.RUNNING;
}

/** True once a wanted task serves: it runs and, if it has a readiness probe, that has passed. */
export function hasArrived(task: Task): boolean {
  return isRunning(task) && task.status.ready !== false;
}

/** True once nothing of the task can run: it ended, or no agent ever heard of it and none will. */
export function isOver(task: Task): boolean {
  return isTerminal(task.status.state);
}

/** True for a node that tasks must leave at once. Unknown, disconnected and paused nodes keep theirs. */
export function mustLeave(node: Node | undefined): boolean {
  return node === undefined || node.status.state === 'down' || node.spec.Availability === 'drain';
}

/** True for a node on which nothing more will be reported until it comes back. */
export function isLost(node: Node | undefined): boolean {
  return node === undefined || node.status.state === 'down';
}

/** What stands in a slot with these tasks; undefined if it is free: tasks on their way to removal hold no slot. */
export function slotOf(tasks: readonly Task[]): Slot | undefined {
  const holding = tasks.filter((task) => task.desiredState < TaskState.REMOVE);
  let wanted: Task | undefined;
  let last: Task | undefined;
  for (const task of holding) {
    if (isWanted(task) && (wanted === undefined || isNewer(task, wanted))) wanted = task;
    if (last === undefined || isNewer(task, last)) last = task;
  }
  const current = wanted ?? last;
  if (current === undefined) return undefined;
  const outgoing =
    current.replaces === undefined ? undefined : holding.find((task) => task.id === current.replaces && isWanted(task));
  return { current, ...(outgoing === undefined ? {} : { outgoing }), tasks: holding };
}

/** The task that was made last, of those that count. */
export function newest(tasks: readonly Task[], counts: (task: Task) => boolean = () => true): Task | undefined {
  let last: Task | undefined;
  for (const task of tasks) if ((last === undefined || isNewer(task, last)) && counts(task)) last = task;
  return last;
}

/** Two tasks of one slot are never made in one transaction. */
function isNewer(a: Task, b: Task): boolean {
  return a.meta.version > b.meta.version;
}

/** The task that a slot has to show for now: until its successor has arrived, the outgoing one. */
export function standing({ current, outgoing }: Slot): Task {
  return outgoing ?? current;
}

/** The tasks of one service, slot by slot. What tells slots apart is the number, or the node of a global service. */
export function bySlot(tasks: Iterable<Task>): Iterable<Task[]> {
  return Map.groupBy(tasks, (task) => task.slot || task.nodeId).values();
}

/** The slots that the tasks of one service hold. */
export function slotsOf(tasks: Iterable<Task>): Slot[] {
  const slots: Slot[] = [];
  for (const ofSlot of bySlot(tasks)) {
    const slot = slotOf(ofSlot);
    if (slot !== undefined) slots.push(slot);
  }
  return slots;
}

/** The spec a task was made from. */
export function specOf(view: View, task: Task, service: Service): ServiceSpec {
  if (task.specVersion === service.specVersion) return service.spec;
  return view.serviceSpecs.get(serviceSpecId(task.serviceId, task.specVersion))?.spec ?? service.spec;
}

/** Makes a task of the service's present spec: for a slot number, or for the node of a global service. `startAfter` holds it. Returns its id. */
export function createTask(
  tx: Transaction,
  service: Service,
  place: { slot?: number; nodeId?: string },
  maker: Maker,
  more: Pick<Task, 'startAfter' | 'startAfterTask' | 'replaces' | 'rollout' | 'quickFailures'> = {},
): string {
  const id = newId(maker.random);
  const now = timestamp(maker.clock.now());
  const run = service.jobStatus === undefined ? {} : { jobIteration: service.jobStatus.iteration };
  tx.tasks.create({
    id,
    environment: service.environment,
    meta: { version: tx.index, createdAt: now, updatedAt: now },
    serviceId: service.id,
    serviceName: service.spec.Name,
    specVersion: service.specVersion,
    slot: place.slot ?? 0,
    nodeId: place.nodeId ?? '',
    desiredState: more.startAfter === undefined && !isHeldBack(service) ? startedState(run) : TaskState.READY,
    status: needsNoAddress(service, tx.networks)
      ? pendingStatus(now)
      : { timestamp: now, state: TaskState.NEW, message: 'created' },
    networks: [],
    ...run,
    ...more,
  });
  return id;
}

/**
 * Asks for a task's end. One that no agent was told of is over at once: nobody else would ever say so. What is asked
 * never goes back from REMOVE to SHUTDOWN.
 */
export function endTask(
  tx: Transaction,
  task: Task,
  desiredState: typeof TaskState.SHUTDOWN | typeof TaskState.REMOVE,
  maker: Pick<Maker, 'clock'>,
): void {
  if (task.desiredState >= desiredState) return;
  const now = timestamp(maker.clock.now());
  const status =
    task.status.state < TaskState.ASSIGNED
      ? { ...task.status, timestamp: now, state: TaskState.SHUTDOWN, message: 'ended before it had a node' }
      : task.status;
  tx.tasks.update({ ...task, desiredState, status, meta: { ...task.meta, updatedAt: now } });
}

/** How the next task of a slot comes. */
export interface Replacement {
  /** It starts no earlier. Default 0. */
  delayMs?: number;
  /** What serves in the slot stays until the new task has arrived. If nothing does, this says nothing. */
  startFirst?: boolean;
  /** Id of the rollout that puts it there. */
  rollout?: number;
  /** Where it is to run, if the scheduler is not to choose. */
  nodeId?: string;
  /** How many tasks of the slot have failed quickly before it. */
  quickFailures?: number;
}

/**
 * Puts a new task of the service's present spec in a slot. What was wanted there is asked to end, but for what stays
 * until the new one has arrived (start-first). Otherwise the new one does not start before what runs in the slot has
 * stopped (see starter.ts for the bounds of that). Returns the new task's id.
 */
export function replaceTask(tx: Transaction, service: Service, slot: Slot, how: Replacement, maker: Maker): string {
  const { delayMs = 0, startFirst = false, nodeId = '', quickFailures = 0 } = how;
  const { current } = slot;
  const stays = startFirst ? serving(tx, slot) : undefined;
  for (const task of [current, slot.outgoing])
    if (task !== undefined && task !== stays) endTask(tx, task, TaskState.SHUTDOWN, maker);
  const predecessor = stays === undefined ? predecessorOf(tx, slot) : undefined;
  const startAfter = timestamp(maker.clock.now() + delayMs);
  return createTask(
    tx,
    service,
    current.slot === 0 ? { nodeId: current.nodeId } : { slot: current.slot, nodeId },
    maker,
    {
      ...(predecessor === undefined ? {} : { startAfter, startAfterTask: predecessor.id }),
      ...(delayMs > 0 ? { startAfter } : {}),
      ...(stays === undefined ? {} : { replaces: stays.id }),
      // What another version did says nothing about this one.
      ...(quickFailures > 0 && current.specVersion === service.specVersion ? { quickFailures } : {}),
      ...markOf(service, current, how.rollout),
    },
  );
}

/**
 * Moves the task of a slot to whatever node the scheduler finds for it now, start-first: what serves goes when the new
 * one has arrived, and stays if that never comes to pass. For drains, the enforcer, and whoever rebalances.
 */
export function moveTask(tx: Transaction, service: Service, slot: Slot, maker: Maker): void {
  replaceTask(tx, service, slot, { startFirst: true }, maker);
}

/** The task of a slot that runs on a node that has not been lost: the outgoing one, if there is one. */
function serving(view: View, { current, outgoing }: Slot): Task | undefined {
  return [outgoing, current].find(
    (task) => task !== undefined && isRunning(task) && !isLost(view.nodes.get(task.nodeId)),
  );
}

/** What has to stop before the next task of the slot may start: the newest of it, for the starter waits for the rest too. */
function predecessorOf(view: View, { current, tasks }: Slot): Task | undefined {
  // The last one need not be it: a task may have come and gone while the one before it was still stopping.
  return newest(
    tasks.flatMap(({ id, desiredState }) => {
      const task = view.tasks.get(id);
      const begun = id !== current.id || desiredState !== TaskState.READY;
      return begun && task !== undefined && standsInTheWay(view, task) ? [task] : [];
    }),
  );
}

/** True while a task that is to end may run, so that the next one of its slot has to wait. */
export function standsInTheWay(view: View, task: Task): boolean {
  // One that was never let start has nothing to stop.
  return !isWanted(task) && task.startAfter === undefined && hasToStop(view, task);
}

/** A task that has to leave before it has arrived hands its place in the rollout on to the next. */
function markOf(service: Service, current: Task, rollout: number | undefined): Pick<Task, 'rollout'> {
  if (rollout !== undefined) return { rollout: { id: rollout } };
  const { rollout: mark, specVersion } = current;
  const onItsWay = mark !== undefined && mark.arrivedAt === undefined && mark.failedAt === undefined;
  return onItsWay && !isOver(current) && specVersion === service.specVersion ? { rollout: { id: mark.id } } : {};
}

/** True while something of the task may run on a node that would tell us of its end. */
export function hasToStop(view: View, task: Task): boolean {
  return !isOver(task) && !(task.nodeId !== '' && isLost(view.nodes.get(task.nodeId)));
}
