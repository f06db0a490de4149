/**
 * Which tasks to move so that services are spread as the scheduler would spread them now. Pure. It goes by the scheduler's
 * own order: first the branches of the placement preferences, then the tasks of the service on each node, then all tasks on
 * each node. A move makes the first of these that it touches more even, and it goes only where the task fits.
 *
 * Each move makes something more even and nothing before it in that order less so. So planning ends; a plan that was carried
 * out leaves nothing to plan; and no move is there for its own sake: a count differs by two or more before it is evened.
 */
import { isTaskDirty } from '../../model/dirty.ts';
import type { Node, Service, Task } from '../../model/objects.ts';
import { rebalancePolicy, type Move, type RebalancePlan } from '../../model/rebalance.ts';
import type { ServiceSpec } from '../../model/specs.ts';
import type { View } from '../../store/store.ts';
import { isAvailable, judge, judgeKind, Verdict } from '../scheduler/filters.ts';
import { NodeSet, type NodeInfo } from '../scheduler/node-set.ts';
import { branchesOf } from '../scheduler/preferences.ts';
import { requirementsOf, type Requirements } from '../scheduler/requirements.ts';
import { hasArrived, isWanted, slotsOf, specOf } from '../tasks.ts';

/** All that can be evened now, over every service. Costs a look at the whole cluster. */
export function rebalancePlan(view: View): RebalancePlan {
  const plan: RebalancePlan = { moves: [], skipped: [] };
  const services: Service[] = [];
  for (const service of view.services.by('mode', 'Replicated')) {
    const reason = staysBecause(view, service);
    if (reason === undefined) services.push(service);
    else plan.skipped.push({ serviceId: service.id, reason });
  }
  plan.moves.push(...movesOf(view, services));
  return plan;
}

/** Why no task of a replicated service is moved now, in words; undefined if they may be. */
export function staysBecause(view: View, service: Service): string | undefined {
  return neverMovesBecause(service.spec) ?? waitsBecause(view, service);
}

/** Why nothing is moved for as long as this is what is declared. */
function neverMovesBecause(spec: ServiceSpec): string | undefined {
  if (rebalancePolicy(spec.Labels) === 'off') return 'its label drover.rebalance is off';
  const volume = localVolume(spec);
  return volume === undefined ? undefined : `the data of its volume ${volume} would stay behind on the node`;
}

/** Why nothing is moved for the moment. */
export function waitsBecause(view: View, service: Service): string | undefined {
  const { updateStatus, rollout } = service;
  const underWay = updateStatus?.state === 'updating' || updateStatus?.state === 'rollback_started';
  if (underWay || rollout?.waitsFor !== undefined) return 'an update of it is under way';
  for (const { current, outgoing } of slotsOf(view.tasks.by('service', service.id))) {
    if (!isWanted(current)) continue;
    if (outgoing !== undefined || !hasArrived(current)) return 'not all of its tasks run';
    if (isTaskDirty(current, specOf(view, current, service), service, () => true))
      return 'not all of its tasks are up to date';
  }
  return undefined;
}

/** A named volume that is on one node alone, as far as its spec says. */
function localVolume(spec: ServiceSpec): string | undefined {
  const mounts = spec.TaskTemplate.ContainerSpec?.Mounts ?? [];
  return mounts.find(({ Type, Source = '', VolumeOptions }) => {
    const { Name = '', Options = {} } = VolumeOptions?.DriverConfig ?? {};
    return Type === 'volume' && Source !== '' && (Name === '' || Name === 'local') && Object.keys(Options).length === 0;
  })?.Source;
}

/** The moves that even out these services, one after the other, each counting on those before it. */
export function* movesOf(view: View, services: readonly Service[]): Generator<Move, void, undefined> {
  if (services.length === 0) return;
  const nodes = new NodeSet();
  nodes.rebuild(view);
  const layouts = services.map((service) => new Layout(view, service, nodes));
  for (let even = false; !even;) {
    even = true;
    for (const layout of layouts) {
      for (let move = layout.best(); move !== undefined; move = layout.best()) {
        even = false;
        layout.apply(move);
        yield move;
      }
    }
  }
}

/** A node that could have tasks of the service, and how many it has. */
interface Place {
  info: NodeInfo;
  branches: readonly string[];
  replicas: number;
}

/** Where the tasks of one service are. */
class Layout {
  readonly #view: View;
  readonly #service: Service;
  readonly #nodes: NodeSet;
  readonly #wanted: Requirements;
  /** By node, its tasks that may be moved; each once, to where the plan has put it. */
  readonly #tasks = new Map<string, Task[]>();

