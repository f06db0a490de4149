/**
 * The nodes as the scheduler sees them: what their tasks use, kept by events. Each node stands in a numbered slot,
 * so that what is known per node fits a typed array. Promises: after each event the figures equal those counted
 * anew from the store; a placement that is on its way to the journal is counted once.
 */
import type { Node, Task } from '../../model/objects.ts';
import type { GenericResource } from '../../model/specs.ts';
import { TaskState, isTerminal } from '../../model/states.ts';
import type { View } from '../../store/store.ts';
import { ChangeLog } from './change-log.ts';
import type { Usage } from './filters.ts';
import { usageOf } from './generic.ts';
import { NeedsBook } from './needs.ts';
import { NodeClasses, type NodeClass } from './node-class.ts';

export interface NodeInfo extends Usage {
  readonly slot: number;
  node: Node;
  kind: NodeClass;
  readonly hostPorts: Map<string, number>;
  readonly generic: Map<string, number>;
  /** Tasks that are wanted. */
  tasks: number;
}

/** True while the task uses its node. */
export function isPlaced(task: Task): boolean {
  return task.nodeId !== '' && task.status.state >= TaskState.ASSIGNED && !isTerminal(task.status.state);
}

/** True while the task is to get a node, or to be confirmed on the one it was made for. */
export function isPending(task: Task): boolean {
  return task.status.state === TaskState.PENDING && isWanted(task);
}

function isWanted(task: Task): boolean {
  return task.desiredState <= TaskState.COMPLETE;
}

interface Assumed {
  nodeId: string;
  generic: readonly GenericResource[];
}

const NO_GENERIC: readonly GenericResource[] = [];
const NO_REPLICAS: ReadonlyMap<number, number> = new Map();

export class NodeSet {
  /** By slot; undefined: the slot is free. */
  readonly slots: (NodeInfo | undefined)[] = [];
  /** The slots whose node came, went, or changed in what it is or what its tasks use. */
  readonly changes = new ChangeLog();
  readonly needs = new NeedsBook();
  readonly #classes = new NodeClasses();
  readonly #byId = new Map<string, NodeInfo>();
  readonly #freeSlots: number[] = [];
  /** Service → slot → its wanted tasks there. */
  readonly #replicas = new Map<string, Map<number, number>>();
  /** Placements counted, whose event has not come yet: by task id. */
  readonly #assumed = new Map<string, Assumed>();

  rebuild(view: View): void {
    for (const { node } of this.#byId.values()) this.applyNode(node, undefined);
    this.needs.clear();
    this.#replicas.clear();
    this.#assumed.clear();
    for (const node of view.nodes.all()) this.applyNode(undefined, node);
    for (const task of view.tasks.all()) this.applyTask(undefined, task, view);
  }

  get size(): number {
    return this.#byId.size;
  }

  get(nodeId: string): NodeInfo | undefined {
    return this.#byId.get(nodeId);
  }

  /** The wanted tasks of a service by slot, where there are any. */
  replicas(serviceId: string): ReadonlyMap<number, number> {
    return this.#replicas.get(serviceId) ?? NO_REPLICAS;
  }

  applyNode(before: Node | undefined, after: Node | undefined): void {
    const info = this.#byId.get((after ?? before)!.id);
    if (after === undefined) {
      if (info !== undefined) this.#remove(info);
      return;
    }
    if (info === undefined) {
      this.#add(after);
      return;
    }
    if (info.node.spec !== after.spec || info.node.description !== after.description) {
      this.#classes.leave(info.kind);
      info.kind = this.#classes.enter(after);
    }
    info.node = after;
    if (matters(before, after)) this.changes.touch(info.slot);
  }

  applyTask(before: Task | undefined, after: Task | undefined, view: View): void {
    if (after !== undefined && isLive(after)) this.needs.use(after, view);
    this.#move(before, after);
    if (before !== undefined && isLive(before)) this.needs.unuse(before);
  }

  /** Counts a placement, with what it is given of the node's generic resources, ahead of its event. */
  assume(task: Task, info: NodeInfo, generic: readonly GenericResource[] = NO_GENERIC): void {
    this.#assumed.set(task.id, { nodeId: info.node.id, generic });
    this.#count(task, info, 1, true, generic);
  }

  /** Takes back an assumed placement that did not come about; nothing happens once its event came. */
  retract(task: Task): boolean {
    const assumed = this.#assumed.get(task.id);
    if (assumed === undefined) return false;
    this.#assumed.delete(task.id);
    const info = this.#byId.get(assumed.nodeId);
    if (info !== undefined) this.#count(task, info, -1, true, assumed.generic);
    return true;
  }

  /** Every figure, for comparing with a slow count; `users`: live tasks by spec version. */
  contents(): { nodes: object[]; users: [string, number][] } {
    const nodes = [...this.#byId.values()].map(({ node, slot, nanoCpus, memoryBytes, hostPorts, generic, tasks }) => ({
      id: node.id,
      nanoCpus,
      memoryBytes,
      tasks,
      hostPorts: byKey(hostPorts),
      generic: byKey(generic),
      services: byKey(
        [...this.#replicas].flatMap(([id, counts]) => (counts.has(slot) ? [[id, counts.get(slot)!]] : [])),
      ),
    }));
    return { nodes: nodes.sort((a, b) => (a.id < b.id ? -1 : 1)), users: byKey(this.needs.users()) };
  }

