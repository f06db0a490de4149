/** Rollouts in a small simulated cluster: what users see of each policy, whoever manages at the moment. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Service, Task } from '../../model/objects.ts';
import { ROLLOUT } from '../../model/rollouts.ts';
import type { ServiceSpec, UpdateConfig } from '../../model/specs.ts';
import { TaskState } from '../../model/states.ts';
import type { View } from '../../store/store.ts';
import { startOrchestration } from '../control.ts';
import { hasArrived, slotsOf } from '../tasks.ts';
import { BAD_IMAGE, MISSING_IMAGE, World } from '../world.fixture.ts';
import { ended, image, NOWHERE, SEC } from './rollout.fixture.ts';

let world: World;
beforeEach(async () => {
  world = await World.open(startOrchestration);
  for (const id of ['n1', 'n2', 'n3']) await world.addNode(id);
});
afterEach(() => world.close());

const state = () => world.service('web')?.updateStatus?.state;
const message = () => world.service('web')?.updateStatus?.message;
const specsOf = (view: View, task: Task) => view.serviceSpecs.get(`${task.serviceId}@${task.specVersion}`)!.spec;
const images = () =>
  world.running('web').map((task) => world.store.view((view) => specsOf(view, task).TaskTemplate.ContainerSpec!.Image));
const ids = () => world.running('web').map(({ id }) => id);

/** Declares the service anew. */
const declare = (change: Partial<ServiceSpec>) => world.updateService('web', (spec) => ({ ...spec, ...change }));
const configured = (config: UpdateConfig, over: Partial<ServiceSpec> = {}) =>
  declare({ UpdateConfig: config, ...over });
const go = (Image: string, w = world) => w.setTemplate('web', image(Image));
const promoted = () =>
  world.store.update((tx) =>
    tx.services.update({ ...tx.services.get('web')!, promoted: tx.services.get('web')!.specVersion }),
  );
const confirmed = () =>
  world.store.update((tx) =>
    tx.services.update({ ...tx.services.get('web')!, confirmed: tx.services.get('web')!.specVersion }),
  );

/** As the API goes back: the last two specs change places. */
const rollBack = () =>
  world.store.update((tx) => {
    const { updateStatus: _, ...service } = tx.services.get('web')!;
    const { spec, previousSpec } = service;
    const moved: Service = {
      ...service,
      meta: { ...service.meta, version: tx.index },
      spec: previousSpec!,
      specVersion: tx.index,
      previousSpec: spec,
      previousSpecVersion: service.specVersion,
      updateStatus: {
        state: 'rollback_started',
        startedAt: '2026-01-01T00:00:00Z',
        message: 'manually requested rollback',
      },
    };
    tx.services.update(moved);
    tx.serviceSpecs.create({ id: `web@${tx.index}`, serviceId: 'web', version: tx.index, spec: previousSpec! });
  });

async function running(replicas: number, config: UpdateConfig, over: Partial<ServiceSpec> = {}): Promise<void> {
  await world.createService('web', replicas, { RestartPolicy: { Delay: SEC } });
  await configured(config, over);
  await world.settle();
}

