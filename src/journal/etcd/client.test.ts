/** What of etcd only shows on several members or over TLS, and that etcd in memory does what the real one does. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, expect, test } from 'vitest';
import { silentLog } from '../../model/clock.ts';
import { createCertificateRequest, createRootCa, issueNodeCertificate } from '../../pki/authority.ts';
import { JournalUnavailable } from '../journal.ts';
import type { Leadership } from '../shared.ts';
import { EtcdError, type EtcdApi, type Operation, type RowEvent, type Txn } from './api.ts';
import type { EtcdIdentity } from './channels.ts';
import { EtcdClient } from './client.ts';
import { realClock, startEtcd, Wire, type EtcdCluster, type EtcdSettings } from './etcd.fixture.ts';
import { EtcdJournal } from './journal.ts';
import { MemoryEtcd } from './memory-etcd.ts';

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function etcdOf(settings: EtcdSettings = {}): Promise<EtcdCluster> {
  const etcd = await startEtcd(settings);
  ends.push(() => etcd.dispose());
  return etcd;
}

async function clientOf(endpoints: readonly string[]): Promise<EtcdClient> {
  const client = await EtcdClient.make({ endpoints, clock: realClock, tryMs: 1_000 });
  ends.push(() => client.close());
  return client;
}

async function journalOf(endpoints: readonly string[]): Promise<EtcdJournal> {
  const api = await clientOf(endpoints);
  const journal = new EtcdJournal({ api, clusterId: 'c', clock: realClock, random: Math.random, log: silentLog });
  ends.push(() => journal.close());
  return journal;
}

const count = (n: number) => [[{ key: 'n', value: String(n) }]];

/** Leads again and again until each number up to `last` is written; resolves with those that were acknowledged. */
async function countTo(last: number, journal: EtcdJournal, each: (n: number) => Promise<void>): Promise<number[]> {
  const made: number[] = [];
  let term: Leadership | undefined;
  for (let n = 1; n <= last;) {
    try {
      term ??= await journal.campaign({ nodeId: 'a', address: 'a:2377' }, new AbortController().signal);
      await term.journal.commit(count(n));
      made.push(n);
      n++;
    } catch {
      // Over, or in doubt: the same number is written again by the next leadership.
      await term?.resign();
      term = undefined;
      continue;
    }
    await each(n - 1);
  }
  await term?.resign();
  return made;
}

test('a call that waits to be connected goes on over the channel that takes the place of its own', async () => {
  const etcd = await etcdOf();
  const silent = createServer();
  await once(silent.listen(0, '127.0.0.1'), 'listening');
  ends.push(() => void silent.close());
  const connected = once(silent, 'connection');
  const client = await clientOf([`127.0.0.1:${(silent.address() as AddressInfo).port}`]);
  const writing = client.txn({ when: [], write: [{ put: 'k', value: 'v' }], otherwise: [] });
  const [socket] = (await connected) as [Socket];
  client.setEndpoints(etcd.members.map(({ endpoint }) => endpoint));
  await writing;
  expect((await client.range({ from: 'k', to: 'l' })).rows).toMatchObject([{ key: 'k', value: 'v' }]);
  socket.destroy();
});

test('three members: one after the other is killed and comes back, and writes and followers go on', async () => {
  const etcd = await etcdOf({ members: 3 });
  const endpoints = etcd.members.map((member) => member.endpoint);
  const journal = await journalOf(endpoints);
  const told: string[] = [];
  const follower = await journalOf([endpoints[1]!, endpoints[2]!, endpoints[0]!]);
  await follower.follow({
    replace: (rows) => told.push(rows.get('n') ?? '-'),
    apply: (changes) => told.push(...changes.map(({ value }) => String(value))),
  });
  const made = await countTo(60, journal, async (n) => {
    const member = etcd.members[Math.floor(n / 20)];
    if (n % 20 === 5) await member?.kill();
    if (n % 20 === 15) {
      member?.start();
      await member?.ready();
    }
  });
  expect(made).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
  await expect.poll(() => told.at(-1)).toBe('60');
  // A number whose first write was in doubt may be there twice; none is missing, and none comes too late.
  expect(told.map((n) => (n === '-' ? 0 : Number(n))).filter((n, i, all) => i > 0 && n < all[i - 1]!)).toEqual([]);
  expect([...new Set(told)]).toEqual(['-', ...made.map(String)]);
});

