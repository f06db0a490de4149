/**
 * Brings the tasks of an updated service to its new spec, and back again if they fail there: Docker's update and rollback
 * configs, a deadline for tasks that never arrive, canaries, and a confirmation at the end. Each step follows from the
 * tasks as they are (decide.ts) and is one transaction; a new spec simply makes another rollout.
 *
 * Keys: service ids.
 */
import { timestamp } from '../../model/clock.ts';
import { isHeldBack } from '../../model/depends-on.ts';
import { isJob, type Service, type Task } from '../../model/objects.ts';
import { asksForConfirm } from '../../model/rollouts.ts';
import { TaskState } from '../../model/states.ts';
import type { Event, Transaction, View } from '../../store/store.ts';
import { Elapsed } from '../elapsed.ts';
import { altersDemand } from '../per-node.ts';
import { Loop } from '../loop.ts';
import { judgeKind, isAvailable, Verdict } from '../scheduler/filters.ts';
import { requirementsOf } from '../scheduler/requirements.ts';
import { endTask, replaceTask, type ControlDeps, type Slot } from '../tasks.ts';
import { nextStep, type RolloutSlot, type Step } from './decide.ts';
import { policyOf } from './policy.ts';
import { isPaused, isUnderWay, keptTask, rolloutSlots } from './slots.ts';
import { begun, completed, paused, rolledBack, waiting } from './status.ts';

/** What one transaction notes, and slots it fills: one row and up to three rows each, and etcd takes 128. */
const BATCH = 30;

export function updateLoop(deps: ControlDeps): Loop {
  const { store } = deps;
  /** By service: the moments its rollout counts from. */
  const clocks = new Map<string, Elapsed>();
  const loop: Loop = new Loop(deps, {
    name: 'update',

    *initial(view) {
      for (const service of view.services.all()) if (isUnderWay(service)) yield service.id;
      for (const task of view.tasks.all()) if (isOutdated(view, task)) yield task.serviceId;
    },

    affected,

    async reconcile(keys) {
      await Promise.all(
        [...keys].map(async (serviceId) => {
          const elapsed = clocks.get(serviceId) ?? new Elapsed(deps.clock);
          clocks.set(serviceId, elapsed);
          const againMs = await store.update((tx) => advance(tx, serviceId, deps, elapsed));
          if (againMs === 'rest') clocks.delete(serviceId);
          else if (againMs !== undefined) loop.mark(serviceId, againMs);
        }),
      );
    },
  });
  return loop;
}

function* affected(event: Event, view: View): Iterable<string> {
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
    if (moved) yield after.id;
  } else if (event.table === 'tasks') {
    const { before, after } = event;
    const { serviceId } = (after ?? before)!;
    const moved =
      before?.status.state !== after?.status.state ||
      before?.status.ready !== after?.status.ready ||
      before?.desiredState !== after?.desiredState;
    if (moved && isUnderWay(view.services.get(serviceId))) yield serviceId;
  } else if (event.table === 'nodes') {
    // A node may stop (or begin) to fit a placement that changed; a paused or silent one's tasks are updated afterwards.
    const { before, after } = event;
    if (after === undefined || !altersDemand(before, after)) return;
    for (const task of view.tasks.by('node', after.id)) if (isOutdated(view, task)) yield task.serviceId;
  }
}

function isOutdated(view: View, task: Task): boolean {
  const service = view.services.get(task.serviceId);
  return service !== undefined && service.specVersion !== task.specVersion;
}

/**
 * Takes the next step of a service's rollout. Returns in how many milliseconds to look again, if time decides, or `rest`
 * if there is no rollout to be looked at.
 */
function advance(tx: Transaction, serviceId: string, deps: ControlDeps, elapsed: Elapsed): number | 'rest' | undefined {
  const before = tx.services.get(serviceId);
  // A job's next run replaces the one before as a whole: control/jobs/.
  if (before === undefined || isJob(before) || isPaused(before)) return 'rest';
  const nowMs = deps.clock.now();
  const slots = rolloutSlots(tx, before);
  if (!isUnderWay(before) && !slots.some((slot) => slot.dirty)) return 'rest';
  const isNew = !isUnderWay(before) || before.rollout?.version !== before.meta.version;
  const service = isNew ? begun(before, slots, tx.index, nowMs) : before;
  const policy = policyOf(service, slots.length);
  const age = (of: string, moment: string): number => {
    const momentMs = Date.parse(moment);
    // What has been seen has happened by now, whatever the wall clock says.
    return elapsed.since(of, momentMs, Math.max(0, nowMs - momentMs));
  };
  const step = nextStep(slots, service.rollout!, policy, age);
  const restored = step.restore.slice(0, BATCH);
  const replaced = step.replace.slice(0, BATCH - restored.length);
  const noted = note(tx, step, nowMs);
  for (const task of noted) age(task.id, timestamp(nowMs));
  for (const { current } of restored) endTask(tx, current, TaskState.SHUTDOWN, deps);
  for (const slot of replaced) {
    const nodeId = service.rollout!.toKept === true ? nodeOfKept(tx, service, slot) : '';
    replaceTask(tx, service, slot, { startFirst: policy.startFirst, rollout: service.rollout!.id, nodeId }, deps);
  }
  const after = outcome(service, step, slots, tx.index, nowMs, policy.action);
  if (after !== before) tx.services.update(after);
  if (!isUnderWay(after)) return 'rest';
  const done = noted.length + restored.length + replaced.length;
  const asked = step.arrived.length + step.failed.length + step.restore.length + step.replace.length;
  return done < asked ? 0 : step.againMs;
}

/** Writes down what was seen of tasks for the first time; of which, in this transaction. */
function note(tx: Transaction, { arrived, failed }: Step, nowMs: number): Task[] {
  const at = timestamp(nowMs);
  const marks = [
    ...failed.map(({ task }) => ({ task, mark: { failedAt: at } })),
    ...arrived.map((task) => ({ task, mark: { arrivedAt: at } })),
  ].slice(0, BATCH);
  for (const { task, mark } of marks) tx.tasks.update({ ...task, rollout: { ...task.rollout!, ...mark } });
  return marks.map(({ task }) => task);
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
