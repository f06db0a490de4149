/** From what a user wrote, `SERVICE`, `SERVICE.SLOT` or a task's name or id, to tasks, by the Docker API. */
import { hasStatus, type DockerClient } from '../docker/client.ts';

export interface ServiceAnswer {
  ID: string;
  Spec: { Name: string };
}

export interface TaskAnswer {
  ID: string;
  ServiceID: string;
  /** Absent for a global service. */
  Slot?: number;
  NodeID?: string;
  Status: { State: string };
}

export interface NodeAnswer {
  ID: string;
  Description?: { Hostname?: string };
}

/** A running task, with the names people know it by. */
export interface Target {
  taskId: string;
  /** `web.1`, or `web.<node id>` for a global service. */
  name: string;
  node: string;
}

/** The running tasks that are meant, those of a service by slot. @throws Error in words if there is none */
export async function runningTasks(client: DockerClient, reference: string): Promise<Target[]> {
  const service = await serviceOf(client, reference);
  if (service !== undefined) return targetsOf(client, await tasksOf(client, service.ID), `service ${reference}`);
  const slot = await slotOf(client, reference);
  if (slot !== undefined) return targetsOf(client, slot, reference);
  const task = await found(client.request<TaskAnswer>('GET', `/tasks/${encodeURIComponent(reference)}`));
  if (task === undefined) throw new Error(`no such service or task: ${reference}`);
  return targetsOf(client, [task], `task ${reference}`);
}

/** The running tasks of all services. */
export async function allRunningTasks(client: DockerClient): Promise<Target[]> {
  const filters = JSON.stringify({ 'desired-state': ['running'] });
  return named(client, (await client.request<TaskAnswer[]>('GET', '/tasks', { query: { filters } })).filter(isRunning));
}

async function serviceOf(client: DockerClient, reference: string): Promise<ServiceAnswer | undefined> {
  return found(client.request<ServiceAnswer>('GET', `/services/${encodeURIComponent(reference)}`));
}

/** Of `web.2`: the tasks of slot 2 of service web; undefined if it is not of that form, or no such service is there. */
async function slotOf(client: DockerClient, reference: string): Promise<TaskAnswer[] | undefined> {
  const [, name, slot] = /^(.+)\.(\d+)$/.exec(reference) ?? [];
  const service = name === undefined ? undefined : await serviceOf(client, name);
  if (service === undefined) return undefined;
  return (await tasksOf(client, service.ID)).filter((task) => task.Slot === Number(slot));
}

function tasksOf(client: DockerClient, serviceId: string): Promise<TaskAnswer[]> {
  const filters = JSON.stringify({ service: [serviceId], 'desired-state': ['running'] });
  return client.request<TaskAnswer[]>('GET', '/tasks', { query: { filters } });
}

async function targetsOf(client: DockerClient, tasks: TaskAnswer[], what: string): Promise<Target[]> {
  const running = tasks.filter(isRunning);
  if (running.length === 0) throw new Error(`${what} has no running task`);
  return named(client, running);
}

function isRunning(task: TaskAnswer): boolean {
  return task.Status.State === 'running';
}

async function named(client: DockerClient, tasks: TaskAnswer[]): Promise<Target[]> {
  const [services, nodes] = await Promise.all([
    client.request<ServiceAnswer[]>('GET', '/services'),
    client.request<NodeAnswer[]>('GET', '/nodes'),
  ]);
  const serviceNames = new Map(services.map(({ ID, Spec }) => [ID, Spec.Name]));
  const hostnames = new Map(nodes.map(({ ID, Description }) => [ID, Description?.Hostname ?? ID]));
  return tasks
    .map(({ ID, ServiceID, Slot, NodeID = '' }) => ({
      taskId: ID,
      name: `${serviceNames.get(ServiceID) ?? ServiceID}.${Slot ?? NodeID}`,
      node: hostnames.get(NodeID) ?? NodeID,
    }))
    .toSorted((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
}

async function found<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (hasStatus(error, 404)) return undefined;
    throw error;
  }
}
