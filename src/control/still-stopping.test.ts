/** Found by the simulator: a task of a slot that is still stopping keeps the next one waiting, not only if it is the last. */
import { expect, test } from 'vitest';
import type { Task } from '../model/objects.ts';
import { TaskState } from '../model/states.ts';
import { startOrchestration } from './control.ts';
import { SLOW_IMAGE, World } from './world.fixture.ts';

test('a start-first successor fails while the task before it stops: the third waits for both', async () => {
  const world = await World.open(startOrchestration);
  await world.addNode('n1');
  await world.createService('web', 1, { ContainerSpec: { Image: SLOW_IMAGE }, RestartPolicy: { Delay: 1e8 } });
  await world.settle();
  const [first] = world.running('web');
  await world.updateService('web', (spec) => ({
    ...spec,
    UpdateConfig: { Order: 'start-first', Monitor: 1e8, FailureAction: 'continue' },
    TaskTemplate: { ...spec.TaskTemplate, ContainerSpec: { Image: 'v2' } },
  }));
  const now = (id: string): Task => world.tasks('web').find((task) => task.id === id)!;
  while (now(first!.id).desiredState <= TaskState.RUNNING) await world.run(100);
  const [second] = world.running('web');
  expect(second?.replaces).toBe(first!.id);
  await world.failTask(second!.id);
  await world.run(5_000);

  const third = world.tasks('web').at(-1)!;
  expect(now(first!.id).status.state).toBe(TaskState.RUNNING);
  expect([third.desiredState, third.status.state]).toEqual([TaskState.READY, TaskState.READY]);
  await world.settle();
  expect(now(third.id).status.state).toBe(TaskState.RUNNING);
  await world.close();
});

test('a second task that still stops is waited for, once the one that is named has stopped', async () => {
  const world = await World.open(startOrchestration);
  await world.addNode('n1');
  await world.createService('web', 1, { ContainerSpec: { Image: SLOW_IMAGE } });
  await world.settle();
  const [first] = world.running('web');
  await world.updateService('web', (spec) => ({
    ...spec,
    UpdateConfig: { Order: 'start-first', Monitor: 60e9 },
    TaskTemplate: { ...spec.TaskTemplate, ContainerSpec: { Image: SLOW_IMAGE }, ForceUpdate: 1 },
  }));
  while (world.running('web').length < 2) await world.run(50);
  const second = world.tasks('web').find((task) => task.replaces === first!.id)!;
  await world.updateService('web', (spec) => ({
    ...spec,
    UpdateConfig: { Order: 'stop-first' },
    TaskTemplate: { ...spec.TaskTemplate, ForceUpdate: 2 },
  }));
  await world.run(1_000);
  // The one that is named ends before its time.
  await world.completeTask(first!.id);
  await world.run(3_000);

  const now = (id: string): Task => world.tasks('web').find((task) => task.id === id)!;
  expect(now(second.id).status.state).toBe(TaskState.RUNNING);
  const third = world.tasks('web').at(-1)!;
  expect([third.desiredState, third.startAfterTask]).toEqual([TaskState.READY, expect.any(String)]);
  await world.settle();
  expect(now(third.id).status.state).toBe(TaskState.RUNNING);
  await world.close();
});

test('a node that was lost is back before its task was replaced: what runs there is waited for', async () => {
  const world = await World.open(startOrchestration);
  await world.addNode('n1');
  await world.addNode('n2');
  await world.createService('web', 1, { ContainerSpec: { Image: SLOW_IMAGE }, RestartPolicy: { Delay: 2e9 } });
  await world.settle();
  const [first] = world.running('web');
  await world.setState(first!.nodeId, 'down');
  while (world.running('web').every(({ id }) => id === first!.id)) await world.run(100);
  const second = world.running('web').find(({ id }) => id !== first!.id)!;
  await world.failTask(second.id);
  await world.run(500);
  await world.setState(first!.nodeId, 'ready');
  await world.run(5_000);

  const now = (id: string): Task => world.tasks('web').find((task) => task.id === id)!;
  const third = world.tasks('web').at(-1)!;
  const firstStops = now(first!.id).status.state === TaskState.RUNNING;
  expect([firstStops, third.desiredState]).toEqual([true, TaskState.READY]);
  await world.settle();
  expect(now(third.id).status.state).toBe(TaskState.RUNNING);
  await world.close();
});
