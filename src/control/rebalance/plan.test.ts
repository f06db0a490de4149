/** What is moved and what is not: tables, and properties over random clusters. */
import { afterEach, describe, expect, test } from 'vitest';
import { timestamp } from '../../model/clock.ts';
import type { Service, Task } from '../../model/objects.ts';
import type { Move } from '../../model/rebalance.ts';
import type { ServiceSpec, TaskSpec } from '../../model/specs.ts';
import { TaskState } from '../../model/states.ts';
import { NodeSet } from '../scheduler/node-set.ts';
import { World } from '../world.fixture.ts';
import { rebalancePlan } from './plan.ts';

const { RUNNING } = TaskState;

let world: World;
afterEach(() => world.close());

/** No loop runs: what is in the store is what the test says. */
async function cluster(nodes: Record<string, Record<string, string>>): Promise<void> {
  world = await World.open(() => ({ stop: () => Promise.resolve() }));
  for (const [id, labels] of Object.entries(nodes)) await world.addNode(id, labels);
}

let made = 0;
/** A service whose tasks run where `on` says, the first in slot 1. */
async function service(
  id: string,
  on: string[],
  template: TaskSpec = {},
  spec: Partial<ServiceSpec> = {},
): Promise<void> {
  await world.createService(id, on.length, template);
  await world.store.update((tx) => {
    const created = tx.services.get(id)!;
    tx.services.update({ ...created, spec: { ...created.spec, ...spec } });
    const version = tx.serviceSpecs.get(`${id}@${created.specVersion}`)!;
    tx.serviceSpecs.update({ ...version, spec: { ...version.spec, ...spec } });
    on.forEach((nodeId, i) => tx.tasks.create(running(created, i + 1, nodeId)));
  });
}

function running({ id, specVersion }: Service, slot: number, nodeId: string): Task {
  const now = timestamp(world.clock.now());
  return {
    id: `t${++made}`,
    environment: 'default',
    meta: { version: made, createdAt: now, updatedAt: now },
    serviceId: id,
    serviceName: id,
    specVersion,
    slot,
    nodeId,
    desiredState: RUNNING,
    status: { timestamp: now, state: RUNNING, message: '' },
    networks: [],
  };
}

const plan = () => world.store.view(rebalancePlan);
const told = (moves: readonly Move[]) =>
  moves.map(({ serviceId, slot, from, to }) => `${serviceId}.${slot} ${from}>${to}`);
const moves = () => told(plan().moves);

describe('moves', () => {
  const three = { a: {}, b: {}, c: {} };
  test.each<[string, () => Promise<void>, string[]]>([
    [
      'an empty node gets its share, and no more',
      () => service('s', ['a', 'a', 'a', 'b', 'b', 'b']),
      ['s.3 a>c', 's.6 b>c'],
    ],
    ['one more than another is even', () => service('s', ['a', 'b', 'c', 'a']), []],
    [
      'small services are evened by what nodes have in all',
      async () => {
        for (const id of ['r', 's', 't', 'u']) await service(id, ['a']);
      },
      ['r.1 a>b', 's.1 a>c'],
    ],
    [
      'but no service is made uneven for that',
      async () => {
        await service('r', ['a', 'b', 'c']);
        await service('s', ['a', 'b', 'c']);
      },
      [],
    ],
    [
      'where nothing else may run, nothing comes',
      () => service('s', ['a', 'a', 'a'], { Placement: { Constraints: ['node.id!=c'] } }),
      ['s.3 a>b'],
    ],
    [
      'no more than a node may have',
      () => service('s', ['a', 'a', 'a', 'a', 'b'], { Placement: { MaxReplicas: 2 } }),
      ['s.4 a>c', 's.3 a>b'],
    ],
    [
      'no more than fits',
      () => service('s', ['a', 'a', 'a', 'a'], { Resources: { Reservations: { MemoryBytes: 5e9 } } }),
      ['s.4 a>b', 's.3 a>c'],
    ],
    [
      'a port of the host is there once',
      async () => {
        const Ports = [{ TargetPort: 80, PublishedPort: 80, PublishMode: 'host' as const, Protocol: 'tcp' as const }];
        await service('other', ['b', 'b'], {}, { EndpointSpec: { Ports }, Labels: { 'drover.rebalance': 'off' } });
        await service('s', ['a', 'a'], {}, { EndpointSpec: { Ports } });
      },
      ['s.2 a>c'],
    ],
  ])('%s', async (_, given, expected) => {
    await cluster(three);
    await given();
    expect(moves()).toEqual(expected);
  });

  test('paused, drained and lost nodes get nothing and give nothing', async () => {
    await cluster({ ...three, d: {}, e: {} });
    await service('s', ['a', 'a', 'a', 'b', 'b', 'b']);
    await world.setAvailability('b', 'pause');
    await world.setAvailability('c', 'drain');
    await world.setState('d', 'down');
    await world.setState('e', 'unknown');
    expect(moves()).toEqual([]);
  });

  test('preferences come first: equal shares for zones, whatever their size', async () => {
    await cluster({ a: { zone: 'x' }, b: { zone: 'x' }, c: { zone: 'y' } });
    const Preferences = [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }];
    await service('s', ['a', 'a', 'b', 'b'], { Placement: { Preferences } });
    expect(moves()).toEqual(['s.2 a>c', 's.4 b>c']);
  });
});

