/** The routes as clients call them, over a unix socket: what they answer, what they write, and what they refuse. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TaskState } from '../../model/states.ts';
import { aNode, anOverlay, aService, aTask, json, startApi, type TestApi } from '../api.fixture.ts';

let api: TestApi;

/** An engine with one visible network, and one that is Drover's. */
const LOCALS = [
  { Id: 'loc1', Name: 'mac', Driver: 'macvlan', Labels: {} },
  { Id: 'hid1', Name: 'dr-bridge', Driver: 'bridge', Labels: { 'io.drover.network.id': 'net1' } },
];
let engineCalls: string[];

beforeEach(async () => {
  engineCalls = [];
  api = await startApi((request, response) => {
    engineCalls.push(`${request.method} ${request.url}`);
    const path = (request.url ?? '').replace(/^\/v1\.\d+/, '').split('?')[0] ?? '';
    if (path === '/networks' && request.method === 'GET') return json(response, 200, LOCALS);
    if (path === '/networks/prune') return json(response, 200, { NetworksDeleted: ['unused'] });
    if (path === '/networks/dr-bridge') return json(response, 200, LOCALS[1]);
    if (path === '/info')
      return json(response, 200, { Name: 'host', Swarm: { LocalNodeState: 'inactive' }, Warnings: null });
    if (path === '/version')
      return json(response, 200, {
        Version: '20.10.24',
        ApiVersion: '1.41',
        MinAPIVersion: '1.12',
        Components: [{ Name: 'Engine', Details: { ApiVersion: '1.41' } }],
      });
    return json(response, 404, { message: 'page not found' });
  });
});

afterEach(() => api.close());

describe('negotiation', () => {
  test('a ping says who and what, by GET and HEAD', async () => {
    for (const method of ['GET', 'HEAD']) {
      const { status, headers, text } = await api.call(method, '/_ping');
      expect([status, text]).toEqual([200, method === 'GET' ? 'OK' : '']);
      expect(headers).toMatchObject({
        'api-version': '1.41',
        ostype: 'linux',
        server: 'Docker/20.10.24 (linux)',
        'builder-version': '1',
        'docker-experimental': 'false',
        swarm: 'active/manager',
        'cache-control': 'no-cache, no-store, must-revalidate',
      });
    }
  });

  test.each([
    ['/v1.42/services', 400, 'client version 1.42 is too new. Maximum supported API version is 1.41'],
    [
      '/v1.23/services',
      400,
      'client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version',
    ],
    ['/v1.99/containers/json', 400, 'client version 1.99 is too new. Maximum supported API version is 1.41'],
    ['/env/stage/v1.41/services', 404, 'environment stage not found'],
    ['/v1.41/nowhere', 404, 'page not found'],
  ])('%s', async (path, status, message) => {
    const answer = await api.call('GET', path);
    expect([answer.status, answer.json]).toEqual([status, { message }]);
    expect(answer.headers['content-type']).toBe('application/json');
    expect(answer.headers['api-version']).toBe('1.41');
  });

  test("info and version are the engine's with the cluster's part in them", async () => {
    const info = (await api.call('GET', '/v1.41/info')).json;
    expect(info).toMatchObject({
      Name: 'host',
      Swarm: { LocalNodeState: 'active', ControlAvailable: true, Nodes: 0, Cluster: { ID: 'cluster1' } },
    });
    expect(JSON.stringify(info)).not.toContain('SWMTKN');
    expect((await api.call('GET', '/version')).json).toMatchObject({
      Version: '20.10.24',
      MinAPIVersion: '1.24',
      Components: [
        { Name: 'Engine', Details: { MinAPIVersion: '1.24' } },
        { Name: 'Drover', Version: '0.1.0' },
      ],
    });
  });

  test('info says what hosts cannot do in full: on a worker its own, on a manager that of all that are ready', async () => {
    const info = async () => (await api.call('GET', '/v1.41/info')).json;
    const described = aNode('node2').description!;
    const description = { ...described, degraded: ['names do not resolve: the port is taken'] };
    expect(await info()).toMatchObject({ Warnings: null });
    api.cluster.current = { ...api.cluster.current, degraded: ['overlay net1 stays on this host'] };
    await api.store.update((tx) => {
      // A node shows itself as it is now, not as it was when it last described itself.
      tx.nodes.create(aNode('node1', { description: { ...described, degraded: ['something of the past'] } }));
      tx.nodes.create(aNode('node2', { description }));
      tx.nodes.create(
        aNode('node3', { description, status: { ...aNode('x').status, state: 'down', message: 'gone' } }),
      );
    });
    const here = 'WARNING: overlay net1 stays on this host';
    const there = 'WARNING: node host-node2: names do not resolve: the port is taken';
    expect(await info()).toMatchObject({ Warnings: [here, there] });
    expect((await api.call('GET', '/nodes/node2')).json.Status).toMatchObject({
      State: 'ready',
      Message: 'names do not resolve: the port is taken',
    });
    expect((await api.call('GET', '/nodes/node3')).json.Status).toMatchObject({ State: 'down', Message: 'gone' });
    api.cluster.become('worker');
    expect(await info()).toMatchObject({ Warnings: [here] });
  });
});

