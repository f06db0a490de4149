/**
 * Brings the tasks of an updated service to its new spec, and back again if they fail there: Docker's update and rollback
 * configs, a deadline for tasks that never arrive, canaries, and a confirmation at the end. Each step follows from the
 * tasks as they are (decide.ts); it is one transaction, and where that would be too large, further ones that look anew at
 * what they change. A new spec simply makes another rollout.
 *
 * Keys: service ids. A look costs the slots that have changed and those on their way (books.ts), and one that changes the
 * service, as at the beginning and the end, all of its slots. So that this does not add up, a service with many slots is looked
 * at after a pause, with all that has happened meanwhile.
 */
import { timestamp } from '../../model/clock.ts';
import { isHeldBack } from '../../model/depends-on.ts';
import { isJob, type Rollout, type Service, type Task } from '../../model/objects.ts';
import { asksForConfirm } from '../../model/rollouts.ts';
import { TaskState } from '../../model/states.ts';
import { slotKey } from '../../store/schema.ts';
import type { Event, Transaction, View } from '../../store/store.ts';
import { updateInChunks } from '../chunks.ts';
import { Elapsed } from '../elapsed.ts';
import { altersDemand } from '../per-node.ts';
import { Loop, type Mark } from '../loop.ts';
import { endedByItself } from '../restart.ts';
import { judgeKind, isAvailable, Verdict } from '../scheduler/filters.ts';
import { requirementsOf } from '../scheduler/requirements.ts';
import {
  endTask,
  hasArrived,
  isOver,
  isRunning,
  isWanted,
  replaceTask,
  slotOf,
  type ControlDeps,
  type Slot,
} from '../tasks.ts';
import { RolloutBooks, touchBooks } from './books.ts';
import { nextStep, stepBy, type Age, type Policy, type RolloutSlot, type Step } from './decide.ts';
import { policyOf } from './policy.ts';
import { isPaused, isUnderWay, keptTask, rolloutSlots } from './slots.ts';
import { begun, completed, paused, rolledBack, waiting } from './status.ts';

/** Tasks that one transaction notes, and slots it fills: up to three rows each, and etcd takes 128. */
const BATCH = 30;
/** The pause between two looks at a service: a millisecond for so many slots that it has to ask, and no more than so long. */
const PAUSE = { slotsPerMs: 10, mostMs: 2_000 };

/** What is remembered of a service whose rollout is under way. */
interface Watched {
  /** The moments its rollout counts from. */
  elapsed: Elapsed;
  books: RolloutBooks;
  /** On the monotonic clock: not looked at earlier. */
  restsUntilMs: number;
}

export function updateLoop(deps: ControlDeps): Loop {
  const { store, clock } = deps;
  const watched = new Map<string, Watched>();

  const look = async (serviceId: string): Promise<void> => {
    const watch = watched.get(serviceId) ?? { elapsed: new Elapsed(clock), books: new RolloutBooks(), restsUntilMs: 0 };
    watched.set(serviceId, watch);
    const earlyMs = watch.restsUntilMs - clock.monotonic();
    if (earlyMs > 0) {
      loop.mark(serviceId, earlyMs);
      return;
    }
    const seen = store.view((view) => lookOn(view, serviceId, clock.now(), watch));
    // Where the service itself is to change, all of it is decided on the newest state.
    const looked =
      seen === 'rest' || !seen.changesService
        ? seen
        : await store.update((tx) => advance(tx, serviceId, deps, watch.elapsed));
    if (looked === 'rest') {
      watched.delete(serviceId);
      return;
    }
    watch.restsUntilMs = clock.monotonic() + Math.min(Math.floor(looked.cost / PAUSE.slotsPerMs), PAUSE.mostMs);
    let stale = 0;
    await updateInChunks(
      store,
      looked.work,
      (tx, work) => {
        const service = tx.services.get(serviceId);
        if (service !== undefined && stillSo(tx, service, work)) carryOut(tx, service, work, deps, watch.elapsed);
        else stale += 1;
      },
      BATCH,
    );
    if (stale > 0) loop.mark(serviceId);
    else if (looked.againMs !== undefined) loop.mark(serviceId, looked.againMs);
  };

  const loop: Loop = new Loop(deps, {
    name: 'update',

    *initial(view) {
      for (const service of view.services.all()) if (isUnderWay(service)) yield service.id;
      for (const { id, serviceId, version } of view.serviceSpecs.all()) {
        const service = view.services.get(serviceId);
        if (service !== undefined && service.specVersion !== version && view.tasks.countBy('spec', id) > 0)
          yield serviceId;
      }
    },

    affected(event, view, mark) {
      if (watched.size > 0) touchBooks(event, view, (serviceId) => watched.get(serviceId)?.books);
      affected(event, view, mark);
    },

    async reconcile(keys) {
      const failure = (await Promise.allSettled([...keys].map(look))).find(({ status }) => status === 'rejected');
      if (failure?.status === 'rejected') throw failure.reason;
    },
  });
  return loop;
}

