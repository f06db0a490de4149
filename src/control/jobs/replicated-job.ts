/**
 * Replicated jobs: so many tasks that complete, so many of them at once. A change of the service's spec is a new run: what
 * the run before still has running is stopped, and what it did stays as history. Promises that a run ends with exactly
 * the completions asked for, unless slots fail for good by their restart policy; those make room for the others.
 *
 * Keys: service ids. A look costs the tasks of the one job.
 */
import type { Service, Task } from '../../model/objects.ts';
import { TaskState } from '../../model/states.ts';
import type { Event, Transaction, View } from '../../store/store.ts';
import { updateInChunks } from '../chunks.ts';
import { altersDemand } from '../per-node.ts';
import { Loop, type Mark } from '../loop.ts';
import { createTask, endTask, hasToStop, isOver, isWanted, mustLeave, slotOf, type ControlDeps } from '../tasks.ts';
import { jobPlan, type JobPlan, type JobRun } from './plan.ts';
import { continueJobSlot, needsALook } from './slot.ts';

export function replicatedJobLoop(deps: ControlDeps): Loop {
  return new Loop(deps, {
    name: 'replicated-job',

    *initial(view) {
      for (const service of view.services.by('mode', 'ReplicatedJob')) yield service.id;
    },

    affected,

    async reconcile(keys) {
      for (const serviceId of keys) await settle(deps, serviceId);
    },
  });
}

function affected(event: Event, view: View, mark: Mark): void {
  if (event.table === 'services') {
    const { before, after } = event;
    if (after !== undefined && runOf(after) !== undefined && after.spec !== before?.spec) mark(after.id);
  } else if (event.table === 'tasks') {
    const { before, after } = event;
    const task = (after ?? before)!;
    if (task.slot === 0 || task.jobIteration === undefined) return;
    const ended = after === undefined || isOver(after);
    const isNews = before === undefined || before.desiredState !== after?.desiredState || ended !== isOver(before);
    if (isNews && (ended || !isWanted(after))) mark(task.serviceId);
  } else if (event.table === 'nodes') {
    const { before, after } = event;
    if (before === undefined || !mustLeave(after) || !altersDemand(before, after)) return;
    for (const task of view.tasks.by('node', before.id)) if (isOnItsWay(task)) mark(task.serviceId);
  }
}

function isOnItsWay(task: Task): boolean {
  return task.slot !== 0 && task.jobIteration !== undefined && !isOver(task);
}

/** The present run; undefined for what is no replicated job. */
function runOf({ jobStatus, spec }: Service): JobRun | undefined {
  const job = spec.Mode.ReplicatedJob;
  if (job === undefined || jobStatus === undefined) return undefined;
  const { MaxConcurrent: concurrent = 1, TotalCompletions: completions = concurrent } = job;
  return { iteration: jobStatus.iteration, completions, concurrent };
}

async function settle(deps: ControlDeps, serviceId: string): Promise<void> {
  const { store } = deps;
  const plan = store.view((view): (JobPlan & JobRun) | undefined => {
    const service = view.services.get(serviceId);
    const run = service && runOf(service);
    if (run === undefined) return undefined;
    const tasks = view.tasks.by('service', serviceId);
    const { held, ...rest } = jobPlan(tasks, run, (task) => task.nodeId !== '' && hasToStop(view, task));
    return { ...run, ...rest, held: held.filter((slot) => needsALook(view, slot)) };
  });
  if (plan === undefined) return;
  // Only this loop fills slots of jobs. If a new run began meanwhile, its event has marked the service again.
  const stillAsked = (tx: Transaction): Service | undefined => {
    const service = tx.services.get(serviceId);
    return service?.jobStatus?.iteration === plan.iteration ? service : undefined;
  };
  await updateInChunks(store, plan.stop, (tx, task) => end(tx, task, TaskState.SHUTDOWN, deps));
  await updateInChunks(store, plan.remove, (tx, task) => end(tx, task, TaskState.REMOVE, deps));
  await updateInChunks(store, plan.held, (tx, { current }) => {
    const service = stillAsked(tx);
    const tasks = tx.tasks.by('slot', `${serviceId}/${current.slot}`);
    const slot = slotOf(tasks.filter((task) => task.jobIteration === plan.iteration));
    if (service !== undefined && slot !== undefined) continueJobSlot(tx, service, slot, deps);
  });
  await updateInChunks(store, plan.start, (tx, slot) => {
    const service = stillAsked(tx);
    if (service !== undefined) createTask(tx, service, { slot }, deps);
  });
}

function end(
  tx: Transaction,
  { id }: Task,
  desired: typeof TaskState.SHUTDOWN | typeof TaskState.REMOVE,
  deps: ControlDeps,
) {
  const task = tx.tasks.get(id);
  if (task !== undefined) endTask(tx, task, desired, deps);
}
