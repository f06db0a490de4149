/**
 * Lets tasks start that were made with desired state READY: after their delay, and when the task they replace has
 * stopped. That wait has bounds: a lost node says nothing, and a stop that does not end must not keep a slot empty.
 * Before all that, what its service was created to wait for must have come (start-order.ts).
 *
 * Keys: ids of waiting tasks.
 */
import { restartPolicyOf, stopGracePeriodOf } from '../model/defaults.ts';
import { timestamp } from '../model/clock.ts';
import { isHeldBack } from '../model/depends-on.ts';
import { serviceSpecId, type Task } from '../model/objects.ts';
import { drainMsOf } from '../model/readiness.ts';
import { longestDelayMs, restartDelayMs } from '../model/restart-backoff.ts';
import type { TaskSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import { slotKey } from '../store/schema.ts';
import type { Event, Transaction, View } from '../store/store.ts';
import { updateInChunks } from './chunks.ts';
import { Elapsed } from './elapsed.ts';
import { Loop, type LoopDeps, type Mark } from './loop.ts';
import { hasToStop, isLost, isOver, standsInTheWay, startedState } from './tasks.ts';

/** How long after its delay a task waits at most for its predecessor (Docker's figure) … */
const PATIENCE_MS = 60_000;
/** … unless that one's grace period is longer; then this much longer than that. */
const AFTER_GRACE_MS = 10_000;

/**
 * In how many milliseconds a waiting task may start; 0: now. `stopping` is its predecessor while that still has to
 * stop, with the milliseconds its connections and then its processes have for that.
 */
export function startsInMs(task: Task, stopping: { graceMs: number } | undefined, nowMs: number): number {
  const earliest = task.startAfter === undefined ? nowMs : Date.parse(task.startAfter);
  const patienceMs = stopping === undefined ? 0 : Math.max(PATIENCE_MS, stopping.graceMs + AFTER_GRACE_MS);
  return Math.max(0, earliest + patienceMs - nowMs);
}

export function starterLoop(deps: LoopDeps): Loop {
  const { store, clock } = deps;
  const elapsed = new Elapsed(clock);
  const waitOf = (view: View, id: string): number | undefined => waitingMs(view, id, clock.now(), elapsed);
  const loop: Loop = new Loop(deps, {
    name: 'starter',

    *initial(view) {
      for (const task of view.tasks.all()) if (isWaiting(task)) yield task.id;
    },

    affected,

    async reconcile(keys) {
      const due: string[] = [];
      store.view((view) => {
        for (const id of keys) {
          const delayMs = waitOf(view, id);
          if (delayMs === undefined) elapsed.forget(id);
          if (delayMs === 0) due.push(id);
          else if (delayMs !== undefined) loop.mark(id, delayMs);
        }
      });
      await updateInChunks(store, due, (tx, id) => {
        if (waitOf(tx, id) === 0) start(tx, id, clock.now());
      });
      for (const id of due) elapsed.forget(id);
    },
  });
  return loop;
}

function isWaiting(task: Task | undefined): task is Task {
  return task?.desiredState === TaskState.READY;
}

function affected(event: Event, view: View, mark: Mark): void {
  if (event.table === 'tasks') {
    const { before, after } = event;
    if (isWaiting(after) && !isWaiting(before)) mark(after.id);
    if (before !== undefined && !isOver(before) && (after === undefined || isOver(after)))
      waitingFor(view, before, mark);
  } else if (event.table === 'nodes') {
    const { before, after } = event;
    if (before === undefined || isLost(before) || !isLost(after)) return;
    for (const task of view.tasks.by('node', before.id)) waitingFor(view, task, mark);
  } else if (event.table === 'services') {
    const { before, after } = event;
    if (before === undefined || after === undefined || !isHeldBack(before) || isHeldBack(after)) return;
    for (const task of view.tasks.by('service', after.id)) if (isWaiting(task)) mark(task.id);
  }
}

function waitingFor(view: View, predecessor: Task, mark: Mark): void {
  for (const task of view.tasks.by('slot', slotKey(predecessor))) {
    if (isWaiting(task)) mark(task.id);
  }
}

/** Undefined for a task that is not waiting, or not any more. */
function waitingMs(view: View, id: string, wallMs: number, elapsed: Elapsed): number | undefined {
  const task = view.tasks.get(id);
  if (!isWaiting(task)) return undefined;
  const service = view.services.get(task.serviceId);
  if (service !== undefined && isHeldBack(service)) return undefined;
  const nowMs =
    task.startAfter === undefined ? wallMs : nowFor(view, task, Date.parse(task.startAfter), wallMs, elapsed);
  const predecessor = predecessorOf(view, task);
  if (predecessor === undefined) return startsInMs(task, undefined, nowMs);
  const graceMs = drainMsOf(service?.spec.Labels ?? {}) + stopGracePeriodOf(templateOf(view, predecessor)) / 1e6;
  return startsInMs(task, { graceMs }, nowMs);
}

/**
 * What a task has to wait for: the one that is named, then whatever of its slot has yet to stop besides. That may have been on
 * a node which was lost when the task was made, and is back.
 */
function predecessorOf(view: View, task: Task): Task | undefined {
  const named = task.startAfterTask === undefined ? undefined : view.tasks.get(task.startAfterTask);
  if (named !== undefined && hasToStop(view, named)) return named;
  // Start-first: what goes may take its time.
  if (task.replaces !== undefined) return undefined;
  const others = view.tasks.by('slot', slotKey(task)).filter((other) => other.desiredState < TaskState.REMOVE);
  return others.find((other) => standsInTheWay(view, other));
}

/** The time it is, as far as `startAfterMs` goes: never more than the restart delay before that. */
function nowFor(view: View, task: Task, startAfterMs: number, wallMs: number, elapsed: Elapsed): number {
  const { Delay } = restartPolicyOf(templateOf(view, task));
  const labels = view.services.get(task.serviceId)?.spec.Labels ?? {};
  const delayMs = restartDelayMs(Delay / 1e6, task.quickFailures ?? 0, longestDelayMs(labels));
  return startAfterMs + elapsed.since(task.id, startAfterMs, Math.max(-delayMs, wallMs - startAfterMs));
}

function templateOf(view: View, task: Task): TaskSpec {
  return view.serviceSpecs.get(serviceSpecId(task.serviceId, task.specVersion))?.spec.TaskTemplate ?? {};
}

function start(tx: Transaction, id: string, nowMs: number): void {
  const task = tx.tasks.get(id);
  if (!isWaiting(task)) return;
  const { startAfter: _, startAfterTask: __, ...rest } = task;
  tx.tasks.update({
    ...rest,
    desiredState: startedState(task),
    meta: { ...task.meta, updatedAt: timestamp(nowMs) },
  });
}
