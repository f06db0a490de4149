import { connect, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import type { StreamRequest } from '../model/streams.ts';
import type { Identity } from '../pki/identity.ts';
import { Store } from '../store/store.ts';
import { AgentSession } from './agent-session.ts';
import { readJson } from './http.ts';
import type { ManagerMessage } from './messages.ts';
import { FrameReader } from './frames.ts';
import { Channel } from './streams-channel.ts';
import type { ServeStream } from './streams-agent.ts';
import { hello, manager, Memory, raw, realClock, descriptionOf, type Manager } from './testbed.fixture.ts';
import { silentLog } from '../model/clock.ts';

const until = <T>(fn: () => T) => vi.waitFor(fn, { timeout: 8_000, interval: 5 });
const LOGS: StreamRequest = { kind: 'read', what: 'logs', taskId: 't1', query: {} };

let m: Manager;
let connections: ClientHttp2Session[] = [];
let sessions: AgentSession[] = [];
beforeEach(async () => {
  m = await manager({ store: await Store.open(new MemoryJournal()) });
});
afterEach(async () => {
  for (const connection of connections.splice(0)) connection.destroy();
  await Promise.all(sessions.splice(0).map((session) => session.close()));
  await m.close();
});

/** A node whose agent serves streams so. */
async function serving(serve: ServeStream): Promise<Identity> {
  const identity = await m.certify();
  const memory = new Memory(() => descriptionOf('host'));
  const session = new AgentSession({
    addresses: [m.address],
    identity,
    agent: {
      replace: (facts) => memory.replace(facts),
      apply: (changes) => memory.apply(changes),
      description: () => memory.description(),
      stream: serve,
    },
    clock: realClock,
    random: Math.random,
    log: silentLog,
  });
  sessions.push(session);
  session.start();
  await until(() => expect(memory.replaced).toBe(1));
  return identity;
}

/** A node spoken by hand: it is asked, and does nothing of itself. */
async function byHand(): Promise<{ identity: Identity; asked: Promise<string> }> {
  const identity = await m.certify();
  const { connection, stream, answer } = await raw(m.address, identity);
  connections.push(connection);
  stream.write(hello(identity.nodeId));
  await answer;
  const reader = new FrameReader(1 << 20);
  const asked = new Promise<string>((resolve) => {
    stream.on('data', (chunk: Buffer) => {
      for (const message of reader.push(chunk) as Iterable<ManagerMessage>)
        if (message.type === 'open') resolve(message.streamId);
    });
  });
  return { identity, asked };
}

async function bring(
  identity: Identity | undefined,
  streamId: string,
): Promise<{ status: number; stream: ClientHttp2Stream }> {
  const connection = connect(`https://${m.address}`, {
    rejectUnauthorized: false,
    ...(identity === undefined ? {} : { cert: identity.certificate, key: identity.key }),
  });
  connections.push(connection);
  connection.on('error', () => {});
  const headers = { ':method': 'POST', ':path': '/v1/stream', 'drover-stream': streamId };
  const stream = connection.request(headers, { endStream: false });
  stream.on('error', () => {});
  const status = await new Promise<number>((resolve) =>
    stream.once('response', (answer) => resolve(answer[':status']!)),
  );
  return { status, stream };
}

async function all(channel: Channel): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of channel.data()) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

describe('a stream', () => {
  test('carries data and messages both ways, on a connection apart from the session', async () => {
    const asked: StreamRequest[] = [];
    const { nodeId } = await serving(async (request, channel) => {
      asked.push(request);
      await channel.tell({ type: 'opened', tty: true });
      for await (const frame of channel.frames()) {
        if (Buffer.isBuffer(frame)) await channel.write(Buffer.from(frame.toString().toUpperCase()));
        else if (frame.type === 'resize') await channel.write(Buffer.from(`${frame.height}x${frame.width}`));
        else break;
      }
      await channel.tell({ type: 'end', exitCode: 7 });
    });
    const { channel, tty } = await m.server.streams.open(nodeId, LOGS);
    expect(tty).toBe(true);
    await channel.write(Buffer.from('hello '));
    await channel.tell({ type: 'resize', height: 24, width: 80 });
    await channel.tell({ type: 'end' });
    const frames: unknown[] = [];
    for await (const frame of channel.frames()) frames.push(Buffer.isBuffer(frame) ? frame.toString() : frame);
    expect(frames.filter((frame) => typeof frame === 'string').join('')).toBe('HELLO 24x80');
    expect(frames.at(-1)).toEqual({ type: 'end', exitCode: 7 });
    expect(asked).toEqual([LOGS]);
    await until(() => expect(m.server.streams.counts).toEqual({ open: 0, awaited: 0 }));
  });

  test('that nobody reads is not written any further than its window, and delays no other', async () => {
    let written = 0;
    const { nodeId } = await serving(async (request, channel) => {
      await channel.tell({ type: 'opened', tty: true });
      for (let i = 0; i < 200; i++) {
        await channel.write(Buffer.alloc(64 * 1024));
        if (request.taskId === 'slow') written += 64 * 1024;
      }
      await channel.tell({ type: 'end' });
    });
    const slow = await m.server.streams.open(nodeId, { ...LOGS, taskId: 'slow' });
    const quick = await m.server.streams.open(nodeId, LOGS);
    expect((await all(quick.channel)).length).toBe(200 * 64 * 1024);
    expect(written).toBeLessThan(1024 * 1024);
    expect((await all(slow.channel)).length).toBe(200 * 64 * 1024);
  });

  test('is refused in the words of who serves it, with its status', async () => {
    const { nodeId } = await serving(() => Promise.reject(Object.assign(new Error('no such thing'), { status: 404 })));
    await expect(m.server.streams.open(nodeId, LOGS)).rejects.toMatchObject({
      name: 'ChannelRefused',
      status: 404,
      message: 'no such thing',
    });
  });

  test('that breaks in the middle does not look like one that ended', async () => {
    const { nodeId } = await serving(async (_request, channel) => {
      await channel.tell({ type: 'opened', tty: false });
      await channel.write(Buffer.from('half'));
      channel.end();
    });
    const { channel } = await m.server.streams.open(nodeId, LOGS);
    await expect(all(channel)).rejects.toThrow('the stream ended in the middle');
  });

  test('ends for the node when the reader gives it up', async () => {
    const ended = Promise.withResolvers<void>();
    const { nodeId } = await serving(async (_request, channel) => {
      await channel.tell({ type: 'opened', tty: false });
      await channel.closed;
      ended.resolve();
    });
    const gone = new AbortController();
    await m.server.streams.open(nodeId, LOGS, { signal: gone.signal });
    gone.abort(new Error('enough'));
    await ended.promise;
    await until(() => expect(m.server.streams.counts.open).toBe(0));
  });
});

