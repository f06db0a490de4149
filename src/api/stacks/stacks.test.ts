/** The history of stacks through the API: what is one deploy, what is kept, and the way back. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { anOverlay, startApi, type TestApi } from '../api.fixture.ts';
import { GROUP_MS, KEPT_REVISIONS } from './history.ts';

const LABELS = { 'com.docker.stack.namespace': 'app' };

let api: TestApi;

beforeEach(async () => {
  api = await startApi();
  const { spec, ...ingress } = anOverlay('ingress1');
  await api.store.update((tx) => tx.networks.create({ ...ingress, spec: { ...spec, Ingress: true } }));
});
afterEach(() => api.close());

interface Shape {
  image?: string;
  port?: number;
  labels?: Record<string, string>;
  global?: boolean;
}

function body(name: string, { image = 'busybox', port, labels = LABELS, global = false }: Shape): object {
  return {
    Name: name,
    Labels: labels,
    TaskTemplate: { ContainerSpec: { Image: image } },
    Mode: global ? { Global: {} } : { Replicated: { Replicas: 1 } },
    ...(port === undefined ? {} : { EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: port }] } }),
  };
}

/** One write of a deploy: the service is made, or changed if it is there. */
async function write(name: string, shape: Shape = {}, headers: Record<string, string> = {}): Promise<void> {
  const there = await api.call('GET', `/services/${name}`);
  const path =
    there.status === 404 ? '/services/create' : `/services/${name}/update?version=${there.json.Version.Index}`;
  const answer = await api.call('POST', path, body(name, shape), { 'User-Agent': 'tester', ...headers });
  expect(answer, answer.text).toMatchObject({ status: there.status === 404 ? 201 : 200 });
}

const remove = (name: string) => api.call('DELETE', `/services/${name}`);
const history = async () => (await api.call('GET', '/drover/stacks/app/history')).json;
const rollback = (query = '') => api.call('POST', `/drover/stacks/app/rollback${query}`);
const imageOf = async (name: string) =>
  (await api.call('GET', `/services/${name}`)).json.Spec?.TaskTemplate.ContainerSpec.Image;
/** Number → what changed, as `~web`. */
const changes = async () =>
  (await history()).map(
    ({ Number: number, Changes }: { Number: number; Changes: { Service: string; Kind: string }[] }) =>
      [number, ...Changes.map(({ Service, Kind }) => `${Kind} ${Service}`)].join(' '),
  );

describe('what is one deploy', () => {
  test('writes that follow each other, until a service comes again', async () => {
    await write('app_a');
    await write('app_b');
    await write('app_a', { image: 'busybox:2' });
    await write('app_c');
    expect(await changes()).toEqual(['1 added app_a added app_b', '2 changed app_a added app_c']);
    expect((await history())[1]).toMatchObject({ Client: 'tester', Services: ['app_a', 'app_b', 'app_c'] });
    expect((await history())[1].Changes[0].Fields).toEqual(['TaskTemplate.ContainerSpec.Image']);
  });

  test('writes with time between them are two', async () => {
    await write('app_a');
    await api.clock.advance(GROUP_MS);
    await write('app_b');
    await api.clock.advance(GROUP_MS + 1);
    await write('app_c');
    expect(await changes()).toEqual(['1 added app_a added app_b', '2 added app_c']);
  });

  test('a write that changes nothing makes no revision, but says where a deploy begins', async () => {
    await write('app_a');
    await write('app_b');
    await write('app_a');
    expect(await changes()).toHaveLength(1);
    await write('app_c');
    expect(await changes()).toEqual(['1 added app_a added app_b', '2 added app_c']);
  });

  test('the same id is one deploy, whatever comes between and however long it takes', async () => {
    const id = { 'X-Drover-Deploy': 'one' };
    await write('app_a', {}, id);
    await api.clock.advance(10 * GROUP_MS);
    await write('app_b', {}, id);
    await write('app_a', { image: 'busybox:2' }, id);
    await write('app_c');
    expect(await changes()).toEqual(['1 added app_a added app_b', '2 added app_c']);
  });

  test('an id that is none is refused and changes nothing', async () => {
    const answer = await api.call('POST', '/services/create', body('app_a', {}), { 'X-Drover-Deploy': 'a b' });
    expect(answer).toMatchObject({ status: 400, json: { message: expect.stringContaining('x-drover-deploy') } });
    expect((await api.call('GET', '/services')).json).toEqual([]);
  });

  test('services without the label have no history; one that gets it joins, one that loses it leaves', async () => {
    await write('app_a', { labels: {} });
    expect((await api.call('GET', '/drover/stacks')).json).toEqual([]);
    await write('app_b');
    await write('app_a');
    await write('app_b', { labels: {} });
    expect(await changes()).toEqual(['1 added app_a added app_b', '2 removed app_b']);
  });
});

