/**
 * The nodes that fit one set of requirements, in the order in which they should get tasks, and why the others do not
 * fit. Kept from run to run: bringing it up to date costs the nodes that changed. Rankings are shared by all services
 * that ask the same; one is made for a service alone where its own tasks decide the order, or the verdict.
 */
import { Verdict, judge, judgeKind } from './filters.ts';
import type { Needs } from './needs.ts';
import { tellsNodesApart, type NodeClass } from './node-class.ts';
import type { NodeInfo, NodeSet } from './node-set.ts';
import { branchesOf } from './preferences.ts';
import type { Requirements } from './requirements.ts';

/** The fitting nodes of one branch of the placement preferences: by tasks of the service, then by tasks in all. */
export class Leaf {
  readonly key: string;
  /** One value per spread. */
  readonly branches: readonly string[];
  size = 0;
  /** `#levels[replicas][tasks]`: slots, in no order. */
  readonly #levels: (number[][] | undefined)[] = [];
  /** How many slots each level has. */
  readonly #sizes: number[] = [];

  constructor(key: string, branches: readonly string[]) {
    this.key = key;
    this.branches = branches;
  }

  /** The fewest tasks of the service that a node here has. */
  get least(): number {
    return this.#sizes.findIndex((size) => size > 0);
  }

  /** The slots of one level, those with the fewest tasks first; equal ones from a place that `tie`, in [0, 1), chooses. */
  *level(replicas: number, tie: number): Generator<number> {
    for (const slots of this.#levels[replicas] ?? []) {
      if (slots === undefined) continue;
      const first = Math.floor(tie * slots.length);
      for (let i = 0; i < slots.length; i++) yield slots[(first + i) % slots.length]!;
    }
  }

