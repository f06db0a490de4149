import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { aSecret } from '../api/api.fixture.ts';
import { initRequest, initShape } from '../api/validate/swarm-requests.ts';
import { newId } from '../model/ids.ts';
import { CLUSTER_ROW, type Node } from '../model/objects.ts';
import { createCertificateRequest, createRootCa, issueNodeCertificate } from '../pki/authority.ts';
import { createUnlockKey, parseUnlockKey } from '../pki/unlock-key.ts';
import { BackupRefused, readBackup, writeBackup, type Backup } from './backup.ts';
import { keyFileOf, openState, removeState } from './state-files.ts';
import { MembershipFile } from './membership.ts';
import { createCluster } from './new-cluster.ts';
import { restoreCluster, restoredPlace, restoredRows } from './restore.ts';

const NOW = Date.parse('2026-01-01T00:00:00.000Z');
const AT = '2026-01-02T00:00:00.000Z';
const SECRET = Buffer.from('hunter2').toString('base64');
const [nodeId, clusterId, otherId, workerId] = Array.from({ length: 4 }, () => newId(Math.random)) as [
  string,
  string,
  string,
  string,
];

let root: string;
let dir: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'drover-backup-'));
  dir = mkdtempSync(join(root, 'old-'));
});
afterEach(() => rmSync(root, { recursive: true }));

const freshDir = () => mkdtempSync(join(root, 'new-'));

/** The lines of a backup of a cluster with two managers, a worker and a secret. */
async function taken(unlockKey?: string): Promise<string[]> {
  const rootCa = await createRootCa(NOW);
  const { key, csr } = await createCertificateRequest();
  const subject = { nodeId, clusterId, role: 'manager' as const };
  const certificate = await issueNodeCertificate(rootCa, csr, subject, NOW, 86_400_000);
  const keyFile = keyFileOf(dir);
  if (unlockKey !== undefined) keyFile.lockWith(parseUnlockKey(unlockKey));
  const state = await openState(dir, keyFile);
  await state.store.update((tx) => {
    createCluster(tx, {
      ...initRequest(initShape.parse({})),
      nodeId,
      clusterId,
      ingressId: 'ingress1',
      rootCa,
      joinTokens: { worker: 'SWMTKN-worker', manager: 'SWMTKN-manager' },
      ...(unlockKey === undefined ? {} : { unlockKey }),
      managerAddress: '10.0.0.1:2377',
      now: AT,
    });
    const node = tx.nodes.get(nodeId)!;
    tx.nodes.create({ ...node, id: otherId, manager: { ...node.manager!, address: '10.0.0.2:2377', leader: false } });
    const { manager: _, ...worker } = { ...node, id: workerId, spec: { ...node.spec, Role: 'worker' as const } };
    tx.nodes.create(worker);
    tx.secrets.create(aSecret('secret1', { spec: { Name: 'pw', Labels: {}, Data: SECRET } }));
  });
  const membership = {
    nodeId,
    clusterId,
    listenAddress: '0.0.0.0:2377',
    advertiseAddress: '10.0.0.1',
    dataPathAddress: '10.0.0.1',
  };
  const identity = { certificate, key, rootCertificate: rootCa.certificate };
  const lines = [...writeBackup({ store: state.store, keyFile, membership, identity, at: AT })];
  await state.close();
  return lines;
}

async function* inChunks(text: string, size = 1000): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const read = (lines: string[], size?: number): Promise<Backup> => readBackup(inChunks(lines.join(''), size));

const place = (address = '10.0.0.1') => ({
  listenAddress: '0.0.0.0:2377',
  advertiseAddress: address,
  advertisePort: 2377,
  dataPathAddress: address,
});
const anywhere = { listenAddr: undefined, advertiseAddr: undefined, dataPathAddr: undefined };
const restore = (backup: Backup, dataDir: string, address?: string) =>
  restoreCluster(backup, {
    request: anywhere,
    dataDir,
    keyFile: keyFileOf(dataDir),
    addresses: () => place(address),
    now: AT,
  });

