/** Managers whose state lies in an etcd that stands elsewhere: a real one, and managers with their real ports. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { initRequest, initShape } from '../api/validate/swarm-requests.ts';
import { startEtcd, Wire } from '../journal/etcd/etcd.fixture.ts';
import { OutsideEtcd, type OutsideEtcdSettings } from '../journal/etcd/outside.ts';
import { TlsAuthority } from '../journal/etcd/tls-etcd.fixture.ts';
import { freePorts } from '../journal/free-ports.fixture.ts';
import { silentLog } from '../model/clock.ts';
import type { NodeSpec } from '../model/specs.ts';
import { CLUSTER_ROW } from '../model/objects.ts';
import { saveIdentity } from '../pki/files.ts';
import type { Identity } from '../pki/identity.ts';
import { joinIdentity } from './certify.ts';
import { eraseCluster, foundCluster } from './found-cluster.ts';
import { Manager } from './manager.ts';
import type { Membership } from './membership.ts';
import { keyFileOf } from './state-files.ts';
import { systemClock as clock, systemRandom as random } from './system.ts';

const ends: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const WITHIN = { timeout: 15_000, interval: 20 };
const SECRET_LOCK = { Spec: { EncryptionConfig: { AutoLockManagers: true } } };

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'drover-outside-'));
  ends.push(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function plainEtcd(): Promise<OutsideEtcdSettings> {
  const etcd = await startEtcd();
  ends.push(() => etcd.dispose());
  return { endpoints: [etcd.members[0]!.endpoint], prefix: '/drover/' };
}

/** Which asks for a certificate, and shows one for its own address. */
async function tlsEtcd(): Promise<OutsideEtcdSettings> {
  const authority = await TlsAuthority.make();
  const { endpoint, dispose } = await authority.start();
  ends.push(dispose);
  return { endpoints: [endpoint], prefix: '/drover/prod/', tls: await authority.certified('10.9.9.9') };
}

interface Host {
  dataDir: string;
  membership: Membership;
  identity: Identity;
}

const addressesAt = (port: number) => ({
  listenAddress: `127.0.0.1:${port}`,
  advertiseAddress: '127.0.0.1',
  dataPathAddress: '127.0.0.1',
});

async function first(outside: OutsideEtcd | undefined, body: object = {}): Promise<Host> {
  const dataDir = folder();
  const [advertisePort = 0] = await freePorts(1);
  const addresses = { ...addressesAt(advertisePort), advertisePort };
  const around = { addresses, dataDir, keyFile: keyFileOf(dataDir), clock, random, log: silentLog };
  const founded = await foundCluster(initRequest(initShape.parse(body)), {
    ...around,
    ...(outside && { etcd: outside }),
  });
  return { dataDir, ...founded };
}

function tokenOf(manager: Manager): string {
  return manager.store.view((view) => view.clusters.get(CLUSTER_ROW)!.joinTokens.manager);
}

const joins = (by: Host, joinToken: string, etcd: 'own' | 'elsewhere') =>
  joinIdentity(
    {
      remoteAddrs: [{ host: '127.0.0.1', port: Number(by.membership.listenAddress.split(':')[1]) }],
      joinToken,
      availability: 'active',
    },
    { advertiseAddress: '127.0.0.1', etcd, clock },
  );

async function next(by: Host, joinToken: string): Promise<Host> {
  const identity = await joins(by, joinToken, 'elsewhere');
  const { nodeId, clusterId, role } = identity;
  const membership: Membership = {
    nodeId,
    clusterId,
    role,
    keeper: 'outside-etcd',
    ...addressesAt((await freePorts(1))[0]!),
    managers: by.membership.managers,
  };
  return { dataDir: folder(), membership, identity };
}

async function opened(host: Host, outside?: OutsideEtcd): Promise<Manager> {
  const { dataDir, membership, identity } = host;
  const manager = await Manager.open(membership, identity, {
    dataDir,
    keyFile: keyFileOf(dataDir),
    ...(outside && { outside }),
    clock,
    random,
    log: silentLog,
    serveApi: () => {},
    managers: () => host.membership.managers,
    remember: () => {},
  });
  ends.push(() => manager.close());
  return manager;
}

const managerRow = (by: Manager, of: Host) =>
  by.store.view((view) => view.nodes.get(of.membership.nodeId)?.manager?.reachability);

