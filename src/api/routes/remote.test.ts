import { connect } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TaskState } from '../../model/states.ts';
import { AT, aNode, aService, aTask, startApi, type TestApi } from '../api.fixture.ts';

let api: TestApi;
beforeEach(async () => {
  api = await startApi();
  await api.store.update((tx) => {
    tx.services.create(aService('web'));
    tx.nodes.create(aNode('node1'));
    tx.tasks.create(aTask('t1', 'web'));
    tx.tasks.create(aTask('t2', 'web', { status: { timestamp: AT, state: TaskState.COMPLETE, message: '' } }));
  });
});
afterEach(() => api.close());

/** An exec's answer, whatever it is. */
async function exec(task: string, body: string, headers = `Content-Length: ${body.length}\r\n`): Promise<string> {
  const socket = connect(api.socketPath);
  socket.write(
    `POST /drover/tasks/${task}/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n${headers}\r\n`,
  );
  socket.write(body);
  let answer = '';
  for await (const chunk of socket) answer += String(chunk);
  return answer.replace(/^HTTP\/1.1 (\d+)[^]*\r\n\r\n/, '$1 ');
}

const AWAY = 'node host-node1, which runs task web.1.t1, cannot be asked now: it has no session with this manager';

test('a node that is away is a 503 that names it', async () => {
  for (const what of ['top', 'stats'])
    expect(await api.call('GET', `/drover/tasks/t1/${what}`)).toMatchObject({ status: 503, json: { message: AWAY } });
  expect(await exec('t1', '{"Cmd":["true"]}')).toBe(`503 ${JSON.stringify({ message: AWAY })}`);
});

test('what cannot be asked for is said so', async () => {
  expect((await api.call('GET', '/drover/tasks/nobody/top')).json).toEqual({ message: 'task nobody not found' });
  expect(await api.call('GET', '/drover/tasks/t2/top')).toMatchObject({
    status: 409,
    json: { message: 'task web.1.t2 is not running' },
  });
  expect((await api.call('POST', '/drover/tasks/t1/exec', { Cmd: ['true'] })).json.message).toMatch(
    /send "Connection: Upgrade"/,
  );
  expect(await exec('nobody', '{"Cmd":["true"]}')).toBe('404 {"message":"task nobody not found"}');
  expect(await exec('t1', '{"Cmd":[]}')).toMatch(/^400 .*invalid value for Cmd/);
  expect(await exec('t1', '{')).toMatch(/^400 .*invalid JSON/);
  expect(await exec('t1', '', 'Content-Length: 99999999\r\n')).toMatch(/^400 .*Content-Length of at most/);
});