describe('a node that does not bring what it was asked for', () => {
  test('has no session: at once', async () => {
    await expect(m.server.streams.open('nobody', LOGS)).rejects.toMatchObject({ name: 'NodeAway' });
  });

  test('never opens it: refused after the deadline, and then too late', async () => {
    const { identity, asked } = await byHand();
    const opening = m.server.streams.open(identity.nodeId, LOGS, { openMs: 50 });
    await expect(opening).rejects.toThrow('it did not answer within 0.05 s');
    expect(m.server.streams.counts).toEqual({ open: 0, awaited: 0 });
    expect((await bring(identity, await asked)).status).toBe(404);
  });

  test('opens it and says nothing: refused after the deadline', async () => {
    const { identity, asked } = await byHand();
    const opening = m.server.streams.open(identity.nodeId, LOGS, { openMs: 300 });
    opening.catch(() => {});
    expect((await bring(identity, await asked)).status).toBe(200);
    await expect(opening).rejects.toMatchObject({ name: 'NodeAway' });
  });

  test('loses its session: at once, whether it was open or awaited', async () => {
    const { identity, asked } = await byHand();
    const awaited = m.server.streams.open(identity.nodeId, LOGS);
    awaited.catch(() => {});
    await asked;
    const { nodeId } = await serving(async (_request, channel) => {
      await channel.tell({ type: 'opened', tty: false });
      await channel.closed;
    });
    const open = await m.server.streams.open(nodeId, LOGS);
    const reading = all(open.channel);
    reading.catch(() => {});
    await m.store.update((tx) => {
      tx.nodes.remove(identity.nodeId);
      tx.nodes.remove(nodeId);
    });
    await expect(awaited).rejects.toThrow('its session ended');
    await expect(reading).rejects.toThrow('the node went away');
  });

  test('the manager stops: all of them end', async () => {
    const { nodeId } = await serving(async (_request, channel) => {
      await channel.tell({ type: 'opened', tty: false });
      await channel.closed;
    });
    const { channel } = await m.server.streams.open(nodeId, LOGS);
    const reading = all(channel);
    reading.catch(() => {});
    await m.server.close();
    await expect(reading).rejects.toMatchObject({ name: 'ChannelBroken' });
  });
});

test('pings keep a connection on which nothing else happens; one without is closed', async () => {
  const idle = await manager({ store: await Store.open(new MemoryJournal()), idleMs: 500 });
  const dial = () => connect(`https://${idle.address}`, { rejectUnauthorized: false }).on('error', () => {});
  const [pinged, silent] = [dial(), dial()];
  connections.push(pinged, silent);
  let answered = 0;
  const pings = setInterval(() => pinged.ping(() => (answered += 1)), 50);
  try {
    await until(() => expect(silent.destroyed).toBe(true));
    // Twice as long as it would have had.
    const enough = answered + 20;
    await until(() => expect(answered).toBeGreaterThan(enough));
  } finally {
    clearInterval(pings);
  }
  expect(pinged.destroyed).toBe(false);
  await until(() => expect(pinged.destroyed).toBe(true));
  await idle.close();
});

describe('a stream that nobody asked for', () => {
  test('of another node is refused, and still awaited from the right one', async () => {
    const { identity, asked } = await byHand();
    const opening = m.server.streams.open(identity.nodeId, LOGS);
    opening.catch(() => {});
    const id = await asked;
    const { status, stream } = await bring(await m.certify(), id);
    expect(status).toBe(404);
    expect(await readJson(stream)).toEqual({ message: 'this stream is not, or no longer, awaited from this node' });
    const right = await bring(identity, id);
    expect(right.status).toBe(200);
    expect((await bring(identity, id)).status).toBe(404);
    await new Channel(right.stream).tell({ type: 'opened', tty: false });
    await opening;
  });

  test('with no or any id is refused, and so is one without a certificate', async () => {
    const identity = await m.certify();
    expect((await bring(identity, '')).status).toBe(404);
    expect((await bring(identity, 'made-up')).status).toBe(404);
    expect((await bring(undefined, 'made-up')).status).toBe(401);
  });
});