const changeSpec = (by: Manager, nodeId: string, change: Partial<NodeSpec>) =>
  by.store.update((tx) => {
    const node = tx.nodes.get(nodeId)!;
    tx.nodes.update({ ...node, spec: { ...node.spec, ...change } });
  });
const setRole = (by: Manager, of: Host, Role: NodeSpec['Role']) => changeSpec(by, of.membership.nodeId, { Role });
const label = (by: Manager, nodeId: string, value: string) => changeSpec(by, nodeId, { Labels: { value } });
const labelBy = (manager: Manager, nodeId: string) =>
  manager.store.view((view) => view.nodes.get(nodeId)?.spec.Labels['value']);

/** All that the etcd holds but what its leaders write all the time. */
async function rawRows(outside: OutsideEtcd): Promise<string> {
  const client = await outside.client();
  const { rows } = await client.range({ from: '\0', to: '\xff' });
  client.close();
  return JSON.stringify(rows.filter(({ key }) => !/\/(leader|round)$/.test(key)));
}

describe.each([
  ['http', plainEtcd],
  ['https, certificates on both sides', tlsEtcd],
])('over %s', (_name, start) => {
  test('a second manager joins, takes over when the first ends, and the first follows when it is back', async () => {
    const outside = new OutsideEtcd(await start(), clock);
    const a = await first(outside);
    const managerA = await opened(a, outside);
    expect(await managerA.led(15_000)).toBe(true);
    const token = tokenOf(managerA);

    await expect(joins(a, token, 'own')).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining('with the --etcd-endpoints of the other managers'),
    });
    expect(managerA.store.view((view) => view.nodes.size)).toBe(1);

    const b = await next(a, token);
    const managerB = await opened(b, outside);
    await expect.poll(() => managerB.ready, WITHIN).toBe(true);
    expect(tokenOf(managerB)).toBe(token);
    expect(readFileSync(keyFileOf(b.dataDir).path)).toEqual(readFileSync(keyFileOf(a.dataDir).path));
    await expect.poll(() => managerRow(managerA, b), WITHIN).toBe('reachable');
    await label(managerA, b.membership.nodeId, 'by a');

    await managerA.close();
    expect(await managerB.led(15_000)).toBe(true);
    expect(labelBy(managerB, b.membership.nodeId)).toBe('by a');
    await label(managerB, b.membership.nodeId, 'by b');

    const again = await opened(a, outside);
    await expect.poll(() => again.ready && labelBy(again, b.membership.nodeId), WITHIN).toBe('by b');
    const led = { leading: false, leader: { nodeId: b.membership.nodeId } };
    await expect.poll(() => again.leadership(), WITHIN).toMatchObject(led);
    expect([...again.degraded(), ...managerB.degraded()]).toEqual([]);
  });
});

describe('a manager that was started otherwise than the others', () => {
  test.each([
    ['none', () => folder()],
    ['one', () => process.env['PATH'] ?? ''],
  ])(
    'without the etcd of the swarm, promoted on a host that has %s of its own: told what is needed',
    async (_has, path) => {
      const outside = new OutsideEtcd(await plainEtcd(), clock);
      const a = await first(outside);
      const managerA = await opened(a, outside);
      await managerA.led(15_000);
      const b = await next(a, tokenOf(managerA));
      await saveIdentity(b.dataDir, b.identity);
      vi.stubEnv('PATH', path());
      ends.push(() => void vi.unstubAllEnvs());
      const managerB = await opened({ ...b, membership: { ...b.membership, keeper: 'etcd' } });
      const words =
        /cannot take part: this swarm keeps its state in an etcd that stands elsewhere: start droverd on this/;
      await expect.poll(() => managerB.degraded().join(), WITHIN).toMatch(words);
      expect(managerRow(managerA, b)).toBeUndefined();
    },
  );

  test('with an etcd, where the managers keep the state by themselves: refused before it is a node', async () => {
    const a = await first(undefined);
    const managerA = await opened(a);
    await expect(joins(a, tokenOf(managerA), 'elsewhere')).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining('start droverd on this node without --etcd-endpoints'),
    });
    expect(managerA.store.view((view) => view.nodes.size)).toBe(1);
  });
});

