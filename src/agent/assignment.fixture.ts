/** What a node is told of a task. */
import type { AssignmentChange, TaskAssignment } from '../model/assignments.ts';
import { TaskState } from '../model/states.ts';

/** A task that is to run on this node, and for which nothing has been done there. */
export function assigned(more: Partial<TaskAssignment> = {}): TaskAssignment {
  return {
    id: 't1',
    environment: 'default',
    serviceId: 's',
    serviceName: 'web',
    serviceLabels: {},
    slot: 1,
    nodeId: 'n1',
    desiredState: TaskState.RUNNING,
    spec: { ContainerSpec: { Image: 'app' } },
    networks: [],
    hostPorts: [],
    status: inState(TaskState.ASSIGNED),
    ...more,
  };
}

/** A status as a manager has it. */
export function inState(state: TaskState): TaskAssignment['status'] {
  return { timestamp: '2026-01-01T00:00:00.000Z', state, message: '' };
}

export const fact = (value: TaskAssignment): AssignmentChange => ({ kind: 'task', key: value.id, value });
