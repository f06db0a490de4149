/**
 * Carries out what plan.ts plans, one task at a time and start-first: the next move begins when the task of the one before
 * has arrived. A move that does not come off is taken back, and its service left alone for this time. Services with the
 * label `drover.rebalance: auto` are evened by themselves when a node has joined or come back and no node has come or gone
 * for a while; all others when somebody asks.
 *
 * What is under way stands in the cluster's row, so that a new manager goes on with it. What is due for `auto` does not:
 * it begins by looking.
 *
 * Keys: `step`; `auto` once the nodes have settled; `again` when services had to wait then.
 */
import { timestamp } from '../../model/clock.ts';
import { CLUSTER_ROW, type Cluster, type Node, type Service } from '../../model/objects.ts';
import { rebalancePolicy, type Move, type RebalanceState } from '../../model/rebalance.ts';
import { TaskState } from '../../model/states.ts';
import { slotKey } from '../../store/schema.ts';
import type { Event, Transaction, View } from '../../store/store.ts';
import { Elapsed } from '../elapsed.ts';
import { Loop, type Mark } from '../loop.ts';
import { isAvailable } from '../scheduler/filters.ts';
import { endTask, isWanted, replaceTask, slotOf, type ControlDeps } from '../tasks.ts';
import { movesOf, staysBecause, waitsBecause } from './plan.ts';

/** How long no node may come or go before `auto` services are evened. */
const SETTLE_MS = 10_000;
/** When to look again at `auto` services that could not be looked at, such as during an update. */
const AGAIN_MS = 60_000;
/** A move that takes longer is taken back. */
const MOVE_WITHIN_MS = 5 * 60_000;
/** Moves that are kept to be told of. */
const TOLD = 100;

const NONE: RebalanceState = { asked: 0, finished: true, moved: [], skipped: {} };

/** How far it is, where a newer request begins anew; a move under way goes on. */
function stateOf({ rebalance = NONE, rebalanceAsked: asked }: Cluster): RebalanceState {
  if (asked === undefined || asked.id === rebalance.asked) return rebalance;
  return { ...rebalance, asked: asked.id, finished: false, moved: [], skipped: {} };
}

export function rebalanceLoop(deps: ControlDeps): Loop {
  return new Rebalancer(deps).loop;
}

class Rebalancer {
  readonly loop: Loop;
  readonly #deps: ControlDeps;
  readonly #elapsed: Elapsed;
  /** On the monotonic clock: when the nodes count as settled. */
  #settledAtMs = 0;
  /** A node has come, and `auto` services have not been looked at since. */
  #autoDue = false;

  constructor(deps: ControlDeps) {
    this.#deps = deps;
    this.#elapsed = new Elapsed(deps.clock);
    this.loop = new Loop(deps, {
      name: 'rebalance',
      initial: () => this.#begin(),
      affected: (event, view, mark) => this.#affected(event, view, mark),
      reconcile: (keys) => this.#reconcile(keys),
    });
  }

