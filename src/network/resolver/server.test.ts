/** The resolver on the wire, on loopback: UDP, TCP, truncation, holding, forwarding. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { RECURSION_DESIRED, TRUNCATED_RESPONSE, decode, encode } from 'dns-packet';
import type { Packet, RecordType } from 'dns-packet';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FakeClock } from '../../sim/fake-clock.ts';
import type { Askers } from './names.ts';
import { NameTable } from './answer.ts';
import { ResolverServer } from './server.ts';
import { framed, parseResolvConf, Upstream } from './upstream.ts';

const network = new NameTable({
  id: 'app',
  name: 'app',
  environment: 'default',
  subnet: '127.0.0.0/24',
  gateway: '127.0.0.254',
  ingress: false,
  services: [
    { id: 'web', name: 'web', aliases: [], vip: '127.0.0.200' },
    { id: 'rr', name: 'rr', aliases: [] },
  ],
  endpoints: Array.from({ length: 60 }, (_each, i) => ({
    taskId: `t${i}`,
    serviceId: 'rr',
    nodeId: 'n1',
    slot: i + 1,
    address: `127.0.0.${i + 100}`,
    serving: true,
    aliases: [],
  })),
});
const released: Askers = { '127.0.0.1': { taskId: 't', networks: ['app'] } };

const clock = new FakeClock();
let askers: Askers = released;
let looked: () => void = () => {};
let server: ResolverServer;
let port = 0;
let upstreams: string[] = [];
const failures: unknown[] = [];
const listening = new Map<string, string | undefined>();
const sockets: { close: () => unknown }[] = [];

const query = (name: string, type: RecordType = 'A'): Buffer =>
  encode({ type: 'query', id: 7, flags: RECURSION_DESIRED, questions: [{ name, type }] });

function udp(message: Buffer): Promise<Packet> {
  const socket = createSocket('udp4');
  return new Promise((resolve) => {
    socket.once('message', (reply) => {
      socket.close();
      resolve(decode(reply));
    });
    socket.send(message, port, '127.0.0.254');
  });
}

async function tcp(message: Buffer): Promise<Packet> {
  const socket = connect({ host: '127.0.0.254', port });
  socket.write(framed(message));
  const reply = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
  socket.end();
  return decode(reply.subarray(2));
}

const addresses = (packet: Packet) => (packet.answers ?? []).map((each) => (each.type === 'A' ? each.data : each.type));

const isCut = (packet: Packet): boolean => ((packet.flags ?? 0) & TRUNCATED_RESPONSE) !== 0;

beforeAll(async () => {
  const upstream = createSocket('udp4');
  upstream.on('message', (message, from) => {
    const { id, questions } = decode(message);
    const reply = { type: 'response', id: id ?? 0, questions: questions ?? [] } as const;
    const name = questions?.[0]?.name ?? '';
    upstream.send(encode({ ...reply, answers: [{ type: 'A', name, data: '192.0.2.1' }] }), from.port, from.address);
  });
  upstream.bind(0, '127.0.0.1');
  await once(upstream, 'listening');
  sockets.push(upstream);
  upstreams = [`127.0.0.1:${upstream.address().port}`];
  const probe = createSocket('udp4').bind(0, '127.0.0.254');
  await once(probe, 'listening');
  port = probe.address().port;
  probe.close();
  await once(probe, 'close');
  await new Promise<void>((resolve) => {
    server = new ResolverServer({
      port,
      clock,
      knowledge: () => {
        looked();
        return { networks: new Map([['app', network]]), askers };
      },
      upstream: new Upstream(() => upstreams),
      onFailure: (error) => failures.push(error),
      onListening: (address, error) => {
        listening.set(address, error);
        resolve();
      },
    });
    server.listenOn(new Set(['127.0.0.254']));
  });
});

afterAll(() => {
  server.listenOn(new Set());
  for (const socket of sockets) socket.close();
});

test('answers by UDP and TCP, with the id of the question', async () => {
  for (const reply of [await udp(query('web')), await tcp(query('WEB'))]) {
    expect(reply.id).toBe(7);
    expect(addresses(reply)).toEqual(['127.0.0.200']);
  }
});

test('what does not fit says so, and comes whole by TCP or to who has room', async () => {
  const cut = await udp(query('rr'));
  expect(isCut(cut)).toBe(true);
  expect(addresses(await tcp(query('rr')))).toHaveLength(60);
  const roomy = encode({
    type: 'query',
    id: 8,
    questions: [{ name: 'rr', type: 'A' }],
    additionals: [
      {
        type: 'OPT',
        name: '.',
        udpPayloadSize: 4096,
        extendedRcode: 0,
        ednsVersion: 0,
        flags: 0,
        flag_do: false,
        options: [],
      },
    ],
  });
  const reply = await udp(roomy);
  expect(isCut(reply)).toBe(false);
  expect(addresses(reply)).toHaveLength(60);
});

test('addresses take turns', async () => {
  const first = [addresses(await tcp(query('tasks.rr')))[0], addresses(await tcp(query('tasks.rr')))[0]];
  expect(new Set(first).size).toBe(2);
});

test('other names come from upstream, under the id of the question', async () => {
  const reply = await udp(query('example.com'));
  expect(reply.id).toBe(7);
  expect(addresses(reply)).toEqual(['192.0.2.1']);
});

/** Resolves when the server has looked at what is known: it decides in the same turn. */
function nextLook(): Promise<void> {
  return new Promise((resolve) => (looked = resolve));
}

