/**
 * Tasks as the orchestrators see them: what stands in a slot, how a task is made, ended and replaced. The functions
 * that take a transaction write in it and do nothing else.
 */
import type { Clock, Random } from '../model/clock.ts';
import { timestamp } from '../model/clock.ts';
import { newId } from '../model/ids.ts';
import { serviceSpecId, type Node, type Service, type Task } from '../model/objects.ts';
import type { ServiceSpec } from '../model/specs.ts';
import { isTerminal, TaskState } from '../model/states.ts';
import type { Transaction, View } from '../store/store.ts';
import type { LoopDeps } from './loop.ts';

export interface ControlDeps extends LoopDeps {
  random: Random;
}

/** What the writing of tasks needs besides the transaction. */
export type Maker = { readonly clock: Clock; readonly random: Random };

/** One place of a service, with the tasks that were ever there as far as history goes. */
export interface Slot {
  /** The task that is wanted here or, if none is, the last one. */
  current: Task;
  tasks: readonly Task[];
}

/** True while the task is meant to run, now or after a delay. */
export function isWanted(task: Task): boolean {
  return task.desiredState <= TaskState.RUNNING;
}

export function isRunning(task: Task): boolean {
  return isWanted(task) && task.status.state === TaskState.RUNNING;
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
  const wanted = holding.filter(isWanted);
  const current = newest(wanted.length > 0 ? wanted : holding);
  return current && { current, tasks: holding };
}

function newest(tasks: readonly Task[]): Task | undefined {
  let last: Task | undefined;
  // Two tasks of one slot are never made in one transaction.
  for (const task of tasks) if (last === undefined || task.meta.version > last.meta.version) last = task;
  return last;
}

/** The slots that the tasks of one service hold. What tells slots apart is the number, or the node of a global service. */
export function slotsOf(tasks: Iterable<Task>): Slot[] {
  const slots: Slot[] = [];
  for (const ofPlace of Map.groupBy(tasks, (task) => task.slot || task.nodeId).values()) {
    const slot = slotOf(ofPlace);
    if (slot !== undefined) slots.push(slot);
  }
  return slots;
}

/** The spec a task was made from. */
export function specOf(view: View, task: Task, service: Service): ServiceSpec {
  return view.serviceSpecs.get(serviceSpecId(task.serviceId, task.specVersion))?.spec ?? service.spec;
}

/** Makes a task of the service's present spec: for a slot number, or for the node of a global service. */
export function createTask(
  tx: Transaction,
  service: Service,
  place: { slot: number } | { nodeId: string },
  maker: Maker,
  hold?: { startAfter: string; startAfterTask?: string },
): void {
  const now = timestamp(maker.clock.now());
  tx.tasks.create({
    id: newId(maker.random),
    environment: service.environment,
    meta: { version: tx.index, createdAt: now, updatedAt: now },
    serviceId: service.id,
    serviceName: service.spec.Name,
    specVersion: service.specVersion,
    slot: 'slot' in place ? place.slot : 0,
    nodeId: 'nodeId' in place ? place.nodeId : '',
    desiredState: hold === undefined ? TaskState.RUNNING : TaskState.READY,
    status: { timestamp: now, state: TaskState.NEW, message: 'created' },
    networks: [],
    ...hold,
  });
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
      ? { timestamp: now, state: TaskState.SHUTDOWN, message: 'ended before it had a node' }
      : task.status;
  tx.tasks.update({ ...task, desiredState, status, meta: { ...task.meta, updatedAt: now } });
}

/**
 * Puts a new task of the service's present spec in the place of `old`, which is asked to end. The new one starts after
 * `delayMs`, and not before what runs in the slot has stopped (see starter.ts for the bounds of that).
 */
export function replaceTask(tx: Transaction, service: Service, old: Task, delayMs: number, maker: Maker): void {
  endTask(tx, old, TaskState.SHUTDOWN, maker);
  // A task that was never let start has nothing to stop, but what it waited for may still run.
  const predecessorId = old.desiredState === TaskState.READY ? old.startAfterTask : old.id;
  const predecessor = predecessorId === undefined ? undefined : tx.tasks.get(predecessorId);
  const waits = predecessor !== undefined && hasToStop(tx, predecessor);
  const place = old.slot === 0 ? { nodeId: old.nodeId } : { slot: old.slot };
  const startAfter = timestamp(maker.clock.now() + delayMs);
  const hold = waits ? { startAfter, startAfterTask: predecessor.id } : delayMs > 0 ? { startAfter } : undefined;
  createTask(tx, service, place, maker, hold);
}

/** True while something of the task may run on a node that would tell us of its end. */
export function hasToStop(view: View, task: Task): boolean {
  return !isOver(task) && !(task.nodeId !== '' && isLost(view.nodes.get(task.nodeId)));
}