describe('failure', () => {
  const CASES: [string, UpdateConfig['Order'], object, RegExp][] = (['stop-first', 'start-first'] as const).flatMap(
    (order): [string, UpdateConfig['Order'], object, RegExp][] => [
      ['exits at once', order, image(BAD_IMAGE), /^failure or early termination of task \w+$/],
      ['has no image', order, image(MISSING_IMAGE), /^failure or early termination of task \w+$/],
      ['fits on no node', order, { ...image('v2'), ...NOWHERE }, /of task \w+: not up within 20 s \(pending\)$/],
    ],
  );

  test.each(CASES)('a version that %s, %s: pause, and the rest stays', async (_, Order, template, why) => {
    await running(4, { Order }, { Labels: { [ROLLOUT.deadline]: '20s' } });
    const before = ids();
    await world.setTemplate('web', template);
    await ended(world);
    expect(state()).toBe('paused');
    expect(message()).toMatch(/^update paused due to /);
    expect(message()?.replace('update paused due to ', '')).toMatch(why);
    await world.run(30_000);
    await world.restartManager();
    await world.run(30_000);
    expect(ids()).toEqual(Order === 'start-first' ? before : before.slice(1));
    expect(state()).toBe('paused');
  });

  test.each(CASES)('a version that %s, %s: rollback to the very tasks that stayed', async (_, Order, template, why) => {
    await running(4, { Order, FailureAction: 'rollback' }, { Labels: { [ROLLOUT.deadline]: '20s' } });
    const [before, version] = [ids(), world.service('web')!.specVersion];
    await world.setTemplate('web', template);
    await ended(world);
    expect(state()).toBe('rollback_completed');
    const [, because] = /^rollback completed \(update rolled back due to (.*)\)$/.exec(message()!)!;
    expect(because).toMatch(why);
    await world.settle();
    expect(ids().slice(1)).toEqual(before.slice(1));
    expect(ids()[0] === before[0]).toBe(Order === 'start-first');
    expect([world.service('web')!.specVersion, world.service('web')!.previousSpec]).toEqual([version, undefined]);
  });

  test('continue goes to the end, and what failed is tried again until it is mended', async () => {
    await running(3, { Order: 'start-first', FailureAction: 'continue' });
    const before = ids();
    await go(BAD_IMAGE);
    await ended(world);
    expect([state(), ids()]).toEqual(['completed', before]);
    await go('v3');
    await ended(world);
    expect([state(), images()]).toEqual(['completed', ['v3', 'v3', 'v3']]);
  });

  test('a rollback that fails is paused', async () => {
    await running(3, {}, { RollbackConfig: { FailureAction: 'rollback' } });
    await go(BAD_IMAGE);
    await ended(world);
    await go('v2');
    await ended(world);
    await rollBack();
    await ended(world);
    expect([state(), message()]).toEqual(['rollback_paused', expect.stringMatching(/^rollback paused due to failure/)]);
  });

  test('a paused update goes on when it is declared again, and counts anew', async () => {
    await running(3, {});
    await go(MISSING_IMAGE);
    await ended(world);
    await world.store.update((tx) => {
      const { updateStatus: _, ...service } = tx.services.get('web')!;
      tx.services.update(service);
    });
    await world.clock.advance(0);
    expect(state()).toBe('updating');
    await ended(world);
    expect([state(), images()]).toEqual(['paused', ['v1']]);
  });
});

describe('time', () => {
  test('the delay is kept between slots, across a new manager, and no more than that', async () => {
    await running(3, { Delay: 30 * SEC });
    const beginMs = world.clock.now();
    await go('v2');
    await world.run(20_000);
    await world.restartManager();
    await world.run(5_000);
    expect(images().filter((one) => one === 'v2')).toHaveLength(1);
    await world.run(20_000);
    expect(images().filter((one) => one === 'v2')).toHaveLength(2);
    await ended(world);
    expect(world.clock.now() - beginMs).toBeLessThan(3 * 31_000 + 10_000);
  });

  test('the monitor period is watched to its end by a new manager', async () => {
    await running(2, { Parallelism: 0, Monitor: 60 * SEC, FailureAction: 'rollback' });
    await go('v2');
    await world.run(30_000);
    await world.restartManager();
    await world.run(10_000);
    await world.failTask(ids()[0]!);
    await ended(world);
    expect([state(), images()]).toEqual(['rollback_completed', ['v1', 'v1']]);
  });

  test('a wall clock that jumps neither ends a delay nor stretches it', async () => {
    await running(3, { Delay: 30 * SEC });
    await go('v2');
    await world.run(5_000);
    world.clock.jump(3_600_000);
    await world.run(15_000);
    expect(images().filter((one) => one === 'v2')).toHaveLength(1);
    world.clock.jump(-7_200_000);
    await world.run(15_000);
    expect(images().filter((one) => one === 'v2')).toHaveLength(2);
  });
});

test('all at once, more than one transaction holds', async () => {
  await running(100, { Parallelism: 0 });
  await go('v2');
  await world.settle();
  expect([state(), images()]).toEqual(['completed', Array(100).fill('v2')]);
});

