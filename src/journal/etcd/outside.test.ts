/** An etcd that stands elsewhere: whether it will do, whose prefix it is, TLS as other people's etcd has it. */
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import * as grpc from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { silentLog } from '../../model/clock.ts';
import type { EtcdTls } from './channels.ts';
import { NotHeld } from './election.ts';
import { realClock, startEtcd, type EtcdCluster } from './etcd.fixture.ts';
import { EtcdJournal } from './journal.ts';
import { Codec } from './messages.ts';
import { EtcdUnfit, OutsideEtcd, type OutsideEtcdSettings } from './outside.ts';
import { TlsAuthority } from './tls-etcd.fixture.ts';

let etcd: EtcdCluster;
let endpoint: string;
beforeAll(async () => {
  etcd = await startEtcd();
  endpoint = etcd.members[0]!.endpoint;
});
afterAll(() => etcd.dispose());

const ends: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

let prefixes = 0;
/** With a prefix that nobody else has, unless said. */
function outside(settings: Partial<OutsideEtcdSettings> = {}): OutsideEtcd {
  const prefix = `/test${++prefixes}/`;
  return new OutsideEtcd({ endpoints: [endpoint], prefix, ...settings }, realClock);
}

async function put(key: string, value: string): Promise<void> {
  const client = await outside().client();
  await client.txn({ when: [], write: [{ put: key, value }], otherwise: [] });
  client.close();
}

async function keysBelow(prefix: string): Promise<string[]> {
  const client = await outside().client();
  const { rows } = await client.range({ from: prefix, to: `${prefix.slice(0, -1)}0` });
  client.close();
  return rows.map(({ key }) => key);
}

async function journalOn(place: OutsideEtcd, clusterId: string): Promise<EtcdJournal> {
  const { prefix } = place.settings;
  const deps = { api: await place.client(), clock: realClock, random: Math.random, log: silentLog };
  const journal = new EtcdJournal({ ...deps, clusterId, prefix, claimed: true });
  ends.push(() => journal.close());
  return journal;
}

const self = { nodeId: 'a', address: 'a:2377' };
const never = new AbortController().signal;

describe('the prefix', () => {
  test('is one cluster’s: the next one is refused by its name, and both claims at once end with one', async () => {
    const place = outside();
    await place.assertFree();
    const claims = await Promise.allSettled(['one', 'two'].map((id) => place.claim(id)));
    expect(claims.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const [holder, other] = claims[0]!.status === 'fulfilled' ? ['one', 'two'] : ['two', 'one'];
    await place.assertHolds(holder);
    await expect(place.assertHolds(other)).rejects.toThrow(`holds another swarm, ${holder}, below`);
    const held = new RegExp(`already holds a swarm below ${place.settings.prefix} \\(${holder}\\): join it, or`);
    await expect(place.assertFree()).rejects.toThrow(held);
    await expect(place.claim(other)).rejects.toThrow(held);
    await place.erase(other);
    await place.assertHolds(holder);
    await place.erase(holder);
    await place.assertFree();
    await expect(place.assertHolds(holder)).rejects.toThrow('holds no swarm below');
  });

  test('that holds something else is refused, and stays as it is', async () => {
    const place = outside();
    const foreign = `${place.settings.prefix}somebody/else`;
    await put(foreign, 'x');
    await expect(place.assertFree()).rejects.toThrow('holds keys of something else below');
    await expect(place.claim('one')).rejects.toThrow(EtcdUnfit);
    expect(await keysBelow(place.settings.prefix)).toEqual([foreign]);
  });

  test('keeps all of a cluster, and nothing of it lies elsewhere; erased, all of it is gone', async () => {
    const place = outside();
    const { prefix } = place.settings;
    const before = await keysBelow('/');
    await place.claim('one');
    const term = await (await journalOn(place, 'one')).campaign(self, never);
    await term.journal.commit([[{ key: 'nodes/1', value: 'x' }]]);
    await term.resign();
    expect(await keysBelow(prefix)).toEqual([`${prefix}one/round`, `${prefix}one/rows/nodes/1`, `${prefix}swarm`]);
    await place.erase('one');
    expect(await keysBelow('/')).toEqual(before);
  });
});

test('nobody leads where the claim does not stand: an etcd that was emptied is no cluster without state', async () => {
  const place = outside();
  const unclaimed = await journalOn(place, 'one');
  await expect(unclaimed.campaign(self, never)).rejects.toThrow(NotHeld);
  await place.claim('one');
  const term = await unclaimed.campaign(self, never);
  await place.erase('one');
  await term.over;
  await expect((await journalOn(place, 'one')).campaign(self, never)).rejects.toThrow(NotHeld);
});

describe('whether it will do', () => {
  test('out of reach: said in words; one of several that answers is enough', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const nobody = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    await new Promise((resolve) => server.close(resolve));
    const lost = outside({ endpoints: [nobody] });
    await expect(lost.assertFree()).rejects.toThrow(
      /that --etcd-endpoints names cannot be used: etcd at 127\.0\.0\.1:/,
    );
    await outside({ endpoints: [nobody, endpoint] }).assertFree();
  });

  test('older than 3.4: refused by its version', async () => {
    const old = await pretendEtcd('3.3.27');
    await expect(outside({ endpoints: [endpoint, old] }).assertFree()).rejects.toThrow(
      `etcd 3.4 or newer is needed, and that at ${old} is version 3.3.27`,
    );
  });
});

