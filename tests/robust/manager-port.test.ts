/** Port 2377 under clients that are many, silent, slow or too much: agents are served as if nobody else was there. */
import { once } from 'node:events';
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { manager, putService, service, task, type Manager, type Memory } from '../../src/dispatch/testbed.fixture.ts';
import { PATHS } from '../../src/dispatch/messages.ts';
import { MemoryJournal } from '../../src/journal/memory.ts';
import { FakeClock } from '../../src/sim/fake-clock.ts';
import { Store } from '../../src/store/store.ts';

let m: Manager;
const sockets: Socket[] = [];
const sessions: ClientHttp2Session[] = [];

beforeEach(async () => {
  m = await manager({ store: await Store.open(new MemoryJournal()) });
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const session of sessions.splice(0)) session.destroy();
  await m.close();
});

async function dial(port: number, bytes: Buffer): Promise<Socket> {
  const socket = connectTcp(port, '127.0.0.1');
  socket.on('error', () => {}); // to be cut off is what they are for
  sockets.push(socket);
  await once(socket, 'connect');
  if (bytes.length > 0) socket.write(bytes);
  return socket;
}

async function http2(port: number, identity: { cert?: string; key?: string } = {}): Promise<ClientHttp2Session> {
  const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false, ...identity });
  session.on('error', () => {});
  sessions.push(session);
  await once(session, 'connect');
  return session;
}

/** An agent with a session that has never been replaced, and hears of a new task. */
async function isServed(memory: Memory, nodeId: string, name: string): Promise<void> {
  await m.store.update((tx) => {
    putService(tx, service(name));
    tx.tasks.create(task(`of-${name}`, name, nodeId));
  });
  await vi.waitFor(() => expect(memory.facts.has(`task of-${name}`)).toBe(true), { timeout: 30_000, interval: 5 });
  expect(memory.replaced).toBe(1);
}

test('1,000 connections that say nothing or begin a handshake and stop, and 100 idle ones beyond it', async () => {
  const identity = await m.certify();
  const { memory } = m.agent(identity);
  await isServed(memory, identity.nodeId, 'before');
  const hello = Buffer.from('1603010200010001fc0303', 'hex');
  for (let i = 0; i < 1000; i++)
    await dial(m.port, i % 2 === 0 ? Buffer.alloc(0) : hello.subarray(0, 1 + (i % hello.length)));
  for (let i = 0; i < 100; i++) await http2(m.port);
  await isServed(memory, identity.nodeId, 'among');
  const late = await m.certify();
  const newcomer = m.agent(late).memory;
  await vi.waitFor(() => expect(newcomer.replaced).toBe(1), { timeout: 30_000, interval: 5 });
});

test('heads and bodies that are too long are refused', async () => {
  const identity = await m.certify();
  const { memory } = m.agent(identity);
  await isServed(memory, identity.nodeId, 'before');
  const flood = await http2(m.port);
  const long = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`x-${i}`, 'x'.repeat(200)]));
  const stream = flood.request({ ':method': 'POST', ':path': PATHS.certificate, ...long });
  stream.on('error', () => {});
  expect(await new Promise((resolve) => stream.once('response', resolve).once('close', () => resolve('cut')))).toBe(
    'cut',
  );

  const talker = await http2(m.port);
  const body = talker.request({ ':method': 'POST', ':path': PATHS.certificate }, { endStream: false });
  body.on('error', () => {});
  const answered = new Promise((resolve) => body.once('response', (headers) => resolve(headers[':status'])));
  const write = (): void => {
    while (!body.destroyed) if (!body.write(Buffer.alloc(16 * 1024))) return void body.once('drain', write);
  };
  write();
  expect(await answered).toBe(413);
  await isServed(memory, identity.nodeId, 'after');
});

test.each([
  ['a request whose body never ends', PATHS.certificate, false],
  ['a session that says no hello', PATHS.session, true],
])('%s is ended in time', async (_what, path, asNode) => {
  const clock = new FakeClock(Date.now());
  const slow = await manager({ store: await Store.open(new MemoryJournal()), clock });
  const { certificate: cert, key } = await slow.certify();
  const session = await http2(slow.port, asNode ? { cert, key } : {});
  const stream = session.request({ ':method': 'POST', ':path': path }, { endStream: false });
  stream.on('error', () => {});
  const gone = new Promise((resolve) => stream.once('close', resolve));
  stream.resume().write(Buffer.alloc(2));
  await new Promise((resolve) => session.ping(resolve)); // it has arrived
  expect(stream.closed).toBe(false);
  await clock.advance(15_000);
  stream.end();
  await gone;
  session.destroy();
  const closed = slow.close();
  await clock.advance(2_000);
  await closed;
});
