/** The promise of facts.ts, by random changes: applying what is marked leaves exactly all the facts, for every node. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import { CLUSTER_ROW, type Cluster, type Payload } from '../model/objects.ts';
import type { TaskAssignment } from '../model/assignments.ts';
import type { ServiceSpec, SwarmSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import { Store, type Transaction, type View } from '../store/store.ts';
import { factNamed, factsOf, markAffected, readFact, type FactKey } from './facts.ts';
import { descriptionOf, network, node, putService, service, task } from './testbed.fixture.ts';

const NODES = ['n1', 'n2', 'n3'];
const NETWORKS = ['a', 'b', 'ingress'];
const SERVICES = ['s1', 's2'];
const TASKS = ['t1', 't2', 't3', 't4'];
const ATTACHMENTS = ['c1', 'c2'];

type Change = (tx: Transaction) => void;

const payload = (id: string): Payload => ({
  id,
  environment: 'default',
  meta: { version: 1, createdAt: '', updatedAt: '' },
  spec: { Name: id, Labels: {}, Data: 'aGVsbG8=' },
});

/** Every service uses a secret and a config that may be there. */
const withPayloads = (spec: ServiceSpec): ServiceSpec => ({
  ...spec,
  TaskTemplate: {
    ...spec.TaskTemplate,
    ContainerSpec: {
      Image: 'i',
      Secrets: [{ SecretID: 'p1', SecretName: 'p1' }],
      Configs: [{ ConfigID: 'p1', ConfigName: 'p1' }],
    },
  },
});

const pick = (names: string[]) => fc.constantFrom(...names);
const some = (names: string[]) => fc.subarray(names);
const state = fc.constantFrom(
  TaskState.NEW,
  TaskState.PENDING,
  TaskState.ASSIGNED,
  TaskState.RUNNING,
  TaskState.FAILED,
);
const desired = fc.constantFrom(TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN);

/** Makes, changes or removes one object, whatever stands there. */
const change: fc.Arbitrary<Change> = fc.oneof(
  fc
    .tuple(pick(NODES), some(NETWORKS), fc.nat(2), fc.option(fc.nat(2)))
    .map(([id, gateways, g, address]): Change => (tx) => {
      const row = {
        ...node(id, Object.fromEntries(gateways.map((name) => [name, `10.0.0.${g + 1}`]))),
        ...(address === null ? {} : { description: descriptionOf(id, `10.77.0.${address}`) }),
      };
      if (tx.nodes.get(id) === undefined) tx.nodes.create(row);
      else tx.nodes.update(row);
    }),
  pick(NODES).map(
    (id): Change =>
      (tx) =>
        tx.nodes.get(id) && tx.nodes.remove(id),
  ),
  fc.tuple(pick(NETWORKS), fc.boolean()).map(([id, allocated]): Change => (tx) => {
    const row = network(id, id === 'ingress');
    if (!allocated) delete row.allocation;
    if (tx.networks.get(id) === undefined) tx.networks.create(row);
    else tx.networks.update(row);
  }),
  pick(NETWORKS).map(
    (id): Change =>
      (tx) =>
        tx.networks.get(id) && tx.networks.remove(id),
  ),
  fc
    .tuple(pick(SERVICES), some(['a', 'b']), fc.boolean(), fc.boolean(), fc.constantFrom('', '1s', '1m'))
    .map(([id, networks, published, allocated, drain]): Change => (tx) => {
      const row = service(id, networks, published ? ['ingress'] : []);
      if (drain !== '') row.spec.Labels['drover.drain'] = drain;
      if (!allocated) delete row.endpoint;
      row.spec = withPayloads(row.spec);
      if (tx.serviceSpecs.get(`${id}@1`) === undefined) {
        if (tx.services.get(id) === undefined) putService(tx, row);
        return;
      }
      // A spec that moves is a further version; tasks were made from the first.
      const { index: version } = tx;
      const moved = { ...row, specVersion: version };
      tx.serviceSpecs.create({ id: `${id}@${version}`, serviceId: id, version, spec: row.spec });
      if (tx.services.get(id) === undefined) tx.services.create(moved);
      else tx.services.update(moved);
    }),
  pick(SERVICES).map(
    (id): Change =>
      (tx) =>
        tx.services.get(id) && tx.services.remove(id),
  ),
  fc
    .tuple(pick(TASKS), pick(SERVICES), fc.constantFrom('', ...NODES), some(NETWORKS), state, desired)
    .map(([id, serviceId, nodeId, networks, observed, desiredState]): Change => (tx) => {
      if (tx.serviceSpecs.get(`${serviceId}@1`) === undefined) return;
      const old = tx.tasks.get(id);
      const row = task(id, old?.serviceId ?? serviceId, nodeId, networks);
      const status = { ...row.status, state: observed };
      if (old === undefined) tx.tasks.create({ ...row, status, desiredState });
      else tx.tasks.update({ ...row, status, desiredState });
    }),
  pick(TASKS).map(
    (id): Change =>
      (tx) =>
        tx.tasks.get(id) && tx.tasks.remove(id),
  ),
  fc.tuple(fc.constantFrom('secrets', 'configs'), fc.boolean()).map(([table, there]): Change => (tx) => {
    if (tx[table].get('p1') === undefined) tx[table].create(payload('p1'));
    else if (!there) tx[table].remove('p1');
  }),
  // As the reaper does: a version goes with its last task, here even in one transaction.
  pick(SERVICES).map((id): Change => (tx) => {
    for (const { id: taskId } of tx.tasks.by('service', id)) tx.tasks.remove(taskId);
    if (tx.services.get(id) === undefined && tx.serviceSpecs.get(`${id}@1`) !== undefined)
      tx.serviceSpecs.remove(`${id}@1`);
  }),
  fc
    .tuple(pick(ATTACHMENTS), fc.constantFrom(...NODES), pick(['a', 'b']), fc.boolean(), fc.option(fc.boolean()))
    .map(([id, nodeId, networkId, allocated, running]): Change => (tx) => {
      const old = tx.attachments.get(id);
      const row = {
        id,
        environment: 'default',
        networkId,
        nodeId,
        createdAt: '',
        aliases: ['alias'],
        ...(old === undefined ? {} : { nodeId: old.nodeId, networkId: old.networkId }),
        ...(allocated ? { address: '10.0.2.5' } : {}),
        ...(running === null ? {} : { container: { id: 'c', name: 'n', running } }),
      };
      if (old === undefined) tx.attachments.create(row);
      else tx.attachments.update(row);
    }),
  pick(ATTACHMENTS).map(
    (id): Change =>
      (tx) =>
        tx.attachments.get(id) && tx.attachments.remove(id),
  ),
  fc.tuple(pick(NODES), fc.constantFrom('ready' as const, 'down' as const)).map(([id, state]): Change => (tx) => {
    const old = tx.nodes.get(id);
    if (old !== undefined) tx.nodes.update({ ...old, status: { ...old.status, state } });
  }),
  {
    weight: 3,
    arbitrary: fc.tuple(pick(TASKS), state, fc.boolean()).map(([id, observed, ready]): Change => (tx) => {
      const old = tx.tasks.get(id);
      if (old !== undefined) tx.tasks.update({ ...old, status: { ...old.status, state: observed, ready } });
    }),
  },
);

