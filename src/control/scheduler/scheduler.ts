/**
 * The scheduler: a node for every pending task (PENDING → ASSIGNED), or the reason why there is none. Promises: a
 * task goes only where it fits, also counting what is still on its way to the journal; a task that waits is looked at
 * again when a node or its load changes, never by a timer; the work of a run follows what is pending and what changed.
 */
import { timestamp, type Random } from '../../model/clock.ts';
import type { Node, Task } from '../../model/objects.ts';
import type { GenericResource } from '../../model/specs.ts';
import { TaskState } from '../../model/states.ts';
import type { Event, Transaction, View } from '../../store/store.ts';
import { Loop, type LoopDeps, type Mark } from '../loop.ts';
import { Failures } from './failures.ts';
import { Verdict, explain, isAvailable, judge, judgeKind } from './filters.ts';
import { claim, stillOffered } from './generic.ts';
import { NodeSet, isPending, type NodeInfo } from './node-set.ts';
import { Pending, type PendingGroup } from './pending.ts';
import { spread } from './placement.ts';
import { Rankings, type Ranking } from './ranking.ts';
import { Reasons, tellWhy, type Wait } from './reasons.ts';
import type { Requirements } from './requirements.ts';

export interface SchedulerDeps extends LoopDeps {
  /** Chooses among equal nodes. Default: Math.random. */
  random?: Random;
}

/** Starts the scheduler. One runs in a cluster, on the leader. `stop` resolves when it writes nothing more. */
export function startScheduler(deps: SchedulerDeps): { stop(): Promise<void> } {
  const scheduler = new Scheduler(deps);
  scheduler.loop.start();
  return scheduler.loop;
}

/** Tasks that one transaction changes: etcd takes 128 operations in one. */
const CHUNK = 100;
/** Placements of one run, so that a million pending tasks do not hold up everything else. */
const RUN = 10_000;
/** The one key of the loop: a run looks at whatever is pending. */
const PENDING = 'pending';

interface Placement {
  task: Task;
  /** The row by which the choice was made. */
  node: Node;
  wanted: Requirements;
  generic: readonly GenericResource[];
}

/** What one run is going to write. `again`: it did not see all, and wants to go on after so long. */
interface Plan {
  placements: Placement[];
  waits: Wait[];
  againMs: number | undefined;
}

export class Scheduler {
  readonly loop: Loop;
  readonly nodes = new NodeSet();
  readonly #deps: SchedulerDeps;
  readonly #random: Random;
  readonly #pending = new Pending(this.nodes);
  readonly #rankings = new Rankings(this.nodes);
  readonly #failures: Failures;
  readonly #reasons: Reasons;
  /** Moments of the node set's log: what the last run began with, and ended with. */
  #seen = { bound: 0, all: 0 };

  constructor(deps: SchedulerDeps) {
    this.#deps = deps;
    this.#random = deps.random ?? Math.random;
    this.#failures = new Failures(deps.clock);
    this.#reasons = new Reasons(deps.clock);
    this.loop = new Loop(deps, {
      name: 'scheduler',
      initial: (view) => this.#rebuild(view),
      affected: (event, view, mark) => this.#affected(event, view, mark),
      reconcile: () => this.#reconcile(),
    });
  }

