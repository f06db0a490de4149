/** Single containers in overlays as the API makes them, with an engine and an agent that the test plays. */
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RequestError } from '../dispatch/http.ts';
import { SessionLost } from '../dispatch/agent-session.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { anOverlay, json, startApi, type TestApi } from './api.fixture.ts';
import type { AddressRequest, OverlayHere, Reservation } from '../model/attachments.ts';
import type { NodeAttachments } from './node-attachments.ts';
import { HERE } from './overlays.fixture.ts';

const reservation = (id: string, address: string, engineNetwork = HERE.engineNetwork): Reservation => ({
  id,
  networkId: 'net1',
  address,
  engineNetwork,
  gateway: '10.0.16.2',
});

/** An agent that gives one address after the other, and remembers what became of them. */
class FakeAttachments implements NodeAttachments {
  readonly asked: AddressRequest[] = [];
  readonly ended: string[] = [];
  failure: Error | undefined;
  #next = 7;

  overlays(): OverlayHere[] {
    return [HERE];
  }

  async reserve(request: AddressRequest): Promise<Reservation> {
    this.asked.push(request);
    if (this.failure !== undefined) throw this.failure;
    const address = request.wantedAddress ?? `10.0.16.${this.#next++}`;
    return reservation(`r${this.asked.length}`, address, request.network === 'far' ? 'drover-1-far' : undefined);
  }

  async settled(reservations: readonly Reservation[], containerId: string | undefined): Promise<void> {
    this.ended.push(`${reservations.map(({ id }) => id).join(' ')} ${containerId ?? 'none'}`);
  }

  async look(containerId: string): Promise<void> {
    this.ended.push(`look ${containerId}`);
  }
}

const NETWORKS = [
  { Id: 'loc1', Name: 'lan', Driver: 'bridge', Labels: {} },
  { Id: 'hid1', Name: HERE.engineNetwork, Driver: 'bridge', Labels: { 'io.drover.network.id': 'net1' } },
];
const BOX = {
  Id: 'cid',
  Name: '/box',
  Config: { Labels: {} },
  HostConfig: { NetworkMode: 'drover-1-aaaa', Memory: 0 },
  NetworkSettings: { Networks: { 'drover-1-aaaa': { NetworkID: 'hid1', IPAddress: '10.0.16.7' } } },
};

let api: TestApi;
let attachments: FakeAttachments;
let calls: { call: string; body?: Record<string, unknown> }[];
/** Calls of the engine that fail, by how they begin. */
let broken: Map<string, [status: number, message: string]>;

async function start(role: 'manager' | 'worker'): Promise<void> {
  api = await startApi(
    (request, response) => {
      void (async () => {
        const body = await text(request);
        const call = `${request.method} ${(request.url ?? '').replace(/^\/v1\.\d+/, '')}`;
        calls.push({ call, ...(body === '' ? {} : { body: JSON.parse(body) }) });
        for (const [prefix, [status, message]] of broken)
          if (call.startsWith(prefix)) return json(response, status, { message });
        if (call === 'GET /networks') return json(response, 200, NETWORKS);
        if (call.startsWith('POST /containers/create')) return json(response, 201, { Id: 'cid', Warnings: null });
        if (call === 'GET /containers/box/json') return json(response, 200, BOX);
        if (call === 'GET /containers/new/json')
          return json(response, 200, { ...BOX, Name: '/new', NetworkSettings: { Networks: {} } });
        if (call === 'GET /containers/task/json')
          return json(response, 200, { ...BOX, Config: { Labels: { 'com.docker.swarm.task.id': 't' } } });
        if (call.startsWith('GET /containers/json')) return json(response, 200, [BOX]);
        if (call === 'GET /networks/drover-1-aaaa')
          return json(response, 200, { Containers: { cid: { Name: 'box' } } });
        if (call.startsWith('GET')) return json(response, 404, { message: `No such container: ${call.split('/')[2]}` });
        return json(response, 200, {});
      })();
    },
    role,
    new MemoryJournal(),
    attachments,
  );
  await api.store.update((tx) => tx.networks.create(anOverlay('net1')));
}

beforeEach(() => {
  attachments = new FakeAttachments();
  calls = [];
  broken = new Map();
});
afterEach(() => api.close());

const posts = () => calls.filter(({ call }) => !call.startsWith('GET'));
const create = (body: object) => api.call('POST', '/v1.41/containers/create?name=box', { Image: 'x', ...body });
const on = (mode: string, endpoints: Record<string, object> = {}) =>
  create({ HostConfig: { NetworkMode: mode, Dns: ['9.9.9.9'] }, NetworkingConfig: { EndpointsConfig: endpoints } });

