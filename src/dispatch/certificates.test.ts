/** Certificates over time, with real TLS on loopback: renewal, expiry, removal, token rotation, clocks that differ. */
import { connect } from 'node:http2';
import { randomBytes } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { silentLog, type Clock } from '../model/clock.ts';
import { CLUSTER_ROW } from '../model/objects.ts';
import { createCertificateRequest, issueNodeCertificate } from '../pki/authority.ts';
import {
  identityAtAnyTime,
  lifeOf,
  parseCertificate,
  verifyCertificate,
  type Identity,
  type NodeRole,
} from '../pki/identity.ts';
import { Renewal } from '../pki/renewal.ts';
import { createJoinToken } from '../pki/token.ts';
import { exchange } from './http.ts';
import { renew } from './join.ts';
import { renewCertificate, requestCertificate } from './request-certificate.ts';
import { newManager, node, realClock, type Manager } from './testbed.fixture.ts';

const HOUR = 3_600_000;
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/.source;
const REMOVED = 'node is not part of this cluster any more';
const until = <T>(fn: () => T, timeout = 30_000) => vi.waitFor(fn, { timeout, interval: 5 });

const shifted = (byMs: number): Clock => ({ ...realClock, now: () => Date.now() + byMs });

let m: Manager;
let renewals: Renewal[] = [];
beforeEach(async () => {
  m = await newManager();
});
afterEach(async () => {
  await Promise.all(renewals.map((renewal) => renewal.stop()));
  renewals = [];
  await m.close();
});

/** A certificate of the cluster of any age; the node has its row. */
async function issued(
  of: Manager,
  options: { role?: NodeRole; atMs?: number; lifeMs?: number } = {},
): Promise<Identity> {
  const { role = 'worker', atMs = Date.now(), lifeMs = HOUR } = options;
  const { nodeId } = await of.certify(role);
  await of.store.update((tx) => {
    const row = tx.nodes.get(nodeId)!;
    tx.nodes.update({ ...row, spec: { ...row.spec, Role: role } });
  });
  const { key, csr } = await createCertificateRequest();
  const subject = { nodeId, role, clusterId: of.cluster.clusterId };
  const certificate = await issueNodeCertificate(of.root, csr, subject, atMs, lifeMs);
  return identityAtAnyTime({ certificate, key, rootCertificate: of.root.certificate });
}

async function setExpiry(of: Manager, ms: number): Promise<void> {
  await of.store.update((tx) => {
    const cluster = tx.clusters.get(CLUSTER_ROW)!;
    tx.clusters.update({ ...cluster, spec: { ...cluster.spec, CAConfig: { NodeCertExpiry: ms * 1e6 } } });
  });
}

const askRenewal = async (of: Manager, identity: Identity, csr?: string) =>
  renewCertificate({
    addresses: [of.address],
    identity,
    csr: csr ?? (await createCertificateRequest()).csr,
    clock: realClock,
    timeoutMs: 2_000,
  });

/** When the certificate that the manager shows now ends. */
async function shownUntil(of: Manager): Promise<number> {
  const connection = connect(`https://${of.address}`, { rejectUnauthorized: false });
  try {
    await exchange(connection, 'GET', '/v1/ca');
    return lifeOf((connection.socket as TLSSocket).getPeerX509Certificate()!).untilMs;
  } finally {
    connection.destroy();
  }
}