describe('who may ask', () => {
  const NONE = /^This node is not a swarm manager. Use "docker swarm init"/;
  const WORKER = /Worker nodes can't be used to view or modify cluster state/;
  const PATHS = [
    'GET /services',
    'GET /nodes',
    'GET /tasks',
    'GET /swarm',
    'GET /secrets',
    'POST /services/create',
    'DELETE /nodes/x',
  ];

  test.each(PATHS)('%s needs a manager', async (call) => {
    const [method = '', path = ''] = call.split(' ');
    api.cluster.become('worker');
    expect((await api.call(method, path)).json.message).toMatch(WORKER);
    api.cluster.current = { ...api.cluster.current, localNodeState: 'inactive' };
    const answer = await api.call(method, path);
    expect([answer.status, answer.json.message]).toEqual([503, expect.stringMatching(NONE)]);
  });

  test('init, join and leave go to the daemon, checked, and only where they make sense', async () => {
    const init = { ListenAddr: '0.0.0.0:2377', AdvertiseAddr: '10.0.0.1' };
    const token = `SWMTKN-1-${'1'.repeat(50)}-${'1'.repeat(25)}`;
    expect((await api.call('POST', '/swarm/init', init)).json.message).toMatch(/already part of a swarm/);
    expect(
      (await api.call('POST', '/swarm/join', { RemoteAddrs: ['10.0.0.1'], JoinToken: token })).json.message,
    ).toMatch(/already part of a swarm/);
    expect(await api.call('POST', '/swarm/init', { ...init, ForceNewCluster: true })).toMatchObject({ json: 'node1' });
    expect(api.cluster.asked.splice(0)).toEqual(['force-new-cluster']);
    expect((await api.call('POST', '/swarm/leave')).json.message).toMatch(
      /^You are attempting to leave the swarm on a node that is participating as a manager/,
    );
    expect(api.cluster.asked).toEqual([]);
    await api.call('POST', '/swarm/leave?force=1');
    api.cluster.current = { ...api.cluster.current, localNodeState: 'inactive', manager: false };
    expect((await api.call('POST', '/swarm/leave')).json).toEqual({ message: 'This node is not part of a swarm' });
    expect(await api.call('POST', '/swarm/init', init)).toMatchObject({ status: 200, json: 'node1' });
    expect((await api.call('POST', '/swarm/join', { RemoteAddrs: ['10.0.0.1'], JoinToken: 'wrong' })).status).toBe(400);
    expect((await api.call('POST', '/swarm/join', { RemoteAddrs: ['10.0.0.1'], JoinToken: token })).status).toBe(200);
    expect(api.cluster.asked).toEqual([
      'leave',
      expect.objectContaining({ advertiseAddr: { host: '10.0.0.1' } }),
      expect.objectContaining({ remoteAddrs: [{ host: '10.0.0.1', port: 2377 }], joinToken: token }),
    ]);
  });
});