describe('create', () => {
  test.each(['manager', 'worker'] as const)('on a %s: at its address, with our resolver first', async (role) => {
    await start(role);
    const endpoint = { Aliases: ['www'], IPAMConfig: { IPv4Address: '10.0.16.99' }, Links: ['l'] };
    expect(await on('net1-name', { 'net1-name': endpoint })).toMatchObject({
      status: 201,
      json: { Id: 'cid', Warnings: [] },
    });
    expect(attachments.asked).toEqual([
      { environment: 'default', network: 'net1-name', aliases: ['www'], wantedAddress: '10.0.16.99' },
    ]);
    expect(posts()).toEqual([
      {
        call: 'POST /containers/create?name=box',
        body: {
          Image: 'x',
          MacAddress: '02:42:0a:00:10:63',
          HostConfig: { NetworkMode: 'drover-1-aaaa', Dns: ['10.0.16.2', '9.9.9.9'] },
          NetworkingConfig: { EndpointsConfig: { 'drover-1-aaaa': endpoint } },
        },
      },
    ]);
    expect(attachments.ended).toEqual(['r1 cid']);
  });

  test('several networks: made with one, connected to the others', async () => {
    await start('manager');
    await on('lan', { lan: { Aliases: ['l'] }, net1: {} });
    expect(posts().map(({ call }) => call)).toEqual([
      'POST /containers/create?name=box',
      'POST /networks/drover-1-aaaa/connect',
    ]);
    expect(posts()[0]!.body).toMatchObject({
      HostConfig: { NetworkMode: 'lan' },
      NetworkingConfig: { EndpointsConfig: { lan: { Aliases: ['l'] } } },
    });
    expect(posts()[1]!.body).toEqual({
      Container: 'cid',
      EndpointConfig: { IPAMConfig: { IPv4Address: '10.0.16.7' } },
    });
  });

  test('a worker asks for what it does not know; what the managers do not know either is for the engine', async () => {
    await start('worker');
    expect((await on('far')).status).toBe(201);
    expect(posts()[0]!.body).toMatchObject({ HostConfig: { NetworkMode: 'drover-1-far' } });
    attachments.failure = new RequestError(404, 'network nowhere not found');
    expect((await on('nowhere')).status).toBe(201);
    expect(posts()[1]!.body).toMatchObject({ HostConfig: { NetworkMode: 'nowhere' } });
  });

  test('networks of the engine, and none at all, are none of our business', async () => {
    await start('worker');
    for (const mode of ['', 'default', 'bridge', 'host', 'none', 'container:x', 'lan']) await on(mode);
    expect(attachments.asked).toEqual([]);
    expect(posts()).toHaveLength(7);
  });

  test.each<[string, Error, number, RegExp]>([
    [
      'a refusal',
      new RequestError(403, 'Could not attach to network net1-name: no'),
      403,
      /^Could not attach to network net1-name: no$/,
    ],
    ['no manager', new SessionLost('there is no session'), 503, /no manager of the swarm can be asked/],
    [
      'a network that does not come up',
      new Error('network net1 is not ready'),
      503,
      /^Could not attach .* is not ready$/,
    ],
  ])('%s makes nothing', async (_what, failure, status, message) => {
    await start('manager');
    attachments.failure = failure;
    expect(await on('net1-name')).toMatchObject({ status, json: { message: expect.stringMatching(message) } });
    expect(posts()).toEqual([]);
  });

  test('what fails half-way leaves nothing behind, and is told in the words of users', async () => {
    await start('manager');
    broken.set('POST /networks/', [403, 'no room in drover-1-aaaa']);
    expect(await on('lan', { lan: {}, net1: {} })).toMatchObject({
      status: 403,
      json: { message: 'no room in net1-name' },
    });
    expect(posts().at(-1)!.call).toBe('DELETE /containers/cid?force=true&v=true');
    broken.set('POST /containers/create', [404, 'No such image: x']);
    expect(await on('net1-name')).toMatchObject({ status: 404, json: { message: 'No such image: x' } });
    expect(attachments.ended).toEqual(['r1 none', 'r2 none']);
  });

  test('a MAC address of the user would not be found by other nodes', async () => {
    await start('manager');
    expect(await on('net1', { net1: { MacAddress: '02:00:00:00:00:01' } })).toMatchObject({
      status: 400,
      json: { message: expect.stringMatching(/^a MAC address cannot be chosen in network net1/) },
    });
    expect(attachments.ended).toEqual(['r1 none']);
  });
});