describe('renewal', () => {
  test('gives the same node a certificate in the role of the store, for as long as the spec says now', async () => {
    const identity = await m.certify();
    await setExpiry(m, 3 * HOUR);
    await m.store.update((tx) => {
      const row = tx.nodes.get(identity.nodeId)!;
      tx.nodes.update({ ...row, spec: { ...row.spec, Role: 'manager' } });
    });
    const certificate = parseCertificate(await askRenewal(m, identity));
    expect(verifyCertificate(certificate, parseCertificate(m.root.certificate), Date.now())).toEqual({
      nodeId: identity.nodeId,
      clusterId: identity.clusterId,
      role: 'manager',
    });
    expect(Math.abs(lifeOf(certificate).untilMs - Date.now() - 3 * HOUR)).toBeLessThan(5_000);
  });

  test('is for nodes of the cluster whose certificate holds, until they are removed', async () => {
    const other = await newManager();
    const stranger = {
      ...(await other.certify()),
      rootCertificate: m.root.certificate,
      clusterId: m.cluster.clusterId,
    };
    await expect(askRenewal(m, stranger)).rejects.toMatchObject({
      status: 401,
      message: 'the certificate is not of this cluster',
    });
    await other.close();

    const expired = await issued(m, { lifeMs: -1_000 });
    await expect(askRenewal(m, expired)).rejects.toMatchObject({
      status: 401,
      message: expect.stringMatching(
        new RegExp(`^the certificate has expired: it held until ${TIME}, and the manager's clock says ${TIME}$`),
      ) as string,
    });

    const identity = await m.certify();
    await expect(askRenewal(m, identity, 'nonsense')).rejects.toMatchObject({ status: 400 });
    await m.store.update((tx) => tx.nodes.remove(identity.nodeId));
    await expect(askRenewal(m, identity)).rejects.toMatchObject({ status: 410, message: REMOVED });

    const connection = connect(`https://${m.address}`, { rejectUnauthorized: false });
    await expect(exchange(connection, 'POST', '/v1/certificate/renewal', { csr: '' })).rejects.toMatchObject({
      status: 401,
    });
    connection.destroy();
  });

  test('turns to the next manager when one cannot be reached', async () => {
    const identity = await m.certify();
    const { csr } = await createCertificateRequest();
    const ask = (addresses: string[]) => renewCertificate({ addresses, identity, csr, clock: realClock });
    expect(await ask(['127.0.0.1:1', m.address])).toMatch(/BEGIN CERTIFICATE/);
    await expect(ask(['127.0.0.1:1'])).rejects.toThrow(/^cannot reach a manager at 127\.0\.0\.1:1: .*ECONNREFUSED/);
  });

  test('goes on through many short lives, of node and manager, without dropping the session', async () => {
    // A certificate's times are whole seconds: of 6 s, at least 5 are left.
    const lifeMs = 6_000;
    await setExpiry(m, lifeMs);
    const [own, identity] = [await issued(m, { role: 'manager', lifeMs }), await issued(m, { lifeMs })];
    m.server.useIdentity(own);
    const { memory, session } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));

    const keep = (
      start: Identity,
      certify: (csr: string, present: Identity) => Promise<string>,
      use: (next: Identity) => void,
    ) => {
      const seen = [start];
      const renewal = new Renewal({
        identity: start,
        clock: realClock,
        random: Math.random,
        log: silentLog,
        certify,
        save: async () => {},
        renewed(next) {
          seen.push(next);
          use(next);
        },
        backoffMs: { first: 50, most: 50 },
      });
      renewals.push(renewal);
      renewal.start();
      return seen;
    };
    const authority = { store: m.store, clock: realClock, log: silentLog, root: m.root };
    const managers = keep(
      own,
      (csr) => renew(authority, csr, own.nodeId),
      (next) => m.server.useIdentity(next),
    );
    const nodes = keep(
      identity,
      (csr, present) => renewCertificate({ addresses: session.addresses(), identity: present, csr, clock: realClock }),
      (next) => session.useIdentity(next),
    );
    await until(() => {
      expect(Math.min(managers.length, nodes.length)).toBeGreaterThanOrEqual(3);
      for (const [first] of [managers, nodes])
        expect(Date.now()).toBeGreaterThan(lifeOf(parseCertificate(first!.certificate)).untilMs);
    }, 20_000);

    // The session is still the first one, made with certificates that have expired since, and works.
    expect(memory.replaced).toBe(1);
    expect(session.state().phase).toBe('connected');
    // Whoever dials now meets the new ones, on both sides.
    const second = m.agent(nodes.at(-1)!);
    await until(() => expect(second.memory.replaced).toBe(1));
    const late = m.agent(identity);
    await until(() => expect(late.session.state().error).toMatch(/^the certificate has expired: /));
    for (const renewal of renewals) expect(renewal.trouble()).toBe('');
  }, 30_000);

  test("a manager's new certificate is shown to whoever dials next", async () => {
    const before = await shownUntil(m);
    m.server.useIdentity(await issued(m, { role: 'manager', lifeMs: 2 * HOUR }));
    const after = await shownUntil(m);
    expect(after).toBeLessThan(before);
    expect(Math.abs(after - Date.now() - 2 * HOUR)).toBeLessThan(5_000);
  });
});