test('the cluster: shown with its tokens, changed, tokens rotated one by one, stale versions refused', async () => {
  const before = (await api.call('GET', '/swarm')).json;
  expect(before).toMatchObject({
    ID: 'cluster1',
    JoinTokens: { Worker: 'SWMTKN-worker', Manager: 'SWMTKN-manager' },
    SubnetSize: 20,
  });
  const spec = { ...before.Spec, Orchestration: { TaskHistoryRetentionLimit: 2 } };
  const update = (query: string) => api.call('POST', `/swarm/update?${query}`, spec);
  expect((await update('version=7')).json).toEqual({ message: 'update out of sequence' });
  expect((await update('version=x')).status).toBe(400);
  expect((await update(`version=${before.Version.Index}&rotateWorkerToken=true&rotateManagerToken=false`)).status).toBe(
    200,
  );
  const after = (await api.call('GET', '/swarm')).json;
  expect(after.Spec.Orchestration.TaskHistoryRetentionLimit).toBe(2);
  expect(after.JoinTokens.Worker).toMatch(/^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/);
  expect(after.JoinTokens.Manager).toBe('SWMTKN-manager');
});

describe('nodes', () => {
  beforeEach(() =>
    api.store.update((tx) => {
      tx.nodes.create(
        aNode('m', {
          spec: { Labels: {}, Role: 'manager', Availability: 'active' },
          manager: { address: 'a:2377', leader: true, reachability: 'reachable' },
        }),
      );
      tx.nodes.create(aNode('w1'));
      tx.tasks.create(aTask('t1', 'web', { nodeId: 'w1' }));
      tx.tasks.create(
        aTask('t2', 'web', { nodeId: 'w1', status: { timestamp: '', state: TaskState.FAILED, message: 'was' } }),
      );
    }),
  );

  test('availability and labels change; versions are checked', async () => {
    const { Version, Spec } = (await api.call('GET', '/nodes/host-w1')).json;
    const spec = { ...Spec, Availability: 'drain', Labels: { segment: 'AA' } };
    expect((await api.call('POST', `/nodes/w1/update?version=${Version.Index}`, spec)).status).toBe(200);
    expect((await api.call('GET', '/nodes/w1')).json.Spec).toEqual(spec);
    expect((await api.call('POST', `/nodes/w1/update?version=${Version.Index}`, spec)).json.message).toBe(
      'update out of sequence',
    );
    const filtered = await api.call('GET', '/nodes?filters={"node.label":{"segment=AA":true}}');
    expect(filtered.json.map((node: { ID: string }) => node.ID)).toEqual(['w1']);
  });

  test.each([
    ['m', { Role: 'worker', Availability: 'active' }, 400, 'attempting to demote the last manager of the swarm'],
    ['w1', { Role: 'king', Availability: 'active' }, 400, 'invalid Role: "king"'],
    ['w1', { Role: 'worker', Availability: 'off' }, 400, 'invalid Availability: "off"'],
  ])('%s to %j is refused', async (id, spec, status, message) => {
    const answer = await api.call('POST', `/nodes/${id}/update?version=1`, spec);
    expect([answer.status, answer.json.message]).toEqual([status, message]);
  });

  test('removal: not a manager, not one that is up, unless by force; its tasks are orphaned', async () => {
    expect((await api.call('DELETE', '/nodes/m?force=1')).json.message).toMatch(/^node m is a cluster manager/);
    expect((await api.call('DELETE', '/nodes/w1')).json.message).toBe("node w1 is not down and can't be removed");
    expect((await api.call('DELETE', '/nodes/w1?force=1')).status).toBe(200);
    const states = api.store.view((view) => ['t1', 't2'].map((id) => view.tasks.get(id)?.status.state));
    expect(states).toEqual([TaskState.ORPHANED, TaskState.FAILED]);
  });
});