describe('connect and disconnect', () => {
  const connect = (Container: string, more: object = {}) =>
    api.call('POST', '/networks/net1-name/connect', { Container, ...more });
  const disconnect = (Container: string, more: object = {}) =>
    api.call('POST', '/networks/net1-name/disconnect', { Container, ...more });

  test('a container that runs', async () => {
    await start('manager');
    expect((await connect('new', { EndpointConfig: { Aliases: ['a'] } })).status).toBe(200);
    expect(posts()).toEqual([
      {
        call: 'POST /networks/drover-1-aaaa/connect',
        body: { Container: 'cid', EndpointConfig: { Aliases: ['a'], IPAMConfig: { IPv4Address: '10.0.16.7' } } },
      },
    ]);
    expect((await disconnect('box')).status).toBe(200);
    expect(posts().at(-1)).toEqual({
      call: 'POST /networks/drover-1-aaaa/disconnect',
      body: { Container: 'cid', Force: false },
    });
    expect(attachments.ended).toEqual(['r1 cid', 'look cid']);
  });

  test('refusals', async () => {
    await start('manager');
    for (const said of ['', '..', '/', 'a/b'])
      expect(await connect(said)).toMatchObject({ status: 404, json: { message: `No such container: ${said}` } });
    expect(await connect('nobody')).toMatchObject({ status: 404, json: { message: 'No such container: nobody' } });
    expect(await connect('box')).toMatchObject({
      status: 403,
      json: { message: 'box is already attached to network net1-name' },
    });
    expect(await connect('task')).toMatchObject({
      status: 403,
      json: { message: expect.stringMatching(/is a task of a service/) },
    });
    expect(await disconnect('task')).toMatchObject({ status: 403 });
    broken.set('POST /networks/', [500, 'container cid is not connected to network drover-1-aaaa']);
    expect(await disconnect('box')).toMatchObject({
      status: 500,
      json: { message: 'container cid is not connected to network net1-name' },
    });
    expect((await connect('new')).status).toBe(500);
    expect(attachments.ended).toEqual(['r1 none']);
  });

  test('an engine that has forgotten the container: by force', async () => {
    await start('manager');
    expect((await disconnect('nobody')).status).toBe(404);
    expect((await disconnect('nobody', { Force: true })).status).toBe(200);
    expect(attachments.ended).toEqual([' none']);
  });

  test('on a worker: a network it has never heard of', async () => {
    await start('worker');
    expect((await api.call('POST', '/networks/far/connect', { Container: 'new' })).status).toBe(200);
    expect(posts()[0]!.call).toBe('POST /networks/drover-1-far/connect');
    attachments.failure = new RequestError(404, 'network nowhere not found');
    expect(await api.call('POST', '/networks/nowhere/connect', { Container: 'new' })).toMatchObject({
      status: 404,
      json: { message: 'network nowhere not found' },
    });
  });
});

describe('what users are shown', () => {
  test('containers by the names of their overlays', async () => {
    await start('worker');
    const shown = {
      HostConfig: { NetworkMode: 'net1-name' },
      NetworkSettings: { Networks: { 'net1-name': { NetworkID: 'net1' } } },
    };
    expect((await api.call('GET', '/v1.41/containers/box/json')).json).toMatchObject(shown);
    expect((await api.call('GET', '/containers/json?all=1&filters={"network":["net1-name"]}')).json).toMatchObject([
      shown,
    ]);
    expect(decodeURIComponent(calls.at(-1)!.call)).toBe(
      'GET /containers/json?all=1&filters={"network":["drover-1-aaaa"]}',
    );
    expect((await api.call('GET', '/containers/nobody/json')).json.message).toBe('No such container: nobody');
  });

  test('on a worker the overlays that stand on it, with their containers', async () => {
    await start('worker');
    const names = (await api.call('GET', '/networks?filters={"driver":["overlay"]}')).json.map(
      ({ Name }: { Name: string }) => Name,
    );
    expect(names).toContain('net1-name');
    expect((await api.call('GET', '/networks/net1')).json).toMatchObject({
      Name: 'net1-name',
      Scope: 'swarm',
      Attachable: true,
      IPAM: { Config: [{ Subnet: '10.0.16.0/20' }] },
      Containers: { cid: { Name: 'box' } },
    });
    expect((await api.call('DELETE', '/networks/net1')).status).toBe(503);
  });

  test('on a manager which containers use a network; it stays while they do', async () => {
    await start('manager');
    const container = { id: 'cid', name: 'box', running: true };
    await api.store.update((tx) =>
      tx.attachments.create({
        id: 'a1',
        environment: 'default',
        networkId: 'net1',
        nodeId: 'node1',
        createdAt: '',
        aliases: [],
        address: '10.0.16.7',
        container,
      }),
    );
    const { Services } = (await api.call('GET', '/networks/net1?verbose=1')).json;
    expect(Services['']).toMatchObject({ VIP: '<nil>', Tasks: [{ Name: 'box', EndpointIP: '10.0.16.7' }] });
    expect(await api.call('DELETE', '/networks/net1')).toMatchObject({
      status: 400,
      json: { message: 'network net1 is in use by task a1' },
    });
    expect((await api.call('POST', '/networks/prune')).json).toEqual({ NetworksDeleted: null });
    expect((await api.call('GET', '/tasks')).json).toEqual([]);
    const attached = {
      ID: 'a1',
      NodeID: 'node1',
      Spec: { Runtime: 'attachment', NetworkAttachmentSpec: { ContainerID: 'cid' } },
    };
    expect((await api.call('GET', '/tasks?filters={"runtime":["attachment"]}')).json).toMatchObject([attached]);
    expect((await api.call('GET', '/tasks/a1')).json).toMatchObject(attached);
  });
});