/** The names of all facts of a node. */
const allOf = (view: View, nodeId: string) =>
  Array.from(factsOf(view, nodeId), ({ kind, key }): FactKey => `${kind} ${key}`);

/** Facts without the observed status of tasks, which is the agent's own. */
function known(
  view: View,
  nodeId: string,
  keys: Iterable<FactKey>,
  into = new Map<string, unknown>(),
): Map<string, unknown> {
  for (const key of keys) {
    const { kind, value } = readFact(view, nodeId, factNamed(key));
    if (value === null) into.delete(key);
    else into.set(key, kind === 'task' ? { ...value, status: undefined } : value);
  }
  return into;
}

test('whoever reads again what was marked knows exactly all the facts', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(change, { minLength: 1, maxLength: 6 }), { minLength: 3, maxLength: 25 }),
      async (batches) => {
        const store = await Store.open(new MemoryJournal());
        await store.update((tx) =>
          tx.clusters.create({ id: CLUSTER_ROW, dataPathPort: 4789, spec: { TaskDefaults: {} } } as Cluster),
        );
        const agents = new Map(NODES.map((id) => [id, new Map<string, unknown>()]));
        store.watch((events) =>
          store.view((view) => {
            const marked = new Map(NODES.map((id) => [id, new Set<FactKey>()]));
            markAffected(events, view, (nodeId, fact) => marked.get(nodeId)!.add(fact));
            for (const [nodeId, facts] of marked) known(view, nodeId, facts, agents.get(nodeId));
          }),
        );
        for (const batch of batches) {
          await Promise.all(batch.map((one) => store.update(one)));
          store.view((view) => {
            for (const nodeId of NODES) expect(agents.get(nodeId)).toEqual(known(view, nodeId, allOf(view, nodeId)));
          });
        }
      },
    ),
    { numRuns: 400 },
  );
});

