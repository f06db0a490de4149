/** `/services` as clients call it: what is written, what is refused, and that bad input changes nothing. */
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { aNode, anOverlay, json, startApi, type TestApi } from '../api.fixture.ts';

let api: TestApi;

/** An engine with a network that services cannot use, and one that is Drover's. */
const LOCALS = [
  { Id: 'loc1', Name: 'mac', Driver: 'macvlan', Labels: {} },
  { Id: 'hid1', Name: 'dr-bridge', Driver: 'bridge', Labels: { 'io.drover.network.id': 'net1' } },
];

beforeEach(async () => {
  api = await startApi((_, response) => json(response, 200, LOCALS));
});

afterEach(() => api.close());

const SPEC = { Name: 'web', TaskTemplate: { ContainerSpec: { Image: 'busybox' } } };

async function create(spec: object = SPEC): Promise<string> {
  const answer = await api.call('POST', '/v1.41/services/create', spec);
  expect(answer.status).toBe(201);
  return answer.json.ID;
}

const inspect = async (id: string) => (await api.call('GET', `/v1.41/services/${id}`)).json;
const state = () =>
  api.store.view((view) =>
    JSON.stringify([...view.services.all(), ...view.serviceSpecs.all(), ...view.networks.all(), ...view.nodes.all()]),
  );