  #rebuild(view: View): string[] {
    this.nodes.rebuild(view);
    this.#pending.rebuild(view);
    this.#failures.clear();
    for (const task of view.tasks.all()) this.#failures.apply(undefined, task);
    return [PENDING];
  }

  /** Moves the figures on, too: it sees each event once, in order, before any later run. */
  #affected(event: Event, view: View, mark: Mark): void {
    let isNew = false;
    if (event.table === 'nodes') this.nodes.applyNode(event.before, event.after);
    else if (event.table === 'tasks') isNew = this.#applyTask(event.before, event.after, view);
    else return;
    const hasNews = this.nodes.changes.now !== this.#seen.all && !this.#pending.isEmpty;
    if (isNew || hasNews) mark(PENDING);
  }

  /** True if the task is a new one to find a node for. */
  #applyTask(before: Task | undefined, after: Task | undefined, view: View): boolean {
    const was = before !== undefined && isPending(before);
    const is = after !== undefined && isPending(after);
    if (was && !is) this.#pending.remove(before);
    this.nodes.applyTask(before, after, view);
    this.#failures.apply(before, after);
    if (!is) return false;
    if (was) this.#pending.replace(after);
    else this.#pending.add(after);
    return !was;
  }

  async #reconcile(): Promise<void> {
    const { placements, waits, againMs } = this.#deps.store.view((view) => this.#decide(view));
    const now = timestamp(this.#deps.clock.now());
    const writes = [
      ...this.#write(placements, (tx, placement) => assign(tx, placement, now)),
      ...this.#write(waits, tellWhy),
    ];
    const failed = (await Promise.allSettled(writes)).find((result) => result.status === 'rejected');
    if (failed !== undefined) {
      this.#deps.store.view((view) => this.#rebuild(view));
      throw failed.reason;
    }
    // What its transaction found to be no longer right is taken back, and looked at again.
    const retracted = placements.filter(({ task }) => this.nodes.retract(task));
    for (const { task } of retracted) this.#pending.restore(task);
    if (retracted.length > 0) this.loop.mark(PENDING);
    if (againMs !== undefined) this.loop.mark(PENDING, againMs);
  }

  /** Chooses nodes for what is pending and counts the tasks there. */
  #decide(view: View): Plan {
    const plan: Plan = { placements: [], waits: [], againMs: undefined };
    this.#failures.prune();
    const changed = this.nodes.changes.since(this.#seen.bound);
    this.#seen.bound = this.nodes.changes.now;
    for (const slot of changed) this.#decideBound(view, this.nodes.slots[slot], plan);
    for (const group of this.#pending.groups) {
      if (plan.placements.length >= RUN) {
        plan.againMs = 0;
        break;
      }
      this.#decideGroup(group, plan);
    }
    this.#seen.all = this.nodes.changes.now;
    return plan;
  }

  #decideGroup(group: PendingGroup, plan: Plan): void {
    const { needs } = group;
    // Of a group that waits, the limit per node is a part of the reason.
    const waits = group.revision !== undefined && needs.wanted.maxReplicas > 0;
    let ranking = this.#rankings.get(needs, waits || this.#isWide(needs.serviceId));
    if (ranking.revision !== group.revision) {
      if (this.#placeGroup(group, ranking, plan)) return;
      if (needs.wanted.maxReplicas > 0) ranking = this.#rankings.get(needs, true);
      else ranking.update(this.nodes);
      group.revision = ranking.revision;
      this.#reasons.set(group, explain(ranking.counts));
    }
    const againMs = this.#reasons.collect(group, plan.waits);
    if (againMs !== undefined) plan.againMs = Math.min(plan.againMs ?? againMs, againMs);
  }

  /** Places what fits. True if all of the group's tasks did, as far as this run goes. */
  #placeGroup(group: PendingGroup, ranking: Ranking, plan: Plan): boolean {
    const { serviceId, specId, wanted } = group.needs;
    const { spreads, maxReplicas } = wanted;
    const tasks = group.tasks.values();
    const count = Math.min(group.tasks.size, RUN - plan.placements.length);
    const end = plan.placements.length + count;
    const failing = this.#failures.of(specId);
    spread({ serviceId, spreads, maxReplicas, ranking, failing, count }, this.nodes, this.#random, (info) => {
      const task = tasks.next().value!;
      group.untold.delete(task.id);
      this.#place(task, info, wanted, plan);
    });
    group.revision = undefined;
    if (plan.placements.length < end) return false;
    if (count < group.tasks.size) plan.againMs = 0;
    return true;
  }

  /** Whether the service has tasks on so many nodes that their order is best kept for it alone. */
  #isWide(serviceId: string): boolean {
    return 4 * this.nodes.replicas(serviceId).size > this.nodes.size;
  }

  /** The tasks made for this node: it fits them, or they wait for it. */
  #decideBound(view: View, info: NodeInfo | undefined, plan: Plan): void {
    if (info === undefined) return;
    for (const id of this.#pending.boundTo(info.node.id)) {
      const task = view.tasks.get(id)!;
      const { wanted } = this.nodes.needs.of(task);
      const verdict = judge(wanted, info.node, info, this.nodes.replicas(task.serviceId).get(info.slot) ?? 0);
      if (verdict === Verdict.FITS) {
        this.#place(task, info, wanted, plan);
        continue;
      }
      const counts: number[] = [];
      counts[verdict] = 1;
      const error = explain(counts);
      if (task.status.error !== error) plan.waits.push({ taskId: id, error });
    }
  }

  #place(task: Task, info: NodeInfo, wanted: Requirements, plan: Plan): void {
    const { node } = info;
    const generic = claim(wanted.generic, node.description?.resources.generic ?? [], info.generic);
    this.nodes.assume(task, info, generic);
    plan.placements.push({ task, node, wanted, generic });
  }

  #write<T>(items: readonly T[], change: (tx: Transaction, item: T) => void): Promise<void>[] {
    const writes: Promise<void>[] = [];
    for (let at = 0; at < items.length; at += CHUNK) {
      const chunk = items.slice(at, at + CHUNK);
      writes.push(this.#deps.store.update((tx) => chunk.forEach((item) => change(tx, item))));
    }
    return writes;
  }
}

/** Writes a placement, unless the newest state speaks against it. */
function assign(tx: Transaction, placement: Placement, now: string): void {
  const task = tx.tasks.get(placement.task.id);
  if (task === undefined || !isPending(task)) return;
  const node = tx.nodes.get(placement.node.id);
  if (node === undefined || (node !== placement.node && !stillTakes(node, placement))) return;
  const assigned: Task = {
    ...task,
    nodeId: node.id,
    status: { timestamp: now, state: TaskState.ASSIGNED, message: 'scheduler assigned task to node' },
    meta: { ...task.meta, updatedAt: now },
  };
  tx.tasks.update(placement.generic.length === 0 ? assigned : { ...assigned, genericResources: placement.generic });
}

/** Whether a node whose row was changed in the meantime takes the task all the same. */
function stillTakes(node: Node, { wanted, generic }: Placement): boolean {
  return (
    isAvailable(node) &&
    judgeKind(wanted, node) === Verdict.FITS &&
    stillOffered(generic, node.description?.resources.generic ?? [], new Map())
  );
}
