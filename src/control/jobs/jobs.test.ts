/** Jobs: what a run needs (tables), and whole runs in a small cluster, under failures, restarts and moving nodes. */
import { afterEach, describe, expect, test } from 'vitest';
import type { Task } from '../../model/objects.ts';
import type { RestartPolicy, ServiceMode } from '../../model/specs.ts';
import { TaskState } from '../../model/states.ts';
import { startOrchestration } from '../control.ts';
import { slotsRunOnce, World, SHORT_IMAGE, SLOW_IMAGE } from '../world.fixture.ts';
import { jobPlan } from './plan.ts';

const { RUNNING, READY, COMPLETE, FAILED, SHUTDOWN, PENDING } = TaskState;

describe('jobPlan', () => {
  interface Given {
    slot: number;
    run?: number;
    desired?: TaskState;
    is?: TaskState;
  }
  const tasks = (given: Given[]) =>
    given.map(({ slot, run = 1, desired = COMPLETE, is = RUNNING }, i): Task => ({
      id: `t${i}`,
      environment: 'default',
      meta: { version: i, createdAt: '', updatedAt: '' },
      serviceId: 's',
      serviceName: 's',
      specVersion: run,
      slot,
      jobIteration: run,
      nodeId: 'n',
      desiredState: desired,
      status: { timestamp: '', state: is, message: '' },
      networks: [],
    }));
  const done = (slot: number, run = 1): Given => ({ slot, run, is: COMPLETE });
  const ended = { desired: SHUTDOWN, is: FAILED };
  test.each<[string, Given[], number, number, number[], number[], number[]]>([
    ['all at once', [], 3, 3, [1, 2, 3], [], []],
    ['no more than allowed', [], 5, 2, [1, 2], [], []],
    ['more than there are', [], 2, 9, [1, 2], [], []],
    ['none at all', [], 0, 1, [], [], []],
    ['none at once', [], 2, 0, [], [], []],
    ['running ones count', [{ slot: 1 }, { slot: 2 }], 5, 3, [3], [], []],
    ['those that wait to be started too', [{ slot: 1, desired: READY, is: READY }], 2, 1, [], [], []],
    ['those without a node too', [{ slot: 1, is: PENDING }], 2, 1, [], [], []],
    ['completed ones make room', [done(1), { slot: 2 }], 5, 2, [3], [], []],
    ['so do slots that failed for good', [{ slot: 1, ...ended }, { slot: 2 }], 5, 2, [3], [], []],
    ['all done', [done(1), done(2)], 2, 2, [], [], []],
    ['a new run waits for what the old one still runs', [{ slot: 1, run: 0 }, done(2, 0)], 2, 2, [2], [0, 1], []],
    ['slots that the new run does not have', [done(1, 0), done(2, 0)], 1, 1, [1], [0], [1]],
    [
      'what is stopped already is left alone',
      [{ slot: 1, run: 0, desired: SHUTDOWN, is: SHUTDOWN }],
      1,
      1,
      [1],
      [],
      [],
    ],
  ])('%s', (_, given, completions, concurrent, start, stop, remove) => {
    const all = tasks(given);
    const mayRun = (task: Task) => task.nodeId !== '' && task.status.state <= RUNNING;
    const plan = jobPlan(all, { iteration: 1, completions, concurrent }, mayRun);
    const numbers = (some: Task[]) => some.map((task) => all.indexOf(task));
    expect([plan.start, numbers(plan.stop), numbers(plan.remove)]).toEqual([start, stop, remove]);
  });
});

let world: World;
afterEach(() => world?.close());

async function cluster(...nodes: string[]): Promise<World> {
  world = await World.open(startOrchestration);
  world.always(slotsRunOnce);
  for (const node of nodes) await world.addNode(node);
  return world;
}

const job = (completions: number, concurrent = completions): ServiceMode => ({
  ReplicatedJob: { TotalCompletions: completions, MaxConcurrent: concurrent },
});
const present = (id: string) =>
  world.tasks(id).filter((task) => task.jobIteration === world.service(id)!.jobStatus!.iteration);
