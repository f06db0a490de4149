/** The rules of pulling, against a server that plays engine and registry. */
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { once } from 'node:events';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DockerClient } from '../docker/client.ts';
import { silentLog } from '../model/clock.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { parseImageRef } from './image-ref.ts';
import { Images } from './images.ts';

let server: Server;
let client: DockerClient;
let images: Images;
let clock: FakeClock;
let present: Set<string>;
let pulls: string[];
/** The credentials each pull came with. */
let auths: unknown[];
/** What a pull answers: a line of its progress, or nothing ever. */
let registry: 'gives' | 'hangs' | { error: string };

beforeEach(async () => {
  present = new Set();
  pulls = [];
  auths = [];
  registry = 'gives';
  server = createServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://engine');
    if (url.pathname === '/_ping') return response.setHeader('Api-Version', '1.41').end('OK');
    const inspected = /^\/v1\.41\/images\/(.+)\/json$/.exec(url.pathname)?.[1];
    if (inspected !== undefined) return response.writeHead(present.has(inspected) ? 200 : 404).end('{}');
    const name = `${url.searchParams.get('fromImage')}|${url.searchParams.get('tag')}`;
    pulls.push(name);
    auths.push(request.headers['x-registry-auth']);
    response.writeHead(200, { 'Content-Type': 'application/json' }).flushHeaders();
    if (registry === 'gives') return response.end('{"status":"Pulling"}\n{"status":"done"}\n');
    return registry === 'hangs' ? response : response.end(JSON.stringify(registry));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  client = new DockerClient({ host: '127.0.0.1', port: address.port });
  clock = new FakeClock();
  images = new Images(client, clock, silentLog);
});

afterEach(() => {
  client.close();
  server.closeAllConnections();
  server.close();
});

test('a digest that is here is not pulled, one that is not is', async () => {
  present.add('app@sha256:1');
  await images.ensure('app:v1@sha256:1');
  expect(pulls).toEqual([]);
  await images.ensure('app:v1@sha256:2');
  expect(pulls).toEqual(['app|sha256:2']);
});

test("an image named by its id is nobody's to pull", async () => {
  const id = `sha256:${'0a'.repeat(32)}`;
  await expect(images.ensure(id)).rejects.toThrow(`No such image: ${id}`);
  present.add(id);
  await images.ensure(id);
  expect(pulls).toEqual([]);
});

test('a tag is pulled each time, once for all who ask at the same time', async () => {
  present.add('app:latest');
  await Promise.all([images.ensure('app'), images.ensure('app'), images.ensure('app')]);
  expect(pulls).toEqual(['app|latest']);
  await images.ensure('app');
  expect(pulls).toHaveLength(2);
});

test.each([
  'Get "https://reg:5000/v2/": dial tcp: lookup reg: no such host',
  'Get "https://reg:5000/v2/": net/http: request canceled while waiting for connection',
  'toomanyrequests: You have reached your pull rate limit.',
  'received unexpected HTTP status: 503 Service Unavailable',
])('a registry out of service is left alone for a minute, if the image is here: %s', async (error) => {
  present.add('reg:5000/app:v1');
  registry = { error };
  await images.ensure('reg:5000/app:v1');
  await images.ensure('reg:5000/app:v1');
  expect(pulls).toHaveLength(1);
  await clock.advance(60_000);
  await images.ensure('reg:5000/app:v1');
  expect(pulls).toHaveLength(2);
});

test('a registry that says nothing has 3 s, if the image is here', async () => {
  present.add('app:v1');
  registry = 'hangs';
  const asked = once(server, 'request')
    .then(() => once(server, 'request'))
    .then(() => once(server, 'request'));
  const ensured = images.ensure('app:v1');
  await asked;
  await clock.advance(3_000);
  await ensured;
  await images.ensure('app:v1');
  expect(pulls).toHaveLength(1);
});

test('a refusal is remembered by nobody, and is the reason when there is no image', async () => {
  registry = { error: 'pull access denied for app' };
  await expect(images.ensure('app:v1')).rejects.toThrow('No such image: app:v1 (pull access denied for app)');
  present.add('app:v1');
  await images.ensure('app:v1');
  await images.ensure('app:v1');
  expect(pulls).toHaveLength(3);
});

test('who does not want it any more leaves, the others get it', async () => {
  registry = 'hangs';
  const controller = new AbortController();
  const leaving = images.ensure('app:v1', { signal: controller.signal });
  controller.abort(new Error('not wanted'));
  await expect(leaving).rejects.toThrow('not wanted');
});

test('credentials go with the pull as they are, and each has a pull of its own', async () => {
  const asked = [{ registryAuth: 'ann' }, { registryAuth: 'bob' }, { registryAuth: 'ann' }, {}];
  await Promise.all(asked.map((options) => images.ensure('reg:5000/app:v1', options)));
  expect(pulls).toHaveLength(3);
  expect(new Set(auths)).toEqual(new Set(['ann', 'bob', undefined]));
});

test('a registry that failed for some credentials is asked at once with others', async () => {
  present.add('reg:5000/app:v1');
  registry = { error: 'Get "https://reg:5000/v2/": EOF' };
  await images.ensure('reg:5000/app:v1', { registryAuth: 'old' });
  await images.ensure('reg:5000/app:v1', { registryAuth: 'old' });
  expect(auths).toEqual(['old']);
  registry = 'gives';
  await images.ensure('reg:5000/app:v1', { registryAuth: 'new' });
  await images.ensure('reg:5000/app:v1', { registryAuth: 'new' });
  expect(auths).toEqual(['old', 'new', 'new']);
});

test.each([
  ['nginx', { name: 'nginx', tag: 'latest', registry: 'docker.io' }],
  ['me/app:1', { name: 'me/app', tag: '1', registry: 'docker.io' }],
  ['reg:5000/a/b', { name: 'reg:5000/a/b', tag: 'latest', registry: 'reg:5000' }],
  ['localhost/a:x', { name: 'localhost/a', tag: 'x', registry: 'localhost' }],
  ['r.io/a:1@sha256:f', { name: 'r.io/a', tag: '1', digest: 'sha256:f', registry: 'r.io' }],
  ['a@sha256:f', { name: 'a', digest: 'sha256:f', registry: 'docker.io' }],
])('reference %s', (text, ref) => {
  expect(parseImageRef(text)).toEqual(ref);
});
