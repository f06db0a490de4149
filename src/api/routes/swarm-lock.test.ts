import { afterEach, beforeEach, expect, test } from 'vitest';
import { clusterOf } from '../context.ts';
import { startApi, type Answer, type TestApi } from '../api.fixture.ts';
import { parseUnlockKey } from '../../pki/unlock-key.ts';

let api: TestApi;
beforeEach(async () => (api = await startApi()));
afterEach(() => api.close());

const swarm = async () => (await api.call('GET', '/swarm')).json;
const unlockKey = async (): Promise<string> => (await api.call('GET', '/swarm/unlockkey')).json.UnlockKey;
const lock = () => {
  api.cluster.current = { ...api.cluster.current, localNodeState: 'locked', manager: false };
};

/** As the docker client does it: the spec as it is, but for the lock. */
async function update(autolock: boolean, query = ''): Promise<Answer> {
  const { Version, Spec } = await swarm();
  const body = { ...Spec, EncryptionConfig: { AutoLockManagers: autolock } };
  return api.call('POST', `/swarm/update?version=${Version.Index}${query}`, body);
}

test('a cluster gets an unlock key with the lock, keeps it through updates, and loses it with the lock', async () => {
  expect(await unlockKey()).toBe('');
  expect((await update(true)).status).toBe(200);
  const key = await unlockKey();
  expect(key).toMatch(/^SWMKEY-1-[\w+/]{43}$/);
  expect((await swarm()).Spec.EncryptionConfig).toEqual({ AutoLockManagers: true });
  expect(JSON.stringify(await swarm())).not.toContain(key);
  expect((await update(true)).status).toBe(200);
  expect(await unlockKey()).toBe(key);
  expect((await update(false)).status).toBe(200);
  expect(await unlockKey()).toBe('');
  expect(api.store.view(clusterOf)).not.toHaveProperty('unlockKey');
  await update(true);
  expect(await unlockKey()).not.toBe(key);
});

test('rotating changes the key; without a lock there is none to rotate', async () => {
  expect((await update(false, '&rotateManagerUnlockKey=true')).status).toBe(200);
  expect(await unlockKey()).toBe('');
  await update(true);
  const key = await unlockKey();
  expect((await update(true, '&rotateManagerUnlockKey=true')).status).toBe(200);
  expect(await unlockKey()).toMatch(/^SWMKEY-1-/);
  expect(await unlockKey()).not.toBe(key);
});

test('an update whose lock could not be brought to the disk says so', async () => {
  api.cluster.trouble = 'ENOSPC: no space left on device';
  const answer = await update(true);
  expect(answer.status).toBe(503);
  expect(answer.json.message).toBe(
    'The swarm was updated, but this manager is still locked as before: ENOSPC: no space left on device. It goes on trying.',
  );
});

test('locked: cluster calls are refused in Docker’s words, and info and ping say it', async () => {
  lock();
  for (const path of ['/swarm', '/swarm/unlockkey', '/services', '/nodes', '/secrets']) {
    const answer = await api.call('GET', path);
    expect([answer.status, answer.json.message]).toEqual([
      503,
      'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.',
    ]);
  }
  expect((await api.call('GET', '/info')).json.Swarm).toMatchObject({
    LocalNodeState: 'locked',
    ControlAvailable: false,
  });
  expect((await api.call('GET', '/_ping')).headers['swarm']).toBe('locked');
});

test('unlock takes the right key only', async () => {
  await update(true);
  const key = await unlockKey();
  api.cluster.unlockKey = parseUnlockKey(key);
  const unlock = (UnlockKey: string) => api.call('POST', '/swarm/unlock', { UnlockKey });
  expect(await unlock(key)).toMatchObject({ status: 409, json: { message: 'swarm is not locked' } });
  lock();
  expect(await unlock('SWMKEY-1-x')).toMatchObject({ status: 400, json: { message: 'invalid key string' } });
  expect(await unlock(`SWMKEY-1-${'A'.repeat(43)}`)).toMatchObject({
    status: 401,
    json: { message: 'swarm could not be unlocked: invalid key provided' },
  });
  expect((await unlock(key)).status).toBe(200);
  expect((await swarm()).Spec.EncryptionConfig.AutoLockManagers).toBe(true);
});

test('a node that is in no swarm is not unlocked', async () => {
  api.cluster.current = { ...api.cluster.current, localNodeState: 'inactive', manager: false };
  const answer = await api.call('POST', '/swarm/unlock', { UnlockKey: `SWMKEY-1-${'A'.repeat(43)}` });
  expect(answer.status).toBe(503);
  expect(answer.json.message).toMatch(/^This node is not a swarm manager/);
});

test('leaving while locked needs force', async () => {
  lock();
  expect(await api.call('POST', '/swarm/leave')).toMatchObject({
    status: 503,
    json: { message: 'Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.' },
  });
  expect((await api.call('POST', '/swarm/leave?force=1')).status).toBe(200);
  expect(api.cluster.asked).toHaveLength(1);
});
