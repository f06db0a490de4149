import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, get, request, type IncomingMessage } from 'node:http';
import { createServer as createNetServer } from 'node:net';
import { duplexPair } from 'node:stream';
import { text } from 'node:stream/consumers';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { silentLog } from '../model/clock.ts';
import { createCertificateRequest, createRootCa, issueNodeCertificate } from '../pki/authority.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { Listeners, type Handlers } from './listen.ts';
import { UNBEGUN_HEADER } from './proxy.ts';

let directory: string;
let clock: FakeClock;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'drover-listen-'));
  clock = new FakeClock();
});
afterEach(() => rmSync(directory, { recursive: true }));

const handlers: Handlers = {
  request: (_, response) => void response.end('ok'),
  shouldUpgrade: () => true,
  upgrade: (_, socket) => void socket.on('error', () => {}).write('HTTP/1.1 101 UPGRADED\r\n\r\n'),
};

function listeners(over: Partial<Handlers> = {}): Listeners {
  return new Listeners({ ...handlers, ...over }, clock, silentLog);
}

async function fetched(options: { socketPath: string } | { port: number }): Promise<IncomingMessage> {
  const [response] = await once(get({ ...options, agent: false }), 'response');
  response.resume();
  return response;
}

test('a unix socket gets its mode; the umask is as before; a group that does not exist is left out', async () => {
  const path = join(directory, 's');
  const before = process.umask();
  const server = listeners();
  await server.listen({ path, group: 'no-such-group' });
  expect(statSync(path).mode & 0o777).toBe(0o660);
  expect(process.umask()).toBe(before);
  expect((await fetched({ socketPath: path })).statusCode).toBe(200);
  await server.close();
  expect(existsSync(path)).toBe(false);
});

test('a socket left by a dead daemon is taken over', async () => {
  const path = join(directory, 's');
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(existsSync(path)).toBe(true);
  const server = listeners();
  await server.listen({ path });
  expect((await fetched({ socketPath: path })).statusCode).toBe(200);
  await server.close();
});

test('a socket that somebody answers on is not, nor is another file', async () => {
  const path = join(directory, 's');
  const other = createNetServer().listen(path);
  await once(other, 'listening');
  await expect(listeners().listen({ path })).rejects.toThrow(`another server is answering on ${path}`);
  other.close();
  const file = join(directory, 'file');
  writeFileSync(file, 'precious');
  await expect(listeners().listen({ path: file })).rejects.toThrow('is no socket');
  expect(existsSync(file)).toBe(true);
});

test('a port that is taken is said', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const address = other.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  await expect(listeners().listen({ host: '127.0.0.1', port: address.port })).rejects.toThrow('EADDRINUSE');
  other.close();
});

test('closing lets a call under way end, says `Connection: close`, and cuts what lasts longer', async () => {
  const arrived = Promise.withResolvers<() => void>();
  const server = listeners({
    request: (request, response) => {
      if (request.url === '/slow') arrived.resolve(() => void response.end('ok'));
      else response.write('endless');
    },
  });
  const endpoint = await server.listen({ host: '127.0.0.1', port: 0 });
  if (!('port' in endpoint)) throw new Error('no port');
  const slow = get({ port: endpoint.port, path: '/slow', agent: false });
  const endless = get({ port: endpoint.port, path: '/endless', agent: false });
  const [stream] = await once(endless, 'response');
  stream.resume();
  const cut = once(stream, 'error');
  const finish = await arrived.promise;
  const closed = server.close();
  finish();
  const [response] = await once(slow, 'response');
  expect([response.statusCode, response.headers.connection]).toEqual([200, 'close']);
  response.resume();
  await once(response, 'end');
  await clock.advance(2_000);
  await cut;
  await closed;
});

test('a manager that asks while closing is told that nothing was begun, and asks another', async () => {
  const server = listeners();
  await server.close();
  const [mine, served] = duplexPair();
  const call = request({ createConnection: () => mine, method: 'POST', path: '/configs/create' });
  call.end('{}');
  server.serve(served);
  const [answer]: IncomingMessage[] = await once(call, 'response');
  expect(answer!.statusCode).toBe(503);
  expect(answer!.headers[UNBEGUN_HEADER]).toBe('1');
  expect(await text(answer!)).toContain('The swarm does not have a leader.');
});

test('TLS: who closes his input still hears the rest; who has no certificate hears nothing', async () => {
  const root = await createRootCa(Date.now());
  const { key, csr } = await createCertificateRequest();
  const cert = await issueNodeCertificate(root, csr, { nodeId: 'me', clusterId: 'c', role: 'worker' }, Date.now());
  const tls = { key, cert, ca: root.certificate };
  const upgrade: Handlers['upgrade'] = (_, socket) => {
    socket.write('HTTP/1.1 101 UPGRADED\r\n\r\n');
    // Later than the end of the input: a socket that is not half-open has been closed by then.
    socket.resume().once('end', () => setImmediate(() => socket.end('and out')));
  };
  const serving = listeners({ upgrade });
  const endpoint = await serving.listen({ host: '127.0.0.1', port: 0, tls });
  if (!('port' in endpoint)) throw new Error('expected a port');
  const dial = (identity: ConnectionOptions): TLSSocket => {
    const options = { port: endpoint.port, ca: root.certificate, servername: 'me', allowHalfOpen: true, ...identity };
    return connectTls(options);
  };
  const request = 'POST /attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n';

  const client = dial({ key, cert });
  client.end(request);
  let heard = '';
  for await (const chunk of client) heard += String(chunk);
  expect(heard).toMatch(/^HTTP\/1.1 101 [\s\S]*and out$/);

  const stranger = dial({});
  stranger.on('data', () => expect.unreachable()).write(request);
  const [error] = await once(stranger, 'error');
  expect(String(error)).toMatch(/certificate required|ECONNRESET|EPIPE/i);
  await serving.close();
});