  *all(): Generator<number> {
    for (const level of this.#levels) for (const slots of level ?? []) if (slots !== undefined) yield* slots;
  }

  add(slot: number, replicas: number, tasks: number): number {
    const level = (this.#levels[replicas] ??= []);
    const slots = (level[tasks] ??= []);
    while (this.#sizes.length <= replicas) this.#sizes.push(0);
    this.#sizes[replicas]! += 1;
    this.size += 1;
    return slots.push(slot) - 1;
  }

  /** Takes out what stands at `place`, and returns the slot that stands there now, if any. */
  remove(replicas: number, tasks: number, place: number): number | undefined {
    const slots = this.#levels[replicas]![tasks]!;
    const last = slots.pop()!;
    if (place < slots.length) slots[place] = last;
    this.#sizes[replicas]! -= 1;
    this.size -= 1;
    return place < slots.length ? last : undefined;
  }
}

export class Ranking {
  /** How often each verdict was given. */
  readonly counts: number[] = Object.values(Verdict).map(() => 0);
  /** The moment, by the node set's log, up to which no verdict has changed since: equal ones speak of equal verdicts. */
  revision = 0;
  readonly #wanted: Requirements;
  /** Set: the order goes by this service's tasks first. Not set: its users know better which nodes have some. */
  readonly #serviceId: string | undefined;
  /** By slot: the verdict, and, while the node fits, where it stands. */
  #verdicts = new Uint8Array(0);
  #replicas = new Int32Array(0);
  #tasks = new Int32Array(0);
  #places = new Int32Array(0);
  readonly #leafOf: (Leaf | undefined)[] = [];
  readonly #leaves = new Map<string, Leaf>();
  /** What is known of whole classes; undefined if the nodes of one can differ. */
  readonly #kinds: WeakMap<NodeClass, Verdict> | undefined;
  #seen = 0;

  constructor(wanted: Requirements, serviceId: string | undefined) {
    this.#wanted = wanted;
    this.#serviceId = serviceId;
    this.#kinds = tellsNodesApart(wanted.constraints) ? undefined : new WeakMap();
  }

  /** How many nodes fit. */
  get fitting(): number {
    return this.counts[Verdict.FITS]!;
  }

  /** One per branch in which a node fits. */
  get leaves(): Iterable<Leaf> {
    return this.#leaves.values();
  }

  /** Takes in what changed since the last time. */
  update(nodes: NodeSet): void {
    const { changes } = nodes;
    if (this.#seen === changes.now) return;
    const replicas = this.#serviceId === undefined ? undefined : nodes.replicas(this.#serviceId);
    for (const slot of changes.since(this.#seen))
      this.#place(slot, nodes.slots[slot], replicas?.get(slot) ?? 0, changes.now);
    this.#seen = changes.now;
  }

  /** The verdict of now on a node. */
  judge(info: NodeInfo, replicas: number): Verdict {
    return judge(this.#wanted, info.node, info, replicas, () => this.#judgeKind(info));
  }

  #judgeKind({ node, kind }: NodeInfo): Verdict {
    if (this.#kinds === undefined) return judgeKind(this.#wanted, node);
    let verdict = this.#kinds.get(kind);
    if (verdict === undefined) this.#kinds.set(kind, (verdict = judgeKind(this.#wanted, node)));
    return verdict;
  }

  #place(slot: number, info: NodeInfo | undefined, replicas: number, now: number): void {
    if (slot >= this.#verdicts.length) this.#grow(slot + 1);
    const verdict = info === undefined ? Verdict.ABSENT : this.judge(info, replicas);
    const before = this.#verdicts[slot]!;
    if (verdict !== before) {
      if (before !== Verdict.ABSENT) this.counts[before]! -= 1;
      if (verdict !== Verdict.ABSENT) this.counts[verdict]! += 1;
      this.#verdicts[slot] = verdict;
      this.revision = now;
    }
    const old = this.#leafOf[slot];
    const leaf = info !== undefined && verdict === Verdict.FITS ? this.#findLeaf(info) : undefined;
    const tasks = info?.tasks ?? 0;
    if (leaf === old && replicas === this.#replicas[slot] && tasks === this.#tasks[slot]) return;
    if (old !== undefined) this.#leave(old, slot, leaf);
    this.#leafOf[slot] = leaf;
    this.#replicas[slot] = replicas;
    this.#tasks[slot] = tasks;
    if (leaf !== undefined) this.#places[slot] = leaf.add(slot, replicas, tasks);
  }

  #leave(old: Leaf, slot: number, next: Leaf | undefined): void {
    const place = this.#places[slot]!;
    const moved = old.remove(this.#replicas[slot]!, this.#tasks[slot]!, place);
    if (moved !== undefined) this.#places[moved] = place;
    if (old.size === 0 && old !== next) this.#leaves.delete(old.key);
  }

  #findLeaf({ node }: NodeInfo): Leaf {
    const branches = branchesOf(node, this.#wanted.spreads);
    const key = branches.length === 0 ? '' : JSON.stringify(branches);
    let leaf = this.#leaves.get(key);
    if (leaf === undefined) this.#leaves.set(key, (leaf = new Leaf(key, branches)));
    return leaf;
  }

  #grow(slots: number): void {
    const size = Math.max(64, slots + (slots >> 1));
    this.#verdicts = grown(this.#verdicts, new Uint8Array(size));
    this.#replicas = grown(this.#replicas, new Int32Array(size));
    this.#tasks = grown(this.#tasks, new Int32Array(size));
    this.#places = grown(this.#places, new Int32Array(size));
  }
}

function grown<A extends Uint8Array<ArrayBuffer> | Int32Array<ArrayBuffer>>(old: A, larger: A): A {
  larger.set(old);
  return larger;
}

/** Rankings are kept for use again, the last ones used, up to so many entries of some 30 bytes, one per node and ranking … */
const KEPT_ENTRIES = 4_000_000;
/** … but always so many. */
const KEPT_LEAST = 32;

export class Rankings {
  readonly #nodes: NodeSet;
  /** The one used longest ago first. */
  readonly #kept = new Map<string, Ranking>();

  constructor(nodes: NodeSet) {
    this.#nodes = nodes;
  }

  /**
   * An up-to-date ranking for the needs: one that all who ask the same share, and that knows no limit per node; or the
   * service's `own`.
   */
  get({ serviceId, wanted, shape }: Needs, own: boolean): Ranking {
    const key = own ? `${serviceId} ${wanted.maxReplicas} ${shape}` : shape;
    const ranking =
      this.#kept.get(key) ??
      (own ? new Ranking(wanted, serviceId) : new Ranking({ ...wanted, maxReplicas: 0 }, undefined));
    this.#kept.delete(key);
    this.#kept.set(key, ranking);
    const most = Math.max(KEPT_LEAST, KEPT_ENTRIES / Math.max(1, this.#nodes.size));
    if (this.#kept.size > most) this.#kept.delete(this.#kept.keys().next().value!);
    ranking.update(this.#nodes);
    return ranking;
  }
}