describe('services', () => {
  test('a service without a name gets one', async () => {
    const [one, other] = [await create({ ...SPEC, Name: '' }), await create({ TaskTemplate: SPEC.TaskTemplate })];
    const names = [(await inspect(one)).Spec.Name, (await inspect(other)).Spec.Name];
    expect(names).toEqual([expect.stringMatching(/^[a-z]+-[a-z]+$/), expect.stringMatching(/^[a-z]+-[a-z]+$/)]);
    expect(names[0]).not.toBe(names[1]);
  });

  test('create writes the service and its version; inspect echoes it', async () => {
    const id = await create({ ...SPEC, Unknown: [1], Labels: { a: 'b' } });
    const service = await inspect('web');
    expect(service).toMatchObject({
      ID: id,
      Spec: { Unknown: [1], Labels: { a: 'b' }, Mode: { Replicated: { Replicas: 1 } } },
    });
    api.store.view((view) => {
      expect(view.services.get(id)).toMatchObject({ specVersion: service.Version.Index });
      expect(view.serviceSpecs.get(`${id}@${service.Version.Index}`)?.spec).toEqual(view.services.get(id)?.spec);
    });
  });

  test('update moves the spec and keeps the previous; a stale version is refused; no change is no change', async () => {
    const id = await create();
    const { Version: first, Spec } = await inspect(id);
    const update = (version: number, spec: object, query = '') =>
      api.call('POST', `/services/${id}/update?version=${version}${query}`, spec);
    const scaled = { ...Spec, Mode: { Replicated: { Replicas: 5 } } };
    expect((await update(first.Index, scaled)).status).toBe(200);
    expect(await update(first.Index, scaled)).toMatchObject({
      status: 500,
      json: { message: 'update out of sequence' },
    });
    const second = await inspect(id);
    expect(second).toMatchObject({ Spec: scaled, PreviousSpec: Spec });
    expect((await update(second.Version.Index, scaled)).status).toBe(200);
    expect(await inspect(id)).toEqual(second);
    expect(await update(second.Version.Index, Spec, '&rollback=sideways')).toMatchObject({ status: 400 });
    expect((await update(second.Version.Index, scaled, '&rollback=previous')).status).toBe(200);
    expect(await inspect(id)).toMatchObject({
      Spec,
      PreviousSpec: scaled,
      UpdateStatus: { State: 'rollback_started' },
    });
  });

  test('the same spec again lets a paused update go on, without a new version', async () => {
    const id = await create();
    await api.store.update((tx) =>
      tx.services.update({ ...tx.services.get(id)!, updateStatus: { state: 'paused', startedAt: '', message: '' } }),
    );
    const { Version, Spec } = await inspect(id);
    await api.call('POST', `/services/${id}/update?version=${Version.Index}`, Spec);
    const after = await inspect(id);
    expect(after.UpdateStatus).toBeUndefined();
    expect(after.Version).toEqual(Version);
  });

  test('a job runs anew when its spec moves, and only then; a rollback of it is a new run too', async () => {
    const Mode = { ReplicatedJob: {} };
    const id = await create({ ...SPEC, Mode });
    const update = async (spec: object, query = '') => {
      const { Version } = await inspect(id);
      const answer = await api.call('POST', `/services/${id}/update?version=${Version.Index}${query}`, spec);
      expect(answer.status).toBe(200);
      return inspect(id);
    };
    const first = await inspect(id);
    expect(first.Spec.Mode).toEqual({ ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 1 } });
    expect(first.JobStatus.JobIteration.Index).toBe(0);
    expect((await update(first.Spec)).JobStatus).toEqual(first.JobStatus);
    const forced = { ...first.Spec, TaskTemplate: { ...first.Spec.TaskTemplate, ForceUpdate: 1 } };
    expect((await update(forced)).JobStatus.JobIteration.Index).toBe(1);
    const back = await update(forced, '&rollback=previous');
    expect(back).toMatchObject({ Spec: first.Spec, JobStatus: { JobIteration: { Index: 2 } } });
    expect(back).not.toHaveProperty('UpdateStatus');
  });

  test.each([
    ['renaming', { ...SPEC, Name: 'other' }, 501, 'renaming services is not supported'],
    ['another mode', { ...SPEC, Mode: { Global: {} } }, 501, 'service mode change is not allowed'],
  ])('%s is refused', async (_, spec, status, message) => {
    const id = await create();
    const { Version } = await inspect(id);
    expect(await api.call('POST', `/services/${id}/update?version=${Version.Index}`, spec)).toMatchObject({
      status,
      json: { message },
    });
  });

  test('ports the cluster lives on are refused, at create and at update; that of SSH is taken with a warning', async () => {
    const manager = { address: '10.0.0.1:2377', leader: true, reachability: 'reachable' } as const;
    await api.store.update((tx) => {
      tx.networks.create(anOverlay('ing', { spec: { ...anOverlay('ing').spec, Ingress: true } }));
      tx.nodes.create(aNode('node1', { manager }));
    });
    const publishing = (PublishedPort: number, Protocol = 'tcp', PublishMode = 'ingress') => ({
      ...SPEC,
      EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort, Protocol, PublishMode }] },
    });
    const id = await create();
    const before = state();
    const update = async (spec: object) =>
      api.call('POST', `/services/${id}/update?version=${(await inspect(id)).Version.Index}`, spec);
    for (const [spec, message] of [
      [publishing(2377), "port '2377/tcp' cannot be published: nodes reach their managers by it"],
      [
        publishing(4789, 'udp', 'host'),
        "port '4789/udp' cannot be published: it carries the overlay networks between the nodes",
      ],
    ] as const) {
      expect(await api.call('POST', '/services/create', { ...spec, Name: 'x' })).toMatchObject({
        status: 400,
        json: { message },
      });
      expect(await update(spec)).toMatchObject({ status: 400, json: { message } });
    }
    expect(state()).toBe(before);
    for (const spec of [
      publishing(2377, 'udp'),
      publishing(2377, 'tcp', 'host'),
      publishing(4789),
      publishing(22, 'udp'),
    ])
      expect(await update(spec)).toMatchObject({ status: 200, json: { Warnings: null } });
    const Warnings = [expect.stringMatching(/^port 22\/tcp is published on every node: new SSH connections/)];
    expect((await update(publishing(22))).json).toEqual({ Warnings });
    await api.call('DELETE', `/services/${id}`);
    expect((await api.call('POST', '/services/create', publishing(22))).json).toMatchObject({ Warnings });
  });

  test('rollback without a previous spec, and an update of what is not there', async () => {
    const id = await create();
    const { Version } = await inspect(id);
    const rollback = await api.call('POST', `/services/${id}/update?version=${Version.Index}&rollback=previous`, SPEC);
    expect(rollback).toMatchObject({ status: 400, json: { message: `service ${id} does not have a previous spec` } });
    expect(await api.call('POST', '/services/nope/update?version=1', SPEC)).toMatchObject({
      status: 404,
      json: { message: 'service nope not found' },
    });
  });

  test('credentials stay with the spec, are carried over, and are never shown', async () => {
    const { json: made } = await api.call('POST', '/services/create', SPEC, { 'X-Registry-Auth': 'c2VjcmV0' });
    const auth = () =>
      api.store.view((view) => view.services.get(made.ID)?.spec.TaskTemplate.ContainerSpec?.PullOptions);
    expect(auth()).toEqual({ RegistryAuth: 'c2VjcmV0' });
    const { Version, Spec } = await inspect(made.ID);
    expect(JSON.stringify(Spec)).not.toContain('c2VjcmV0');
    await api.call('POST', `/services/${made.ID}/update?version=${Version.Index}`, { ...Spec, Labels: { x: 'y' } });
    expect(auth()).toEqual({ RegistryAuth: 'c2VjcmV0' });
  });

  test('lists filter, and count when asked', async () => {
    await create({ ...SPEC, Labels: { stack: 'app' } });
    await create({ ...SPEC, Name: 'db', Mode: { Global: {} } });
    const names = async (filters: object) =>
      (await api.call('GET', `/services?status=true&filters=${encodeURIComponent(JSON.stringify(filters))}`)).json
        .map((s: { Spec: { Name: string } }) => s.Spec.Name)
        .sort();
    expect(await names({})).toEqual(['db', 'web']);
    expect(await names({ name: { we: true } })).toEqual(['web']);
    expect(await names({ mode: ['global'] })).toEqual(['db']);
    expect(await names({ label: { 'stack=app': true } })).toEqual(['web']);
    expect((await api.call('GET', '/services?status=true')).json[0].ServiceStatus).toMatchObject({ RunningTasks: 0 });
    expect((await api.call('GET', '/services?filters={"nope":["x"]}')).json).toEqual({
      message: "invalid filter 'nope'",
    });
  });

  test('removal is at once, and its name is free again', async () => {
    const id = await create();
    expect(await api.call('DELETE', '/services/web')).toMatchObject({ status: 200, text: '' });
    expect((await api.call('DELETE', '/services/web')).status).toBe(404);
    expect(await create()).not.toBe(id);
  });
});

