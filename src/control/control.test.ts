/** The orchestration loops together, in a small simulated cluster: what users see after each kind of event. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TaskState } from '../model/states.ts';
import { startControl, startOrchestration } from './control.ts';
import { isWanted } from './tasks.ts';
import {
  BAD_IMAGE,
  MISSING_IMAGE,
  SHORT_IMAGE,
  SLOW_IMAGE,
  STOP_MS,
  slotsRunOnce,
  wantedRunOnce,
  World,
} from './world.fixture.ts';

let world: World;
beforeEach(async () => {
  world = await World.open(startOrchestration);
  world.always(slotsRunOnce);
  for (const id of ['n1', 'n2', 'n3']) await world.addNode(id, { zone: id === 'n1' ? 'a' : 'b' });
});
afterEach(() => world.close());

const slots = (serviceId: string) => world.running(serviceId).map((task) => task.slot);
const nodes = (serviceId: string) =>
  world
    .running(serviceId)
    .map((task) => task.nodeId)
    .sort();
const image = (Image: string) => ({ ContainerSpec: { Image } });
const images = (serviceId: string) =>
  world
    .running(serviceId)
    .map((task) =>
      world.store.view(
        (view) => view.serviceSpecs.get(`${serviceId}@${task.specVersion}`)!.spec.TaskTemplate.ContainerSpec!.Image,
      ),
    );

describe('replicated', () => {
  test('fills slots from 1, gives up the surplus of the fullest node, and fills the gap again', async () => {
    await world.createService('web', 4);
    await world.settle();
    expect(slots('web')).toEqual([1, 2, 3, 4]);
    await world.scale('web', 2);
    await world.settle();
    expect(slots('web')).toHaveLength(2);
    expect(new Set(nodes('web')).size).toBe(2);
    expect(world.tasks('web')).toHaveLength(2);
    await world.scale('web', 5);
    await world.settle();
    expect(slots('web')).toEqual([1, 2, 3, 4, 5]);
    await world.scale('web', 0);
    await world.settle();
    expect(world.tasks('web')).toEqual([]);
  });

  test('a dead task is replaced in its slot after the delay, and never before', async () => {
    await world.createService('web', 2);
    await world.settle();
    const victim = world.running('web')[0]!;
    await world.failTask(victim.id);
    const diedAt = world.clock.now();
    await world.run(4000);
    expect(slots('web')).toEqual([2]);
    await world.settle();
    const heir = world.running('web')[0]!;
    expect(heir.slot).toBe(1);
    expect(heir.id).not.toBe(victim.id);
    expect(Date.parse(heir.status.timestamp)).toBeGreaterThanOrEqual(diedAt + 5000);
    expect(world.tasks('web').find((task) => task.id === victim.id)?.desiredState).toBe(TaskState.SHUTDOWN);
  });

  test('a task refused while it is made ready is not followed by the next before its delay', async () => {
    await world.createService('web', 1, image(MISSING_IMAGE));
    await world.run(4000);
    expect(world.tasks('web')).toHaveLength(2);
    await world.run(4000);
    expect(world.tasks('web')).toHaveLength(3);
    await world.setTemplate('web', image('v2'));
    await world.settle();
    expect(slots('web')).toEqual([1]);
  });

  test('more tasks than one transaction holds', async () => {
    await world.createService('web', 123);
    await world.settle();
    expect(slots('web')).toHaveLength(123);
    await world.scale('web', 3);
    await world.settle();
    expect(world.tasks('web')).toHaveLength(3);
  });

  test('history is bounded, and unused spec versions go with it', async () => {
    await world.createService('web', 1, { RestartPolicy: { Delay: 0 } });
    await world.settle();
    for (let i = 0; i < 9; i++) {
      await world.failTask(world.running('web')[0]!.id);
      await world.settle();
      await world.setTemplate('web', { ForceUpdate: i + 1 });
      await world.settle();
    }
    expect(world.tasks('web')).toHaveLength(6);
    const versions = world.store.view((view) => [...view.serviceSpecs.all()].map((version) => version.version));
    const referenced = new Set([
      ...world.tasks('web').map((task) => task.specVersion),
      world.service('web')!.specVersion,
      world.service('web')!.previousSpecVersion!,
    ]);
    expect(new Set(versions)).toEqual(referenced);
  });

  test('attempts end where the policy says, and begin anew with a new spec, also for a new manager', async () => {
    await world.createService('web', 1, { ...image(BAD_IMAGE), RestartPolicy: { Delay: 0, MaxAttempts: 2 } });
    await world.settle();
    expect(world.tasks('web')).toHaveLength(3);
    await world.restartManager();
    await world.settle();
    expect(world.tasks('web')).toHaveLength(3);
    await world.setTemplate('web', image('v2'));
    await world.settle();
    expect(slots('web')).toEqual([1]);
  });

  test('what is to run once runs once, whatever happens to history, node and manager', async () => {
    await world.createService('once', 1, { ...image(SHORT_IMAGE), RestartPolicy: { Condition: 'none' } });
    await world.settle();
    await world.restartManager();
    for (const id of ['n1', 'n2', 'n3']) await world.setAvailability(id, 'drain');
    await world.settle();
    for (const id of ['n1', 'n2', 'n3']) await world.setAvailability(id, 'active');
    await world.settle();
    expect(world.tasks('once').map((task) => task.status.state)).toEqual([TaskState.COMPLETE]);
  });
});

describe('nodes', () => {
  test('drain moves tasks at once, pause leaves them', async () => {
    await world.createService('web', 3);
    await world.settle();
    await world.setAvailability('n2', 'pause');
    await world.setAvailability('n3', 'drain');
    await world.run(3000);
    expect(slots('web')).toEqual([1, 2, 3]);
    expect(nodes('web')).toContain('n2');
    expect(nodes('web')).not.toContain('n3');
  });

  test('a lost node is replaced at once; when it comes back its tasks are stopped', async () => {
    world.always(wantedRunOnce);
    await world.createService('web', 3);
    await world.settle();
    await world.setState('n1', 'down');
    await world.run(3000);
    expect(slots('web')).toEqual([1, 2, 3]);
    expect(nodes('web')).not.toContain('n1');
    await world.setState('n1', 'ready');
    await world.settle();
    const onN1 = world.tasks('web').filter((task) => task.nodeId === 'n1');
    expect(onN1.map((task) => task.status.state)).toEqual([TaskState.SHUTDOWN]);
  });

  test('tasks of a removed node are orphans, those of a node that is down become so after a day', async () => {
    await world.createService('web', 3);
    await world.settle();
    await world.setState('n1', 'down');
    await world.setState('n2', 'down');
    await world.removeNode('n1');
    await world.settle();
    expect(nodes('web')).toEqual(['n3', 'n3', 'n3']);
    const stateOn = (nodeId: string) => world.tasks('web').find((task) => task.nodeId === nodeId)?.status.state;
    expect([stateOn('n1'), stateOn('n2')]).toEqual([TaskState.ORPHANED, TaskState.RUNNING]);
    await world.restartManager();
    await world.clock.advance(24 * 3_600_000);
    await world.settle();
    expect(stateOn('n2')).toBe(TaskState.ORPHANED);
  });

  test('a replacement is made ready, but starts only when the old task has stopped, whoever manages then', async () => {
    await world.createService('web', 3, image(SLOW_IMAGE));
    await world.settle();
    const [old] = world.running('web');
    const askedAt = world.clock.now();
    await world.setAvailability(old!.nodeId, 'drain');
    await world.run(5000);
    const heir = world.tasks('web').at(-1)!;
    expect([heir.slot, heir.status.state, heir.startAfterTask]).toEqual([1, TaskState.READY, old!.id]);
    await world.restartManager();
    await world.settle();
    expect(slots('web')).toEqual([1, 2, 3]);
    expect(Date.parse(world.running('web')[0]!.status.timestamp)).toBeGreaterThanOrEqual(askedAt + STOP_MS);
  });

  test('an unknown node keeps its tasks', async () => {
    await world.createService('web', 3);
    await world.settle();
    const before = world.tasks('web').map((task) => task.id);
    await world.setState('n1', 'unknown');
    await world.settle();
    expect(world.tasks('web').map((task) => task.id)).toEqual(before);
  });

  test('tasks leave a node that no longer meets their constraints, or has less than they reserve', async () => {
    await world.createService('web', 2, {
      Placement: { Constraints: ['node.labels.zone==b'] },
      RestartPolicy: { Delay: 0 },
    });
    await world.createService('fat', 1, {
      Resources: { Reservations: { MemoryBytes: 5e9 } },
      RestartPolicy: { Delay: 0 },
    });
    await world.settle();
    expect(nodes('web')).toEqual(['n2', 'n3']);
    await world.setLabels('n2', {});
    await world.settle();
    expect(nodes('web')).toEqual(['n3', 'n3']);
    const rejected = world.tasks('web').find((task) => task.status.state === TaskState.REJECTED)!;
    expect(rejected.status.error).toBe('assigned node no longer meets constraints');
    const [fat] = world.running('fat');
    await world.changeNode(fat!.nodeId, (node) => ({
      ...node,
      description: { ...node.description!, resources: { nanoCpus: 8e9, memoryBytes: 4e9 } },
    }));
    await world.run(100);
    expect(world.tasks('fat')[0]?.status.state).toBe(TaskState.REJECTED);
  });
});

describe('global', () => {
  test('follows nodes as they come, go, drain, pause and change labels', async () => {
    await world.createService('every', 'global', { Placement: { Constraints: ['node.labels.zone!=c'] } });
    await world.settle();
    expect(nodes('every')).toEqual(['n1', 'n2', 'n3']);
    await world.addNode('n4');
    await world.setAvailability('n1', 'drain');
    await world.setLabels('n2', { zone: 'c' });
    await world.setState('n3', 'down');
    await world.settle();
    expect(nodes('every').filter((id) => id !== 'n3')).toEqual(['n4']);
    await world.setAvailability('n1', 'active');
    await world.setLabels('n2', { zone: 'b' });
    await world.setState('n3', 'ready');
    await world.settle();
    expect(nodes('every')).toEqual(['n1', 'n2', 'n3', 'n4']);
  });

  test('a paused node keeps its task and gets no other until it is active again', async () => {
    await world.createService('every', 'global', { RestartPolicy: { Delay: 0 } });
    await world.settle();
    await world.setAvailability('n1', 'pause');
    await world.settle();
    expect(nodes('every')).toEqual(['n1', 'n2', 'n3']);
    await world.failTask(world.running('every').find((task) => task.nodeId === 'n1')!.id);
    await world.settle();
    expect(nodes('every')).toEqual(['n2', 'n3']);
    await world.setAvailability('n1', 'active');
    await world.settle();
    expect(nodes('every')).toEqual(['n1', 'n2', 'n3']);
  });
});

describe('update', () => {
  test('replaces one task at a time and says when it begins and ends', async () => {
    await world.createService('web', 4);
    await world.settle();
    const statuses = new Set<string | undefined>();
    world.always((view) => {
      slotsRunOnce(view);
      statuses.add(view.services.get('web')?.updateStatus?.message);
      const up = view.tasks
        .by('service', 'web')
        .filter((task) => isWanted(task) && task.status.state === TaskState.RUNNING);
      expect(up.length).toBeGreaterThanOrEqual(3);
    });
    await world.setTemplate('web', image('v2'));
    await world.settle();
    expect(images('web')).toEqual(['v2', 'v2', 'v2', 'v2']);
    expect([...statuses]).toEqual([undefined, 'update in progress', 'update completed']);
    expect(world.service('web')?.updateStatus?.completedAt).toBeDefined();
  });

  test('goes on when its status is cleared, and ends as a rollback if it was one', async () => {
    await world.createService('web', 3);
    await world.settle();
    await world.setTemplate('web', image('v2'));
    await world.run(300);
    await world.store.update((tx) => {
      const { updateStatus: _, ...service } = tx.services.get('web')!;
      tx.services.update(service);
    });
    await world.settle();
    expect(images('web')).toEqual(['v2', 'v2', 'v2']);
    expect(world.service('web')?.updateStatus?.state).toBe('completed');
    await world.setTemplate('web', image('v1'));
    await world.store.update((tx) => {
      const service = tx.services.get('web')!;
      tx.services.update({ ...service, updateStatus: { state: 'rollback_started', startedAt: '', message: '' } });
    });
    await world.settle();
    expect(images('web')).toEqual(['v1', 'v1', 'v1']);
    expect(world.service('web')?.updateStatus?.state).toBe('rollback_completed');
  });

  test('stops at a replacement that fails, across a new manager, and goes on once the spec is mended', async () => {
    await world.createService('web', 3);
    await world.settle();
    await world.setTemplate('web', image(BAD_IMAGE));
    await world.run(60_000);
    expect(images('web')).toEqual(['v1', 'v1']);
    await world.restartManager();
    await world.run(60_000);
    expect(images('web')).toEqual(['v1', 'v1']);
    expect(world.service('web')?.updateStatus?.state).toBe('paused');
    await world.setTemplate('web', image('v3'));
    await world.settle();
    expect(images('web')).toEqual(['v3', 'v3', 'v3']);
  });

  test('a scaling, a label or a placement that still fits replaces nothing and is no update', async () => {
    await world.createService('web', 2, { Placement: { Constraints: ['node.labels.zone==b'] } });
    await world.settle();
    const before = world.running('web').map((task) => task.id);
    await world.updateService('web', (spec) => ({ ...spec, Labels: { a: 'b' } }));
    await world.setTemplate('web', { Placement: { Constraints: ['node.labels.zone!=a'] } });
    await world.scale('web', 3);
    await world.settle();
    expect(world.running('web').map((task) => task.id)).toEqual(expect.arrayContaining(before));
    expect(world.running('web')).toHaveLength(3);
    expect(world.service('web')?.updateStatus).toBeUndefined();
    await world.setTemplate('web', { Placement: { Constraints: ['node.labels.zone==a'] } });
    await world.settle();
    expect(nodes('web')).toEqual(['n1', 'n1', 'n1']);
    expect(world.service('web')?.updateStatus?.state).toBe('completed');
  });

  test('a global service is updated where tasks may run, and elsewhere when that is so again', async () => {
    await world.createService('every', 'global');
    await world.settle();
    await world.setAvailability('n1', 'pause');
    await world.setTemplate('every', image('v2'));
    await world.settle();
    expect(images('every').sort()).toEqual(['v1', 'v2', 'v2']);
    await world.setAvailability('n1', 'active');
    await world.settle();
    expect(images('every')).toEqual(['v2', 'v2', 'v2']);
  });
});

test('with the real allocator and scheduler: from nothing, over a lost node and an update, to nothing', async () => {
  const w = await World.open(startControl, { places: false });
  for (const id of ['n1', 'n2', 'n3']) await w.addNode(id);
  await w.createService('web', 6);
  await w.createService('every', 'global');
  await w.settle();
  expect(
    w
      .running('web')
      .map((task) => task.nodeId)
      .sort(),
  ).toEqual(['n1', 'n1', 'n2', 'n2', 'n3', 'n3']);
  expect(w.running('every')).toHaveLength(3);
  await w.setState('n3', 'down');
  await w.run(3000);
  expect(w.running('web').filter((task) => task.nodeId !== 'n3')).toHaveLength(6);
  await w.setState('n3', 'ready');
  await w.setTemplate('web', image('v2'));
  await w.settle();
  expect(w.service('web')?.updateStatus?.state).toBe('completed');
  expect(w.running('every')).toHaveLength(3);
  await w.removeService('web');
  await w.removeService('every');
  await w.settle();
  expect(w.store.view((view) => [view.tasks.size, view.serviceSpecs.size])).toEqual([0, 0]);
  await w.close();
});

describe('removal', () => {
  test('of a service takes its tasks, their versions and a removed network with it', async () => {
    await world.createService('web', 3);
    await world.settle();
    await world.store.update((tx) => {
      tx.networks.create({ id: 'net', removing: true } as Parameters<typeof tx.networks.create>[0]);
      for (const task of tx.tasks.by('service', 'web')) {
        tx.tasks.update({ ...task, networks: [{ networkId: 'net', address: '10.0.0.2', aliases: [] }] });
      }
    });
    await world.settle();
    expect(world.store.view((view) => view.networks.size)).toBe(1);
    await world.removeService('web');
    await world.settle();
    expect(world.store.view((view) => [view.tasks.size, view.serviceSpecs.size, view.networks.size])).toEqual([
      0, 0, 0,
    ]);
  });

  test('tasks that never had a node go at once', async () => {
    for (const id of ['n1', 'n2', 'n3']) await world.setAvailability(id, 'pause');
    await world.createService('web', 3);
    await world.settle();
    expect(world.tasks('web')).toHaveLength(3);
    await world.removeService('web');
    await world.clock.advance(1000);
    expect(world.tasks('web')).toEqual([]);
  });
});