describe('what stays', () => {
  test.each<[string, () => Promise<void>, string]>([
    [
      'off',
      () => service('s', ['a', 'a'], {}, { Labels: { 'drover.rebalance': 'off' } }),
      'its label drover.rebalance is off',
    ],
    [
      'data',
      () =>
        service('s', ['a', 'a'], {
          ContainerSpec: { Image: 'v1', Mounts: [{ Type: 'volume', Source: 'db', Target: '/d' }] },
        }),
      'the data of its volume db would stay behind on the node',
    ],
    [
      'an update',
      async () => {
        await service('s', ['a', 'a']);
        await world.store.update((tx) => {
          const updateStatus = { state: 'updating' as const, startedAt: '', message: '' };
          tx.services.update({ ...tx.services.get('s')!, updateStatus });
        });
      },
      'an update of it is under way',
    ],
    [
      'an update that was paused',
      async () => {
        await service('s', ['a', 'a']);
        await world.setTemplate('s', { ContainerSpec: { Image: 'v2' } });
      },
      'not all of its tasks are up to date',
    ],
    [
      'a task that does not run',
      async () => {
        await service('s', ['a', 'a']);
        const [task] = world.tasks('s');
        await world.failTask(task!.id);
      },
      'not all of its tasks run',
    ],
  ])('%s', async (_, given, reason) => {
    await cluster({ a: {}, b: {} });
    await given();
    expect(plan()).toEqual({ moves: [], skipped: [{ serviceId: 's', reason }] });
  });

  test('a volume of a driver that reaches every node does not hold a task', async () => {
    await cluster({ a: {}, b: {} });
    const VolumeOptions = {
      DriverConfig: { Name: 'local', Options: { type: 'nfs', o: 'addr=10.0.0.9', device: ':/x' } },
    };
    const Mounts = [{ Type: 'volume' as const, Source: 'shared', Target: '/d', VolumeOptions }];
    await service('s', ['a', 'a'], { ContainerSpec: { Image: 'v1', Mounts } });
    expect(moves()).toEqual(['s.2 a>b']);
  });
});

describe.each([1, 2, 3, 4, 5, 6, 7, 8])('a random cluster (seed %i)', (seed) => {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(world.random() * from.length)]!;

  async function randomCluster(): Promise<void> {
    await cluster({});
    for (let i = 0; i < seed * 7; i++) world.random();
    const ids = Array.from({ length: 2 + Math.floor(world.random() * 6) }, (_, i) => `n${i}`);
    for (const id of ids) await world.addNode(id, { zone: pick(['x', 'y', 'z']) });
    for (const id of ids) if (world.random() < 0.15) await world.setAvailability(id, pick(['pause', 'drain']));
    for (let i = 0; i < 6; i++) {
      const Placement = {
        ...(world.random() < 0.3 ? { MaxReplicas: 3 } : {}),
        ...(world.random() < 0.3 ? { Constraints: ['node.labels.zone!=z'] } : {}),
        ...(world.random() < 0.3 ? { Preferences: [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }] } : {}),
      };
      const Resources = world.random() < 0.4 ? { Reservations: { NanoCPUs: 2e9 } } : {};
      const on = Array.from({ length: Math.floor(world.random() * 9) }, () => pick(ids));
      await service(`s${i}`, on, { Placement, Resources });
    }
  }

  const carryOut = (all: readonly Move[]) =>
    world.store.update((tx) => {
      for (const { taskId, to } of all) tx.tasks.update({ ...tx.tasks.get(taskId)!, nodeId: to });
    });

  test('a plan that is carried out leaves nothing to plan', async () => {
    await randomCluster();
    await carryOut(plan().moves);
    expect(moves()).toEqual([]);
  });

  test('done one at a time, each planned anew, it comes to the same end', async () => {
    await randomCluster();
    const whole = plan().moves.length;
    let count = 0;
    for (let [move] = plan().moves; move !== undefined; [move] = plan().moves) {
      await carryOut([move]);
      expect(++count).toBeLessThanOrEqual(whole * 2 + 4);
    }
    expect(moves()).toEqual([]);
  });

  test('no task is moved to where it is, may not be or does not fit', async () => {
    await randomCluster();
    const usedOf = () =>
      world.store.view((view) => {
        const nodes = new NodeSet();
        nodes.rebuild(view);
        return new Map(nodes.slots.map((info) => [info!.node.id, info!.nanoCpus]));
      });
    const before = usedOf();
    const all = plan().moves;
    await carryOut(all);
    const after = usedOf();
    world.store.view((view) => {
      for (const { serviceId, from, to } of all) {
        const node = view.nodes.get(to)!;
        const { Constraints, MaxReplicas = 0 } = view.services.get(serviceId)!.spec.TaskTemplate.Placement ?? {};
        expect(from).not.toBe(to);
        expect(node.spec.Availability).toBe('active');
        if (Constraints !== undefined) expect(node.spec.Labels['zone']).not.toBe('z');
        const there = view.tasks.by('node', to).filter((task) => task.serviceId === serviceId).length;
        if (MaxReplicas > 0) expect(there).toBeLessThanOrEqual(MaxReplicas);
        expect(after.get(to)!).toBeLessThanOrEqual(Math.max(8e9, before.get(to)!));
      }
    });
  });
});