describe('bad input changes nothing', () => {
  const overlay = anOverlay('net1');

  beforeEach(async () => {
    await api.store.update((tx) => {
      tx.networks.create(overlay);
      tx.networks.create({ ...anOverlay('ing'), spec: { ...overlay.spec, Name: 'ingress', Ingress: true } });
    });
    await create({
      ...SPEC,
      EndpointSpec: {
        Ports: [
          { TargetPort: 80, PublishedPort: 80 },
          { TargetPort: 53, PublishedPort: 53, PublishMode: 'host' },
        ],
      },
    });
  });

  const other = (over: object) => ({ ...SPEC, Name: 'other', ...over });
  const attached = (Target: string) => other({ TaskTemplate: { ...SPEC.TaskTemplate, Networks: [{ Target }] } });
  const ports = (port: object) => other({ EndpointSpec: { Ports: [{ TargetPort: 1, ...port }] } });

  test.each<[string, unknown, number, string | RegExp]>([
    ['a duplicate name', SPEC, 409, 'name conflicts with an existing object: service web already exists'],
    [
      'a port in use',
      ports({ PublishedPort: 80 }),
      400,
      /^port '80' is already in use by service 'web' \(\w{25}\) as an ingress port$/,
    ],
    ['a port of the mesh on hosts', ports({ PublishedPort: 80, PublishMode: 'host' }), 400, /as an ingress port$/],
    ['a port of hosts in the mesh', ports({ PublishedPort: 53 }), 400, /as a host-published port$/],
    ['a network that is missing', attached('nope'), 404, 'network nope not found'],
    [
      'macvlan',
      attached('mac'),
      400,
      'network mac cannot be used with services. Only networks scoped to the swarm can be used, such as those created with the overlay driver.',
    ],
    ["Drover's own bridge", attached('dr-bridge'), 404, 'network dr-bridge not found'],
    [
      'the ingress network',
      attached('ingress'),
      400,
      'Service cannot be explicitly attached to the ingress network "ingress"',
    ],
    ['no JSON', '{"Name":', 400, /^invalid JSON: /],
    ['nothing', '', 400, /^invalid JSON: got EOF/],
    ['a list', [], 400, 'invalid value for the request body: expected object, received array'],
    ['a number', 7, 400, 'invalid value for the request body: expected object, received number'],
    [
      'prototype tricks',
      '{"__proto__": {"Name": "x"}, "Name": "-"}',
      400,
      'name must be valid as a DNS name component',
    ],
  ])('%s', async (_, body, status, message) => {
    const before = state();
    const answer = await api.call('POST', '/v1.41/services/create', body);
    expect([answer.status, answer.json.message]).toEqual([
      status,
      typeof message === 'string' ? message : expect.stringMatching(message),
    ]);
    expect(state()).toBe(before);
  });

  test('a wrong content type', async () => {
    const answer = await api.call('POST', '/services/create', '{}', { 'Content-Type': 'text/plain' });
    expect([answer.status, answer.json.message]).toEqual([
      400,
      "unsupported Content-Type header (text/plain): must be 'application/json'",
    ]);
  });

  test.each(['nonsense', '/', ';;', 'a b/c', 'application'])('a content type that is none: %s', async (type) => {
    const answer = await api.call('POST', '/services/create', '{}', { 'Content-Type': type });
    expect([answer.status, answer.json.message]).toEqual([400, expect.stringMatching(/must be 'application\/json'$/)]);
  });

  test('a body beyond 4 MiB, before it is sent', async () => {
    const headers = { 'Content-Type': 'application/json', 'Content-Length': String(5 * 1024 * 1024) };
    const request = httpRequest({ socketPath: api.socketPath, method: 'POST', path: '/services/create', headers });
    request.flushHeaders();
    const [response] = await once(request, 'response');
    expect([response.statusCode, response.headers['content-type']]).toEqual([413, 'application/json']);
    request.on('error', () => {});
    request.destroy();
  });

  test('what is no HTTP, and a client that hangs up in the middle of its body', async () => {
    const before = state();
    const noise = connect(api.socketPath);
    noise.end('\u0000\u0001 no http\r\n\r\n');
    noise.resume();
    await once(noise, 'close');
    const request = httpRequest({
      socketPath: api.socketPath,
      method: 'POST',
      path: '/services/create',
      headers: { 'Content-Type': 'application/json', 'Content-Length': '5000' },
    });
    request.on('error', () => {});
    await new Promise<void>((resolve) => void request.write('{"Name":"half"', () => resolve()));
    request.destroy();
    expect((await api.call('GET', '/_ping')).status).toBe(200);
    expect(state()).toBe(before);
  });

  test('a network that is in use, or predefined, or taken', async () => {
    await create(attached('net1-name'));
    expect((await api.call('DELETE', '/networks/net1-name')).json.message).toMatch(
      /^network net1 is in use by service \w{25}$/,
    );
    expect((await api.call('POST', '/networks/create', { Name: 'net1-name', Driver: 'overlay' })).status).toBe(409);
    expect((await api.call('POST', '/networks/create', { Name: 'mac', Driver: 'overlay' })).json.message).toBe(
      'network with name mac already exists',
    );
    expect((await api.call('POST', '/networks/create', { Name: 'net1-name', Driver: 'bridge' })).status).toBe(409);
    expect((await api.call('POST', '/networks/create', { Name: 'x', Driver: 'macvlan', Scope: 'swarm' })).status).toBe(
      501,
    );
  });
});

test('networks are named by id or name on writing, host stays host', async () => {
  await api.store.update((tx) => tx.networks.create(anOverlay('net1')));
  const id = await create({
    ...SPEC,
    TaskTemplate: { ...SPEC.TaskTemplate, Networks: [{ Target: 'net1-name', Aliases: ['x'] }, { Target: 'host' }] },
  });
  expect((await inspect(id)).Spec.TaskTemplate.Networks).toEqual([
    { Target: 'net1', Aliases: ['x'] },
    { Target: 'host' },
  ]);
});

test('a journal that takes nothing is a 503, and the next request is served', async () => {
  const update = api.store.update.bind(api.store);
  api.store.update = () => Promise.reject(Object.assign(new Error('disk full'), { name: 'JournalUnavailable' }));
  expect(await api.call('POST', '/services/create', SPEC)).toMatchObject({
    status: 503,
    json: { message: "The cluster's state cannot be written now: disk full" },
  });
  api.store.update = update;
  await create();
});
