/**
 * The life of a task. Observed state only goes up; numbers leave room between them and are what is stored and
 * compared, names are what the Docker API shows (orchestration.md 2.1).
 */

export const TaskState = {
  NEW: 0,
  PENDING: 64,
  ASSIGNED: 192,
  ACCEPTED: 256,
  PREPARING: 320,
  READY: 384,
  STARTING: 448,
  RUNNING: 512,
  COMPLETE: 576,
  SHUTDOWN: 640,
  FAILED: 704,
  REJECTED: 768,
  /** Desired only: stop, then forget the task. */
  REMOVE: 800,
  ORPHANED: 832,
} as const;

export type TaskState = (typeof TaskState)[keyof typeof TaskState];

const NAMES = new Map<TaskState, string>(Object.entries(TaskState).map(([name, value]) => [value, name.toLowerCase()]));
const VALUES = new Map<string, TaskState>([...NAMES].map(([value, name]) => [name, value]));

/** The lower-case name the Docker API shows, such as `running`. */
export function taskStateName(state: TaskState): string {
  const name = NAMES.get(state);
  if (name === undefined) throw new RangeError(`no task state has the number ${String(state)}`);
  return name;
}

/** The state of that name, or undefined if there is none. */
export function parseTaskState(name: string): TaskState | undefined {
  return VALUES.get(name);
}

/** True once nothing of the task runs any more, as far as its agent (or the manager in its stead) has said. */
export function isTerminal(state: TaskState): boolean {
  return state > TaskState.RUNNING;
}
