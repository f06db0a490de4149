/**
 * Where the tasks of one spec version go. First the placement preferences: at each of them the branch with the fewest
 * tasks of the service, so that branches get equal shares. Within a branch: nodes that keep failing this version last,
 * then the node with the fewest tasks of the service, then the one with the fewest in all. As in SwarmKit.
 *
 * A few tasks cost a few steps along the ranking; as many as there are nodes, a pass and then O(log nodes) each.
 */
import type { Random } from '../../model/clock.ts';
import { Verdict } from './filters.ts';
import { Heap } from './heap.ts';
import type { NodeInfo, NodeSet } from './node-set.ts';
import { branchesOf, type Spread } from './preferences.ts';
import type { Leaf, Ranking } from './ranking.ts';

export interface Batch {
  serviceId: string;
  spreads: readonly Spread[];
  /** Tasks of the service that a node may have; 0: no limit. */
  maxReplicas: number;
  /** Up to date, and left alone while the batch is placed. */
  ranking: Ranking;
  /** Node id → recent failures, of nodes that go last. */
  failing: ReadonlyMap<string, number>;
  /** How many tasks there are. */
  count: number;
}

/**
 * Chooses nodes for the batch, calling `place` for each task, which must count the task on the node at once. Ends early
 * when no node fits any more. `random` decides among equals.
 */
export function spread(batch: Batch, nodes: NodeSet, random: Random, place: (info: NodeInfo) => void): void {
  if (batch.ranking.fitting === 0) return;
  const root = treeOf(batch, nodes, random);
  for (let placed = 0; placed < batch.count; placed++) {
    const info = root.take();
    if (info === undefined) return;
    place(info);
  }
}

/** Something that gives nodes, the best one first, each to be given a task before the next is taken. */
interface Source {
  take(): NodeInfo | undefined;
}

function treeOf(batch: Batch, nodes: NodeSet, random: Random): Source {
  const { ranking, spreads, serviceId } = batch;
  if (spreads.length === 0) {
    const [leaf] = ranking.leaves;
    return new LeafSource(leaf!, batch, nodes, random);
  }
  const root = new Branch(random);
  for (const leaf of ranking.leaves) root.grow(leaf.branches, new LeafSource(leaf, batch, nodes, random));
  // Nodes that take no more tasks count in their branch all the same.
  for (const [slot, count] of nodes.replicas(serviceId)) {
    const info = nodes.slots[slot];
    if (info !== undefined) root.count(branchesOf(info.node, spreads), count);
  }
  return root;
}

/** One branch of the tree of spreads: gives the next task to that of its own branches which has the fewest. */
class Branch implements Source {
  /** Tasks of the service here. */
  #tasks = 0;
  readonly #tie: number;
  readonly #random: Random;
  readonly #inner = new Map<string, Branch>();
  /** What stands at the end of all spreads. */
  #leaf: Source | undefined;
  #order: Heap<Branch> | undefined;

  constructor(random: Random) {
    this.#random = random;
    this.#tie = random();
  }

  grow(branches: readonly string[], leaf: Source, depth = 0): void {
    const value = branches[depth];
    if (value === undefined) {
      this.#leaf = leaf;
      return;
    }
    let next = this.#inner.get(value);
    if (next === undefined) this.#inner.set(value, (next = new Branch(this.#random)));
    next.grow(branches, leaf, depth + 1);
  }

  count(branches: readonly string[], tasks: number, depth = 0): void {
    this.#tasks += tasks;
    const value = branches[depth];
    if (value !== undefined) this.#inner.get(value)?.count(branches, tasks, depth + 1);
  }

  take(): NodeInfo | undefined {
    if (this.#leaf !== undefined) return this.#counted(this.#leaf.take());
    const order = (this.#order ??= new Heap([...this.#inner.values()], (a, b) =>
      a.#tasks === b.#tasks ? a.#tie < b.#tie : a.#tasks < b.#tasks,
    ));
    for (let next = order.top; next !== undefined; next = order.top) {
      const info = next.take();
      if (info !== undefined) {
        order.settle();
        return this.#counted(info);
      }
      order.drop();
    }
    return undefined;
  }

