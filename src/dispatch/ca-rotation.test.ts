/** A rotation of the root on one manager and its nodes: real TLS, real renewals, the control loop that ends it. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { caRotationLoop } from '../control/ca-rotation.ts';
import type { Loop } from '../control/loop.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { silentLog } from '../model/clock.ts';
import { CLUSTER_ROW, type Cluster, type ClusterRootCa } from '../model/objects.ts';
import { createCertificateRequest, createRootCa, nodeTlsInfo } from '../pki/authority.ts';
import { identityAtAnyTime, parseChain, type Identity, type IdentityParts } from '../pki/identity.ts';
import { Renewal } from '../pki/renewal.ts';
import { wantedRootCa } from '../pki/rotation.ts';
import { Store } from '../store/store.ts';
import { AgentSession } from './agent-session.ts';
import { renew } from './join.ts';
import { renewCertificate, requestCertificate } from './request-certificate.ts';
import { descriptionOf, manager, Memory, node, realClock, type Manager } from './testbed.fixture.ts';

const until = <T>(fn: () => T, timeout = 30_000) => vi.waitFor(fn, { timeout, interval: 5 });

/** What a node's daemon puts together: its session, its certificate, and what it says of itself. */
class Member {
  identity: Identity;
  /** What is on its disk. */
  saved: IdentityParts;
  readonly memory: Memory;
  readonly session: AgentSession;
  readonly renewal: Renewal;

  constructor(at: Manager, identity: Identity, certify?: (csr: string) => Promise<string>) {
    this.identity = identity;
    this.saved = identity;
    this.memory = new Memory(() => ({ ...descriptionOf('host'), tls: nodeTlsInfo(this.identity) }));
    const { memory } = this;
    this.renewal = new Renewal({
      identity,
      clock: realClock,
      random: Math.random,
      log: silentLog,
      certify: (csr, present) =>
        certify?.(csr) ?? renewCertificate({ addresses: [at.address], identity: present, csr, clock: realClock }),
      save: async (parts) => {
        this.saved = parts;
      },
      renewed: (next) => {
        this.identity = next;
        this.session.useIdentity(next);
        if (certify !== undefined) at.server.useIdentity(next);
        this.session.describe();
      },
      backoffMs: { first: 50, most: 50 },
    });
    this.session = new AgentSession({
      addresses: [at.address],
      identity,
      agent: {
        replace: (facts) => memory.replace(facts),
        apply: (changes) => memory.apply(changes),
        description: () => memory.description(),
        authority: ({ spreadMs, ...told }) => this.renewal.follow(told, spreadMs),
      },
      clock: realClock,
      random: Math.random,
      log: silentLog,
      backoffMs: { first: 10, most: 100 },
    });
    this.renewal.start();
    this.session.start();
  }

  async stop(): Promise<void> {
    await this.renewal.stop();
    await this.session.close();
  }
}

let store: Store;
let own: Identity;
let m: Manager;
let loop: Loop;
let members: Member[];

const cluster = (): Cluster => store.view((view) => view.clusters.get(CLUSTER_ROW)!);
const rootCa = (): ClusterRootCa => cluster().rootCa;
const nodeRow = (id: string) => store.view((view) => view.nodes.get(id));

/** As the daemon starts on the state it finds: port, loop, and its own agent. */
async function startManager(): Promise<void> {
  m = await manager({ store, identity: own });
  loop = caRotationLoop({ store, clock: realClock, log: silentLog });
  loop.start();
  const certify = (csr: string) => renew({ store, clock: realClock, log: silentLog }, csr, own.nodeId);
  members = [new Member(m, own, certify)];
}

async function member(): Promise<Member> {
  const one = new Member(m, await joined());
  members.push(one);
  await until(() => expect(one.memory.replaced).toBe(1));
  return one;
}

const joined = () => {
  const token = cluster().joinTokens.worker;
  return requestCertificate({ address: m.address, token, availability: 'active', clock: realClock });
};

async function stopManager(): Promise<void> {
  await Promise.all(members.map((one) => one.stop()));
  await loop.stop();
  await m.close();
}

/** As `docker swarm ca --rotate` does it: a root of the user's own, or any. */
async function rotate(root?: { certificate: string; key: string }): Promise<ClusterRootCa> {
  const wanted = { force: root === undefined, certificate: root?.certificate ?? '', key: root?.key ?? '' };
  const next = await wantedRootCa(rootCa(), wanted, Date.now(), randomBytes);
  await store.update((tx) => tx.clusters.update({ ...cluster(), rootCa: next }));
  return next;
}