describe('a backup', () => {
  test('is read as it was written, whatever pieces it comes in; confidential rows are encrypted in it', async () => {
    const lines = await taken();
    const backup = await read(lines);
    for (const size of [1, 7, 1 << 20]) expect(await read(lines, size)).toEqual(backup);
    expect(backup.header).toMatchObject({ clusterId, at: AT, index: 1, manager: { nodeId, address: '10.0.0.1:2377' } });
    expect(backup.rows.find(({ key }) => key === 'secrets/secret1')!.value).toMatch(/^sealed:/);
    expect(backup.rows.at(-1)).toEqual({ key: 'index', value: '1' });
    expect(lines.join('')).not.toContain(SECRET);
    expect(backup.header.keyFile).toBe(readFileSync(join(dir, 'state.key'), 'utf8'));
  });

  test('every change of a byte and every missing end is noticed', async () => {
    const lines = await taken();
    const text = lines.join('');
    const sentence = /^this backup is damaged \(.*\); nothing was changed$|^this is no backup of a Drover cluster;/;
    for (let at = 0; at < text.length - 1; at += 97) {
      const other = text[at] === 'x' ? 'y' : 'x';
      const changed = read([text.slice(0, at), other, text.slice(at + 1)]);
      await expect(changed, `byte ${at}`).rejects.toThrow(BackupRefused);
      await expect(changed).rejects.toThrow(sentence);
    }
    for (const length of [0, 1, 500, text.length - 200, text.length - 10]) {
      await expect(read([text.slice(0, length)]), `cut at ${length}`).rejects.toThrow(sentence);
    }
    await expect(read(lines.slice(0, -1))).rejects.toThrow(/its end is missing/);
    await expect(read([...lines.slice(0, 3), ...lines.slice(4)])).rejects.toThrow(/its checksum is wrong/);
  });

  test.each<[string, RegExp]>([
    ['', /^this is no backup of a Drover cluster; nothing was changed$/],
    ['hello\nworld\n', /^this is no backup/],
    ['{"drover":"something else","format":1}\n{}\n', /^this is no backup/],
    [
      '{"drover":"backup of a cluster","format":2}\nwho knows\n',
      /^this backup was written by a newer Drover \(format 2; this one reads up to 1\); nothing was changed$/,
    ],
  ])('%j is refused', async (text, sentence) => {
    await expect(read([text])).rejects.toThrow(sentence);
  });
});