/** By slot: of two that completed there, one was being stopped. */
const completed = (id: string) => {
  const done = present(id).filter((task) => task.status.state === COMPLETE);
  return [...new Map(done.map((task) => [task.slot || task.nodeId, task])).values()];
};
const slotsDone = (id: string) =>
  completed(id)
    .map(({ slot }) => slot)
    .sort((a, b) => a - b);
const active = (id: string) => world.tasks(id).filter(({ status }) => status.state === RUNNING);
const short = (RestartPolicy: RestartPolicy = {}) => ({ ContainerSpec: { Image: SHORT_IMAGE }, RestartPolicy });

describe('replicated jobs', () => {
  test('run to the end, so many at once, and are done for good', async () => {
    await cluster('a', 'b');
    world.always((view) => {
      slotsRunOnce(view);
      expect([...view.tasks.all()].filter((task) => task.status.state === RUNNING).length).toBeLessThanOrEqual(2);
    });
    await world.createService('j', job(5, 2), short());
    await world.settle();
    expect(slotsDone('j')).toEqual([1, 2, 3, 4, 5]);
    expect(completed('j').every((task) => task.desiredState === COMPLETE)).toBe(true);
    await world.setAvailability('a', 'drain');
    await world.restartManager();
    await world.settle();
    expect(world.tasks('j')).toHaveLength(5);
  });

  test('any counts as on-failure; attempts are counted; what failed for good makes room', async () => {
    await cluster('a');
    await world.createService('j', job(2, 1), { RestartPolicy: { Condition: 'any', MaxAttempts: 1 } });
    for (let failures = 0; failures < 2; failures++) {
      await world.run(7_000);
      const [running] = active('j');
      expect(running).toMatchObject({ slot: 1 });
      await world.failTask(running!.id);
    }
    await world.run(7_000);
    const [next] = active('j');
    expect(next).toMatchObject({ slot: 2 });
    await world.completeTask(next!.id);
    await world.settle();
    expect(world.tasks('j').map(({ slot, status }) => [slot, status.state])).toEqual([
      [1, FAILED],
      [1, FAILED],
      [2, COMPLETE],
    ]);
  });

  test('condition none: a failure is not tried again', async () => {
    await cluster('a');
    await world.createService('j', job(1), { RestartPolicy: { Condition: 'none' } });
    await world.run(2_000);
    await world.failTask(active('j')[0]!.id);
    await world.settle();
    expect(world.tasks('j')).toHaveLength(1);
  });

  test('a changed spec is a new run; the old one is stopped first, and stays as history', async () => {
    await cluster('a', 'b');
    await world.createService('j', job(3, 2), { ContainerSpec: { Image: SLOW_IMAGE } });
    await world.run(3_000);
    expect(active('j')).toHaveLength(2);
    world.always((view) => {
      slotsRunOnce(view);
      expect([...view.tasks.all()].filter((task) => task.status.state === RUNNING).length).toBeLessThanOrEqual(2);
    });
    await world.updateService('j', (spec) => ({ ...spec, Mode: job(2, 2), TaskTemplate: short() }));
    await world.settle();
    expect(slotsDone('j')).toEqual([1, 2]);
    expect(
      world
        .tasks('j')
        .filter((task) => task.jobIteration === 0)
        .map(({ slot, status }) => [slot, status.state]),
    ).toEqual([
      [1, SHUTDOWN],
      [2, SHUTDOWN],
    ]);
    await world.updateService('j', (spec) => ({ ...spec, Mode: job(1) }));
    await world.settle();
    expect(new Set(world.tasks('j').map(({ slot }) => slot))).toEqual(new Set([1]));
    for (let run = 0; run < 8; run++) {
      await world.setTemplate('j', { ForceUpdate: run });
      await world.settle();
    }
    expect(completed('j')).toHaveLength(1);
    expect(world.tasks('j')).toHaveLength(6);
    await world.removeService('j');
    await world.settle();
    expect(world.tasks('j')).toEqual([]);
  });

  test('a drained or lost node gives its tasks to others', async () => {
    await cluster('a', 'b');
    await world.createService('j', job(4));
    await world.run(3_000);
    await world.setAvailability('a', 'drain');
    await world.run(5_000);
    expect(active('j').map(({ nodeId }) => nodeId)).toEqual(['b', 'b', 'b', 'b']);
    await world.setAvailability('a', 'active');
    await world.setState('b', 'down');
    await world.run(5_000);
    const there = active('j').filter(({ nodeId }) => nodeId === 'a');
    expect(there.map(({ slot }) => slot).sort((a, b) => a - b)).toEqual([1, 2, 3, 4]);
    for (const { id } of there) await world.completeTask(id);
    await world.settle();
    expect(slotsDone('j')).toEqual([1, 2, 3, 4]);
  });

  test.each([1, 2, 3, 4, 5, 6])(
    'property: exactly N completions under random failures, drains and restarts, never more at once (seed %i)',
    async (seed) => {
      await cluster('a', 'b', 'c');
      for (let i = 0; i < seed; i++) world.random();
      const chance = (likely: number) => world.random() < likely;
      const completions = 1 + Math.floor(world.random() * 9);
      const concurrent = 1 + Math.floor(world.random() * 4);
      world.always((view) => {
        slotsRunOnce(view);
        const running = [...view.tasks.all()].filter((task) => task.status.state === RUNNING);
        expect(running.length).toBeLessThanOrEqual(concurrent);
      });
      await world.createService('j', job(completions, concurrent), { RestartPolicy: { Delay: 1e8 } });
      for (let round = 0; completed('j').length < completions; round++) {
        expect(round).toBeLessThan(1000);
        await world.run(500);
        for (const { id } of active('j'))
          if (chance(0.4)) await (chance(0.4) ? world.failTask(id) : world.completeTask(id));
        if (chance(0.05)) await world.setAvailability('a', chance(0.5) ? 'drain' : 'active');
        if (chance(0.05)) await world.restartManager();
        if (chance(0.02)) await world.setTemplate('j', { ForceUpdate: round });
      }
      await world.settle();
      expect(slotsDone('j')).toEqual(Array.from({ length: completions }, (_, i) => i + 1));
    },
  );
});

