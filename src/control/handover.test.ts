/** When the task that a new one replaces goes: not before the new one has proved itself, whoever asked for it. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CLUSTER_ROW } from '../model/objects.ts';
import type { HealthConfig, Labels } from '../model/specs.ts';
import { startOrchestration } from './control.ts';
import { settlesInMs } from './handover.ts';
import { hasArrived, slotsOf } from './tasks.ts';
import { SHORT_IMAGE, World } from './world.fixture.ts';

describe('how long a new task has to run', () => {
  test.each<[string, HealthConfig | undefined, Labels, number, number]>([
    ['one that nobody asks: for a second', undefined, {}, 0, 1000],
    ['from when it was seen to', undefined, {}, 400, 600],
    ['and no longer', undefined, {}, 1000, 0],
    ['nor ever after', undefined, {}, 1e9, 0],
    ['one that was found healthy has proved itself', { Test: ['CMD-SHELL', 'true'] }, {}, 0, 0],
    ['that the check of the image is none is no proof', { Test: ['NONE'] }, {}, 0, 1000],
    ['that it is another interval for it is none either', { Interval: 1e9 }, {}, 0, 1000],
    ['nor that it is the image’s', { Test: [] }, {}, 0, 1000],
    ['one that answers its probe has', undefined, { 'drover.ready.http': ':80/' }, 0, 0],
    ['by a connection, too', undefined, { 'drover.ready.tcp': '80' }, 0, 0],
    ['a probe that cannot be read is none', undefined, { 'drover.ready.tcp': 'http' }, 0, 1000],
  ])('%s', (_, Healthcheck, labels, ranMs, leftMs) => {
    const spec = {
      Name: 's',
      Labels: labels,
      Mode: {},
      TaskTemplate: { ContainerSpec: { Image: 'i', ...(Healthcheck === undefined ? {} : { Healthcheck }) } },
    };
    expect(settlesInMs(spec, ranMs)).toBe(leftMs);
  });
});

describe('in a cluster', () => {
  let world: World;
  beforeEach(async () => {
    world = await World.open(startOrchestration);
    for (const id of ['n1', 'n2', 'n3']) await world.addNode(id, { zone: 'a' });
    const Placement = { Constraints: ['node.labels.zone==a'] };
    await world.createService('web', 3, { RestartPolicy: { Delay: 1e9 }, Placement });
    await world.updateService('web', (spec) => ({ ...spec, UpdateConfig: { Order: 'start-first' } }));
    await world.settle();
    serveAlways();
  });
  afterEach(() => world.close());

  const serveAlways = () =>
    world.always((view) => {
      const serving = slotsOf(view.tasks.by('service', 'web')).filter((slot) => slot.tasks.some(hasArrived));
      expect(serving).toHaveLength(3);
    });
  const ids = () => world.running('web').map(({ id }) => id);
  const tried = () => world.tasks('web').filter(({ replaces }) => replaces !== undefined);

  /** Ten seconds go by, in which whatever runs but these ends soon after it has begun to. */
  async function othersEnd(stay: string[]): Promise<void> {
    for (let passedMs = 0; passedMs < 10_000; passedMs += 100) {
      await world.run(100);
      for (const id of ids()) if (!stay.includes(id)) await world.failTask(id);
    }
  }
  const ask = () =>
    world.store.update((tx) => {
      const row = tx.clusters.get(CLUSTER_ROW)!;
      tx.clusters.update({ ...row, rebalanceAsked: { id: tx.index, at: '' } });
    });

  test.each<[string, () => Promise<void>]>([
    ['an update', () => world.setTemplate('web', { ContainerSpec: { Image: 'v2' } })],
    ['a drain', () => world.setAvailability('n1', 'drain')],
    ['the enforcer', () => world.setLabels('n1', {})],
    ['a rebalance', ask],
  ])('%s: what runs and ends at once takes the place of nothing', async (what, act) => {
    if (what === 'a rebalance') {
      await world.setAvailability('n1', 'drain');
      await world.settle();
      await world.setAvailability('n1', 'active');
    }
    const before = ids();
    const known = world.tasks('web').length;
    await act();
    await othersEnd(before);
    await world.restartManager();
    await othersEnd(before);
    expect(world.tasks('web').length).toBeGreaterThan(known);
    expect(ids()).toEqual(expect.arrayContaining(before));
  });

  test('an update to it pauses with its first task, and the others never begin', async () => {
    await world.setTemplate('web', { ContainerSpec: { Image: SHORT_IMAGE } });
    await world.run(20_000);
    expect(world.service('web')!.updateStatus).toMatchObject({
      state: 'paused',
      message: expect.stringMatching(/^update paused due to failure or early termination of task/),
    });
    expect(new Set(tried().map(({ slot }) => slot))).toEqual(new Set([1]));
  });

  /** A new version goes in; resolves when its first task runs. */
  async function firstRuns(): Promise<void> {
    await world.setTemplate('web', { ContainerSpec: { Image: 'v2' } });
    while (!tried().some(hasArrived)) await world.run(10);
  }

  test('the first of a new version fails just as the service goes back to the old one: what has served stays', async () => {
    const before = ids();
    const old = world.service('web')!.spec.TaskTemplate;
    await firstRuns();
    const [first] = tried().map(({ id }) => id);
    await Promise.all([world.setTemplate('web', old), world.failTask(first!)]);
    await world.run(10_000);
    expect(ids()).toEqual(before);
    expect(tried().map(({ id }) => id)).toEqual([first]);
  });

  test('the next slot begins when the old task has gone, a second after the new one ran', async () => {
    await firstRuns();
    await world.run(900);
    expect([ids().length, tried().length]).toEqual([4, 1]);
    await world.run(100);
    expect([ids().length, tried().length]).toEqual([3, 2]);
  });

  test('the second goes on across a new manager', async () => {
    await firstRuns();
    await world.run(800);
    await world.restartManager();
    await world.run(100);
    expect(ids()).toHaveLength(4);
    await world.run(100);
    expect(ids()).toHaveLength(3);
  });

  test('and whatever becomes of the wall clock', async () => {
    await firstRuns();
    world.clock.jump(3_600_000);
    await world.run(900);
    expect(ids()).toHaveLength(4);
    world.clock.jump(-7_200_000);
    await world.run(100);
    expect(ids()).toHaveLength(3);
  });

  test('a new manager behind the wall clock of the last waits a second more, not an hour', async () => {
    await firstRuns();
    await world.run(800);
    world.clock.jump(-3_600_000);
    await world.restartManager();
    await world.run(900);
    expect(ids()).toHaveLength(4);
    await world.run(100);
    expect(ids()).toHaveLength(3);
  });
});
