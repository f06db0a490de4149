/** `/secrets` and `/configs`: what Docker's clients ask, and the rotation that Drover adds. Sentences are in tests/conformance. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TaskState } from '../../model/states.ts';
import { aTask, startApi, type TestApi } from '../api.fixture.ts';

let api: TestApi;
beforeEach(async () => {
  api = await startApi();
});
afterEach(() => api.close());

const base64 = (text: string) => Buffer.from(text).toString('base64');
const FILE = { Name: 'target', UID: '10', GID: '20', Mode: 0o400 };

async function made(kind: string, Name: string, value = 'one', more: object = {}): Promise<string> {
  const answer = await api.call('POST', `/${kind}s/create`, { Name, Data: base64(value), ...more });
  expect(answer.status).toBe(201);
  return answer.json.ID;
}

async function service(Name: string, container: object, more: object = {}): Promise<string> {
  const TaskTemplate = { ContainerSpec: { Image: 'busybox', ...container } };
  const answer = await api.call('POST', '/services/create', { Name, TaskTemplate, ...more });
  expect(answer.json).toEqual({ ID: expect.any(String) });
  return answer.json.ID;
}

const secretRef = (SecretID: string, SecretName: string) => ({ Secrets: [{ SecretID, SecretName, File: FILE }] });
const rotate = (name: string, value: string, kind = 'secret') =>
  api.call('POST', `/drover/${kind}s/${name}/rotate`, { Data: base64(value) });
const names = async () => (await api.call('GET', '/secrets')).json.map((each: { Spec: object }) => each.Spec);
const specOf = async (name: string) =>
  (await api.call('GET', `/services/${name}`)).json.Spec.TaskTemplate.ContainerSpec;
const dataOf = (id: string) => api.store.view((view) => view.secrets.get(id)?.spec.Data);

test("a secret's value is in no answer, a config's is; neither changes", async () => {
  const id = await made('secret', 'key', 'hunter2', { Labels: { a: 'b' } });
  const config = await made('config', 'conf', 'hunter2');
  const answers = [`/secrets/${id}`, '/secrets/key', '/secrets'].map((path) => api.call('GET', path));
  for (const { text } of await Promise.all(answers)) expect(text).not.toMatch(/Data|hunter2|aHVudGVyMg/);
  expect((await api.call('GET', `/configs/${config}`)).json.Spec.Data).toBe(base64('hunter2'));
  const { Index } = (await api.call('GET', '/secrets/key')).json.Version;
  const update = (body: object, version = Index) =>
    api.call('POST', `/secrets/${id}/update?version=${version}`, { Name: 'key', ...body });
  expect((await update({ Data: base64('other') })).json.message).toBe('only updates to Labels are allowed');
  expect((await update({ Labels: { c: 'd' }, Data: base64('hunter2') })).status).toBe(200);
  expect((await update({ Labels: {} })).json.message).toBe('update out of sequence');
  expect((await api.call('GET', '/secrets/key')).json.Spec).toEqual({ Name: 'key', Labels: { c: 'd' } });
});

test.each([
  [{ Name: 'x', Data: base64('v'), Driver: { Name: 'vault' } }, 501, /secret driver vault: .* not supported/],
  [{ Name: 'x', Data: base64('v'), Driver: {} }, 400, 'secret driver must have a name'],
  [
    { Name: 'x', Data: base64('v'), Templating: { Name: 'jinja' } },
    400,
    'template driver "jinja" is not known: use golang',
  ],
  [{ Name: 'x', Data: '???' }, 400, 'invalid value for Data: must be base64'],
])('create %j: %i', async (body, status, message) => {
  const answer = await api.call('POST', '/secrets/create', body);
  expect([answer.status, answer.json.message]).toEqual([
    status,
    message instanceof RegExp ? expect.stringMatching(message) : message,
  ]);
  expect(await names()).toEqual([]);
});

test('owners must be numbers, and a credential spec must be among the configs for the runtime', async () => {
  const [id, config] = [await made('secret', 'key'), await made('config', 'conf')];
  const refused = async (container: object) => {
    const TaskTemplate = { ContainerSpec: { Image: 'busybox', ...container } };
    return (await api.call('POST', '/services/create', { Name: 'web', TaskTemplate })).json.message;
  };
  const File = { ...FILE, UID: 'root' };
  expect(await refused({ Secrets: [{ SecretID: id, SecretName: 'key', File }] })).toBe(
    `secret reference 'key': its uid must be a number, not "root"`,
  );
  const Privileges = { CredentialSpec: { Config: config } };
  expect(await refused({ Privileges })).toBe(
    `CredentialSpec references config '${config}', but that config isn't in config references with RuntimeTarget`,
  );
  await service('web', { Privileges, Configs: [{ ConfigID: config, ConfigName: 'conf', Runtime: {} }] });
});

describe('rotation', () => {
  test('the new version takes the name, every user of the name gets it, all in one transaction', async () => {
    const id = await made('secret', 'pw', 'one', { Labels: { a: 'b' }, Templating: { Name: 'golang' } });
    const other = await made('secret', 'other');
    const web = await service('web', {
      Secrets: [...secretRef(id, 'pw').Secrets, { SecretID: other, SecretName: 'other', File: { ...FILE, Name: 'o' } }],
    });
    await service('bystander', secretRef(other, 'other'));
    const index = api.store.view((view) => view.services.get(web)!.meta.version);
    const { status, json } = await rotate('pw', 'two');
    expect(status).toBe(200);
    expect(json).toEqual({
      ID: expect.any(String),
      Name: 'pw',
      Previous: { ID: id, Name: 'pw.v1' },
      Services: [{ ID: web, Name: 'web' }],
    });
    expect((await specOf('web')).Secrets).toEqual([
      { SecretID: json.ID, SecretName: 'pw', File: FILE },
      { SecretID: other, SecretName: 'other', File: { ...FILE, Name: 'o' } },
    ]);
    expect([dataOf(id), dataOf(json.ID)]).toEqual([base64('one'), base64('two')]);
    expect((await api.call('GET', '/secrets/pw')).json).toMatchObject({
      ID: json.ID,
      Spec: { Labels: { a: 'b' }, Templating: { Name: 'golang' } },
    });
    api.store.view((view) => {
      const row = view.services.get(web)!;
      expect(row.meta.version).toBeGreaterThan(index);
      expect(row.previousSpec?.TaskTemplate.ContainerSpec?.Secrets?.[0]?.SecretID).toBe(id);
      expect(view.serviceSpecs.get(`${web}@${row.specVersion}`)?.spec).toEqual(row.spec);
      expect(view.secrets.get(json.ID)?.meta.version).toBe(row.meta.version);
    });
  });

  test('a rollback goes back to the earlier version, and the next rotation takes it along', async () => {
    const id = await made('secret', 'pw');
    await service('web', secretRef(id, 'pw'));
    await rotate('pw', 'two');
    const seen = (await api.call('GET', '/services/web')).json;
    const path = `/services/web/update?version=${seen.Version.Index}&rollback=previous`;
    expect((await api.call('POST', path, seen.Spec)).status).toBe(200);
    expect((await specOf('web')).Secrets[0]).toMatchObject({ SecretID: id, SecretName: 'pw' });
    // A client sends back what it saw: the earlier version by the name it had.
    const again = (await api.call('GET', '/services/web')).json;
    const relabelled = { ...again.Spec, Labels: { x: 'y' } };
    expect((await api.call('POST', `/services/web/update?version=${again.Version.Index}`, relabelled)).status).toBe(
      200,
    );
    const { json } = await rotate('pw', 'three');
    expect(json).toMatchObject({ Previous: { Name: 'pw.v2' }, Services: [{ Name: 'web' }] });
    expect((await specOf('web')).Secrets[0]).toMatchObject({ SecretID: json.ID, SecretName: 'pw' });
  });

  test('what is refused changes nothing', async () => {
    const id = await made('secret', 'pw');
    await service('web', secretRef(id, 'pw'));
    await rotate('pw', 'two');
    const before = api.store.view((view) => [...view.secrets.all(), ...view.services.all()]);
    for (const [name, value, message] of [
      ['pw', 'two', "secret 'pw' holds this value already"],
      ['pw.v1', 'x', "secret 'pw.v1' is an earlier version of 'pw': rotate that one"],
      ['pw', '', 'secret data must be larger than 0 and less than 512000 bytes'],
      ['nobody', 'x', 'secret nobody not found'],
    ] as const)
      expect((await rotate(name, value)).json).toEqual({ message });
    expect(api.store.view((view) => [...view.secrets.all(), ...view.services.all()])).toEqual(before);
  });

  test('a name that looks like a version is left alone', async () => {
    await made('secret', 'pw');
    await made('secret', 'pw.v1', 'unrelated');
    expect((await rotate('pw', 'two')).json.Previous.Name).toBe('pw.v2');
    expect((await rotate('pw.v1', 'three')).json.Previous.Name).toBe('pw.v1.v1');
  });

  test('a job does not run anew: its next run gets the new version', async () => {
    const id = await made('config', 'conf');
    const job = await service(
      'job',
      { Configs: [{ ConfigID: id, ConfigName: 'conf', File: FILE }] },
      { Mode: { ReplicatedJob: { TotalCompletions: 1, MaxConcurrent: 1 } } },
    );
    const run = () => api.store.view((view) => view.services.get(job)?.jobStatus);
    const before = run();
    const { json } = await rotate('conf', 'two', 'config');
    expect(run()).toEqual(before);
    expect((await specOf('job')).Configs[0].ConfigID).toBe(json.ID);
  });

  test('prune takes what no service uses now or would after a rollback, and no task; never a name itself', async () => {
    const id = await made('secret', 'pw');
    const web = await service('web', secretRef(id, 'pw'));
    const prune = async () => (await api.call('POST', '/drover/secrets/prune')).json.Removed;
    await rotate('pw', 'two');
    const { specVersion, previousSpecVersion = 0 } = api.store.view((view) => view.services.get(web)!);
    await api.store.update((tx) => tx.tasks.create(aTask('t1', web, { specVersion: previousSpecVersion })));
    expect(await prune()).toEqual([]);
    await rotate('pw', 'three');
    // `web` would go back to the second; the first is still in a container.
    expect(await prune()).toEqual([]);
    await api.store.update((tx) => {
      const old = tx.tasks.get('t1')!;
      tx.tasks.update({ ...old, status: { ...old.status, state: TaskState.SHUTDOWN } });
    });
    expect(await prune()).toEqual(['pw.v1']);
    expect(specVersion).toBeGreaterThan(0);
    await api.call('DELETE', '/services/web');
    expect(await prune()).toEqual(['pw.v2']);
    expect(await names()).toEqual([{ Name: 'pw', Labels: {} }]);
  });
});
