import { afterEach, expect, test } from 'vitest';
import { startApi, type TestApi } from '../api.fixture.ts';

const TYPE = { 'Content-Type': 'application/vnd.drover.backup' };
let api: TestApi;
afterEach(() => api.close());

test('a backup is what the manager gives, whole', async () => {
  api = await startApi();
  const lines = Array.from({ length: 20_000 }, (_, i) => `["tasks/${i}","ü${'x'.repeat(i % 50)}"]\n`);
  api.cluster.backupLines = lines;
  const answer = await api.call('GET', '/drover/cluster/backup');
  expect([answer.status, answer.headers['content-type']]).toEqual([200, 'application/vnd.drover.backup']);
  expect(answer.text).toBe(lines.join(''));
});

test('a worker has nothing to back up', async () => {
  api = await startApi(undefined, 'worker');
  const answer = await api.call('GET', '/drover/cluster/backup');
  expect(answer.status).toBe(503);
  expect(answer.json.message).toMatch(/Worker nodes can't be used/);
});

test('a restore hands the body on as it comes, and answers with what became of the cluster', async () => {
  api = await startApi(undefined, 'none');
  // More than the API reads of other bodies.
  const backup = 'line\n'.repeat(2_000_000);
  const answer = await api.call('POST', '/drover/cluster/restore?advertiseAddr=10.0.0.2:2400', backup, TYPE);
  expect(answer.status).toBe(200);
  expect(answer.json).toEqual({
    ClusterID: 'cluster1',
    NodeID: 'node1',
    BackupAt: '2026-01-01T00:00:00.000Z',
    Locked: false,
    AddrBefore: '10.0.0.1:2377',
    Addr: '10.0.0.2:2377',
    FormerManagers: [{ NodeID: 'node2', Hostname: 'h2', Addr: '10.0.0.3:2377' }],
  });
  expect(api.cluster.restored).toBe(backup);
  expect(api.cluster.asked).toEqual([{ advertiseAddr: { host: '10.0.0.2', port: 2400 } }]);
  expect((await api.call('GET', '/swarm')).json.ID).toBe('cluster1');
});

test.each<[string, 'manager' | 'none', string, string, number, RegExp]>([
  ['in a swarm already', 'manager', '', 'x', 503, /already part of a swarm.*"docker swarm leave"/],
  ['damaged', 'none', '', 'damaged', 400, /^this backup is damaged$/],
  ['a bad address', 'none', '?advertiseAddr=0.0.0.0', 'x', 400, /^advertise address must be a non-zero IP/],
])(
  '%s: a long body is refused with a sentence, not with a broken connection',
  async (_what, role, query, begin, status, message) => {
    api = await startApi(undefined, role);
    const body = begin + 'x'.repeat(20_000_000);
    const answer = await api.call('POST', `/drover/cluster/restore${query}`, body, TYPE);
    expect([answer.status, answer.json.message]).toEqual([status, expect.stringMatching(message)]);
  },
);

test('a body of another type is no backup', async () => {
  api = await startApi(undefined, 'none');
  for (const body of [{}, undefined]) {
    const answer = await api.call('POST', '/drover/cluster/restore', body);
    expect(answer.status).toBe(400);
    expect(answer.json.message).toMatch(/^a backup is expected as the body/);
  }
});
