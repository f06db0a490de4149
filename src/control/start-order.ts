/**
 * Start order: the first tasks of a service that was created with dependencies (`drover.depends-on`) are made ready but
 * not started until all of those have come; meanwhile the service says what it waits for. Promises that this happens
 * once in a service's life: what has come may go again, and restarts, scaling and updates wait for nothing.
 *
 * The starter holds the tasks back while `isHeldBack` says so of their service (starter.ts).
 *
 * Keys: ids of services.
 */
import { timestamp } from '../model/clock.ts';
import { replicasOf } from '../model/defaults.ts';
import {
  dependenciesOf,
  isHeldBack,
  serviceNames,
  type Dependency,
  type DependencyCondition,
} from '../model/depends-on.ts';
import type { Service, Task } from '../model/objects.ts';
import { TaskState } from '../model/states.ts';
import { nameKey } from '../store/schema.ts';
import type { Event, Transaction, View } from '../store/store.ts';
import { updateInChunks } from './chunks.ts';
import { Loop, type LoopDeps, type Mark } from './loop.ts';
import { endedByItself } from './restart.ts';
import { hasArrived, isWanted, slotsOf, type Slot } from './tasks.ts';

const WORDS: Record<DependencyCondition, string> = {
  service_started: 'to be started',
  service_healthy: 'to be healthy',
  service_completed_successfully: 'to complete successfully',
};

/** What a dependency is judged by: the service it names, if there is one, and what stands in its slots. */
export interface Depended {
  name: string;
  service: Pick<Service, 'spec'> | undefined;
  slots: readonly Slot[];
}

/** What is still missing of a dependency, to be read after "waits for"; undefined once it has come. */
export function missing(condition: DependencyCondition, { name, service, slots }: Depended): string | undefined {
  if (service === undefined) return `service ${name} to be created`;
  const tasks = slots.flatMap((slot) => slot.tasks);
  if (condition === 'service_started' && tasks.some(hasStarted)) return undefined;
  if (condition === 'service_healthy' && tasks.some(hasArrived)) return undefined;
  const failed = condition === 'service_completed_successfully' ? slots.find(hasFailed)?.current : undefined;
  if (condition === 'service_completed_successfully' && hasCompleted(service, slots)) return undefined;
  const why = failed === undefined ? '' : ` (its last task failed: ${failed.status.error ?? failed.status.message})`;
  return `service ${name} ${WORDS[condition]}${why}`;
}

/** A task that has ended well has started, too: one that is short may do both between two looks. */
function hasStarted(task: Task): boolean {
  return (isWanted(task) && task.status.state === TaskState.RUNNING) || task.status.state === TaskState.COMPLETE;
}

function hasCompleted({ spec }: Pick<Service, 'spec'>, slots: readonly Slot[]): boolean {
  const { ReplicatedJob: job, Replicated: replicated } = spec.Mode;
  const least = job?.TotalCompletions ?? (replicated === undefined ? 1 : replicasOf(spec));
  return slots.length >= least && slots.every(({ current }) => current.status.state === TaskState.COMPLETE);
}

/** True for a slot that nothing more will run in by itself. */
function hasFailed({ current }: Slot): boolean {
  return !isWanted(current) && endedByItself(current) && current.status.state !== TaskState.COMPLETE;
}

/** What a service waits for, in words; undefined once it may start. */
export function waitsFor(view: View, service: Service): string | undefined {
  const missed = dependenciesOf(service.spec).flatMap((dependency) => {
    const words = missing(dependency.condition, depended(view, service, dependency));
    return words === undefined ? [] : [words];
  });
  return missed.length === 0 ? undefined : `waits for ${missed.join(', ')}`;
}

function depended(view: View, { environment, spec }: Service, { name }: Dependency): Depended {
  const names = serviceNames(spec, name);
  for (const full of names) {
    const [service] = view.services.by('name', nameKey(environment, full));
    if (service !== undefined) return { name: full, service, slots: slotsOf(view.tasks.by('service', service.id)) };
  }
  return { name: names[0] ?? name, service: undefined, slots: [] };
}

export function startOrderLoop(deps: LoopDeps): Loop {
  const { store, clock } = deps;
  return new Loop(deps, {
    name: 'start-order',

    *initial(view) {
      for (const service of view.services.all()) if (isHeldBack(service)) yield service.id;
    },

    affected,

    async reconcile(keys) {
      const due = store.view((view) => [...keys].filter((id) => isDue(view, id)));
      await updateInChunks(store, due, (tx, id) => settle(tx, id, clock.now()));
    },
  });
}

function affected(event: Event, view: View, mark: Mark): void {
  if (event.table === 'services') {
    const { before, after } = event;
    if (after !== undefined && isHeldBack(after) && after.spec !== before?.spec) mark(after.id);
    if (before === undefined || after === undefined) waitingFor(view, (after ?? before)!, mark);
  } else if (event.table === 'tasks') {
    const { before, after } = event;
    const moved =
      before?.status.state !== after?.status.state ||
      before?.status.ready !== after?.status.ready ||
      before?.desiredState !== after?.desiredState;
    const service = moved ? view.services.get((after ?? before)!.serviceId) : undefined;
    if (service !== undefined) waitingFor(view, service, mark);
  }
}

function waitingFor(view: View, { environment, spec }: Service, mark: Mark): void {
  for (const { id } of view.services.by('waitsFor', nameKey(environment, spec.Name))) mark(id);
}

function isDue(view: View, id: string): boolean {
  const service = view.services.get(id);
  return service !== undefined && isHeldBack(service) && waitsFor(view, service) !== service.startOrder?.waitsFor;
}

function settle(tx: Transaction, id: string, nowMs: number): void {
  const service = tx.services.get(id);
  if (service === undefined || !isDue(tx, id)) return;
  const words = waitsFor(tx, service);
  tx.services.update({
    ...service,
    startOrder: words === undefined ? { metAt: timestamp(nowMs) } : { waitsFor: words },
  });
}