  #counted(info: NodeInfo | undefined): NodeInfo | undefined {
    if (info !== undefined) this.#tasks += 1;
    return info;
  }
}

interface Candidate {
  info: NodeInfo;
  failures: number;
  /** Tasks of the service, tasks in all: as when last looked at. */
  replicas: number;
  tasks: number;
  tie: number;
}

/**
 * The nodes of one leaf. As long as there are nodes of its lowest level, they are the best, in the order of the ranking;
 * a node given a task has left that level. After them, all nodes in a heap.
 */
class LeafSource implements Source {
  readonly #leaf: Leaf;
  readonly #batch: Batch;
  readonly #nodes: NodeSet;
  readonly #tie: number;
  readonly #lowest: number;
  readonly #fresh: Iterator<number>;
  #heap: Heap<Candidate> | undefined;

  constructor(leaf: Leaf, batch: Batch, nodes: NodeSet, random: Random) {
    this.#leaf = leaf;
    this.#batch = batch;
    this.#nodes = nodes;
    this.#tie = random();
    this.#lowest = leaf.least;
    this.#fresh = leaf.level(this.#lowest, this.#tie);
  }

  take(): NodeInfo | undefined {
    if (this.#heap !== undefined) this.#settle(this.#heap);
    else {
      const info = this.#takeFresh();
      if (info !== undefined) return info;
      this.#heap = this.#makeHeap();
    }
    return this.#heap.top?.info;
  }

  #takeFresh(): NodeInfo | undefined {
    const { serviceId, failing } = this.#batch;
    const replicas = this.#nodes.replicas(serviceId);
    for (let next = this.#fresh.next(); next.done !== true; next = this.#fresh.next()) {
      const info = this.#nodes.slots[next.value]!;
      // A ranking that is shared has all nodes on its lowest level, 0.
      if ((replicas.get(info.slot) ?? 0) > this.#lowest || failing.has(info.node.id)) continue;
      return info;
    }
    return undefined;
  }

  #makeHeap(): Heap<Candidate> {
    const { serviceId, failing } = this.#batch;
    const replicas = this.#nodes.replicas(serviceId);
    const size = this.#nodes.slots.length;
    const first = Math.floor(this.#tie * size);
    const candidates: Candidate[] = [];
    for (const slot of this.#leaf.all()) {
      const info = this.#nodes.slots[slot]!;
      const ofService = replicas.get(slot) ?? 0;
      if (!this.#fits(info, ofService)) continue;
      const failures = failing.get(info.node.id) ?? 0;
      candidates.push({ info, failures, replicas: ofService, tasks: info.tasks, tie: (slot - first + size) % size });
    }
    return new Heap(candidates, comesBefore);
  }

  #fits(info: NodeInfo, replicas: number): boolean {
    const { ranking, maxReplicas } = this.#batch;
    if (maxReplicas > 0 && replicas >= maxReplicas) return false;
    return ranking.judge(info, replicas) === Verdict.FITS;
  }

  /** Looks anew at the node taken last. */
  #settle(heap: Heap<Candidate>): void {
    const top = heap.top;
    if (top === undefined) return;
    const replicas = this.#nodes.replicas(this.#batch.serviceId).get(top.info.slot) ?? 0;
    if (!this.#fits(top.info, replicas)) {
      heap.drop();
      return;
    }
    top.replicas = replicas;
    top.tasks = top.info.tasks;
    heap.settle();
  }
}

function comesBefore(a: Candidate, b: Candidate): boolean {
  if (a.failures !== b.failures) return a.failures < b.failures;
  if (a.replicas !== b.replicas) return a.replicas < b.replicas;
  if (a.tasks !== b.tasks) return a.tasks < b.tasks;
  return a.tie < b.tie;
}