test('a status that changes nothing for anybody marks nothing', async () => {
  const store = await Store.open(new MemoryJournal());
  await store.update((tx) => {
    tx.networks.create(network('a'));
    putService(tx, service('s1', ['a']));
    for (const id of NODES) tx.nodes.create({ ...node(id, { a: '10.0.0.1' }), description: descriptionOf(id) });
    tx.tasks.create(task('t1', 's1', 'n1', ['a']));
  });
  const marks: string[] = [];
  store.watch((events) =>
    store.view((view) => markAffected(events, view, (nodeId, fact) => marks.push(`${nodeId} ${fact}`))),
  );
  const set = (observed: TaskState) =>
    store.update((tx) => {
      const old = tx.tasks.get('t1')!;
      tx.tasks.update({ ...old, status: { ...old.status, state: observed } });
    });
  await set(TaskState.PREPARING);
  await set(TaskState.STARTING);
  await store.update((tx) =>
    tx.nodes.update({ ...tx.nodes.get('n2')!, status: { state: 'ready', message: '', address: '', since: '' } }),
  );
  expect(marks).toEqual([]);
  await set(TaskState.RUNNING);
  expect(marks.sort()).toEqual(NODES.map((id) => `${id} endpoint a/t1`));
});

test('a task is told which generic resources are its own', async () => {
  const store = await Store.open(new MemoryJournal());
  const genericResources = [{ NamedResourceSpec: { Kind: 'gpu', Value: 'a' } }];
  await store.update((tx) => {
    putService(tx, service('s1', []));
    tx.nodes.create(node('n1', {}));
    tx.tasks.create({ ...task('t1', 's1', 'n1', []), genericResources });
    tx.tasks.create(task('t2', 's1', 'n1', []));
  });
  const fact = (id: string) => store.view((view) => readFact(view, 'n1', { kind: 'task', key: id }).value);
  expect(fact('t1')).toMatchObject({ genericResources });
  expect(fact('t2')).not.toHaveProperty('genericResources');
});

test('a task whose service names no log driver gets that of the cluster', async () => {
  const store = await Store.open(new MemoryJournal());
  const LogDriver = { Name: 'local', Options: { 'max-size': '1m' } };
  await store.update((tx) => {
    tx.clusters.create({ id: CLUSTER_ROW, spec: { TaskDefaults: { LogDriver } } as unknown as SwarmSpec } as Cluster);
    putService(tx, service('s1', []));
    const own = service('s2', []);
    putService(tx, {
      ...own,
      spec: { ...own.spec, TaskTemplate: { ...own.spec.TaskTemplate, LogDriver: { Name: 'none' } } },
    });
    tx.nodes.create(node('n1', {}));
    tx.tasks.create(task('t1', 's1', 'n1', []));
    tx.tasks.create(task('t2', 's2', 'n1', []));
  });
  const driverOf = (id: string): unknown =>
    store.view((view) => (readFact(view, 'n1', { kind: 'task', key: id }).value as TaskAssignment).spec.LogDriver);
  expect(driverOf('t1')).toEqual(LogDriver);
  expect(driverOf('t2')).toEqual({ Name: 'none' });
});

test('a secret goes to the nodes of tasks that use it and have not ended, before the task, and to no others', async () => {
  const store = await Store.open(new MemoryJournal());
  const own = service('s1', []);
  await store.update((tx) => {
    tx.secrets.create(payload('p1'));
    putService(tx, { ...own, spec: withPayloads(own.spec) });
    putService(tx, service('s2', []));
    for (const id of NODES) tx.nodes.create(node(id, {}));
    tx.tasks.create(task('t2', 's2', 'n2', []));
  });
  const marks: string[] = [];
  store.watch((events) =>
    store.view((view) => markAffected(events, view, (nodeId, fact) => marks.push(`${nodeId} ${fact}`))),
  );
  const has = () =>
    store.view((view) => NODES.filter((nodeId) => readFact(view, nodeId, factNamed('secret p1')).value !== null));
  const set = (observed: TaskState) =>
    store.update((tx) =>
      tx.tasks.update({ ...tx.tasks.get('t1')!, status: { ...tx.tasks.get('t1')!.status, state: observed } }),
    );
  expect(has()).toEqual([]);
  await store.update((tx) => tx.tasks.create(task('t1', 's1', 'n1', [])));
  expect(marks).toEqual(['n1 secret p1', 'n1 config p1', 'n1 task t1']);
  expect(has()).toEqual(['n1']);
  expect(store.view((view) => readFact(view, 'n1', factNamed('secret p1')).value)).toEqual({
    id: 'p1',
    data: 'aGVsbG8=',
    templated: false,
  });
  expect(store.view((view) => allOf(view, 'n1'))).toEqual(['secret p1', 'config p1', 'task t1']);
  marks.length = 0;
  await set(TaskState.FAILED);
  expect(marks).toContain('n1 secret p1');
  expect(has()).toEqual([]);
});
