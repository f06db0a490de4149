/** What the fuzz test found, one line each, so that it is not found again. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { aNode, json, startApi, type TestApi } from '../../src/api/api.fixture.ts';

let api: TestApi;
beforeEach(async () => {
  api = await startApi((_request, response) => json(response, 404, { message: 'page not found' }));
});
afterEach(() => api.close());

test('a query that names something twice: the first counts', async () => {
  const answer = await api.call('POST', '/swarm/update?version=1&rotateWorkerToken=1&rotateWorkerToken=0&version=9', {
    Name: 'default',
  });
  expect(answer.status).toBe(200);
  expect(api.store.view((view) => [...view.clusters.all()][0]?.joinTokens.worker)).not.toBe('SWMTKN-worker');
});

test('half a surrogate pair is U+FFFD, as for Go', async () => {
  const body = '{"Name":"n","Driver":"overlay","Labels":{"a":"\\ud800"}}';
  expect((await api.call('POST', '/networks/create', body)).status).toBe(201);
  expect(api.store.view((view) => [...view.networks.all()][0]?.spec.Labels)).toEqual({ a: '\ufffd' });
});

test.each([101, 1_000, 5_000, 9_000, 50_000])('a body nested %i deep is refused', async (depth) => {
  const deep = `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
  const { status, json: answer } = await api.call('POST', '/services/create', `{"Name":"s","TaskTemplate":${deep}}`);
  expect(status).toBe(400);
  expect(answer.message).toMatch(/^invalid JSON: nested deeper than 100 levels$/);
});

test.each(['/services/%zz', '/v1.41/nodes/%', '/%ff'])(
  'the broken escape of %s is a 400 that clients can read',
  async (path) => {
    const { status, headers, json: answer } = await api.call('GET', path);
    expect(status).toBe(400);
    expect(headers).toMatchObject({ 'content-type': 'application/json', 'api-version': '1.41' });
    expect(Object.keys(answer)).toEqual(['message']);
  },
);

test('a label is one that was set, not what every object has', async () => {
  await api.store.update((tx) => tx.nodes.create(aNode('n1')));
  for (const label of ['toString', 'constructor', '__proto__']) {
    const filters = encodeURIComponent(JSON.stringify({ 'node.label': [label] }));
    expect((await api.call('GET', `/nodes?filters=${filters}`)).json).toEqual([]);
  }
});