function affected(event: Event, view: View, mark: Mark): void {
  if (event.table === 'services') {
    const { before, after } = event;
    if (before === undefined || after === undefined) return;
    // A user who lets a paused update go on clears its status. Once tasks may start, their deadline runs.
    const moved =
      isHeldBack(before) !== isHeldBack(after) ||
      before.meta.version !== after.meta.version ||
      before.updateStatus !== after.updateStatus ||
      before.promoted !== after.promoted ||
      before.confirmed !== after.confirmed;
    if (moved) mark(after.id);
  } else if (event.table === 'tasks') {
    const { before, after } = event;
    const service = view.services.get((after ?? before)!.serviceId);
    if (service !== undefined && isUnderWay(service) && bearsOn(view, service, before, after)) mark(service.id);
  } else if (event.table === 'nodes') {
    // A node may stop (or begin) to fit a placement that changed; a paused or silent one's tasks are updated afterwards.
    const { before, after } = event;
    if (after === undefined || !altersDemand(before, after)) return;
    for (const task of view.tasks.by('node', after.id)) if (isOutdated(view, task)) mark(task.serviceId);
  }
}

/** Whether a task's change may alter the next step: on its way to where it runs nothing of it does. */
function bearsOn(view: View, service: Service, before: Task | undefined, after: Task | undefined): boolean {
  const own = ({ rollout }: Task) => rollout !== undefined && rollout.id === service.rollout?.id;
  // One of its own was put there by the step before …
  if (before === undefined) return !own(after!);
  if (after === undefined) return isWanted(before);
  // … which asked the one before it to end.
  if (isWanted(before) && !isWanted(after) && !own(after))
    return !view.tasks
      .by('slot', slotKey(after))
      .some((task) => own(task) && isWanted(task) && !hasArrived(task) && !isOver(task));
  return (
    isWanted(before) !== isWanted(after) ||
    before.desiredState >= TaskState.REMOVE !== after.desiredState >= TaskState.REMOVE ||
    isRunning(before) !== isRunning(after) ||
    hasArrived(before) !== hasArrived(after) ||
    (isOver(before) !== isOver(after) && (isWanted(after) || endedByItself(after)))
  );
}

function isOutdated(view: View, task: Task): boolean {
  const service = view.services.get(task.serviceId);
  return service !== undefined && service.specVersion !== task.specVersion;
}

/** One thing that a step does: it writes down what was seen of a task for the first time, or changes a slot. */
type Work =
  | { kind: 'note'; task: Task; mark: { arrivedAt: string } | { failedAt: string } }
  | { kind: 'restore' | 'replace'; slot: RolloutSlot; rollout: number; policy: Policy };

/** What is to be done next. */
interface Looked {
  /** How many slots it has asked, or is likely to ask next time. */
  cost: number;
  work: Work[];
  /** The step changes the service too, not only its tasks. */
  changesService: boolean;
  /** In how many milliseconds to look again, if time decides. */
  againMs?: number;
}