describe('a new declaration in the middle', () => {
  test('a third version takes the place of the second, and nothing serves less for it', async () => {
    await running(3, { Order: 'start-first', Delay: 5 * SEC });
    world.always((view) => {
      const serving = slotsOf(view.tasks.by('service', 'web')).filter((slot) => slot.tasks.some(hasArrived));
      expect(serving).toHaveLength(3);
    });
    await go('v2');
    await world.run(500);
    await go('v3');
    await ended(world);
    expect([state(), images()]).toEqual(['completed', ['v3', 'v3', 'v3']]);
  });

  test('back to the first, while the second is on its way: the tasks that stayed are not touched', async () => {
    await running(3, { Order: 'start-first' });
    const before = ids();
    await go('v2');
    await world.run(300);
    await go('v1');
    await world.settle();
    expect(ids()).toEqual(before);
    expect(state()).toBe('completed');
  });

  test('a scaling goes on with what is left', async () => {
    await running(3, { Delay: 5 * SEC });
    await go('v2');
    await world.run(1000);
    await world.scale('web', 5);
    await ended(world);
    await world.settle();
    expect(images()).toEqual(Array(5).fill('v2'));
  });
});

describe('moves', () => {
  const serveAlways = (count: number) =>
    world.always((view) => {
      const serving = slotsOf(view.tasks.by('service', 'web')).filter((slot) => slot.tasks.some(hasArrived));
      expect(serving).toHaveLength(count);
    });
  const nodes = () =>
    world
      .running('web')
      .map(({ nodeId }) => nodeId)
      .sort();

  test('drain, start-first: the old serves until the new does', async () => {
    await running(3, { Order: 'start-first' });
    serveAlways(3);
    await world.setAvailability('n1', 'drain');
    await world.run(3000);
    expect(nodes()).not.toContain('n1');
    expect(nodes()).toHaveLength(3);
    expect(world.tasks('web')).toHaveLength(4);
  });

  test('drain with nowhere to go: the old stays, and goes when there is room', async () => {
    await running(2, { Order: 'start-first' });
    for (const id of ['n1', 'n2', 'n3']) await world.setAvailability(id, 'drain');
    serveAlways(2);
    await world.run(600_000);
    await world.restartManager();
    await world.run(10_000);
    expect(world.running('web')).toHaveLength(2);
    await world.setAvailability('n3', 'active');
    await world.run(5000);
    expect(nodes()).toEqual(['n3', 'n3']);
  });

  test('a node that goes down under an outgoing task takes nothing with it', async () => {
    await running(2, { Order: 'start-first' });
    const on = world.running('web')[0]!.nodeId;
    await world.setAvailability(on, 'drain');
    await world.clock.advance(100);
    await world.setState(on, 'down');
    await world.run(5000);
    expect(nodes()).toHaveLength(2);
    expect(nodes()).not.toContain(on);
  });

  test('the enforcer moves what serves, start-first too', async () => {
    await world.setLabels('n1', { zone: 'a' });
    await world.setLabels('n2', { zone: 'a' });
    await world.createService('web', 2, { Placement: { Constraints: ['node.labels.zone==a'] } });
    await configured({ Order: 'start-first' });
    await world.settle();
    serveAlways(2);
    await world.setLabels('n1', {});
    await world.run(5000);
    expect(nodes()).toEqual(['n2', 'n2']);
    expect(world.tasks('web').some(({ status }) => status.state === TaskState.REJECTED)).toBe(false);
  });

  test('a scale-down in the middle of a start-first update leaves what is declared', async () => {
    await running(4, { Order: 'start-first', Parallelism: 2 });
    await go('v2');
    await world.run(300);
    await world.scale('web', 2);
    await world.settle();
    expect(images()).toEqual(['v2', 'v2']);
    expect(world.tasks('web').every((task) => task.slot <= 4)).toBe(true);
  });

  test('a global service starts first where two can stand, and stops first where a port of the node forbids it', async () => {
    for (const [ports, most] of [
      [[], 6],
      [[{ TargetPort: 80, PublishedPort: 80, PublishMode: 'host' as const }], 3],
    ] as const) {
      const w = await World.open(startOrchestration);
      for (const id of ['n1', 'n2', 'n3']) await w.addNode(id);
      await w.createService('web', 'global');
      await w.updateService('web', (spec) => ({
        ...spec,
        UpdateConfig: { Order: 'start-first', Parallelism: 0 },
        EndpointSpec: { Ports: [...ports] },
      }));
      await w.settle();
      let seen = 0;
      w.always((view) => {
        const wanted = view.tasks.by('service', 'web').filter((task) => task.desiredState <= TaskState.RUNNING);
        seen = Math.max(seen, wanted.length);
      });
      await go('v2', w);
      await w.settle();
      expect([w.service('web')?.updateStatus?.state, w.running('web').length, seen]).toEqual(['completed', 3, most]);
      await w.close();
    }
  });
});