describe('what is kept', () => {
  test('the last revisions with their specs, and no others', async () => {
    for (let round = 1; round <= KEPT_REVISIONS + 3; round++) await write('app_a', { image: `busybox:${round}` });
    const numbers = (await history()).map(({ Number: number }: { Number: number }) => number);
    expect(numbers).toEqual(Array.from({ length: KEPT_REVISIONS }, (_, at) => at + 4));
    const oldest = await api.call('GET', '/drover/stacks/app/history/4');
    expect(oldest.json.Specs.app_a.TaskTemplate.ContainerSpec.Image).toBe('busybox:4');
    expect(await api.call('GET', '/drover/stacks/app/history/3')).toMatchObject({ status: 404 });
  });

  test('the history ends with the last service', async () => {
    await write('app_a');
    await write('app_b');
    await remove('app_a');
    expect(await changes()).toEqual(['1 added app_a added app_b', '2 removed app_a']);
    await remove('app_b');
    expect(await api.call('GET', '/drover/stacks/app/history')).toMatchObject({
      status: 404,
      json: { message: 'stack app not found' },
    });
    await write('app_a');
    expect(await changes()).toEqual(['1 added app_a']);
  });

  test('credentials for a registry come back with a rollback, and are never shown', async () => {
    await write('app_a', {}, { 'X-Registry-Auth': 'c2VjcmV0' });
    await write('app_a', { image: 'busybox:2' });
    await rollback();
    const [spec] = api.store.view((view) => [...view.services.all()].map((service) => service.spec));
    expect(spec?.TaskTemplate.ContainerSpec).toMatchObject({
      Image: 'busybox',
      PullOptions: { RegistryAuth: 'c2VjcmV0' },
    });
    expect((await api.call('GET', '/drover/stacks/app/history/1')).text).not.toContain('c2VjcmV0');
  });
});