/** … and all that it rests on. */
interface LookedWhole extends Looked {
  slots: RolloutSlot[];
  step: Step;
  policy: Policy;
  /** The service with the rollout that is under way, or would begin in the transaction `index`. */
  service: Service;
}

/** As `lookAt`; of a rollout that goes on, only what has changed since the last look, and what is on its way. */
function lookOn(view: View, serviceId: string, nowMs: number, { elapsed, books }: Watched): Looked | 'rest' {
  const service = view.services.get(serviceId);
  const goesOn = isUnderWay(service) && service?.rollout?.version === service?.meta.version;
  if (service?.rollout === undefined || isJob(service) || !goesOn) return lookAt(view, serviceId, nowMs, elapsed);
  const policy = policyOf(service, books.read(view, service));
  const age = ages(elapsed, nowMs);
  const step = stepBy(books.sums(service.rollout.id, policy, age), service.rollout, policy, age);
  const changesService =
    step.giveUp !== undefined || step.state !== 'busy' || waiting(service, undefined, []) !== service;
  return { cost: books.open, changesService, ...toDo(step, service.rollout, policy, nowMs) };
}

/** What a step asks for, and when to look again. */
function toDo(step: Step, { id }: Rollout, policy: Policy, nowMs: number): Pick<Looked, 'work' | 'againMs'> {
  const work = [...notesOf(step, nowMs), ...changesOf(step, id, policy)];
  const deadlineMs = step.replace.length > 0 ? policy.deadlineMs : Infinity;
  const againMs = Math.min(step.againMs ?? Infinity, deadlineMs);
  return { work, ...(againMs === Infinity ? {} : { againMs }) };
}

/** Finds the next step of a service's rollout, or `rest` if there is no rollout to be looked at. `index` names a new one. */
function lookAt(view: View, serviceId: string, nowMs: number, elapsed: Elapsed, index = 0): LookedWhole | 'rest' {
  const before = view.services.get(serviceId);
  // A job's next run replaces the one before as a whole: control/jobs/.
  if (before === undefined || isJob(before) || isPaused(before)) return 'rest';
  const slots = rolloutSlots(view, before);
  if (!isUnderWay(before) && !slots.some((slot) => slot.dirty)) return 'rest';
  const isNew = !isUnderWay(before) || before.rollout?.version !== before.meta.version;
  const service = isNew ? begun(before, slots, index, nowMs) : before;
  const policy = policyOf(service, slots.length);
  const step = nextStep(slots, service.rollout!, policy, ages(elapsed, nowMs));
  const changesService =
    isNew || step.giveUp !== undefined || step.state !== 'busy' || waiting(service, undefined, slots) !== before;
  const todo = toDo(step, service.rollout!, policy, nowMs);
  return { cost: slots.length, slots, step, policy, service, changesService, ...todo };
}

/** Takes the next step, as far as it goes into one transaction. Returns what is left of it. */
function advance(tx: Transaction, serviceId: string, deps: ControlDeps, elapsed: Elapsed): Looked | 'rest' {
  const nowMs = deps.clock.now();
  const looked = lookAt(tx, serviceId, nowMs, elapsed, tx.index);
  if (looked === 'rest') return 'rest';
  const { service, step, slots, policy, work } = looked;
  for (const one of work.slice(0, BATCH)) carryOut(tx, service, one, deps, elapsed);
  const after = outcome(service, step, slots, tx.index, nowMs, policy.action);
  if (after !== tx.services.get(serviceId)) tx.services.update(after);
  return isUnderWay(after) ? { ...looked, work: work.slice(BATCH) } : 'rest';
}

function ages(elapsed: Elapsed, nowMs: number): Age {
  // Many slots share few moments.
  const moments = new Map<string, number>();
  return (of, moment) => {
    const momentMs = moments.get(moment) ?? Date.parse(moment);
    moments.set(moment, momentMs);
    // What has been seen has happened by now, whatever the wall clock says.
    return elapsed.since(of, momentMs, Math.max(0, nowMs - momentMs));
  };
}