describe('tasks', () => {
  beforeEach(() =>
    api.store.update((tx) => {
      const spec = { ...aService('web').spec, Labels: { 'com.docker.stack.namespace': 'app' } };
      const newer = { ...spec, TaskTemplate: { ContainerSpec: { Image: 'newer' } } };
      tx.nodes.create(aNode('n1'));
      tx.services.create(aService('web', { spec: newer, specVersion: 2 }));
      tx.serviceSpecs.create({ id: 'web@1', serviceId: 'web', version: 1, spec });
      tx.serviceSpecs.create({ id: 'web@2', serviceId: 'web', version: 2, spec: newer });
      tx.tasks.create(aTask('old', 'web', { desiredState: TaskState.SHUTDOWN }));
      tx.tasks.create(aTask('new', 'web', { specVersion: 2, nodeId: 'n1' }));
    }),
  );

  const ids = async (filters: object) => {
    const answer = await api.call('GET', `/tasks?filters=${encodeURIComponent(JSON.stringify(filters))}`);
    return answer.status === 200 ? answer.json.map((task: { ID: string }) => task.ID).sort() : answer.json.message;
  };

  test.each<[object, string[] | string]>([
    [{}, ['new', 'old']],
    [{ service: ['web'], '_up-to-date': { true: true } }, ['new']],
    [{ '_up-to-date': { false: true } }, ['old']],
    [{ 'desired-state': ['running'] }, ['new']],
    [{ 'desired-state': ['running', 'shutdown'] }, ['new', 'old']],
    [{ node: ['host-n1'] }, ['new']],
    [{ name: ['web.1.o'] }, ['old']],
    [{ id: ['ol'] }, ['old']],
    [{ label: ['com.docker.stack.namespace=app'] }, ['new', 'old']],
    [{ label: ['com.docker.stack.namespace=other'] }, []],
    [{ runtime: ['plugin'] }, []],
    [{ service: ['nope'] }, 'service nope not found'],
    [{ 'desired-state': ['happy'] }, "Invalid desired-state filter: 'happy'"],
  ])('%j', async (filters, expected) => expect(await ids(filters)).toEqual(expected));

  test('one by its name', async () => {
    expect((await api.call('GET', '/tasks/web.1.new')).json).toMatchObject({
      ID: 'new',
      Spec: { ContainerSpec: { Image: 'newer' } },
    });
  });
});