  #begin(): string[] {
    this.#settledAtMs = this.#deps.clock.monotonic() + SETTLE_MS;
    return ['step', 'auto'];
  }

  #affected(event: Event, view: View, mark: Mark): void {
    if (event.table === 'clusters') {
      if (event.before?.rebalanceAsked !== event.after?.rebalanceAsked) mark('step');
    } else if (event.table === 'tasks') {
      const move = view.clusters.get(CLUSTER_ROW)?.rebalance?.move;
      const task = (event.after ?? event.before)!;
      if (task.serviceId === move?.serviceId && task.slot === move.slot) mark('step');
    } else if (event.table === 'nodes') {
      if (takesTasks(event.before) === takesTasks(event.after)) return;
      this.#settledAtMs = this.#deps.clock.monotonic() + SETTLE_MS;
      if (takesTasks(event.after)) mark('auto');
    }
  }

  async #reconcile(keys: ReadonlySet<string>): Promise<void> {
    const { store } = this.#deps;
    if (keys.has('again')) this.#autoDue = true;
    if (keys.has('auto')) await this.#makeAutoDue();
    const leftMs = await store.update((tx) => this.#settleMove(tx));
    if (leftMs > 0) {
      this.loop.mark('step', leftMs);
      return;
    }
    // The plan is made outside the transaction, for it looks at the whole cluster.
    const step = store.view((view) => this.#next(view));
    if (step === undefined) return;
    await store.update((tx) => (step.move === undefined ? this.#finish(tx, step) : this.#beginMove(tx, step.move)));
    if (step.move !== undefined) this.loop.mark('step');
  }

  /** Once the nodes have settled: services of which a move has failed are tried again. */
  async #makeAutoDue(): Promise<void> {
    const leftMs = this.#settledAtMs - this.#deps.clock.monotonic();
    if (leftMs > 0) {
      this.loop.mark('auto', leftMs);
      return;
    }
    this.#autoDue = true;
    await this.#deps.store.update((tx) => {
      const cluster = tx.clusters.get(CLUSTER_ROW);
      const state = cluster && stateOf(cluster);
      if (cluster === undefined || state === undefined || !state.finished) return;
      const skipped = Object.entries(state.skipped).filter(([id]) => !isAuto(tx.services.get(id)));
      if (skipped.length < Object.keys(state.skipped).length)
        tx.clusters.update({ ...cluster, rebalance: { ...state, skipped: Object.fromEntries(skipped) } });
    });
  }

  /** Ends the move under way if it has come to an end; in how many milliseconds to look again if it has not. */
  #settleMove(tx: Transaction): number {
    const cluster = tx.clusters.get(CLUSTER_ROW);
    const { move, ...state } = cluster === undefined ? NONE : stateOf(cluster);
    if (cluster === undefined || move === undefined) return 0;
    const { nextId, startedAt, ...done } = move;
    const slot = slotOf(tx.tasks.by('slot', slotKey({ ...move, nodeId: '' })));
    const [old, next] = [tx.tasks.get(move.taskId), tx.tasks.get(nextId)];
    const end = (how: Partial<RebalanceState>): number => {
      this.#elapsed.forget(nextId);
      tx.clusters.update({ ...cluster, rebalance: { ...state, ...how } });
      return 0;
    };
    if (old === undefined || !isWanted(old)) {
      const hasMoved = next !== undefined && isWanted(next);
      return end(hasMoved ? { moved: [...state.moved, done].slice(-TOLD) } : {});
    }
    // Somebody else has taken the slot in hand.
    if (slot?.outgoing?.id !== old.id) return end({});
    const startedMs = Date.parse(startedAt);
    const sinceMs = Math.max(0, this.#deps.clock.now() - startedMs);
    const leftMs = MOVE_WITHIN_MS - this.#elapsed.since(nextId, startedMs, sinceMs);
    if (slot.current.id === nextId && leftMs > 0) return leftMs;
    const why =
      next?.status.error ?? `its task had not arrived on the new node after ${MOVE_WITHIN_MS / 60_000} minutes`;
    endTask(tx, slot.current, TaskState.REMOVE, this.#deps);
    return end({ skipped: { ...state.skipped, [move.serviceId]: `a move failed: ${why}` } });
  }

  /** What is to be done next; undefined if nothing is due. */
  #next(view: View): Step | undefined {
    const cluster = view.clusters.get(CLUSTER_ROW);
    if (cluster === undefined) return undefined;
    const { asked, finished, skipped: before } = stateOf(cluster);
    if (finished && !this.#autoDue) return undefined;
    const due: Service[] = [];
    const skipped = { ...before };
    let waits = false;
    for (const service of view.services.by('mode', 'Replicated')) {
      if ((finished && !isAuto(service)) || service.id in before) continue;
      const reason = staysBecause(view, service);
      if (reason === undefined) due.push(service);
      else skipped[service.id] = reason;
      waits ||= isAuto(service) && reason !== undefined && reason === waitsBecause(view, service);
    }
    const { value: move } = movesOf(view, due).next();
    return { asked, skipped, waits, ...(move === undefined ? {} : { move }) };
  }

  /** Nothing is left to move. */
  #finish(tx: Transaction, { asked, skipped, waits }: Step): void {
    const cluster = tx.clusters.get(CLUSTER_ROW);
    const state = cluster && stateOf(cluster);
    // A newer request has its own step, marked by its event.
    if (cluster === undefined || state === undefined || state.asked !== asked) return;
    if (this.#autoDue && waits) this.loop.mark('again', AGAIN_MS);
    this.#autoDue = false;
    if (!state.finished) tx.clusters.update({ ...cluster, rebalance: { ...state, finished: true, skipped } });
  }

  /** Writes a move, unless the newest state speaks against it: then the next step plans anew. */
  #beginMove(tx: Transaction, move: Move): void {
    const cluster = tx.clusters.get(CLUSTER_ROW);
    const service = tx.services.get(move.serviceId);
    const slot = slotOf(tx.tasks.by('slot', slotKey({ ...move, nodeId: '' })));
    if (cluster === undefined || service === undefined || slot?.current.id !== move.taskId) return;
    if (!takesTasks(tx.nodes.get(move.to)) || staysBecause(tx, service) !== undefined) return;
    const nextId = replaceTask(tx, service, slot, { startFirst: true, nodeId: move.to }, this.#deps);
    const startedAt = timestamp(this.#deps.clock.now());
    tx.clusters.update({ ...cluster, rebalance: { ...stateOf(cluster), move: { ...move, nextId, startedAt } } });
  }
}

interface Step {
  /** The request that was seen. */
  asked: number;
  /** Undefined: nothing is left to move. */
  move?: Move;
  skipped: Record<string, string>;
  /** A service with `auto` is left alone only for the moment. */
  waits: boolean;
}

function takesTasks(node: Node | undefined): boolean {
  return node !== undefined && isAvailable(node);
}

function isAuto(service: Service | undefined): boolean {
  return service !== undefined && rebalancePolicy(service.spec.Labels) === 'auto';
}
