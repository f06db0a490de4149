/** Which dependencies have come, in what words one waits, and that only first starts wait. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { serviceSpecId, type Service, type Task } from '../model/objects.ts';
import { ROLLOUT } from '../model/rollouts.ts';
import type { ServiceMode, TaskSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import { startOrchestration } from './control.ts';
import { missing } from './start-order.ts';
import { slotsOf } from './tasks.ts';
import { NOWHERE } from './update/rollout.fixture.ts';
import { BAD_IMAGE, SHORT_IMAGE, World } from './world.fixture.ts';

const { RUNNING, SHUTDOWN, READY, COMPLETE, FAILED, STARTING } = TaskState;

const ONCE: TaskSpec = { RestartPolicy: { Condition: 'none' } };

describe('what is missing of a dependency', () => {
  const task = (desiredState: TaskState, state: TaskState, more: Partial<Task> = {}): Task =>
    ({
      id: `t${more.slot ?? 1}`,
      slot: 1,
      desiredState,
      meta: { version: 1 },
      status: { state, message: 'm', timestamp: '' },
      ...more,
    }) as Task;
  const judge = (condition: Parameters<typeof missing>[0], tasks: Task[], Mode: ServiceMode = { Replicated: {} }) =>
    missing(condition, { name: 'db', service: { spec: { Mode } } as Service, slots: slotsOf(tasks) });

  test.each([
    ['service_started', [task(RUNNING, RUNNING)], undefined],
    ['service_started', [task(SHUTDOWN, COMPLETE)], undefined],
    ['service_started', [task(RUNNING, STARTING)], 'service db to be started'],
    ['service_started', [task(SHUTDOWN, RUNNING)], 'service db to be started'],
    ['service_started', [task(READY, TaskState.READY)], 'service db to be started'],
    ['service_healthy', [task(RUNNING, RUNNING)], undefined],
    [
      'service_healthy',
      [task(RUNNING, RUNNING, { status: { state: RUNNING, message: '', timestamp: '', ready: false } })],
      'service db to be healthy',
    ],
    ['service_healthy', [task(SHUTDOWN, COMPLETE)], 'service db to be healthy'],
    ['service_completed_successfully', [task(SHUTDOWN, COMPLETE)], undefined],
    ['service_completed_successfully', [task(RUNNING, RUNNING)], 'service db to complete successfully'],
    ['service_completed_successfully', [], 'service db to complete successfully'],
    [
      'service_completed_successfully',
      [task(SHUTDOWN, FAILED, { status: { state: FAILED, message: '', timestamp: '', error: 'exit 1' } })],
      'service db to complete successfully (its last task failed: exit 1)',
    ],
  ] as const)('%s %#', (condition, tasks, words) => {
    expect(judge(condition, [...tasks])).toBe(words);
  });

  test('a job has completed when all its completions have', () => {
    const done = (slot: number) => task(COMPLETE, COMPLETE, { slot, jobIteration: 0 });
    const mode = { ReplicatedJob: { TotalCompletions: 2, MaxConcurrent: 1 } };
    expect(judge('service_completed_successfully', [done(1)], mode)).toBe('service db to complete successfully');
    expect(judge('service_completed_successfully', [done(1), done(2)], mode)).toBeUndefined();
  });

  test('a service that is not there is waited for', () => {
    expect(missing('service_started', { name: 'db', service: undefined, slots: [] })).toBe('service db to be created');
  });
});

describe('first starts', () => {
  let world: World;
  beforeEach(async () => {
    world = await World.open(startOrchestration);
    await world.addNode('n1');
  });
  afterEach(() => world.close());

  const create = (id: string, label: string, replicas = 1, template: TaskSpec = {}, labels = {}) =>
    world.store.update((tx) => {
      const spec = {
        Name: id,
        Labels: { 'drover.depends-on': label, ...labels },
        Mode: { Replicated: { Replicas: replicas } },
        TaskTemplate: { ContainerSpec: { Image: 'v1' }, ...template },
      };
      const meta = { version: tx.index, createdAt: '', updatedAt: '' };
      tx.services.create({ id, environment: 'default', meta, spec, specVersion: tx.index, startsInOrder: true });
      tx.serviceSpecs.create({ id: serviceSpecId(id, tx.index), serviceId: id, version: tx.index, spec });
    });
  const words = (id: string) => world.service(id)?.startOrder?.waitsFor;
  const states = (id: string) => world.tasks(id).map(({ desiredState, status }) => [desiredState, status.state]);

  test('tasks are made ready, say what they wait for, and start when it has come', async () => {
    await create('web', 'db:service_healthy', 2);
    await world.settle();
    expect(words('web')).toBe('waits for service db to be created');
    expect(states('web')).toEqual([
      [READY, TaskState.READY],
      [READY, TaskState.READY],
    ]);
    await world.createService('db', 1, { ContainerSpec: { Image: BAD_IMAGE } });
    await world.run(10_000);
    expect(words('web')).toBe('waits for service db to be healthy');
    expect(world.running('web')).toEqual([]);
    await world.restartManager();
    await world.run(10_000);
    expect(world.running('web')).toEqual([]);
    await world.setTemplate('db', { ContainerSpec: { Image: 'v2' } });
    await world.settle();
    expect(world.running('web')).toHaveLength(2);
    expect(world.tasks('web')).toHaveLength(2);
    expect(words('web')).toBeUndefined();
  });

  test('later starts wait for nothing: restart, scaling, update, a new manager', async () => {
    await world.createService('db', 1);
    await create('web', 'db');
    await world.settle();
    await world.removeService('db');
    await world.scale('web', 3);
    await world.settle();
    await world.failTask(world.running('web')[0]!.id);
    await world.restartManager();
    await world.setTemplate('web', { ContainerSpec: { Image: 'v2' } });
    await world.settle();
    expect(world.running('web')).toHaveLength(3);
  });

  test('what is scaled, changed or moved while it waits goes on waiting', async () => {
    await world.addNode('n2');
    await create('web', 'db');
    await world.settle();
    await world.scale('web', 2);
    await world.removeNode(world.tasks('web')[0]!.nodeId);
    await world.settle();
    await world.setTemplate('web', { ContainerSpec: { Image: 'v2' } });
    await world.settle();
    const wanted = world.tasks('web').filter(({ desiredState }) => desiredState < SHUTDOWN);
    expect(wanted.length).toBeGreaterThan(0);
    expect(wanted.every(({ desiredState }) => desiredState === READY)).toBe(true);
    await world.createService('db', 1);
    await world.settle();
    expect(world.running('web')).toHaveLength(2);
  });

  test('an update of it has its progress deadline from when it may start, not before', async () => {
    await create('web', 'db');
    await world.settle();
    const Labels = { 'drover.depends-on': 'db', [ROLLOUT.deadline]: '20s' };
    await world.updateService('web', (spec) => ({ ...spec, Labels, TaskTemplate: NOWHERE }));
    await world.run(120_000);
    await world.restartManager();
    await world.run(120_000);
    expect(world.service('web')!.updateStatus?.state).toBe('updating');
    await world.createService('db', 1);
    await world.run(15_000);
    expect(world.service('web')!.updateStatus?.state).toBe('updating');
    await world.run(10_000);
    expect(world.service('web')!.updateStatus).toMatchObject({
      state: 'paused',
      message: expect.stringMatching(/not up within 20 s \(pending\)$/),
    });
  });

  test('a chain, through a service that runs once, within a stack', async () => {
    const stack = { 'com.docker.stack.namespace': 'app' };
    await create('app_web', 'migrate:service_completed_successfully', 1, {}, stack);
    await create('app_migrate', 'db:service_healthy', 1, { ...ONCE, ContainerSpec: { Image: SHORT_IMAGE } }, stack);
    await world.run(5_000);
    expect(words('app_web')).toBe('waits for service app_migrate to complete successfully');
    expect(words('app_migrate')).toBe('waits for service app_db to be created');
    await world.createService('app_db', 1);
    await world.settle();
    expect(world.running('app_web')).toHaveLength(1);
  });

  test('a new label while it waits counts; none lets it start', async () => {
    await create('web', 'dbb');
    await world.run(3_000);
    await world.updateService('web', (spec) => ({ ...spec, Labels: { 'drover.depends-on': 'db' } }));
    await world.run(3_000);
    expect(words('web')).toBe('waits for service db to be created');
    await world.updateService('web', (spec) => ({ ...spec, Labels: {} }));
    await world.settle();
    expect(world.running('web')).toHaveLength(1);
  });
});