const completed = (next: ClusterRootCa) =>
  until(() => {
    expect(rootCa()).toMatchObject({ certificate: next.rotation!.certificate });
    expect(rootCa().rotation).toBeUndefined();
  });
const trusts = (who: Member[], root: { certificate: string }) =>
  until(() => {
    for (const one of who) expect(one.identity.rootCertificate).toBe(root.certificate);
  });

beforeEach(async () => {
  store = await Store.open(new MemoryJournal());
  const first = await manager({ store });
  own = await first.certify('manager', false);
  const row = node(own.nodeId);
  await store.update((tx) => tx.nodes.create({ ...row, spec: { ...row.spec, Role: 'manager' } }));
  await first.close();
  await startManager();
  await vi.waitUntil(() => members[0]!.memory.replaced === 1, { timeout: 30_000, interval: 5 });
});
afterEach(stopManager);

describe('a rotation', () => {
  test('every node gets another certificate, then another root to trust; no session ends', async () => {
    const all = [members[0]!, await member(), await member()];
    const before = { ...rootCa() };
    const tokens = cluster().joinTokens;
    const { version } = cluster().meta;
    const next = await rotate();
    await completed(next);
    await trusts(all, next.rotation!);
    for (const one of all) {
      expect(one.session.state().phase).toBe('connected');
      expect(one.memory.replaced).toBe(1);
      // What is on the disk holds by itself, and with it what the others have to know to accept it.
      expect(identityAtAnyTime(one.saved)).toEqual(one.identity);
      expect(parseChain(one.saved.certificate)).toHaveLength(2);
    }
    await until(() => {
      for (const one of all)
        expect(nodeRow(one.identity.nodeId)!.description!.tls).toEqual({
          trustRoot: next.rotation!.certificate,
          certIssuerSubject: next.rotation!.issuer.subject,
          certIssuerPublicKey: next.rotation!.issuer.publicKey,
        });
    });
    expect(rootCa()).toEqual({
      certificate: next.rotation!.certificate,
      key: next.rotation!.key,
      issuer: next.rotation!.issuer,
      crossSigned: next.rotation!.crossSigned,
    });
    expect(rootCa().certificate).not.toBe(before.certificate);
    // As in Docker Swarm, whose tokens name the root; the version that users send back has not moved.
    expect(cluster().joinTokens).toEqual(next.rotation!.joinTokens);
    expect(cluster().meta.version).toBe(version);
    await expect(
      requestCertificate({ address: m.address, token: tokens.worker, availability: 'active', clock: realClock }),
    ).rejects.toThrow(/^remote CA does not match fingerprint\. Expected: [0-9a-f]{64}$/);
    const newcomer = await member();
    expect(newcomer.identity.rootCertificate).toBe(next.rotation!.certificate);
  });

  test('who joins in the middle comes by the old token, and is there at the end', async () => {
    const away = await joined(); // its first session is what the rotation waits for
    const next = await rotate();
    await until(() => expect(members[0]!.identity.certificate).not.toBe(own.certificate));
    const newcomer = await member();
    expect(newcomer.identity.rootCertificate).toBe(next.certificate);
    expect(parseChain(newcomer.identity.certificate)).toHaveLength(2);
    expect(rootCa().rotation).toBeDefined();
    const late = new Member(m, away);
    members.push(late);
    await completed(next);
    await trusts(members, next.rotation!);
    expect(newcomer.memory.replaced).toBe(1);
  });

  test('waits for who is away, until it is back with its old certificate, or is removed', async () => {
    const [one, two] = [await member(), await member()];
    await Promise.all([one.stop(), two.stop()]);
    const next = await rotate();
    await until(() => expect(members[0]!.identity.certificate).not.toBe(own.certificate));
    const [{ nodeId }] = [one.identity];
    const back = new Member(m, identityAtAnyTime(one.saved));
    members.push(back);
    await until(() =>
      expect(nodeRow(nodeId)!.description!.tls.certIssuerPublicKey).toBe(next.rotation!.issuer.publicKey),
    );
    expect(rootCa().rotation).toBeDefined();
    await store.update((tx) => tx.nodes.remove(two.identity.nodeId));
    await completed(next);
    await trusts([members[0]!, back], next.rotation!);
    // What the old root alone has issued is of no more use.
    await expect(
      renewCertificate({
        addresses: [m.address],
        identity: two.identity,
        csr: (await createCertificateRequest()).csr,
        clock: realClock,
      }),
    ).rejects.toMatchObject({ status: 401, message: 'the certificate is not of this cluster' });
  });

  test('who has its new certificate but misses the end comes back, although it trusts the old root alone', async () => {
    const one = await member();
    // Held up by one that has yet to come.
    await store.update((tx) => tx.nodes.create(node('late')));
    const next = await rotate();
    await until(() => expect(parseChain(one.identity.certificate)).toHaveLength(2));
    await until(() =>
      expect(nodeRow(one.identity.nodeId)!.description!.tls.certIssuerPublicKey).toBe(next.rotation!.issuer.publicKey),
    );
    await one.stop();
    await store.update((tx) => tx.nodes.remove('late'));
    await completed(next);
    await trusts([members[0]!], next.rotation!);
    // The manager renews as usual meanwhile.
    const { key, csr } = await createCertificateRequest();
    const certificate = await renew({ store, clock: realClock, log: silentLog }, csr, own.nodeId);
    m.server.useIdentity(identityAtAnyTime({ certificate, key, rootCertificate: rootCa().certificate }));
    expect(one.saved.rootCertificate).not.toBe(rootCa().certificate);
    const back = new Member(m, identityAtAnyTime(one.saved));
    members.push(back);
    await until(() => expect(back.memory.replaced).toBe(1));
    await trusts([back], next.rotation!);
  });

  test('another one begun in the middle takes its place; so does going back to the first', async () => {
    const [one, two] = [await member(), await member()];
    const first = { ...rootCa() };
    await store.update((tx) => tx.nodes.create(node('late')));
    const a = await rotate();
    await until(() => expect(one.identity.certificate).toContain(a.rotation!.crossSigned));
    await two.stop(); // with a certificate of a root that is not to come any more
    const b = await rotate();
    await until(() => expect(one.identity.certificate).toContain(b.rotation!.crossSigned));
    const back = new Member(m, identityAtAnyTime(two.saved));
    members.push(back);
    await until(() => expect(back.identity.certificate).toContain(b.rotation!.crossSigned));

    await rotate({ certificate: first.certificate, key: first.key });
    await until(() => {
      for (const it of [members[0]!, one, back]) expect(parseChain(it.identity.certificate)).toHaveLength(1);
    });
    await until(() => expect(nodeRow(one.identity.nodeId)!.description!.tls).toEqual(nodeTlsInfo(one.identity)));
    expect(rootCa().givenUp).toHaveLength(2);
    await store.update((tx) => tx.nodes.remove('late'));
    // All are back: what was given up counts no more.
    await until(() => expect(rootCa().givenUp).toBeUndefined());
    expect(rootCa()).toMatchObject(first);
    expect([members[0]!, one, back].map(({ session }) => session.state().phase)).toEqual(Array(3).fill('connected'));
    expect(one.memory.replaced).toBe(1);
  });

  test('a root of the user’s own, then one of ours again: two rotations, no session ends', async () => {
    const one = await member();
    const given = await createRootCa(Date.now());
    await completed(await rotate(given));
    const next = await rotate();
    await completed(next);
    await trusts([members[0]!, one], next.rotation!);
    expect(one.memory.replaced).toBe(1);
  });
});