describe('words it waits for', () => {
  test('canaries: so many, then the word, then the rest', async () => {
    await running(5, {}, { Labels: { [ROLLOUT.canary]: '40%' } });
    await go('v2');
    await world.run(120_000);
    await world.restartManager();
    await world.run(120_000);
    expect(images().filter((one) => one === 'v2')).toHaveLength(2);
    expect(state()).toBe('updating');
    expect(message()).toBe(
      'waiting with 2 of 5 tasks updated: "drover service promote web" updates the rest, "drover service abort web" goes back',
    );
    await promoted();
    await world.run(500);
    expect(message()).toBe('update in progress');
    await ended(world);
    expect([state(), images()]).toEqual(['completed', Array(5).fill('v2')]);
  });

  test('canaries that go back leave the others alone', async () => {
    await running(4, { Order: 'start-first' }, { Labels: { [ROLLOUT.canary]: '1' } });
    const before = ids();
    await go('v2');
    await world.run(60_000);
    await rollBack();
    await ended(world);
    expect([state(), ids().slice(1)]).toEqual(['rollback_completed', before.slice(1)]);
  });

  test('a canary that fails does so by the policy', async () => {
    await running(4, { FailureAction: 'rollback', MaxFailureRatio: 0.5 }, { Labels: { [ROLLOUT.canary]: '1' } });
    await go(BAD_IMAGE);
    await ended(world);
    expect([state(), images()]).toEqual(['rollback_completed', Array(4).fill('v1')]);
  });

  const kept = () =>
    world.store.view((view) =>
      world
        .tasks('web')
        .filter(
          (task) =>
            task.status.state === TaskState.SHUTDOWN && specsOf(view, task).TaskTemplate.ContainerSpec?.Image === 'v1',
        ),
    );
  const noHistory = () =>
    world.store.update((tx) => {
      const [cluster] = [...tx.clusters.all()];
      tx.clusters.update({ ...cluster!, spec: { ...cluster!.spec, Orchestration: { TaskHistoryRetentionLimit: 0 } } });
    });

  test('confirm: the old tasks are kept, whatever the history limit, until it comes', async () => {
    await noHistory();
    await running(3, { Parallelism: 0 }, { Labels: { [ROLLOUT.confirm]: 'true' } });
    await go('v2');
    await world.run(120_000);
    expect([state(), message()]).toEqual([
      'updating',
      'waiting for confirmation, the old tasks are kept: "drover service confirm web" lets them go, "drover service rollback web" goes back',
    ]);
    expect(kept()).toHaveLength(3);
    await world.restartManager();
    await world.run(10_000);
    expect(kept()).toHaveLength(3);
    await confirmed();
    await world.settle();
    expect([state(), kept()]).toEqual(['completed', []]);
  });

  test('or the rollback: at once, in the nodes where the old tasks were', async () => {
    await running(3, {}, { Labels: { [ROLLOUT.confirm]: 'true' } });
    const nodeOf = (tasks: Task[]) => new Map(tasks.map((task) => [task.slot, task.nodeId]));
    const before = nodeOf(world.running('web'));
    await go('v2');
    await world.run(60_000);
    await rollBack();
    await world.run(2000);
    expect(images()).toEqual(['v1', 'v1', 'v1']);
    expect(nodeOf(world.running('web'))).toEqual(before);
    await ended(world);
    expect(state()).toBe('rollback_completed');
  });
});
