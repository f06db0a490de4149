/** `/drover/rebalance` as `drover rebalance` calls it. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { serviceSpecId } from '../../model/objects.ts';
import { TaskState } from '../../model/states.ts';
import { aNode, aService, aTask, startApi, type TestApi } from '../api.fixture.ts';

let api: TestApi;

beforeEach(async () => {
  api = await startApi();
  await api.store.update((tx) => {
    for (const id of ['node1', 'node2']) tx.nodes.create(aNode(id));
    const web = aService('web');
    tx.services.create(web);
    tx.serviceSpecs.create({
      id: serviceSpecId('web', web.specVersion),
      serviceId: 'web',
      version: web.specVersion,
      spec: web.spec,
    });
    const status = { timestamp: '', state: TaskState.RUNNING, message: '' };
    for (const slot of [1, 2]) tx.tasks.create(aTask(`t${slot}`, 'web', { slot, nodeId: 'node1', status }));
  });
});
afterEach(() => api.close());

const MOVE = { ServiceID: 'web', Service: 'web', Slot: 2, Task: 't2', From: { ID: 'node1' }, To: { ID: 'node2' } };
const row = () => api.store.view((view) => view.clusters.get('default')!);

test('a dry run says what would be moved, and changes nothing', async () => {
  const before = row();
  const { status, json } = await api.call('POST', '/drover/rebalance?dryRun=true');
  expect(status).toBe(200);
  expect(json).toMatchObject({ Moves: [MOVE], Skipped: [] });
  expect(json).not.toHaveProperty('Asked');
  expect(row()).toBe(before);
});

test('asked for in earnest, it is written down, and goes on until it is answered', async () => {
  const { json } = await api.call('POST', '/drover/rebalance');
  expect(json).toMatchObject({ Asked: row().rebalanceAsked!.id, Moves: [MOVE] });
  expect((await api.call('GET', '/drover/rebalance')).json).toEqual({
    Asked: json.Asked,
    Running: true,
    Moves: [],
    Skipped: [],
  });
  const moved = [{ serviceId: 'web', slot: 2, taskId: 't2', from: 'node1', to: 'node2' }];
  await api.store.update((tx) => {
    const rebalance = {
      asked: json.Asked as number,
      finished: true,
      moved,
      skipped: { web: 'a reason', gone: 'another' },
    };
    tx.clusters.update({ ...row(), rebalance });
  });
  expect((await api.call('GET', '/drover/rebalance')).json).toMatchObject({
    Running: false,
    Moves: [MOVE],
    Skipped: [{ ServiceID: 'web', Service: 'web', Reason: 'a reason' }],
  });
});

test('with nothing to move, nothing is begun', async () => {
  await api.store.update((tx) => tx.tasks.update({ ...tx.tasks.get('t2')!, nodeId: 'node2' }));
  const before = row();
  expect((await api.call('POST', '/drover/rebalance')).json).toEqual({ Moves: [], Skipped: [] });
  expect(row()).toBe(before);
});

test('a worker sends to a manager', async () => {
  api.cluster.become('worker');
  expect(await api.call('POST', '/drover/rebalance')).toMatchObject({ status: 503 });
});