test('one member: its restart loses nothing, and the leader goes on', async () => {
  const etcd = await etcdOf();
  const [member] = etcd.members;
  const journal = await journalOf([member!.endpoint]);
  const made = await countTo(20, journal, async (n) => {
    if (n !== 10) return;
    await member!.kill();
    member!.start();
    await member!.ready();
  });
  const term = await journal.campaign({ nodeId: 'b', address: 'b:2377' }, new AbortController().signal);
  expect(made.length).toBe(20);
  expect(await term.journal.load()).toEqual(new Map([['n', '20']]));
});

test('a database that is full refuses writes in words, keeps what it has, and the leadership ends by itself', async () => {
  const etcd = await etcdOf({ flags: ['--quota-backend-bytes=3000000'] });
  const journal = await journalOf([etcd.members[0]!.endpoint]);
  const term = await journal.campaign({ nodeId: 'a', address: 'a:2377' }, new AbortController().signal);
  const value = 'x'.repeat(200_000);
  let made = 0;
  const fill = async () => {
    for (; made < 50; made++) await term.journal.commit([[{ key: `big/${made}`, value }]]);
  };
  const error = await fill().catch((error: unknown) => error);
  expect(error).toBeInstanceOf(JournalUnavailable);
  expect(String(error)).toMatch(/database of etcd is full/);
  expect((await term.journal.load()).size).toBe(made);
  expect(await term.over).toMatch(/time ran out/);
});

test('etcd that cannot be reached at all is said at once, and nothing was sent', async () => {
  const wire = await Wire.to('127.0.0.1:1');
  const { endpoint } = wire;
  await wire.close();
  const client = await clientOf([endpoint]);
  const error = await client.txn({ when: [], write: [], otherwise: [] }).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(EtcdError);
  expect((error as EtcdError).failure).toBe('unsent');
});

test('TLS: managers only, both ways; a certificate is exchanged while the client watches', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'drover-etcd-tls-'));
  ends.push(() => rmSync(dir, { recursive: true, force: true }));
  const root = await createRootCa(Date.now());
  const identityOf = async (role: 'manager' | 'worker') => {
    const { key, csr } = await createCertificateRequest();
    const subject = { nodeId: '1'.repeat(25), clusterId: 'c'.repeat(25), role, addresses: ['127.0.0.1'] };
    const certificate = await issueNodeCertificate(root, csr, subject, Date.now());
    return { certificate, key, rootCertificate: root.certificate };
  };
  const file = (name: string, text: string) => {
    writeFileSync(join(dir, name), text, { mode: 0o600 });
    return join(dir, name);
  };
  const start = async (identity: EtcdIdentity) => {
    const flags = [
      `--cert-file=${file('node.crt', identity.certificate)}`,
      `--key-file=${file('node.key', identity.key)}`,
      `--trusted-ca-file=${file('root.crt', root.certificate)}`,
      '--client-cert-auth',
    ];
    const etcd = await etcdOf({ flags, identity: await identityOf('manager') });
    return etcd.members[0]!.endpoint;
  };
  const endpoint = await start(await identityOf('manager'));
  const secure = async (identity?: EtcdIdentity) => {
    const options = { endpoints: [endpoint], clock: realClock, tryMs: 1_000 };
    const client = await EtcdClient.make({ ...options, ...(identity && { identity }) });
    ends.push(() => client.close());
    return client;
  };
  const range = { from: 'k', to: 'l' };
  for (const stranger of [undefined, { ...(await identityOf('manager')), ...(await foreign()) }])
    await expect((await secure(stranger)).range(range)).rejects.toMatchObject({ failure: 'unsent' });

  const client = await secure(await identityOf('manager'));
  const journal = new EtcdJournal({
    api: client,
    clusterId: 'c',
    clock: realClock,
    random: Math.random,
    log: silentLog,
  });
  ends.push(() => journal.close());
  const told: (string | null)[] = [];
  const term = await journal.campaign({ nodeId: 'a', address: 'a:2377' }, new AbortController().signal);
  await journal.follow({
    replace: () => told.push('all'),
    apply: (changes) => told.push(...changes.map((change) => change.value)),
  });
  for (let n = 1; n <= 6; n++) {
    if (n % 2 === 0) client.setIdentity(await identityOf('manager'));
    await term.journal.commit(count(n));
  }
  await expect.poll(() => told.length).toBe(7);
  expect(told).toEqual(['all', '1', '2', '3', '4', '5', '6']);

  async function foreign(): Promise<{ certificate: string; key: string }> {
    const { key, csr } = await createCertificateRequest();
    const other = await createRootCa(Date.now());
    const subject = { nodeId: '2'.repeat(25), clusterId: 'd'.repeat(25), role: 'manager' as const, addresses: [] };
    return { key, certificate: await issueNodeCertificate(other, csr, subject, Date.now()) };
  }
});