  constructor(view: View, service: Service, nodes: NodeSet) {
    this.#view = view;
    this.#service = service;
    this.#nodes = nodes;
    this.#wanted = requirementsOf(service.spec, (id) => view.networks.get(id)?.spec.Driver);
    for (const { current } of slotsOf(view.tasks.by('service', service.id))) {
      if (isWanted(current)) this.#onNode(current.nodeId).push(current);
    }
    for (const tasks of this.#tasks.values()) tasks.sort((a, b) => a.slot - b.slot);
  }

  /** The move that evens out most; undefined if none does. */
  best(): Move | undefined {
    const places = this.#places();
    const branches = this.#branchCounts();
    let best: { gain: number[]; from: Place; to: Place } | undefined;
    for (const from of places) {
      if (from.replicas === 0 || this.#onNode(from.info.node.id).length === 0) continue;
      for (const to of places) {
        // Most pairs of nodes end here.
        if (this.#wanted.spreads.length === 0 && from.replicas <= to.replicas) continue;
        const gain = gainOf(from, to, branches);
        if (!isGain(gain) || (best !== undefined && compare(gain, best.gain) <= 0) || !this.#fits(to)) continue;
        best = { gain, from, to };
      }
    }
    if (best === undefined) return undefined;
    const task = this.#onNode(best.from.info.node.id).at(-1)!;
    const { id: taskId, slot, serviceId } = task;
    return { serviceId, slot, taskId, from: best.from.info.node.id, to: best.to.info.node.id };
  }

  /** Counts a task of the service as moved. */
  apply({ from, to }: Move): void {
    const task = this.#onNode(from).pop()!;
    const moved = { ...task, nodeId: to };
    this.#onNode(to).push(moved);
    // In this order: what the version needs is known only as long as a task of it is counted.
    this.#nodes.applyTask(undefined, moved, this.#view);
    this.#nodes.applyTask(task, undefined, this.#view);
  }

  #onNode(nodeId: string): Task[] {
    let tasks = this.#tasks.get(nodeId);
    if (tasks === undefined) this.#tasks.set(nodeId, (tasks = []));
    return tasks;
  }

  /** The nodes that take tasks and are of the right kind, in an order of their own. */
  #places(): Place[] {
    const replicas = this.#nodes.replicas(this.#service.id);
    const places: Place[] = [];
    for (const info of this.#nodes.slots) {
      if (info === undefined || !isAvailable(info.node) || judgeKind(this.#wanted, info.node) !== Verdict.FITS)
        continue;
      places.push({ info, branches: this.#branchesOf(info.node), replicas: replicas.get(info.slot) ?? 0 });
    }
    return places.sort((a, b) => (a.info.node.id < b.info.node.id ? -1 : 1));
  }

  /** Tasks of the service in each branch, by the path to it; those on nodes that take no more count too. */
  #branchCounts(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const [slot, count] of this.#nodes.replicas(this.#service.id)) {
      const info = this.#nodes.slots[slot];
      if (info === undefined) continue;
      for (const path of this.#branchesOf(info.node)) counts.set(path, (counts.get(path) ?? 0) + count);
    }
    return counts;
  }

  /** The paths to the node's branch at each preference. */
  #branchesOf(node: Node): string[] {
    const values = branchesOf(node, this.#wanted.spreads);
    return values.map((_, depth) => JSON.stringify(values.slice(0, depth + 1)));
  }

  #fits({ info, replicas }: Place): boolean {
    return judge(this.#wanted, info.node, info, replicas, () => Verdict.FITS) === Verdict.FITS;
  }
}

/**
 * How much more even a move makes things, in the scheduler's order: by how much the one count exceeds the other, less the
 * one that makes no difference; 0 where both are the same. Positive: more even, negative: less.
 */
function gainOf(from: Place, to: Place, branches: ReadonlyMap<string, number>): number[] {
  const gain = (a: number, b: number): number => a - b - 1;
  const byBranch = from.branches.map((path, depth) =>
    path === to.branches[depth] ? 0 : gain(branches.get(path) ?? 0, branches.get(to.branches[depth]!) ?? 0),
  );
  if (from === to) return [];
  return [...byBranch, gain(from.replicas, to.replicas), gain(from.info.tasks, to.info.tasks)];
}

function isGain(gain: readonly number[]): boolean {
  return (gain.find((each) => each !== 0) ?? 0) > 0;
}

/** Above 0 if `a` comes first: the greater at the first difference. */
function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((each, i) => each !== b[i]);
  return at === -1 ? 0 : a[at]! - b[at]!;
}