describe('global jobs', () => {
  test('run once on every node, on later ones too, and anew with a new spec', async () => {
    await cluster('a', 'b');
    await world.createService('j', { GlobalJob: {} }, short());
    await world.settle();
    expect(
      completed('j')
        .map(({ nodeId }) => nodeId)
        .sort(),
    ).toEqual(['a', 'b']);
    await world.addNode('c');
    await world.setAvailability('a', 'pause');
    await world.settle();
    expect(
      completed('j')
        .map(({ nodeId }) => nodeId)
        .sort(),
    ).toEqual(['a', 'b', 'c']);
    await world.setTemplate('j', { ForceUpdate: 1 });
    await world.settle();
    expect(
      completed('j')
        .map(({ nodeId }) => nodeId)
        .sort(),
    ).toEqual(['b', 'c']);
    await world.setAvailability('a', 'active');
    await world.settle();
    expect(completed('j')).toHaveLength(3);
  });

  test('a node that leaves stops its task, and runs it when it returns; what has completed stays', async () => {
    await cluster('a', 'b');
    await world.createService('j', { GlobalJob: {} });
    await world.run(3_000);
    await world.completeTask(active('j').find(({ nodeId }) => nodeId === 'b')!.id);
    for (const node of ['a', 'b']) await world.setAvailability(node, 'drain');
    await world.settle();
    expect(world.tasks('j').map(({ nodeId, status }) => [nodeId, status.state])).toEqual(
      expect.arrayContaining([
        ['a', SHUTDOWN],
        ['b', COMPLETE],
      ]),
    );
    for (const node of ['a', 'b']) await world.setAvailability(node, 'active');
    await world.run(5_000);
    expect(active('j').map(({ nodeId }) => nodeId)).toEqual(['a']);
    await world.removeNode('b');
    await world.settle();
    expect(world.tasks('j').find(({ nodeId }) => nodeId === 'b')).toMatchObject({ desiredState: SHUTDOWN });
  });

  test('the task of the old run stops before that of the new one is made', async () => {
    await cluster('a');
    await world.createService('j', { GlobalJob: {} }, { ContainerSpec: { Image: SLOW_IMAGE } });
    await world.run(3_000);
    await world.setTemplate('j', short());
    await world.settle();
    expect(world.tasks('j').map(({ jobIteration, status }) => [jobIteration, status.state])).toEqual([
      [0, SHUTDOWN],
      [1, COMPLETE],
    ]);
  });
});
