/**
 * When a test has failed: what the daemons of the labs said last, where the tasks stand, and where the hosts differ from
 * the store, for a lab is gone when its failure is read.
 */
import { beforeEach } from 'vitest';
import { DockerClient } from '../../src/docker/client.ts';
import { logOf } from '../../src/lab/daemons.ts';
import { logTail } from '../../src/lab/host.ts';
import { listLabs, type Lab } from '../../src/lab/lab.ts';
import { audit } from '../../src/lab/operations.ts';

declare module 'vitest' {
  interface TaskMeta {
    /** Of a test that failed: the tasks that are to run and do not. */
    unsettled?: string[];
    /** What the audit of the labs finds. */
    differences?: string[];
  }
}

/** How far back, and how many of those: of lines with the same message only the last. */
const LINES = 200;
const DISTINCT = 10;
/** Of a line: stacks are not what is looked for. */
const WIDTH = 300;
const ANSWER_WITHIN_MS = 5_000;

beforeEach(({ onTestFailed, task }) => {
  onTestFailed(async () => {
    const labs = await listLabs();
    for (const host of labs.flatMap((lab) => lab.hosts)) {
      const lines = (await logTail(logOf(host, 'droverd'), LINES)).split('\n');
      console.error([`droverd of ${host.lab} ${host.name} said last:`, ...distinct(lines)].join('\n'));
    }
    const unsettled = (await Promise.all(labs.map(unsettledTasks))).flat();
    task.meta.unsettled = unsettled;
    console.error(['tasks that are to run and do not:', ...unsettled].join('\n'));
    const differences = (await Promise.all(labs.map(audited))).flat();
    task.meta.differences = differences;
    console.error(['where hosts differ from the store:', ...differences].join('\n'));
  });
});

function distinct(lines: readonly string[]): string[] {
  const last = new Map<string, string>();
  for (const line of lines) {
    const message = /"msg":"[^"]*"/.exec(line)?.[0] ?? line;
    last.delete(message);
    last.set(message, line.slice(0, WIDTH));
  }
  return [...last.values()].slice(-DISTINCT);
}

interface TaskJson {
  ID: string;
  ServiceID: string;
  DesiredState: string;
  Status: { State: string; Err?: string; Timestamp: string };
}

const WANTED = ['ready', 'running', 'complete'];

/** As the lab's first host knows them, each with what the engines say of its container. */
async function unsettledTasks({ name, hosts, parts }: Lab): Promise<string[]> {
  const [first] = hosts;
  if (first === undefined || parts === 'engines') return [];
  try {
    const services = await ask<{ ID: string; Spec: { Name: string } }[]>(first.droverSocket, '/services');
    const names = new Map(services.map(({ ID, Spec }) => [ID, Spec.Name]));
    const tasks = await ask<TaskJson[]>(first.droverSocket, '/tasks');
    const containers = (await Promise.all(hosts.map(({ engineSocket }) => containersOf(engineSocket)))).flat();
    return tasks
      .filter(({ DesiredState, Status }) => WANTED.includes(DesiredState) && Status.State !== DesiredState)
      .map(({ ID, ServiceID, DesiredState, Status: { State, Err, Timestamp } }) =>
        [
          `${name} ${names.get(ServiceID)} ${ID}: ${State} since ${Timestamp}, to be ${DesiredState}`,
          ...(Err === undefined ? [] : [Err]),
          ...containers.filter(({ taskId }) => taskId === ID).map(({ status }) => status),
        ].join('; '),
      );
  } catch (error) {
    return [`${name}: ${String(error)}`];
  }
}

async function audited({ name, parts }: Lab): Promise<string[]> {
  if (parts === 'engines') return [];
  try {
    return (await audit(name)).map((difference) => `${name}: ${difference}`);
  } catch (error) {
    return [`${name}: no audit: ${String(error)}`];
  }
}

async function containersOf(socket: string): Promise<{ taskId: string | undefined; status: string }[]> {
  const all = await ask<{ Labels: Record<string, string>; Status: string }[]>(socket, '/containers/json?all=1');
  return all.map(({ Labels, Status }) => ({ taskId: Labels['com.docker.swarm.task.id'], status: Status }));
}

async function ask<T>(socket: string, path: string): Promise<T> {
  const client = new DockerClient(`unix://${socket}`);
  try {
    return await client.request<T>('GET', path, { timeoutMs: ANSWER_WITHIN_MS });
  } finally {
    client.close();
  }
}
