/**
 * Takes tasks off active nodes that no longer meet their service's constraints or no longer have what the tasks
 * reserve: observed state REJECTED, the named exception to "the agent says what it saw" (decisions-and-traps.md 4).
 * The orchestrators fill the slots again. Of a service with update order start-first, a task that runs is moved instead: it
 * stays until the one that takes its place has arrived.
 *
 * Keys: ids of nodes that changed.
 */
import { timestamp } from '../model/clock.ts';
import type { Node, NodeResources, Task } from '../model/objects.ts';
import type { ServiceSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import { slotKey } from '../store/schema.ts';
import type { Transaction, View } from '../store/store.ts';
import { startsFirst } from './handover.ts';
import { Loop, type LoopDeps } from './loop.ts';
import { nodeMatches, parseConstraints, type Constraint } from './scheduler/constraints.ts';
import { stillOffered, usageOf } from './scheduler/generic.ts';
import { isOver, isRunning, isWanted, moveTask, slotOf, specOf, type ControlDeps } from './tasks.ts';

/** Nodes that are looked at in one go. */
const SLICE = 1_000;

/** A task, the spec it was made from, and the one its service has now. */
export interface Placed {
  task: Task;
  made: ServiceSpec;
  declared: ServiceSpec;
}

/**
 * The tasks that may not stay on the node. It has to meet the constraints that hold now, since a task survives an update
 * of them that its node met; or those the task was made from, for if only these are met it is outdated, and the update
 * decides what becomes of it. And what the task reserved when it was made has to be there. Older tasks are served first.
 */
export function misplaced(node: Node, placed: readonly Placed[]): Task[] {
  // Paused nodes are left alone; drained and lost ones lose all their tasks anyway.
  if (node.spec.Availability !== 'active' || node.status.state === 'down') return [];
  const left = node.description && { ...node.description.resources, used: new Map<string, number>() };
  const byAge = [...placed].sort((a, b) => a.task.meta.version - b.task.meta.version);
  return byAge
    .filter(({ task, made, declared }) => {
      const meets = meetsConstraints(node, declared) || meetsConstraints(node, made);
      return !meets || !take(left, task, made);
    })
    .map(({ task }) => task);
}

/** What a node still has to give; of generic resources, what is `used` of them. */
interface Left extends NodeResources {
  used: Map<string, number>;
}

function meetsConstraints(node: Node, spec: ServiceSpec): boolean {
  // A global service has no task to move: its own loop ends the one here.
  if (spec.Mode.Global !== undefined || spec.Mode.GlobalJob !== undefined) return true;
  return nodeMatches(constraintsOf(spec), node);
}

function constraintsOf(spec: ServiceSpec): readonly Constraint[] {
  let constraints = read.get(spec);
  if (constraints === undefined) {
    constraints = parseConstraints(spec.TaskTemplate.Placement?.Constraints ?? []);
    read.set(spec, constraints);
  }
  return constraints;
}

/** Specs are never changed, and shared by many tasks: a new manager asks for those of every task there is. */
const read = new WeakMap<ServiceSpec, readonly Constraint[]>();

/** Takes what the task reserved from what is left; false, and nothing taken, if that is too little. Unknown resources suffice. */
function take(left: Left | undefined, { genericResources = [] }: Task, spec: ServiceSpec): boolean {
  const { NanoCPUs = 0, MemoryBytes = 0 } = spec.TaskTemplate.Resources?.Reservations ?? {};
  if (left === undefined) return true;
  if (NanoCPUs > left.nanoCpus || MemoryBytes > left.memoryBytes) return false;
  if (!stillOffered(genericResources, left.generic ?? [], left.used)) return false;
  left.nanoCpus -= NanoCPUs;
  left.memoryBytes -= MemoryBytes;
  for (const [key, amount] of usageOf(genericResources)) left.used.set(key, (left.used.get(key) ?? 0) + amount);
  return true;
}

export function enforcerLoop(deps: ControlDeps): Loop {
  const { store } = deps;
  return new Loop(deps, {
    name: 'enforcer',

    *initial(view) {
      for (const node of view.nodes.all()) yield node.id;
    },

    affected(event, _, mark) {
      if (event.table !== 'nodes' || event.before === undefined || event.after === undefined) return;
      const { before, after } = event;
      const same =
        before.spec === after.spec &&
        before.description === after.description &&
        before.status.address === after.status.address &&
        (before.status.state === 'down') === (after.status.state === 'down');
      if (!same) mark(after.id);
    },

    async reconcile(keys) {
      for (const some of inSlices([...keys])) {
        // Most nodes have nothing amiss, and need no transaction.
        const amiss = store.view((view) => some.filter((nodeId) => misplacedOn(view, nodeId).length > 0));
        for (const nodeId of amiss) {
          // The tasks of one node are few; chosen in the transaction, since the node may have changed back.
          await store.update((tx) => {
            for (const task of misplacedOn(tx, nodeId)) displace(tx, task, deps);
          });
        }
        // A new manager begins with every node there is, and is not to be deaf meanwhile.
        if (some.length === SLICE) await new Promise<void>((next) => void deps.clock.after(0, next));
      }
    },
  });
}

function* inSlices(nodeIds: readonly string[]): Iterable<string[]> {
  for (let at = 0; at < nodeIds.length; at += SLICE) yield nodeIds.slice(at, at + SLICE);
}

function misplacedOn(view: View, nodeId: string): Task[] {
  const node = view.nodes.get(nodeId);
  if (node === undefined) return [];
  const placed: Placed[] = [];
  for (const task of view.tasks.by('node', nodeId)) {
    // Below ASSIGNED the scheduler has yet to say whether the task fits.
    if (!isWanted(task) || isOver(task) || task.status.state < TaskState.ASSIGNED) continue;
    const service = view.services.get(task.serviceId);
    if (service !== undefined) placed.push({ task, made: specOf(view, task, service), declared: service.spec });
  }
  // If all of them may stay, so may any: those that go as they are need not be told apart.
  if (misplaced(node, placed).length === 0) return [];
  return misplaced(
    node,
    placed.filter(({ task }) => !isOutgoing(view, task)),
  );
}

/** True for a task that goes as it is, once the next one of its slot has arrived. */
function isOutgoing(view: View, task: Task): boolean {
  return slotOf(view.tasks.by('slot', slotKey(task)))?.outgoing?.id === task.id;
}

function displace(tx: Transaction, task: Task, deps: ControlDeps): void {
  const service = tx.services.get(task.serviceId);
  const slot = slotOf(tx.tasks.by('slot', slotKey(task)));
  const serves = service !== undefined && startsFirst(service) && isRunning(task) && slot?.current.id === task.id;
  if (serves) moveTask(tx, service, slot, deps);
  else reject(tx, task, deps);
}

function reject(tx: Transaction, task: Task, { clock }: LoopDeps): void {
  const now = timestamp(clock.now());
  tx.tasks.update({
    ...task,
    desiredState: TaskState.SHUTDOWN,
    status: {
      ...task.status,
      timestamp: now,
      state: TaskState.REJECTED,
      message: 'task rejected by constraint enforcer',
      error: 'assigned node no longer meets constraints',
    },
    meta: { ...task.meta, updatedAt: now },
  });
}
