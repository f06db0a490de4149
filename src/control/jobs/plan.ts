/**
 * What a job's run needs now. Pure. A run of a replicated job ends with one completed task in each of its slots; a task
 * that failed is followed in its slot by another, as far as the restart policy goes. Never do more slots have something
 * that may run than are allowed at once, tasks of the run before included, which are being stopped.
 */
import type { Task } from '../../model/objects.ts';
import { TaskState } from '../../model/states.ts';
import { isDone } from '../restart.ts';
import { isWanted, slotsOf, type Slot } from '../tasks.ts';

export interface JobRun {
  iteration: number;
  /** How many tasks are to complete. */
  completions: number;
  /** In how many slots tasks may run at once. */
  concurrent: number;
}

export interface JobPlan {
  /** Slots of this run that hold a task, for the restart policy to look at. */
  held: Slot[];
  /** Slot numbers to put a first task of this run in. */
  start: number[];
  /** Tasks of earlier runs to stop, and to keep as history. */
  stop: Task[];
  /** Tasks of earlier runs in slots that this run does not have. */
  remove: Task[];
}

/** `mayRun`: whether something of a task may run on a node that would tell of its end. */
export function jobPlan(tasks: readonly Task[], run: JobRun, mayRun: (task: Task) => boolean): JobPlan {
  const { iteration, completions, concurrent } = run;
  const held = slotsOf(tasks.filter((task) => task.jobIteration === iteration));
  const earlier = tasks.filter((task) => task.jobIteration !== iteration);
  const busy = new Set(tasks.filter(mayRun).map((task) => task.slot));
  for (const { current } of held) if (isWanted(current) && !isDone(current)) busy.add(current.slot);
  const taken = new Set([...busy, ...held.map(({ current }) => current.slot)]);
  const start: number[] = [];
  for (let slot = 1; slot <= completions && busy.size + start.length < concurrent; slot++)
    if (!taken.has(slot)) start.push(slot);
  return {
    held,
    start,
    stop: earlier.filter(({ slot, desiredState }) => slot <= completions && desiredState < TaskState.SHUTDOWN),
    remove: earlier.filter(({ slot, desiredState }) => slot > completions && desiredState < TaskState.REMOVE),
  };
}