describe('the way back', () => {
  test('to the revision before, and forth again: changed, added and removed services', async () => {
    await write('app_same');
    await write('app_a');
    await write('app_old');
    await remove('app_old');
    await write('app_a', { image: 'busybox:2' });
    await write('app_new');
    const same = (await api.call('GET', '/services/app_same')).json;

    const back = await rollback();
    expect(back.json).toEqual({
      Number: 3,
      RollbackTo: 1,
      Changes: [
        { Service: 'app_a', Kind: 'changed' },
        { Service: 'app_new', Kind: 'removed' },
        { Service: 'app_old', Kind: 'added' },
      ],
    });
    expect([await imageOf('app_a'), await imageOf('app_new'), await imageOf('app_old')]).toEqual([
      'busybox',
      undefined,
      'busybox',
    ]);
    expect((await api.call('GET', '/services/app_same')).json).toEqual(same);

    expect((await rollback()).json).toMatchObject({ Number: 4, RollbackTo: 2 });
    expect([await imageOf('app_a'), await imageOf('app_new'), await imageOf('app_old')]).toEqual([
      'busybox:2',
      'busybox',
      undefined,
    ]);
    expect((await history()).map(({ RollbackTo }: { RollbackTo?: number }) => RollbackTo)).toEqual([
      undefined,
      undefined,
      1,
      2,
    ]);
  });

  test('what is written after a rollback is another deploy', async () => {
    await write('app_a');
    await write('app_a', { image: 'busybox:2' });
    await rollback();
    await write('app_b');
    expect((await changes()).at(-1)).toBe('4 added app_b');
  });

  test('ports that two services have exchanged', async () => {
    await write('app_a', { port: 81 });
    await write('app_b', { port: 82 });
    await write('app_a', { port: 83 });
    await write('app_b', { port: 81 });
    expect((await rollback()).json).toMatchObject({ RollbackTo: 1, Number: 3 });
    const ports = async (name: string) =>
      (await api.call('GET', `/services/${name}`)).json.Spec.EndpointSpec.Ports[0].PublishedPort;
    expect([await ports('app_a'), await ports('app_b')]).toEqual([81, 82]);
  });

  test('a service that was made anew in another mode', async () => {
    await write('app_keep');
    await write('app_a');
    await remove('app_a');
    await write('app_a', { global: true });
    await rollback('?revision=1');
    expect((await api.call('GET', '/services/app_a')).json.Spec.Mode).toEqual({ Replicated: { Replicas: 1 } });
  });

  test('one service that cannot go back keeps all where they are', async () => {
    await write('app_a');
    await write('app_b', { port: 81 });
    await write('app_a', { image: 'busybox:2' });
    await write('app_b', { port: 82 });
    await api.call('POST', '/services/create', body('other', { port: 81, labels: {} }));
    const refused = await rollback();
    expect(refused.status).toBe(400);
    expect(refused.json.message).toMatch(/^service app_b: port '81' is already in use by service 'other'/);
    expect(await imageOf('app_a')).toBe('busybox:2');
    expect(await changes()).toHaveLength(2);
  });

  test('refusals', async () => {
    expect(await rollback()).toMatchObject({ status: 404, json: { message: 'stack app not found' } });
    await write('app_a');
    expect(await rollback()).toMatchObject({ status: 400, json: { message: 'stack app has no revision before 1' } });
    expect(await rollback('?revision=7')).toMatchObject({
      status: 404,
      json: { message: 'stack app has no revision 7: there are 1' },
    });
    expect(await rollback('?revision=x')).toMatchObject({ status: 400 });
    expect((await rollback('?revision=1')).json).toEqual({ RollbackTo: 1, Changes: [] });
    expect(await changes()).toHaveLength(1);
  });
});

describe('start order at the write', () => {
  const ordered = (name: string, value: string) =>
    api.call('POST', '/services/create', body(name, { labels: { ...LABELS, 'drover.depends-on': value } }));

  test.each([
    ['db:service_well', '"db:service_well" is not NAME or NAME:CONDITION'],
    [':service_healthy', '":service_healthy" is not NAME'],
    ['a:service_started:x', '"a:service_started:x" is not NAME'],
  ])('%s is refused', async (value, why) => {
    expect(await ordered('app_a', value)).toMatchObject({
      status: 400,
      json: { message: expect.stringContaining(why) },
    });
  });

  test('whoever closes a circle is refused with its names', async () => {
    expect(await ordered('app_a', 'b')).toMatchObject({ status: 201 });
    expect(await ordered('app_b', 'app_c:service_healthy')).toMatchObject({ status: 201 });
    expect(await ordered('app_c', 'x,a')).toMatchObject({
      status: 400,
      json: {
        message:
          'label drover.depends-on: these would never start: app_c waits for app_a, app_a waits for app_b, app_b waits for app_c',
      },
    });
    expect(await ordered('app_d', 'd')).toMatchObject({ status: 400 });
  });
});