describe('a manager that is killed', () => {
  test.each(['before anybody has renewed', 'when some have', 'when all have', 'after the end, before it is known'])(
    '%s: it goes on',
    async (when) => {
      const one = await member();
      if (when === 'when some have') await store.update((tx) => tx.nodes.create(node('late')));
      if (when === 'when all have') await loop.stop();
      if (when === 'before anybody has renewed') await Promise.all(members.map((it) => it.renewal.stop()));
      const next = await rotate();
      const renewed = (it: Member) => it.identity.certificate.includes(next.rotation!.crossSigned);
      if (when === 'when some have') await until(() => expect(renewed(one)).toBe(true));
      if (when === 'when all have') await until(() => expect([members[0]!, one].every(renewed)).toBe(true));
      if (when === 'after the end, before it is known') await completed(next);
      const [mine, its] = [members[0]!.saved, one.saved];
      const { port } = m;
      await stopManager();
      own = identityAtAnyTime(mine);
      await store.update((tx) => {
        if (tx.nodes.get('late') !== undefined) tx.nodes.remove('late');
      });
      await startManager();
      expect(m.port).not.toBe(port);
      const back = new Member(m, identityAtAnyTime(its));
      members.push(back);
      await completed(next);
      await trusts([members[0]!, back], next.rotation!);
    },
  );
});
