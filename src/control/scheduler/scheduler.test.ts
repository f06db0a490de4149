import { describe, expect, test } from 'vitest';
import { TaskState } from '../../model/states.ts';
import { nodeRow, serviceRow, serviceSpec } from './rows.fixture.ts';
import { ids, setUp } from './scheduler.fixture.ts';

describe('the scheduler', () => {
  test('assigns pending tasks evenly, with words, and forgets the reason they waited', async () => {
    const { addService, addTasks, run, task, store } = await setUp();
    const web = await addService(serviceSpec('web'));
    await addTasks(web, ids(7));
    await run();
    expect(task('t0').status).toMatchObject({ state: TaskState.PENDING, error: 'no suitable node' });
    await store.update((tx) => ids(3, 'n').forEach((id) => tx.nodes.create(nodeRow(id))));
    await run();
    const counts = ids(3, 'n').map((id) => store.view((view) => view.tasks.countBy('node', id)));
    expect(counts.sort((a, b) => a - b)).toEqual([2, 2, 3]);
    expect(task('t0').status).toEqual({
      timestamp: expect.any(String),
      state: TaskState.ASSIGNED,
      message: 'scheduler assigned task to node',
    });
  });

  test('leaves alone what is not pending or not wanted', async () => {
    const { addService, addTasks, run, task } = await setUp([nodeRow('a')]);
    const web = await addService(serviceSpec('web'));
    await addTasks(web, ['new'], { state: TaskState.NEW });
    await addTasks(web, ['unwanted'], { desiredState: TaskState.SHUTDOWN });
    await addTasks(web, ['ready'], { desiredState: TaskState.READY });
    await run();
    expect([task('new').nodeId, task('unwanted').nodeId, task('ready').nodeId]).toEqual(['', '', 'a']);
  });

  test('says why once, and goes on when a task has gone', async () => {
    const { addService, addTasks, run, task, writes, end, store } = await setUp([
      nodeRow('a'),
      nodeRow('b', { spec: { Labels: { zone: 'far' } } }),
    ]);
    const spec = serviceSpec('web', {
      TaskTemplate: {
        Resources: { Reservations: { MemoryBytes: 5e9 } },
        Placement: { Constraints: ['node.labels.zone!=far'] },
      },
    });
    await addTasks(await addService(spec), ['t0']);
    await run();
    await addTasks(serviceRow('web', spec), ['t1']);
    await run();
    const reason = 'no suitable node (insufficient memory on 1 node; scheduling constraints not satisfied on 1 node)';
    expect(task('t1').status).toMatchObject({ state: TaskState.PENDING, error: reason });
    const before = writes.tasks;
    await store.update((tx) =>
      tx.nodes.update({ ...nodeRow('b', { spec: { Labels: { zone: 'far' } } }), gateways: { n: '10.0.0.2' } }),
    );
    await run();
    expect(writes.tasks).toBe(before);
    await end('t0');
    await run();
    expect(task('t1').nodeId).toBe('a');
    expect(task('t1').status.error).toBeUndefined();
  });

  test('the reason follows the nodes, and a node made active takes the task', async () => {
    const { addService, addTasks, run, task, store } = await setUp([nodeRow('a', { spec: { Availability: 'drain' } })]);
    await addTasks(await addService(serviceSpec('web')), ['t0']);
    await run();
    expect(task('t0').status.error).toBe('no suitable node (1 node not available for new tasks)');
    await store.update((tx) => tx.nodes.create(nodeRow('b', { status: { state: 'down' } })));
    await run();
    expect(task('t0').status.error).toBe('no suitable node (2 nodes not available for new tasks)');
    await store.update((tx) => tx.nodes.remove('b'));
    await run();
    expect(task('t0').status.error).toBe('no suitable node (1 node not available for new tasks)');
    await store.update((tx) => tx.nodes.update(nodeRow('a')));
    await run();
    expect(task('t0').nodeId).toBe('a');
  });

  test('groups of one run see each other', async () => {
    const { addService, addTasks, run, task } = await setUp([nodeRow('a'), nodeRow('b')]);
    const port = (name: string) =>
      serviceSpec(name, { EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 80, PublishMode: 'host' }] } });
    await addTasks(await addService(port('one')), ['x1', 'x2', 'x3']);
    await addTasks(await addService(port('two')), ['y1']);
    await run();
    expect([task('x1').nodeId, task('x2').nodeId].sort()).toEqual(['a', 'b']);
    for (const id of ['x3', 'y1'])
      expect(task(id).status.error).toBe('no suitable node (host-mode port already in use on 2 nodes)');
  });

  test('goes by the tasks of the service, then by all tasks, also those placed in the same run', async () => {
    const { addService, addTasks, run, task } = await setUp([nodeRow('a'), nodeRow('b')]);
    const [web, other] = [await addService(serviceSpec('web')), await addService(serviceSpec('other'))];
    await addTasks(other, ['o1'], { nodeId: 'a', slot: 0 });
    await addTasks(web, ['w0'], { nodeId: 'b', slot: 0 });
    await run();
    // a: one other; b: one of the service. First a, for the service; then both have one, and b has fewer in all.
    await addTasks(web, ['w1', 'w2', 'w3']);
    await run();
    expect(['w1', 'w2', 'w3'].map((id) => task(id).nodeId)).toEqual(['a', 'b', 'a']);
  });

  test('a limit per node counts the tasks of all versions', async () => {
    const { addService, addTasks, run, task } = await setUp([nodeRow('a')]);
    const spec = serviceSpec('web', { TaskTemplate: { Placement: { MaxReplicas: 2 } } });
    await addTasks(await addService(spec), ['t0']);
    await run();
    await addTasks(await addService(spec, 2), ['t1', 't2']);
    await run();
    expect(['t1', 't2'].map((id) => task(id).status.state)).toEqual([TaskState.ASSIGNED, TaskState.PENDING]);
    expect(['t1', 't2'].map((id) => task(id).status.error)).toContain(
      'no suitable node (max replicas per node limit exceed)',
    );
  });

  test('a task made for a node goes there or waits for that node', async () => {
    const { addService, addTasks, run, task, store } = await setUp([
      nodeRow('a'),
      nodeRow('b', { status: { state: 'down' } }),
    ]);
    const every = await addService(serviceSpec('every', { Mode: { Global: {} } }));
    await addTasks(every, ['ta'], { nodeId: 'a', slot: 0 });
    await addTasks(every, ['tb'], { nodeId: 'b', slot: 0 });
    await run();
    expect(task('ta').status.state).toBe(TaskState.ASSIGNED);
    expect(task('tb').status).toMatchObject({
      state: TaskState.PENDING,
      error: 'no suitable node (1 node not available for new tasks)',
    });
    await store.update((tx) => tx.nodes.update(nodeRow('b')));
    await run();
    expect(task('tb').status.state).toBe(TaskState.ASSIGNED);
  });

  test('a placement overtaken by a change of the node or of the task is taken back', async () => {
    const { addService, addTasks, clock, task, store, scheduler, journal } = await setUp([nodeRow('a')]);
    const web = await addService(serviceSpec('web'));
    await addTasks(web, ['t0', 't1']);
    // While the journal is busy with this, the scheduler decides; its transaction comes after the drain.
    let release = () => {};
    const commit = journal.commit.bind(journal);
    journal.commit = async (transactions) => {
      await new Promise<void>((resolve) => (release = resolve));
      journal.commit = commit;
      await commit(transactions);
    };
    const busy = store.update((tx) => {
      tx.nodes.update(nodeRow('a', { spec: { Availability: 'drain' } }));
      tx.tasks.remove('t1');
    });
    await clock.advance(0);
    release();
    await busy;
    await clock.advance(0);
    expect(task('t0').status).toMatchObject({
      state: TaskState.PENDING,
      error: 'no suitable node (1 node not available for new tasks)',
    });
    expect(scheduler.nodes.contents()).toMatchObject({ nodes: [{ id: 'a', tasks: 0, services: [] }] });
  });

  test('a task that ends while its placement is on its way leaves nothing counted, the last of its version either', async () => {
    const { addService, addTasks, clock, store, scheduler, journal } = await setUp([nodeRow('a')]);
    const Resources = { Reservations: { NanoCPUs: 1e9, MemoryBytes: 1e9 } };
    const web = await addService(serviceSpec('web', { TaskTemplate: { Resources } }));
    await addTasks(web, ['t0']);
    let release = () => {};
    const commit = journal.commit.bind(journal);
    journal.commit = async (transactions) => {
      await new Promise<void>((resolve) => (release = resolve));
      journal.commit = commit;
      await commit(transactions);
    };
    const busy = store.update((tx) => {
      const task = tx.tasks.get('t0')!;
      tx.tasks.update({ ...task, status: { ...task.status, state: TaskState.SHUTDOWN } });
    });
    await clock.advance(0);
    release();
    await busy;
    await clock.advance(0);
    expect(scheduler.nodes.contents()).toMatchObject({ nodes: [{ id: 'a', nanoCpus: 0, memoryBytes: 0, tasks: 0 }] });
  });

  test('a journal that fails for a while costs nothing but time', async () => {
    const { addService, addTasks, clock, task, scheduler, journal, run } = await setUp([nodeRow('a')]);
    await addTasks(await addService(serviceSpec('web')), ['t0']);
    const commit = journal.commit.bind(journal);
    journal.commit = () => Promise.reject(Object.assign(new Error('disk full'), { name: 'JournalUnavailable' }));
    await run();
    expect(task('t0').nodeId).toBe('');
    journal.commit = commit;
    await clock.advance(20_000);
    expect(task('t0').nodeId).toBe('a');
    expect(scheduler.nodes.contents()).toMatchObject({ nodes: [{ id: 'a', tasks: 1 }] });
  });

  test('things go to tasks by name, amounts by number, and come back when the task has ended', async () => {
    const offered = [
      { NamedResourceSpec: { Kind: 'gpu', Value: 'uuid-1' } },
      { NamedResourceSpec: { Kind: 'gpu', Value: 'uuid-2' } },
      { DiscreteResourceSpec: { Kind: 'licence', Value: 3 } },
    ];
    const resources = { nanoCpus: 4e9, memoryBytes: 8e9, generic: offered };
    const { addService, addTasks, run, task, end } = await setUp([nodeRow('a', { description: { resources } })]);
    const want = (Kind: string, Value: number) => ({ DiscreteResourceSpec: { Kind, Value } });
    const reserve = (...GenericResources: object[]) => ({
      TaskTemplate: { Resources: { Reservations: { GenericResources } } },
    });
    const both = await addService(serviceSpec('both', reserve(want('gpu', 1), want('licence', 1))));
    await addTasks(both, ['b1', 'b2', 'b3']);
    await run();
    expect(task('b1').genericResources).toEqual([offered[0], want('licence', 1)]);
    expect(task('b2').genericResources).toEqual([offered[1], want('licence', 1)]);
    expect(task('b3')).not.toHaveProperty('genericResources');
    expect(task('b3').status.error).toBe('no suitable node (insufficient generic resources on 1 node)');
    await end('b1');
    await run();
    expect(task('b3').genericResources).toEqual([offered[0], want('licence', 1)]);
  });

  test('a node that keeps failing a version goes last for it, and only for as long', async () => {
    const { addService, addTasks, run, task, end, clock, store } = await setUp([
      nodeRow('a'),
      nodeRow('b', { spec: { Availability: 'pause' } }),
    ]);
    const spec = serviceSpec('web');
    const web = await addService(spec);
    for (const id of ids(5, 'f')) {
      await addTasks(web, [id]);
      await run();
      await end(id, TaskState.FAILED);
    }
    await store.update((tx) => tx.nodes.update(nodeRow('b')));
    await addTasks(web, ['x1', 'x2']);
    await run();
    expect(['x1', 'x2'].map((id) => task(id).nodeId)).toEqual(['b', 'b']);
    // Another version is another matter.
    await addTasks(await addService(spec, 2), ['y1', 'y2']);
    await run();
    expect(['y1', 'y2'].map((id) => task(id).nodeId)).toEqual(['a', 'a']);
    await clock.advance(5 * 60_000);
    await addTasks(web, ['x3', 'x4']);
    await run();
    expect(['x3', 'x4'].map((id) => task(id).nodeId).sort()).toEqual(['a', 'b']);
  });

  test('a preference gives each branch its share before nodes are compared, and gives way when a branch is full', async () => {
    const zoned = (id: string, zone?: string) =>
      nodeRow(id, {
        spec: { Labels: zone === undefined ? {} : { zone } },
        description: { resources: { nanoCpus: 4e9, memoryBytes: 8e9 } },
      });
    const { addService, addTasks, run, task } = await setUp([
      zoned('a1', 'a'),
      zoned('b1', 'b'),
      zoned('b2', 'b'),
      zoned('none'),
    ]);
    const web = await addService(
      serviceSpec('web', {
        TaskTemplate: {
          Resources: { Reservations: { MemoryBytes: 4e9 } },
          Placement: {
            Constraints: ['node.labels.zone!=c'],
            Preferences: [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }],
          },
        },
      }),
    );
    await addTasks(web, ids(6));
    await run();
    const on = (names: string[]) => names.map((id) => task(id).nodeId).sort();
    expect(on(ids(6))).toEqual(['a1', 'a1', 'b1', 'b2', 'none', 'none']);
    await addTasks(web, ['u0', 'u1', 'u2']);
    await run();
    expect(on(['u0', 'u1', 'u2'])).toEqual(['', 'b1', 'b2']);
  });

  test('many that wait hear of a new reason in the end, a bounded number a second, and newcomers at once', async () => {
    const { addService, addTasks, run, task, writes, clock, store } = await setUp([
      nodeRow('a', { status: { state: 'down' } }),
    ]);
    const web = await addService(serviceSpec('web'));
    await addTasks(web, ids(5000));
    await run();
    expect(writes.tasks).toBe(10_000);
    const reason = (count: number) =>
      `no suitable node (${count} node${count === 1 ? '' : 's'} not available for new tasks)`;
    const told = (text: string) => ids(5000).filter((id) => task(id).status.error === text).length;
    expect(told(reason(1))).toBe(5000);
    writes.tasks = 0;
    for (let flap = 0; flap < 10; flap++) {
      await store.update((tx) => tx.nodes.create(nodeRow('b', { status: { state: 'down' } })));
      await run();
      await store.update((tx) => tx.nodes.remove('b'));
      await run();
    }
    expect(writes.tasks).toBeLessThanOrEqual(1000);
    await store.update((tx) => tx.nodes.create(nodeRow('b', { status: { state: 'down' } })));
    await addTasks(web, ['late']);
    await run();
    expect(task('late').status.error).toBe(reason(2));
    await clock.advance(6000);
    expect(told(reason(2))).toBe(5000);
  });
});
