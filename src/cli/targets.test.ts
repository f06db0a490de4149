import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DockerClient } from '../docker/client.ts';
import { allRunningTasks, runningTasks } from './targets.ts';

const task = (ID: string, ServiceID: string, Slot: number | undefined, State = 'running') => ({
  ID,
  ServiceID,
  Slot,
  NodeID: 'n1',
  Status: { State },
});
const TASKS = [
  task('t10', 's1', 10),
  task('t2', 's1', 2),
  task('t3', 's1', 3, 'starting'),
  task('tg', 's2', undefined),
];
const ANSWERS: Record<string, unknown> = {
  '/services': [
    { ID: 's1', Spec: { Name: 'web' } },
    { ID: 's2', Spec: { Name: 'each.node' } },
  ],
  '/services/web': { ID: 's1', Spec: { Name: 'web' } },
  '/services/each.node': { ID: 's2', Spec: { Name: 'each.node' } },
  '/nodes': [{ ID: 'n1', Description: { Hostname: 'h1' } }],
  '/tasks/t2': TASKS[1],
  '/tasks/t3': TASKS[2],
};

const directory = mkdtempSync(join(tmpdir(), 'drover-cli-'));
const server = createServer((request, response) => {
  const url = new URL(request.url!.replace(/^\/v1\.\d+/, ''), 'http://x');
  const service = JSON.parse(url.searchParams.get('filters') ?? '{}').service?.[0];
  const tasks = TASKS.filter(({ ServiceID }) => service === undefined || ServiceID === service);
  const answer = url.pathname === '/tasks' ? tasks : ANSWERS[url.pathname];
  response.setHeader('Api-Version', '1.41').setHeader('Content-Type', 'application/json');
  response.statusCode = answer === undefined && url.pathname !== '/_ping' ? 404 : 200;
  response.end(JSON.stringify(answer ?? { message: 'not found' }));
});
const client = new DockerClient({ socketPath: join(directory, 'd.sock') });
beforeAll(async () => {
  server.listen(join(directory, 'd.sock'));
  await once(server, 'listening');
});
afterAll(() => {
  client.close();
  server.close();
  rmSync(directory, { recursive: true });
});

const names = async (reference: string) =>
  (await runningTasks(client, reference)).map(({ name, node }) => `${name}@${node}`);

test('a service, a slot, a task: those that run, by number', async () => {
  expect(await names('web')).toEqual(['web.2@h1', 'web.10@h1']);
  expect(await names('web.10')).toEqual(['web.10@h1']);
  expect(await names('each.node')).toEqual(['each.node.n1@h1']);
  expect(await names('t2')).toEqual(['web.2@h1']);
  expect((await allRunningTasks(client)).map(({ name }) => name)).toEqual(['each.node.n1', 'web.2', 'web.10']);
});

test('what does not run or is not there is said so', async () => {
  await expect(names('web.3')).rejects.toThrow('web.3 has no running task');
  await expect(names('t3')).rejects.toThrow('task t3 has no running task');
  await expect(names('nobody')).rejects.toThrow('no such service or task: nobody');
});