describe('who goes and comes', () => {
  test('a removed node is shut out at once everywhere, and may join again as a new one', async () => {
    const identity = await m.certify();
    const { memory, session } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    // A connection that was let in before does not help.
    const { certificate: cert, key } = identity;
    const connection = connect(`https://${m.address}`, { rejectUnauthorized: false, cert, key });
    const { csr } = await createCertificateRequest();
    const ask = () => exchange(connection, 'POST', '/v1/certificate/renewal', { csr });
    await ask();
    await m.store.update((tx) => tx.nodes.remove(identity.nodeId));
    await expect(ask()).rejects.toMatchObject({ status: 410, message: REMOVED });
    await until(() => expect(session.state()).toMatchObject({ phase: 'removed', error: REMOVED }));
    connection.destroy();
    await session.close();

    const token = m.cluster.joinTokens.worker;
    const again = await requestCertificate({ address: m.address, token, availability: 'active', clock: realClock });
    expect(again.nodeId).not.toBe(identity.nodeId);
    const back = m.agent(again);
    await until(() => expect(back.memory.replaced).toBe(1));
  });

  test('rotated tokens let nobody in by the old one, and trouble no node that is in', async () => {
    const join = (token: string) =>
      requestCertificate({ address: m.address, token, availability: 'active', clock: realClock });
    const old = m.cluster.joinTokens;
    const identity = await join(old.worker);
    const { memory, session } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    const fresh = createJoinToken(m.root.certificate, randomBytes);
    await m.store.update((tx) => {
      const cluster = tx.clusters.get(CLUSTER_ROW)!;
      tx.clusters.update({ ...cluster, joinTokens: { ...cluster.joinTokens, worker: fresh } });
    });
    await expect(join(old.worker)).rejects.toMatchObject({
      status: 403,
      message: 'A valid join token is necessary to join this cluster',
    });
    const newcomer = m.agent(await join(fresh));
    await until(() => expect(newcomer.memory.replaced).toBe(1));
    expect((await join(old.manager)).role).toBe('manager');
    expect(await askRenewal(m, identity)).toMatch(/BEGIN CERTIFICATE/);
    expect(session.state().phase).toBe('connected');
    expect(memory.replaced).toBe(1);
  });

  test('agents hear of managers that come and go', async () => {
    const own = await newManager({ managers: () => managersOf() });
    const managersOf = () =>
      own.store.view((view) =>
        [...view.nodes.all()].flatMap(({ id, manager: part }) => (part ? [{ nodeId: id, address: part.address }] : [])),
      );
    const identity = await own.certify();
    const { memory, session } = own.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    const part = { address: '10.77.0.9:2377', leader: false, reachability: 'reachable' } as const;
    const second = node('second');
    await own.store.update((tx) => tx.nodes.create({ ...second, manager: part }));
    await until(() => expect(session.addresses()).toEqual(['10.77.0.9:2377', own.address]));
    await own.store.update((tx) => tx.nodes.update(second));
    await until(() => expect(session.addresses()).toEqual([own.address]));
    expect(memory.replaced).toBe(1);
    await own.close();
  });
});

describe('clocks that differ', () => {
  test.each([
    [-61 * 60_000, '61 min behind'],
    [61 * 60_000, '61 min ahead of'],
  ])('a host whose clock is off by %i ms cannot join, is told why, and leaves no trace', async (byMs, words) => {
    const nodes = () => m.store.view((view) => view.nodes.size);
    const before = nodes();
    const token = m.cluster.joinTokens.worker;
    await expect(
      requestCertificate({ address: m.address, token, availability: 'active', clock: shifted(byMs) }),
    ).rejects.toThrow(
      new RegExp(
        `^this host cannot join yet: the clock here says ${TIME}, ${words} the manager's, which says ${TIME}: set the clocks, and join again$`,
      ),
    );
    expect(nodes()).toBe(before);
  });

  test('a node whose certificate has expired by the manager’s clock is told both clocks', async () => {
    const ahead = await newManager({ clock: shifted(2 * HOUR) });
    const { session } = ahead.agent(await issued(ahead));
    await until(() =>
      expect(session.state().error).toMatch(
        new RegExp(
          `^the certificate has expired: it held until ${TIME}, and the manager's clock says ${TIME}; ` +
            `the clock here says ${TIME}, 120 min behind the manager's, which says ${TIME}: set the clocks$`,
        ),
      ),
    );
    await ahead.close();
  });

  test('a node whose certificates still hold takes part, and says that its clock is off', async () => {
    const ahead = await newManager({ clock: shifted(2 * HOUR) });
    const { memory, session } = ahead.agent(await ahead.certify());
    await until(() => expect(memory.replaced).toBe(1));
    expect(session.clockDifference()).toMatch(/^the clock here says .*, 120 min behind the manager's/);
    const { memory: right, session: inTime } = ahead.agent(await ahead.certify(), {
      clock: shifted(2 * HOUR - 60_000),
    });
    await until(() => expect(right.replaced).toBe(1));
    expect(inTime.clockDifference()).toBe('');
    await ahead.close();
  });

  test('a node to which the manager’s certificate is not valid yet, or has expired, says so with both clocks', async () => {
    const ahead = await newManager({ clock: shifted(2 * HOUR) });
    ahead.server.useIdentity(await issued(ahead, { role: 'manager', atMs: Date.now() + 2 * HOUR }));
    const { session } = ahead.agent(await ahead.certify());
    await until(() =>
      expect(session.state().error).toMatch(
        new RegExp(
          `^what the manager shows is of no use: the certificate is not valid yet: it holds from ${TIME}, and the clock here says ${TIME}; ` +
            `the clock here says ${TIME}, 120 min behind the manager's, which says ${TIME}: set the clocks$`,
        ),
      ),
    );
    await ahead.close();

    m.server.useIdentity(await issued(m, { role: 'manager', lifeMs: -1_000 }));
    // The clocks agree, so nothing is said of them: it is the manager that has not renewed.
    const { session: second } = m.agent(await m.certify());
    await until(() =>
      expect(second.state().error).toMatch(
        new RegExp(
          `^what the manager shows is of no use: the certificate has expired: it held until ${TIME}, and the clock here says ${TIME}$`,
        ),
      ),
    );
  });
});