test('a name server that cannot even be asked is passed over, at once', async () => {
  const served = upstreams;
  // The kernel refuses to connect a socket to this address, as it does to any without a route.
  upstreams = ['255.255.255.255', ...served];
  expect(addresses(await udp(query('example.com')))).toEqual(['192.0.2.1']);
  upstreams = ['255.255.255.255'];
  for (const reply of [await udp(query('example.com')), await tcp(query('example.com'))]) {
    expect((reply.flags ?? 0) & 0xf).toBe(2);
  }
  upstreams = served;
});

test('a held question is answered when its asker is released', async () => {
  askers = {};
  const look = nextLook();
  const held = udp(query('web'));
  await look;
  askers = released;
  server.changed();
  expect(addresses(await held)).toEqual(['127.0.0.200']);
});

test('a held question is answered when its time is up, and not before', async () => {
  askers = {};
  const look = nextLook();
  let answered = false;
  const held = udp(query('web')).finally(() => (answered = true));
  await look;
  await clock.advance(4_000);
  expect(answered).toBe(false);
  await clock.advance(1_000);
  expect(addresses(await held)).toEqual(['127.0.0.200']);
  askers = released;
});

test('nonsense is not answered, and does not hurt', async () => {
  const socket = createSocket('udp4');
  sockets.push(socket);
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(3), Buffer.alloc(600, 0xff)])
    socket.send(bytes, port, '127.0.0.254');
  connect({ host: '127.0.0.254', port })
    .on('error', () => {})
    .end(Buffer.from([0, 9, 1]));
  expect(addresses(await udp(query('web')))).toEqual(['127.0.0.200']);
});

test('an address that somebody else listens on is named, and taken when it is free', async () => {
  const other = createSocket('udp4').bind(port, '127.0.0.253');
  await once(other, 'listening');
  const both = new Set(['127.0.0.254', '127.0.0.253']);
  server.listenOn(both);
  await expect.poll(() => listening.get('127.0.0.253')).toMatch(/EADDRINUSE/);
  other.close();
  await once(other, 'close');
  server.listenOn(both);
  await expect.poll(() => [...listening]).toEqual([...both].map((address) => [address, undefined]));
});

test('a resolver that gives way answers what had come to it, and takes nothing new from the next one', async () => {
  const both = ['127.0.0.254'];
  const heard: string[] = [];
  const timer = (timeout: NodeJS.Timeout) => ({ cancel: () => clearTimeout(timeout) });
  const make = (name: string) =>
    new Promise<ResolverServer>((resolve) => {
      const made: ResolverServer = new ResolverServer({
        port: port + 1,
        // The kernel's queues are real, and so is the time in which they are emptied.
        clock: { now: Date.now, monotonic: () => performance.now(), after: (ms, fn) => timer(setTimeout(fn, ms)) },
        knowledge: () => {
          heard.push(name);
          return { networks: new Map([['app', network]]), askers: released };
        },
        upstream: new Upstream(() => []),
        onFailure: (error) => failures.push(error),
        onListening: () => resolve(made),
      });
      made.listenOn(new Set(both));
    });
  const before = await make('before');
  const after = await make('after');
  const askers = Array.from({ length: 64 }, () => createSocket('udp4'));
  const ask = () =>
    Promise.all(
      askers.map(async (socket) => {
        const reply = once(socket, 'message');
        await new Promise((resolve) => socket.send(query('web'), port + 1, '127.0.0.254', resolve));
        return { reply };
      }),
    );
  const queued = await ask();
  const retired = before.retire();
  await Promise.all(queued.map(({ reply }) => reply));
  expect(new Set(heard)).toEqual(new Set(['before', 'after']));
  await retired;
  heard.length = 0;
  await Promise.all((await ask()).map(({ reply }) => reply));
  expect(new Set(heard)).toEqual(new Set(['after']));
  for (const socket of askers) socket.close();
  for (const each of [before, after]) each.listenOn(new Set());
});

test('no question has failed', () => {
  expect(failures).toEqual([]);
});

test('resolv.conf: name servers in order, nothing else', () => {
  expect(parseResolvConf('# nameserver 9.9.9.9\nsearch a b\nnameserver 10.0.0.1\n nameserver fe80::1%eth0\n')).toEqual([
    '10.0.0.1',
    'fe80::1%eth0',
  ]);
});
