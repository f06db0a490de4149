import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { initRequest, initShape } from '../api/validate/swarm-requests.ts';
import { DataKey, KeyFile, KeyFileLocked, readKeys, writeKeys, WrongUnlockKey } from '../journal/key-file.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { silentLog } from '../model/clock.ts';
import { CLUSTER_ROW } from '../model/objects.ts';
import { createUnlockKey, parseUnlockKey } from '../pki/unlock-key.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { Store } from '../store/store.ts';
import { LockBox } from './lock-box.ts';
import { createCluster } from './new-cluster.ts';

let dir: string;
let path: string;
let store: Store;
let clock: FakeClock;
let box: LockBox | undefined;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'drover-lock-box-'));
  path = join(dir, 'state.key');
  writeKeys(path, [DataKey.random()]);
  store = await Store.open(new MemoryJournal());
  clock = new FakeClock();
  box = undefined;
});
afterEach(async () => {
  box?.stop();
  await store.close();
  rmSync(dir, { recursive: true });
});

const [first, second] = [createUnlockKey(randomBytes), createUnlockKey(randomBytes)];

function start(keyFile = new KeyFile(path)): LockBox {
  box = new LockBox({ store, keyFile, clock, log: silentLog });
  box.start();
  return box;
}

async function newCluster(): Promise<void> {
  await store.update((tx) =>
    createCluster(tx, {
      ...initRequest(initShape.parse({})),
      nodeId: 'node1',
      clusterId: 'cluster1',
      ingressId: 'ingress1',
      rootCa: { certificate: '', key: '' },
      joinTokens: { worker: '', manager: '' },
      managerAddress: '10.0.0.1:2377',
      now: '',
    }),
  );
}

async function setKey(unlockKey: string | undefined): Promise<void> {
  await store.update((tx) => {
    const { unlockKey: _, ...cluster } = tx.clusters.get(CLUSTER_ROW)!;
    tx.clusters.update({ ...cluster, ...(unlockKey === undefined ? {} : { unlockKey }) });
  });
}

test('the file is locked, locked anew and unlocked by the time the update is done', async () => {
  await newCluster();
  start();
  expect(readKeys(path)).toHaveLength(1);
  await setKey(first);
  expect(() => readKeys(path)).toThrow(KeyFileLocked);
  expect(readKeys(path, parseUnlockKey(first))).toHaveLength(1);
  await setKey(second);
  expect(() => readKeys(path, parseUnlockKey(first))).toThrow(WrongUnlockKey);
  expect(readKeys(path, parseUnlockKey(second))).toHaveLength(1);
  await setKey(undefined);
  expect(readKeys(path)).toHaveLength(1);
});

test.each([
  ['locked', undefined, first],
  ['locked with the next key', first, second],
  ['unlocked', first, undefined],
])('a crash before the file was to be %s: the next start does it', async (_what, before, after) => {
  const bytes = before === undefined ? undefined : parseUnlockKey(before);
  writeKeys(path, readKeys(path)!, bytes);
  await newCluster();
  await setKey(after);
  start(new KeyFile(path, bytes));
  expect(readKeys(path, after === undefined ? undefined : parseUnlockKey(after))).toHaveLength(1);
});

test('a store that knows no cluster yet leaves the lock alone', async () => {
  const bytes = parseUnlockKey(first);
  writeKeys(path, readKeys(path)!, bytes);
  const before = readFileSync(path, 'utf8');
  start(new KeyFile(path, bytes));
  expect(readFileSync(path, 'utf8')).toBe(before);
});

test('what cannot be written is said, leaves the file whole, and is tried again', async () => {
  await newCluster();
  const lockBox = start();
  mkdirSync(`${path}.new`);
  await setKey(first);
  expect(lockBox.trouble()).toMatch(/EISDIR/);
  expect(readKeys(path)).toHaveLength(1);
  rmdirSync(`${path}.new`);
  await clock.advance(5_000);
  expect(lockBox.trouble()).toBe('');
  expect(readKeys(path, parseUnlockKey(first))).toHaveLength(1);
});

test('stopped, it changes nothing any more', async () => {
  await newCluster();
  start().stop();
  await setKey(first);
  expect(readKeys(path)).toHaveLength(1);
});