/** A small world of keys, so that transactions meet each other. */
const key = fc.constantFrom('k/a', 'k/b', 'k/c', 'k/d');
const value = fc.constantFrom('1', '2', 'ü');
const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ put: key, value }),
  fc.record({ remove: key }),
  fc.constant({ removeRange: { from: 'k/b', to: 'k/d' } }),
);
const condition = fc.record({ key, value: fc.option(value, { nil: null }) });
const txns = fc.array(
  fc.record<Txn>({
    when: fc.array(condition, { maxLength: 2 }),
    write: fc.array(operation, { maxLength: 4 }),
    otherwise: fc.array(key, { maxLength: 2 }),
  }),
  { maxLength: 12 },
);

test('etcd in memory does what the real one does', { timeout: 120_000 }, async () => {
  const etcd = await etcdOf();
  const real: EtcdApi = await clientOf([etcd.members[0]!.endpoint]);
  const range = { from: 'k/', to: 'k0' };
  await fc.assert(
    fc.asyncProperty(txns, async (all) => {
      const memory = new MemoryEtcd();
      memory.txn({
        when: [],
        write: [
          { put: 'k/a', value: '1' },
          { put: 'k/d', value: '2' },
        ],
        otherwise: [],
      });
      const clear: Txn = { when: [], write: [{ removeRange: { from: '\0', to: '\xff' } }], otherwise: [] };
      await real.txn(clear);
      const { revision } = await real.txn({
        when: [],
        write: [
          { put: 'k/a', value: '1' },
          { put: 'k/d', value: '2' },
        ],
        otherwise: [],
      });
      const offset = revision - memory.revision;
      const shift = <T extends { modRevision?: number; revision?: number }>(one: T | undefined) =>
        one && {
          ...one,
          ...(one.modRevision !== undefined && { modRevision: one.modRevision + offset }),
          ...(one.revision !== undefined && { revision: one.revision + offset }),
        };
      for (const txn of all) {
        const [inMemory, inReal] = [attempt(() => memory.txn(txn)), await attemptLater(real.txn(txn))];
        expect(inReal).toEqual(
          typeof inMemory === 'string' ? inMemory : { ...shift(inMemory), read: inMemory.read.map(shift) },
        );
      }
      const rows = memory.range(range, { limit: 2 });
      expect(await real.range(range, { limit: 2 })).toEqual({ ...shift(rows), rows: rows.rows.map(shift) });
      const past = Math.ceil((2 + memory.revision) / 2);
      const before = memory.range(range, { revision: past });
      expect((await real.range(range, { revision: past + offset })).rows).toEqual(before.rows.map(shift));
      const events = await heard(real, revision + 1, memory.revision + offset);
      expect(events).toEqual(memory.since(3).map(shift));
    }),
    { numRuns: 60 },
  );

  /** The events of the range from one revision to another, as a watch tells them. */
  async function heard(api: EtcdApi, from: number, to: number): Promise<RowEvent[]> {
    if (from > to) return [];
    const events: RowEvent[] = [];
    const all = Promise.withResolvers<void>();
    const watch = api.watch(range, from, {
      events: (more) => {
        events.push(...more);
        if (more.at(-1)!.revision >= to) all.resolve();
      },
      ended: (error) => all.reject(error),
    });
    await all.promise;
    watch.stop();
    return events;
  }
});

function attempt<T>(fn: () => T): T | string {
  try {
    return fn();
  } catch (error) {
    return (error as EtcdError).failure;
  }
}

async function attemptLater<T>(promise: Promise<T>): Promise<T | string> {
  try {
    return await promise;
  } catch (error) {
    return (error as EtcdError).failure;
  }
}
