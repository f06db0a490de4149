/**
 * Clients of the API that are slow, silent, half gone or too much: each costs a bounded amount of memory, is cut off with
 * an error where it must be, and nobody else notices.
 */
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { aService, startApi, type TestApi } from '../../src/api/api.fixture.ts';

const MIB = 1024 * 1024;

let api: TestApi;
/** What the engine could write of its endless answer; it writes as fast as it is read. */
let engineWrote: number;
const sockets: Socket[] = [];

beforeEach(async () => {
  engineWrote = 0;
  api = await startApi((request, response) => {
    if (request.url === '/containers/c/logs') {
      const chunk = Buffer.alloc(64 * 1024, 'x');
      const write = (): void => {
        while (!response.destroyed) {
          engineWrote += chunk.length;
          if (!response.write(chunk)) return void response.once('drain', write);
        }
      };
      write();
    } else if (request.url?.startsWith('/events') === true) response.writeHead(200).flushHeaders();
    else response.writeHead(404).end();
  });
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await api.close();
});

/** A connection that has sent `text`. */
async function dial(text = ''): Promise<Socket> {
  const socket = connect({ path: api.socketPath });
  socket.on('error', () => {}); // that it is cut off is what some of these are for
  sockets.push(socket);
  await once(socket, 'connect');
  if (text !== '') socket.write(text);
  return socket;
}

/** What came until the connection was closed, in whichever way. */
async function answerOn(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await new Promise((resolve) => socket.once('close', resolve)); // `once` of node:events would take an error for the end
  return text;
}

/** Waits until `value` has stood still for a while: nothing else tells that somebody has stopped. */
async function settled(value: () => number): Promise<number> {
  for (let last = -1; ; last = value()) {
    if (last === value() && last > 0) return last;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

const isWell = async (): Promise<void> => expect((await api.call('GET', '/services')).status).toBe(200);

describe('bodies', () => {
  const send = async (headers: Record<string, string>): Promise<number | undefined> => {
    const call = httpRequest({ socketPath: api.socketPath, method: 'POST', path: '/services/create', headers });
    call.on('error', () => {}); // the answer comes before all is sent
    const answered = once(call, 'response');
    const chunk = Buffer.alloc(64 * 1024, ' ');
    const write = (): void => {
      while (!call.destroyed) if (!call.write(chunk)) return void call.once('drain', write);
    };
    write();
    const [response] = (await answered) as [IncomingMessage];
    call.destroy();
    return response.statusCode;
  };

  test('of more than 4 MiB are refused, by what is announced and by what comes', async () => {
    const type = { 'content-type': 'application/json' };
    expect(await send({ ...type, 'content-length': String(5000 * MIB) })).toBe(413);
    expect(await send({ ...type, 'transfer-encoding': 'chunked' })).toBe(413);
    await isWell();
  });

  test('that do not come to their end are given up after a minute', async () => {
    const socket = await dial(
      'POST /services/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"Name":',
    );
    await isWell();
    const closed = once(socket.resume(), 'close');
    await api.clock.advance(59_000);
    expect(socket.destroyed).toBe(false);
    await api.clock.advance(2_000);
    await closed;
    await isWell();
  });
});

test('a stream without a body lasts', async () => {
  const call = httpRequest({ socketPath: api.socketPath, path: '/events' }).end();
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  await api.clock.advance(300_000);
  await api.store.update((tx) => tx.services.create(aService('late')));
  const [line] = (await once(response, 'data')) as [Buffer];
  expect(JSON.parse(line.toString())).toMatchObject({ Type: 'service', Action: 'create' });
  call.destroy();
});

describe('readers that do not read', () => {
  test('events are kept for them up to 16 MiB, then the connection is cut', async () => {
    const call = httpRequest({ socketPath: api.socketPath, path: '/events' });
    call.end();
    const [response] = (await once(call, 'response')) as [IncomingMessage];
    response.pause();
    const image = (i: number): string => `${'long/'.repeat(90)}image:${i}`;
    const service = aService('noisy');
    await api.store.update((tx) => tx.services.create(service));
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 40_000; i++) {
      const spec = { ...service.spec, TaskTemplate: { ContainerSpec: { Image: image(i) } } };
      const written = api.store.update((tx) =>
        tx.services.update({ ...service, spec, meta: { ...service.meta, version: i + 2 } }),
      );
      if (i % 500 === 0) await written;
    }
    await api.store.update(() => {});
    const grown = process.memoryUsage().rss - before;
    let read = 0;
    response.on('data', (chunk: Buffer) => (read += chunk.length));
    const [error] = (await once(response, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNRESET');
    expect(read).toBeLessThan(20 * MIB); // of about 45
    expect(grown).toBeLessThan(300 * MIB);
    await isWell();
  });

  test('of what the engine sends, no more is taken than they read', async () => {
    const socket = await dial('GET /containers/c/logs HTTP/1.1\r\nHost: x\r\n\r\n');
    socket.pause();
    const stalledAt = await settled(() => engineWrote);
    expect(stalledAt).toBeLessThan(8 * MIB);
    let read = 0;
    for await (const chunk of socket as AsyncIterable<Buffer>) if ((read += chunk.length) > 4 * stalledAt) break;
    expect(engineWrote).toBeGreaterThan(4 * stalledAt);
    await isWell();
  });
});

test('1,000 idle connections, and 1,000 that stop in the middle of a head or of their body', async () => {
  const texts = [
    'GET /serv',
    'GET /services HTTP/1.1\r\nHost: x\r\nX-Slow: ',
    'POST /services/create HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{',
  ];
  const open = async (each: (i: number) => string): Promise<void> => {
    for (let i = 0; i < 1000; i++) {
      await dial(each(i));
      if (i % 100 === 0) await isWell(); // a round trip: the server has accepted what was dialled
    }
  };
  await open(() => '');
  await open((i) => texts[i % texts.length]!);
  const began = performance.now();
  for (let i = 0; i < 20; i++) await isWell();
  expect((performance.now() - began) / 20).toBeLessThan(200);
  expect(sockets.filter((socket) => socket.destroyed)).toEqual([]);
});

test.skipIf(process.env['DROVER_SOAK'] === undefined)(
  'a head that does not come to its end is given up after 60 to 90 seconds',
  { timeout: 120_000 },
  async () => {
    const began = performance.now();
    expect(await answerOn(await dial('GET /services HTTP/1.1\r\nHost: x\r\nX-Slow: '))).toMatch(/^HTTP\/1\.1 4\d\d /);
    expect(performance.now() - began).toBeGreaterThan(59_000);
  },
);

test.each([
  ['a head of 1 MiB', `GET /services HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(MIB)}\r\n\r\n`],
  ['100,000 headers', `GET /services HTTP/1.1\r\nHost: x\r\n${'A: b\r\n'.repeat(100_000)}\r\n`],
  ['an address without end', `GET /${'x'.repeat(MIB)}`],
  ['no HTTP', 'HELO x\r\n\r\n'],
  ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  [
    'a body of unknown framing',
    'POST /services/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, x\r\nContent-Length: 5\r\n\r\n12345',
  ],
  ['two lengths', 'POST /services/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456'],
])('%s: refused, and the connection closed', async (_what, text) => {
  const answer = await answerOn(await dial(text));
  expect(answer).toMatch(/^(HTTP\/1\.1 4\d\d |$)/);
  await isWell();
});
