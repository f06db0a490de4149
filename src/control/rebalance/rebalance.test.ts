/** Rebalancing a running cluster: one task at a time, start-first, across new managers, and what goes wrong on the way. */
import { afterEach, expect, test } from 'vitest';
import { CLUSTER_ROW } from '../../model/objects.ts';
import { TaskState } from '../../model/states.ts';
import type { View } from '../../store/store.ts';
import { startOrchestration } from '../control.ts';
import { isRunning } from '../tasks.ts';
import { BAD_IMAGE, SLOW_IMAGE, World } from '../world.fixture.ts';

let world: World;
afterEach(() => world.close());

async function cluster(...nodes: string[]): Promise<void> {
  world = await World.open(startOrchestration);
  for (const node of nodes) await world.addNode(node);
}

const ask = () =>
  world.store.update((tx) => {
    const row = tx.clusters.get(CLUSTER_ROW)!;
    tx.clusters.update({ ...row, rebalanceAsked: { id: tx.index, at: '' } });
  });
const state = () => world.store.view((view) => view.clusters.get(CLUSTER_ROW)?.rebalance);
const spread = (id: string) => {
  const counts: Record<string, number> = {};
  for (const { nodeId } of world.running(id)) counts[nodeId] = (counts[nodeId] ?? 0) + 1;
  return counts;
};
const label = (id: string, value: string) =>
  world.updateService(id, (spec) => ({ ...spec, Labels: { 'drover.rebalance': value } }));

/** Never fewer than `count` run, and no two tasks are on their way at once. */
function alwaysRuns(count: number): void {
  world.always((view: View) => {
    const tasks = [...view.tasks.all()];
    expect(tasks.filter(isRunning).length).toBeGreaterThanOrEqual(count);
    const moving = tasks.filter((task) => task.replaces !== undefined && task.desiredState <= TaskState.RUNNING);
    expect(moving.filter((task) => task.status.state < TaskState.RUNNING).length).toBeLessThanOrEqual(1);
  });
}

test('what is asked for is done one at a time, and nothing before it is asked for', async () => {
  await cluster('a');
  await world.createService('s', 6, { ContainerSpec: { Image: SLOW_IMAGE } });
  await world.settle();
  await world.addNode('b');
  await world.addNode('c');
  await world.settle();
  expect(spread('s')).toEqual({ a: 6 });
  alwaysRuns(6);
  await ask();
  await world.settle();
  expect(spread('s')).toEqual({ a: 2, b: 2, c: 2 });
  expect(state()).toMatchObject({ finished: true, skipped: {} });
  expect(state()!.moved).toHaveLength(4);
  await ask();
  await world.settle();
  expect(state()).toMatchObject({ finished: true, moved: [] });
});

test('a new manager goes on with it', async () => {
  await cluster('a');
  await world.createService('s', 9);
  await world.settle();
  await world.addNode('b');
  await world.addNode('c');
  alwaysRuns(9);
  await ask();
  for (let i = 0; i < 12; i++) {
    await world.run(200);
    await world.restartManager();
  }
  await world.settle();
  expect(spread('s')).toEqual({ a: 3, b: 3, c: 3 });
  expect(state()!.moved).toHaveLength(6);
});

test('auto: when a node joins, and when one comes back, once nodes have stopped to come and go', async () => {
  await cluster('a');
  await world.createService('s', 4);
  await world.createService('other', 4);
  await label('s', 'auto');
  await world.settle();
  alwaysRuns(6);
  await world.addNode('b');
  await world.run(8_000);
  await world.setState('b', 'down');
  await world.run(3_000);
  await world.setState('b', 'ready');
  await world.run(8_000);
  expect(spread('s')).toEqual({ a: 4 });
  await world.settle();
  expect(spread('s')).toEqual({ a: 2, b: 2 });
  expect(spread('other')).toEqual({ a: 4 });
  await world.setAvailability('b', 'drain');
  await world.settle();
  expect(spread('s')).toEqual({ a: 4 });
  await world.setAvailability('b', 'active');
  await world.settle();
  expect(spread('s')).toEqual({ a: 2, b: 2 });
});

test('a task that does not come up on its new node is taken back, and its service left alone', async () => {
  await cluster('a');
  await world.createService('s', 4);
  await world.createService('t', 4);
  await world.settle();
  await world.addNode('b');
  // The image has gone bad meanwhile: whoever starts it now fails.
  await world.store.update((tx) => {
    const service = tx.services.get('s')!;
    const bad = { ...service.spec, TaskTemplate: { ContainerSpec: { Image: BAD_IMAGE } } };
    tx.services.update({ ...service, spec: bad });
    tx.serviceSpecs.update({ ...tx.serviceSpecs.get(`s@${service.specVersion}`)!, spec: bad });
  });
  alwaysRuns(8);
  await ask();
  await world.settle();
  expect(spread('s')).toEqual({ a: 4 });
  expect(spread('t')).toEqual({ a: 2, b: 2 });
  expect(state()).toMatchObject({ finished: true, skipped: { s: expect.stringMatching(/^a move failed/) } });
});

test('a node that goes during a move takes nothing with it', async () => {
  await cluster('a');
  await world.createService('s', 4);
  await world.settle();
  await world.addNode('b');
  alwaysRuns(4);
  await ask();
  await world.run(300);
  expect(state()?.move).toBeDefined();
  await world.setState('b', 'down');
  await world.settle();
  expect(spread('s')).toEqual({ a: 4 });
  expect(state()).toMatchObject({ finished: true });
});

test('auto waits for a service that is being updated, and does not try for ever what fails', async () => {
  await cluster('a');
  await world.createService('s', 4);
  await label('s', 'auto');
  await world.settle();
  await world.addNode('b');
  const [task] = world.running('s');
  await world.failTask(task!.id);
  await world.setTemplate('s', { RestartPolicy: { Delay: 30e9 } });
  await world.settle();
  await world.run(70_000);
  expect(spread('s')).toEqual({ a: 2, b: 2 });
  await world.setAvailability('b', 'drain');
  await world.settle();
  await world.store.update((tx) => {
    const service = tx.services.get('s')!;
    const TaskTemplate = { ...service.spec.TaskTemplate, ContainerSpec: { Image: BAD_IMAGE } };
    const bad = { ...service.spec, TaskTemplate };
    tx.services.update({ ...service, spec: bad });
    tx.serviceSpecs.update({ ...tx.serviceSpecs.get(`s@${service.specVersion}`)!, spec: bad });
  });
  await world.setAvailability('b', 'active');
  await world.run(300_000);
  expect(spread('s')).toEqual({ a: 4 });
  const tries = world.tasks('s').filter(({ nodeId, status }) => nodeId === 'b' && status.state === TaskState.FAILED);
  expect(tries.length).toBeLessThanOrEqual(1);
  expect(state()!.skipped['s']).toMatch(/^a move failed/);
});

test('off: not even when it is asked for', async () => {
  await cluster('a');
  await world.createService('s', 4);
  await label('s', 'off');
  await world.settle();
  await world.addNode('b');
  await ask();
  await world.settle();
  expect(spread('s')).toEqual({ a: 4 });
  expect(state()?.skipped).toEqual({ s: 'its label drover.rebalance is off' });
});