test('what is confidential is encrypted there, with a key that the disk has locked', async () => {
  const outside = new OutsideEtcd(await plainEtcd(), clock);
  const host = await first(outside, SECRET_LOCK);
  const keyFile = keyFileOf(host.dataDir);
  expect(keyFile.isLocked()).toBe(true);
  const raw = await rawRows(outside);
  expect(raw).toContain(`/drover/${host.membership.clusterId}/rows/clusters/`);
  expect(raw).toContain('sealed:');
  for (const secret of ['SWMTKN', 'PRIVATE KEY', 'SWMKEY']) expect(raw).not.toContain(secret);
});

test('a manager that was demoted while it was away leads no more, even alone', async () => {
  const outside = new OutsideEtcd(await plainEtcd(), clock);
  const a = await first(outside);
  const managerA = await opened(a, outside);
  await managerA.led(15_000);
  const b = await next(a, tokenOf(managerA));
  const managerB = await opened(b, outside);
  await expect.poll(() => managerB.ready, WITHIN).toBe(true);
  await managerB.close();
  await setRole(managerA, b, 'worker');
  await expect.poll(() => managerRow(managerA, b), WITHIN).toBeUndefined();
  await managerA.close();
  const back = await opened(b, outside);
  await expect.poll(() => back.degraded().join(), WITHIN).toMatch(/this manager cannot take part/);
  expect(back.leadership()).toEqual({ leading: false });
  const again = await opened(a, outside);
  expect(await again.led(15_000)).toBe(true);
});

test('the first manager, demoted and at once promoted again, asks those it has heard of since it began', async () => {
  const outside = new OutsideEtcd(await plainEtcd(), clock);
  const a = await first(outside);
  const managerA = await opened(a, outside);
  await managerA.led(15_000);
  const b = await next(a, tokenOf(managerA));
  const managerB = await opened(b, outside);
  await expect.poll(() => managerRow(managerA, b), WITHIN).toBe('reachable');
  a.membership = { ...a.membership, managers: [a, b].map((host) => host.membership.listenAddress) };
  await setRole(managerA, a, 'worker');
  await expect.poll(() => managerB.store.leading && managerRow(managerB, a), WITHIN).toBeUndefined();
  await setRole(managerB, a, 'manager');
  await expect.poll(() => managerRow(managerB, a), WITHIN).toBe('reachable');
  await expect.poll(() => [managerA.ready, managerA.degraded()], WITHIN).toEqual([true, []]);
});

test('a manager that is cut off from that etcd leads no more and says why; mended, it leads again', async () => {
  const { endpoints, prefix } = await plainEtcd();
  const wire = await Wire.to(endpoints[0]!);
  ends.push(() => wire.close());
  const outside = new OutsideEtcd({ endpoints: [wire.endpoint], prefix }, clock);
  const manager = await opened(await first(outside), outside);
  await manager.led(15_000);
  wire.mode = 'cut';
  await expect.poll(() => manager.store.leading, WITHIN).toBe(false);
  const words = `the etcd at ${wire.endpoint}, which holds the swarm's state, does not answer this manager`;
  await expect.poll(() => manager.degraded(), WITHIN).toContain(words);
  wire.mode = 'open';
  await expect.poll(() => manager.store.leading, WITHIN).toBe(true);
  await expect.poll(() => manager.degraded(), WITHIN).toEqual([]);
});

test('an etcd that holds the swarm no more, or another prefix of it: nobody leads there, and the manager says so', async () => {
  const outside = new OutsideEtcd(await plainEtcd(), clock);
  const host = await first(outside);
  const manager = await opened(host, outside);
  await manager.led(15_000);
  const { clusterId } = host.membership;
  await eraseCluster({ etcd: () => outside, clusterId, log: silentLog }, 'it');
  await expect.poll(() => manager.degraded().join(), WITHIN).toMatch(/this etcd does not hold the swarm/);
  expect(manager.store.leading).toBe(false);
  await manager.close();

  const elsewhere = new OutsideEtcd({ ...outside.settings, prefix: '/other/' }, clock);
  const lost = await opened(host, elsewhere);
  await expect.poll(() => lost.degraded().join(), WITHIN).toMatch(/holds no swarm below \/other\//);
  expect(lost.ready).toBe(false);
});

test('a second swarm below the same prefix is refused, and leaves the first as it is', async () => {
  const outside = new OutsideEtcd(await plainEtcd(), clock);
  const { membership } = await first(outside);
  const before = await rawRows(outside);
  await expect(first(outside)).rejects.toThrow(`already holds a swarm below /drover/ (${membership.clusterId})`);
  expect(await rawRows(outside)).toBe(before);
});