describe('networks', () => {
  beforeEach(() => api.store.update((tx) => tx.networks.create(anOverlay('net1'))));

  test("one list of both, without what is Drover's", async () => {
    const { json: list } = await api.call('GET', '/v1.41/networks');
    expect(list.map((network: { Name: string }) => network.Name)).toEqual(['mac', 'net1-name']);
    const dangling = await api.call('GET', '/networks?filters={"dangling":["false"],"driver":["overlay"]}');
    expect(dangling.json.map((network: { Name: string }) => network.Name)).toEqual(['mac']);
  });

  test('overlays are shown here, others by the engine, hidden ones not at all', async () => {
    expect((await api.call('GET', '/networks/net1-name?scope=swarm')).json).toMatchObject({
      Id: 'net1',
      Scope: 'swarm',
    });
    expect((await api.call('GET', '/networks/net1?verbose=true')).json).toMatchObject({ Peers: [], Services: {} });
    expect((await api.call('GET', '/networks/host?scope=swarm')).json).toMatchObject({ Id: 'host', Scope: 'swarm' });
    expect((await api.call('GET', '/networks/mac?scope=swarm')).json).toEqual({ message: 'network mac not found' });
    await api.call('GET', '/v1.30/networks/mac?verbose=true');
    expect(engineCalls.at(-1)).toBe('GET /v1.30/networks/loc1?verbose=true');
    for (const method of ['GET', 'DELETE']) {
      expect((await api.call(method, '/networks/dr-bridge')).json).toEqual({ message: 'network dr-bridge not found' });
      expect((await api.call(method, '/networks/hid1')).json).toEqual({ message: 'network hid1 not found' });
    }
  });

  test('a subnet that shares addresses with that of another overlay is refused, unless that one is being removed', async () => {
    const create = (Name: string, Subnet: string) =>
      api.call('POST', '/networks/create', { Name, Driver: 'overlay', IPAM: { Config: [{ Subnet }] } });
    await api.store.update((tx) => {
      const { allocation } = anOverlay('given');
      tx.networks.create(anOverlay('given', { allocation: { ...allocation!, subnet: '10.91.16.0/20' } }));
      tx.networks.create(
        anOverlay('going', { removing: true, allocation: { ...allocation!, subnet: '10.92.0.0/20' } }),
      );
    });
    const overlap = {
      status: 403,
      json: {
        message: expect.stringMatching(/Pool overlaps with other one on this address space \(network given-name\)/),
      },
    };
    for (const subnet of ['10.91.16.0/20', '10.91.31.0/24', '10.91.0.0/16']) {
      expect(await create('mine', subnet)).toMatchObject(overlap);
    }
    expect((await create('mine', '10.91.32.0/24')).status).toBe(201);
    expect((await create('again', '10.92.0.0/24')).status).toBe(201);
    // Not allocated yet: what it asks for counts.
    expect((await create('third', '10.91.32.128/25')).json.message).toMatch(/\(network mine\)$/);
  });

  test('there is one ingress network; it goes when no service publishes through it, and comes back as the user wants', async () => {
    const mesh = { Name: 'mesh', Driver: 'overlay', Ingress: true };
    const published = {
      Name: 'web',
      TaskTemplate: { ContainerSpec: { Image: 'web' } },
      EndpointSpec: { Ports: [{ TargetPort: 80 }] },
    };
    expect((await api.call('POST', '/services/create', published)).json.message).toBe(
      'service needs ingress network, but no ingress network is present',
    );
    const { Id } = (await api.call('POST', '/networks/create', mesh)).json;
    expect(await api.call('POST', '/networks/create', { ...mesh, Name: 'other' })).toMatchObject({
      status: 409,
      json: { message: `ingress network (${Id}) is already present` },
    });
    const { ID } = (await api.call('POST', '/services/create', published)).json;
    expect(await api.call('DELETE', '/networks/mesh')).toMatchObject({
      status: 400,
      json: { message: `ingress network cannot be removed because service ${ID} depends on it` },
    });
    await api.call('DELETE', '/services/web');
    expect((await api.call('DELETE', '/networks/mesh')).status).toBe(204);
    expect((await api.call('POST', '/networks/create', mesh)).status).toBe(201);
  });

  test("containers cannot be put on what is Drover's", async () => {
    const run = (network: string) =>
      api.call('POST', '/v1.41/containers/create', { Image: 'x', HostConfig: { NetworkMode: network } });
    expect(await run('dr-bridge')).toMatchObject({ status: 400, json: { message: 'network dr-bridge not found' } });
    expect((await api.call('POST', '/networks/hid1/connect', { Container: 'x' })).status).toBe(404);
    expect(engineCalls.filter((call) => call.startsWith('POST'))).toEqual([]);
    await run('bridge');
    expect(engineCalls.at(-1)).toBe('POST /v1.41/containers/create');
  });

  test('removed at once if nothing is on it, later if tasks are still stopping', async () => {
    await api.store.update((tx) => {
      tx.networks.create(anOverlay('net2'));
      tx.tasks.create(aTask('t', 'gone', { networks: [{ networkId: 'net2', address: '10.0.0.3', aliases: [] }] }));
    });
    expect((await api.call('DELETE', '/networks/net1-name')).status).toBe(204);
    expect((await api.call('DELETE', '/networks/net2-name')).status).toBe(204);
    expect((await api.call('DELETE', '/networks/net2-name')).status).toBe(404);
    expect(api.store.view((view) => [...view.networks.all()].map(({ id, removing }) => ({ id, removing })))).toEqual([
      { id: 'net2', removing: true },
    ]);
    expect((await api.call('POST', '/networks/create', { Name: 'net2-name', Driver: 'overlay' })).status).toBe(201);
  });

  test("prune leaves Drover's bridges alone and takes idle overlays", async () => {
    await api.store.update((tx) =>
      tx.networks.create({ ...anOverlay('ing'), spec: { ...anOverlay('ing').spec, Ingress: true } }),
    );
    expect((await api.call('POST', '/v1.41/networks/prune?filters={}')).json).toEqual({
      NetworksDeleted: ['unused', 'net1-name'],
    });
    const url = new URL(`http://x${(engineCalls.at(-1) ?? '').split(' ')[1]}`);
    expect(JSON.parse(url.searchParams.get('filters') ?? '')).toEqual({ 'label!': { 'io.drover.network.id': true } });
    expect(api.store.view((view) => view.networks.get('ing'))).toBeDefined();
  });
});