  #add(node: Node): void {
    const slot = this.#freeSlots.pop() ?? this.slots.length;
    const info: NodeInfo = {
      slot,
      node,
      kind: this.#classes.enter(node),
      nanoCpus: 0,
      memoryBytes: 0,
      hostPorts: new Map(),
      generic: new Map(),
      tasks: 0,
    };
    this.slots[slot] = info;
    this.#byId.set(node.id, info);
    this.changes.touch(slot);
  }

  #remove(info: NodeInfo): void {
    this.#classes.leave(info.kind);
    this.#byId.delete(info.node.id);
    this.slots[info.slot] = undefined;
    this.#freeSlots.push(info.slot);
    for (const [serviceId, counts] of this.#replicas) {
      if (counts.delete(info.slot) && counts.size === 0) this.#replicas.delete(serviceId);
    }
    this.changes.touch(info.slot);
  }

  #move(before: Task | undefined, after: Task | undefined): void {
    const was = before !== undefined && isPlaced(before);
    const is = after !== undefined && isPlaced(after);
    if (was && is && before.nodeId === after.nodeId && isWanted(before) === isWanted(after)) return;
    const task = (after ?? before)!;
    const assumed = this.#assumed.get(task.id);
    if (assumed !== undefined) {
      if (is && isWanted(after) && after.nodeId === assumed.nodeId) {
        this.#assumed.delete(task.id);
        return;
      }
      // At once if it waits no more: what it asks for may be forgotten with it.
      if (is || after === undefined || !isLive(after)) this.retract(task);
    }
    const from = was ? this.#byId.get(before.nodeId) : undefined;
    if (was && from !== undefined) this.#count(before, from, -1, isWanted(before), before.genericResources);
    const to = is ? this.#byId.get(after.nodeId) : undefined;
    if (is && to !== undefined) this.#count(after, to, 1, isWanted(after), after.genericResources);
  }

  #count(task: Task, info: NodeInfo, by: 1 | -1, wanted: boolean, generic = NO_GENERIC): void {
    const { nanoCpus, memoryBytes, hostPorts } = this.needs.of(task).wanted;
    info.nanoCpus += by * nanoCpus;
    info.memoryBytes += by * memoryBytes;
    for (const port of hostPorts) add(info.hostPorts, port, by);
    for (const [key, amount] of usageOf(generic)) add(info.generic, key, by * amount);
    if (wanted) {
      info.tasks += by;
      this.#countReplica(task.serviceId, info.slot, by);
    }
    this.changes.touch(info.slot);
  }

  #countReplica(serviceId: string, slot: number, by: 1 | -1): void {
    let counts = this.#replicas.get(serviceId);
    if (counts === undefined) this.#replicas.set(serviceId, (counts = new Map()));
    add(counts, slot, by);
    if (counts.size === 0) this.#replicas.delete(serviceId);
  }
}

/** A task whose requirements are needed: it has a node, or is to get one. */
function isLive(task: Task): boolean {
  return isPlaced(task) || task.status.state === TaskState.PENDING;
}

/** Whether a change of the row can change a verdict. */
function matters(before: Node | undefined, after: Node): boolean {
  return (
    before?.spec !== after.spec ||
    before.description !== after.description ||
    before.status.state !== after.status.state ||
    before.status.address !== after.status.address
  );
}

function add<K>(counts: Map<K, number>, key: K, by: number): void {
  const count = (counts.get(key) ?? 0) + by;
  if (count === 0) counts.delete(key);
  else counts.set(key, count);
}

function byKey(counts: Iterable<[string, number]>): [string, number][] {
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
}