function notesOf({ arrived, failed }: Step, nowMs: number): Work[] {
  const at = timestamp(nowMs);
  return [
    ...failed.map(({ task }): Work => ({ kind: 'note', task, mark: { failedAt: at } })),
    ...arrived.map((task): Work => ({ kind: 'note', task, mark: { arrivedAt: at } })),
  ];
}

function changesOf({ restore, replace }: Step, rollout: number, policy: Policy): Work[] {
  return [
    ...restore.map((slot): Work => ({ kind: 'restore', slot, rollout, policy })),
    ...replace.map((slot): Work => ({ kind: 'replace', slot, rollout, policy })),
  ];
}

/** Whether nothing that this rests on has changed since the look; if it has, the next look sees it. */
function stillSo(view: View, service: Service, work: Work): boolean {
  if (work.kind === 'note') return view.tasks.get(work.task.id) === work.task;
  const { slot, rollout } = work;
  const goesOn =
    isUnderWay(service) && service.rollout?.id === rollout && service.rollout.version === service.meta.version;
  // Another loop may have put a task beside them: the slot itself has to be what it was.
  const now = slotOf(view.tasks.by('slot', slotKey(slot.current)));
  return goesOn && now?.current === slot.current && now.outgoing === slot.outgoing;
}

function carryOut(tx: Transaction, service: Service, work: Work, deps: ControlDeps, elapsed: Elapsed): void {
  if (work.kind === 'note') {
    const { task, mark } = work;
    tx.tasks.update({ ...task, rollout: { ...task.rollout!, ...mark } });
    ages(elapsed, deps.clock.now())(task.id, 'failedAt' in mark ? mark.failedAt : mark.arrivedAt);
    return;
  }
  const { slot, rollout, policy } = work;
  if (work.kind === 'restore') {
    endTask(tx, slot.current, TaskState.SHUTDOWN, deps);
    return;
  }
  const nodeId = service.rollout?.toKept === true ? nodeOfKept(tx, service, slot) : '';
  replaceTask(tx, service, slot, { startFirst: policy.startFirst, rollout, nodeId }, deps);
}

/** What becomes of the service by a step. */
function outcome(
  service: Service,
  step: Step,
  slots: readonly RolloutSlot[],
  index: number,
  nowMs: number,
  action: 'pause' | 'continue' | 'rollback',
): Service {
  if (step.giveUp !== undefined)
    return action === 'rollback' ? rolledBack(service, step.giveUp, index, nowMs) : paused(service, step.giveUp, nowMs);
  if (step.state === 'canaries') return waiting(service, 'promote', slots);
  if (step.state === 'busy') return waiting(service, undefined, slots);
  const confirm =
    service.updateStatus?.state === 'updating' &&
    asksForConfirm(service.spec.Labels) &&
    service.confirmed !== service.specVersion;
  return confirm ? waiting(service, 'confirm', slots) : completed(service, nowMs);
}

/**
 * The node of a slot's kept task, which has the image: for a task that any number of can stand on a node. Others, and
 * those whose node takes no tasks now, go where the scheduler finds room.
 */
function nodeOfKept(view: View, service: Service, slot: Slot): string {
  const node = view.nodes.get(keptTask(slot)?.nodeId ?? '');
  if (node === undefined || slot.current.slot === 0) return '';
  const wanted = requirementsOf(service.spec, (id) => view.networks.get(id)?.spec.Driver);
  const reserves = wanted.nanoCpus > 0 || wanted.memoryBytes > 0 || wanted.generic.length > 0;
  const bounded = reserves || wanted.hostPorts.length > 0 || wanted.maxReplicas > 0;
  return !bounded && isAvailable(node) && judgeKind(wanted, node) === Verdict.FITS ? node.id : '';
}
