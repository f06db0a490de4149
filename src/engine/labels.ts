/** The labels by which dashboards and proxies recognise Swarm's containers, and we ours. */
import { taskName } from '../model/objects.ts';
import type { TaskAssignment } from '../model/assignments.ts';
import type { Labels } from '../model/specs.ts';

export const NODE_ID_LABEL = 'com.docker.swarm.node.id';
export const TASK_ID_LABEL = 'com.docker.swarm.task.id';

export function taskLabels(task: TaskAssignment): Labels {
  return {
    [NODE_ID_LABEL]: task.nodeId,
    'com.docker.swarm.service.id': task.serviceId,
    'com.docker.swarm.service.name': task.serviceName,
    'com.docker.swarm.task': '',
    [TASK_ID_LABEL]: task.id,
    'com.docker.swarm.task.name': taskName(task),
  };
}
