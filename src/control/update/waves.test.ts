/** Rollouts of services with many slots: what does not fit one transaction, and how often they are looked at. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { timestamp } from '../../model/clock.ts';
import { TaskState } from '../../model/states.ts';
import { startOrchestration } from '../control.ts';
import { World } from '../world.fixture.ts';
import { ended, image } from './rollout.fixture.ts';

/** More than three transactions of a step. */
const SLOTS = 100;

let world: World;
beforeEach(async () => {
  world = await World.open(startOrchestration);
  for (const id of ['n1', 'n2', 'n3']) await world.addNode(id);
  await world.createService('web', SLOTS);
  await world.settle();
});
afterEach(() => world.close());

const update = (Image: string, Parallelism: number) =>
  world.updateService('web', (spec) => ({ ...spec, TaskTemplate: image(Image), UpdateConfig: { Parallelism } }));
const made = (rollout: number) => world.tasks('web').filter((task) => task.rollout?.id === rollout);
const rollout = () => world.service('web')!.rollout!;

test('a wave larger than a transaction is begun as a whole, each slot once', async () => {
  await update('v2', 0);
  await world.clock.advance(100);
  expect(made(rollout().id)).toHaveLength(SLOTS);
  expect(new Set(made(rollout().id).map(({ slot }) => slot)).size).toBe(SLOTS);
  await ended(world);
  expect(world.service('web')!.updateStatus!.state).toBe('completed');
  expect(made(rollout().id)).toHaveLength(SLOTS);
  expect(made(rollout().id).every((task) => task.rollout!.arrivedAt !== undefined)).toBe(true);
});

test('no more slots are out of service than the wave has', async () => {
  const least = SLOTS - 40;
  world.always((view) => {
    const running = view.tasks.by('service', 'web').filter(({ status, desiredState }) => {
      return status.state === TaskState.RUNNING && desiredState === TaskState.RUNNING;
    });
    expect(running.length).toBeGreaterThanOrEqual(least);
  });
  await update('v2', 40);
  await ended(world);
  expect(world.service('web')!.updateStatus!.state).toBe('completed');
  expect(world.running('web').every(({ specVersion }) => specVersion === world.service('web')!.specVersion)).toBe(true);
});

test('what is left of a step is not done for a spec that has moved on', async () => {
  let second: Promise<void> | undefined;
  let first = 0;
  const stop = world.store.watch((events) => {
    for (const event of events) {
      if (event.table !== 'services' || event.after?.rollout === undefined || second !== undefined) continue;
      first = event.after.rollout.id;
      // Asked for between the step's first transaction and the others.
      second = update('v3', 0);
    }
  });
  await update('v2', 0);
  await world.clock.advance(100);
  stop();
  await second;
  expect(rollout().id).not.toBe(first);
  expect(made(first)).toHaveLength(30);
  await ended(world);
  expect(world.running('web')).toHaveLength(SLOTS);
  expect(world.running('web').every(({ specVersion }) => specVersion === world.service('web')!.specVersion)).toBe(true);
});

test('tasks that report one after the other share a look', async () => {
  await update('v2', 0);
  await world.clock.advance(100);
  const starting = made(rollout().id).slice(0, 50);
  const { store } = world;
  const real = store.update.bind(store);
  let transactions = 0;
  store.update = (fn) => {
    transactions += 1;
    return real(fn);
  };
  const now = timestamp(world.clock.now());
  for (const { id } of starting) {
    await real((tx) => {
      const task = tx.tasks.get(id)!;
      const status = { ...task.status, state: TaskState.RUNNING, timestamp: now, runningSince: now };
      tx.tasks.update({ ...task, status, desiredState: TaskState.RUNNING });
    });
    await world.clock.advance(0);
  }
  await world.clock.advance(20);
  expect(made(rollout().id).filter((task) => task.rollout!.arrivedAt !== undefined)).toHaveLength(50);
  expect(transactions).toBeLessThan(10);
});