describe('restored', () => {
  test('all rows are there, in a data directory like that of a manager', async () => {
    const dataDir = freshDir();
    const { membership, identity, restored } = await restore(await read(await taken()), dataDir);
    expect(membership).toEqual({
      nodeId,
      clusterId,
      role: 'manager',
      listenAddress: '0.0.0.0:2377',
      advertiseAddress: '10.0.0.1',
      dataPathAddress: '10.0.0.1',
      managers: ['10.0.0.1:2377'],
    });
    expect(identity).toMatchObject({ nodeId, clusterId, role: 'manager' });
    expect(restored).toEqual({
      clusterId,
      nodeId,
      at: AT,
      locked: false,
      addresses: { before: '10.0.0.1:2377', now: '10.0.0.1:2377' },
      formerManagers: [{ nodeId: otherId, hostname: otherId, address: '10.0.0.2:2377' }],
    });
    expect(statSync(join(dataDir, 'state.key')).mode & 0o777).toBe(0o600);
    const [before, after] = await Promise.all([openState(dir), openState(dataDir)]);
    const all = ({ store }: typeof before) =>
      store.view((view) => ({ cluster: view.clusters.get(CLUSTER_ROW), secret: view.secrets.get('secret1') }));
    expect(all(after)).toEqual(all(before));
    expect(all(after).secret!.spec.Data).toBe(SECRET);
    expect(after.store.index).toBeGreaterThan(before.store.index + 1_000_000);
    await Promise.all([before.close(), after.close()]);
  });

  test('broken off before the membership is written, it is a leftover, and is restored over', async () => {
    const backup = await read(await taken());
    const dataDir = freshDir();
    await restore(backup, dataDir);
    expect(new MembershipFile(dataDir).read()).toBeUndefined();
    // A later try with less in it: nothing of the first one may stay.
    removeState(dataDir);
    await restore({ ...backup, rows: backup.rows.filter(({ key }) => !key.startsWith('secrets/')) }, dataDir);
    const state = await openState(dataDir);
    expect(state.store.view((view) => [view.secrets.size, view.nodes.size])).toEqual([0, 3]);
    await state.close();
  });

  test('a cluster whose managers are locked stays locked: the unlock key opens it', async () => {
    const unlockKey = createUnlockKey(randomBytes);
    const lines = await taken(unlockKey);
    const dataDir = freshDir();
    const { restored } = await restore(await read(lines), dataDir);
    expect(restored.locked).toBe(true);
    const keyFile = keyFileOf(dataDir);
    await expect(openState(dataDir, keyFile)).rejects.toThrow(/state\.key is locked/);
    keyFile.unlock(parseUnlockKey(unlockKey));
    const state = await openState(dataDir, keyFile);
    expect(state.store.view((view) => view.secrets.get('secret1')!.spec.Data)).toBe(SECRET);
    await state.close();
  });

  test.each<[string, (backup: Backup) => Backup, RegExp]>([
    [
      'of certificates of another node',
      (b) => ({ ...b, header: { ...b.header, manager: { ...b.header.manager, nodeId: otherId } } }),
      /its certificates are not those of its manager/,
    ],
    [
      'of a key file that is none',
      (b) => ({ ...b, header: { ...b.header, keyFile: '{}' } }),
      /its key file cannot be read/,
    ],
    [
      'of a row that cannot be opened',
      (b) => ({ ...b, rows: [...b.rows, { key: 'secrets/x', value: 'sealed:00000000:AAAA' }] }),
      /is encrypted with the key 00000000/,
    ],
    ['of another kind of row', (b) => ({ ...b, rows: [...b.rows, { key: 'ghosts/x', value: '{}' }] }), /unknown kind/],
    [
      'without its manager',
      (b) => ({ ...b, rows: b.rows.filter(({ key }) => key !== `nodes/${nodeId}`) }),
      /its manager/,
    ],
    ['without an index', (b) => ({ ...b, rows: b.rows.filter(({ key }) => key !== 'index') }), /it has no index/],
    [
      'without a cluster',
      (b) => ({ ...b, rows: b.rows.filter(({ key }) => !key.startsWith('clusters/')) }),
      /its state/,
    ],
  ])('a backup %s is refused', async (_what, spoil, sentence) => {
    const spoilt = restore(spoil(await read(await taken())), freshDir());
    await expect(spoilt).rejects.toThrow(BackupRefused);
    await expect(spoilt).rejects.toThrow(sentence);
  });

  test('one manager is left, at its new place; the others are workers', async () => {
    const backup = await read(await taken());
    const { rows } = restoredRows(backup, { address: '10.0.0.9:2400', advertiseAddress: '10.0.0.9', now: AT });
    const nodes = rows.filter(({ key }) => key.startsWith('nodes/')).map(({ value }) => JSON.parse(value) as Node);
    const roles = Object.fromEntries(nodes.map(({ id, spec, manager }) => [id, [spec.Role, manager?.address]]));
    expect(roles).toEqual({
      [nodeId]: ['manager', '10.0.0.9:2400'],
      [otherId]: ['worker', undefined],
      [workerId]: ['worker', undefined],
    });
    expect(nodes.find(({ id }) => id === nodeId)!.status.address).toBe('10.0.0.9');
    const same = (key: string) => !key.startsWith('nodes/') && key !== 'index';
    expect(rows.filter(({ key }) => same(key))).toEqual(backup.rows.filter(({ key }) => same(key)));
    expect(rows.find(({ key }) => key === `nodes/${workerId}`)).toEqual(
      backup.rows.find(({ key }) => key === `nodes/${workerId}`),
    );
  });
});

describe('the place of a restored manager', () => {
  const before = {
    nodeId,
    listenAddress: '10.0.0.1:2400',
    advertiseAddress: '10.0.0.1',
    dataPathAddress: '10.1.0.1',
    address: '10.0.0.1:2401',
  };

  test('is that of before, where this host has the addresses', () => {
    expect(restoredPlace(before, anywhere, new Set(['10.0.0.1', '10.1.0.1']))).toEqual({
      listenAddr: { host: '10.0.0.1', port: 2400 },
      advertiseAddr: { host: '10.0.0.1', port: 2401 },
      dataPathAddr: '10.1.0.1',
    });
  });

  test('is for the daemon to choose, but for its ports, where it has not', () => {
    expect(restoredPlace(before, anywhere, new Set())).toEqual({
      listenAddr: { host: '0.0.0.0', port: 2400 },
      advertiseAddr: undefined,
      dataPathAddr: undefined,
    });
  });

  test('is what its user says', () => {
    const request = {
      listenAddr: { host: '10.0.0.2', port: 2500 },
      advertiseAddr: { host: 'eth0' },
      dataPathAddr: 'eth1',
    };
    expect(restoredPlace(before, request, new Set(['10.0.0.1']))).toEqual({
      ...request,
      advertiseAddr: { host: 'eth0', port: 2500 },
    });
  });
});