/** Answers what version it is, and nothing else. Resolves with host:port. */
async function pretendEtcd(version: string): Promise<string> {
  const codec = await Codec.load();
  const server = new grpc.Server();
  const status: grpc.ServiceDefinition[string] = {
    path: '/etcdserverpb.Maintenance/Status',
    requestStream: false,
    responseStream: false,
    requestSerialize: (message: object) => codec.encode('Empty', message),
    requestDeserialize: (bytes) => codec.decode('Empty', bytes),
    responseSerialize: (message: object) => codec.encode('StatusResponse', message),
    responseDeserialize: (bytes) => codec.decode('StatusResponse', bytes),
  };
  server.addService(
    { status },
    { status: (_call: unknown, answer: grpc.sendUnaryData<object>) => answer(null, { version }) },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  ends.push(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

test('TLS: its certificate must be of the CA and name the endpoint, and it asks for ours', async () => {
  const authority = await TlsAuthority.make();
  const known = await authority.certified('10.9.9.9');
  const { certificate, key, caCertificate } = known;
  const [right, wrong] = [await tlsEtcd(authority), await tlsEtcd(authority, '10.0.0.1')];
  await outside({ endpoints: [right], tls: known }).assertFree();
  const foreign = await TlsAuthority.make();
  for (const [why, at, tls] of [
    ['it is not who the endpoint names', wrong, known],
    ['of another CA', right, { ...known, caCertificate: foreign.caCertificate }],
    ['of no CA that Node trusts', right, { certificate, key }],
    ['we show no certificate', right, { caCertificate }],
    ['no TLS', right, undefined],
  ] as const)
    await expect(outside({ endpoints: [at], ...(tls && { tls }) }).assertFree(), why).rejects.toThrow(EtcdUnfit);
});

test('a user that may read and write below the prefix only is enough', async () => {
  const authority = await TlsAuthority.make();
  const user = '2'.repeat(25);
  const tls = await authority.certified('10.9.9.9', user);
  const endpoint = await tlsEtcd(authority);
  const ask = (path: string, body: object) => askGateway(`https://${endpoint}/v3/auth/${path}`, tls, body);
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  for (const name of ['root', user]) await ask('user/add', { name, password: 'x' });
  for (const name of ['root', 'drover']) await ask('role/add', { name });
  const perm = { permType: 'READWRITE', key: base64('/drover/'), range_end: base64('/drover0') };
  await ask('role/grant', { name: 'drover', perm });
  await ask('user/grant', { user: 'root', role: 'root' });
  await ask('user/grant', { user, role: 'drover' });
  await ask('enable', {});

  const place = outside({ endpoints: [endpoint], prefix: '/drover/', tls });
  await place.assertFree();
  await place.claim('one');
  const journal = await journalOn(place, 'one');
  const told: string[] = [];
  await journal.follow({ replace: () => {}, apply: (changes) => told.push(...changes.map(({ key }) => key)) });
  const term = await journal.campaign(self, never);
  await term.journal.commit([[{ key: 'nodes/1', value: 'x' }]]);
  await expect.poll(() => told).toEqual(['nodes/1']);
  expect(await journal.hasQuorum()).toBe(true);
  await term.resign();
  await place.erase('one');
  await expect(outside({ endpoints: [endpoint], tls }).assertFree()).rejects.toThrow('permission denied');
});

async function tlsEtcd(authority: TlsAuthority, address?: string): Promise<string> {
  const { endpoint, dispose } = await authority.start(address);
  ends.push(dispose);
  return endpoint;
}

/** One call to etcd's JSON gateway; rejects unless it answers 200. */
function askGateway(url: string, { caCertificate: ca, certificate: cert, key }: EtcdTls, body: object): Promise<void> {
  return new Promise((resolve, reject) => {
    const call = request(url, { method: 'POST', agent: false, ca, cert, key }, (response) => {
      response.resume();
      if (response.statusCode === 200) resolve();
      else reject(new Error(`${url}: ${response.statusCode}`));
    });
    call.on('error', reject);
    call.end(JSON.stringify(body));
  });
}
