/** Which tasks' logs are meant. Pure. */
import type { Task } from '../../model/objects.ts';
import { isTerminal, TaskState } from '../../model/states.ts';
import type { View } from '../../store/store.ts';

export interface LogSelection {
  has(task: Task): boolean;
  tasks(view: View): readonly Task[];
  /** True when no further task can come to it. */
  isOver(view: View): boolean;
}

export function ofService(serviceId: string): LogSelection {
  return {
    has: (task) => task.serviceId === serviceId,
    tasks: (view) => view.tasks.by('service', serviceId),
    isOver: (view) => view.services.get(serviceId) === undefined,
  };
}

export function ofTask(taskId: string): LogSelection {
  const task = (view: View): Task[] => [view.tasks.get(taskId)].filter((found) => found !== undefined);
  return {
    has: ({ id }) => id === taskId,
    tasks: task,
    isOver: (view) => task(view).every(({ status }) => isTerminal(status.state)),
  };
}

/** True once the task has, or had, a container that may have said something. */
export function hasLog(task: Task): boolean {
  const { state, container } = task.status;
  if (task.nodeId === '') return false;
  // What ended without ever having had a container has nothing to say.
  return container !== undefined || (state >= TaskState.STARTING && state < TaskState.SHUTDOWN);
}
