/** The client against small servers that behave, stall, break off and upgrade. */
import { createServer } from 'node:http';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { once } from 'node:events';
import { afterEach, describe, expect, test } from 'vitest';
import { DockerClient, DockerError, EngineUnreachable, olderVersion, parseEngineAddress } from './client.ts';
import { jsonLines } from './json-lines.ts';

const servers: Server[] = [];
const clients: DockerClient[] = [];

afterEach(() => {
  for (const client of clients.splice(0)) client.close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function serve(listener: RequestListener): Promise<{ client: DockerClient; server: Server; port: number }> {
  const server = createServer((request, response) => {
    if (request.url === '/_ping') response.setHeader('Api-Version', '1.41').end('OK');
    else listener(request, response);
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const { port } = address;
  const client = new DockerClient({ host: '127.0.0.1', port });
  clients.push(client);
  return { client, server, port };
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}

async function text(request: IncomingMessage): Promise<string> {
  let all = '';
  for await (const chunk of request as AsyncIterable<Buffer>) all += chunk.toString();
  return all;
}

describe('request', () => {
  test('puts the negotiated version before the path, sends query and JSON, parses the answer', async () => {
    const { client } = await serve((request, response) => {
      void text(request).then((body) => json(response, 201, { url: request.url, body }));
    });
    const answer = await client.request<{ url: string; body: string }>('POST', '/containers/create', {
      query: { name: 'a b', skipped: undefined, force: true },
      body: { Image: 'x' },
    });
    expect(answer).toEqual({ url: '/v1.41/containers/create?name=a+b&force=true', body: '{"Image":"x"}' });
    expect(await client.apiVersion()).toBe('1.41');
  });

  test('an error status becomes a DockerError with the sentence of the engine', async () => {
    const { client } = await serve((_, response) => json(response, 404, { message: 'No such container: x' }));
    const error = await client.request('GET', '/containers/x/json').catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(DockerError);
    expect(error).toMatchObject({ status: 404, message: 'No such container: x' });
  });

  test('nobody listening is EngineUnreachable, each time', async () => {
    const client = new DockerClient({ socketPath: '/nonexistent/docker.sock' });
    await expect(client.request('GET', '/info')).rejects.toThrow(EngineUnreachable);
    await expect(client.request('GET', '/info')).rejects.toThrow(/Is the docker daemon running/);
  });

  test('a connection that breaks in the middle of an answer settles as EngineUnreachable', async () => {
    const { client } = await serve((_, response) => {
      response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': 100 });
      response.write('{"half":');
      setImmediate(() => response.destroy());
    });
    await expect(client.request('GET', '/info')).rejects.toThrow(EngineUnreachable);
  });

  test('a server that accepts and never answers is ended by timeoutMs, also after the headers', async () => {
    const { client } = await serve((request, response) => {
      if (request.url?.endsWith('/body') === true) response.writeHead(200).write('x');
    });
    await expect(client.request('GET', '/none', { timeoutMs: 30 })).rejects.toThrow(/no answer within 30 ms/);
    await expect(client.request('GET', '/body', { timeoutMs: 30 })).rejects.toThrow(/no answer within 30 ms/);
    await expect(client.request('GET', '/body', { idleTimeoutMs: 30 })).rejects.toThrow(/silent for 30 ms/);
  });

  test("the caller's own signal ends it with the caller's reason", async () => {
    const { client, server } = await serve(() => {});
    const controller = new AbortController();
    const call = client.request('GET', '/wait', { signal: controller.signal });
    call.catch(() => {});
    await once(server, 'request');
    controller.abort(new Error('not needed any more'));
    await expect(call).rejects.toThrow('not needed any more');
    await expect(client.request('GET', '/x', { signal: controller.signal })).rejects.toThrow('not needed any more');
  });

  test('a read on a kept connection that the server closes meanwhile is tried once more', async () => {
    let seen = 0;
    const { client } = await serve((request, response) => {
      seen++;
      if (seen === 2) request.socket.resetAndDestroy();
      else json(response, 200, { seen });
    });
    expect(await client.request('GET', '/a')).toEqual({ seen: 1 });
    expect(await client.request('GET', '/a')).toEqual({ seen: 3 });
  });
});

describe('stream', () => {
  test('objects come one by one, also when cut in the middle of a character', async () => {
    const { client } = await serve((_, response) => {
      const bytes = Buffer.from('{"a":"ä"}\n{"a":"b"}\n{"a":"c"}');
      response.writeHead(200);
      response.write(bytes.subarray(0, 7));
      setImmediate(() => response.end(bytes.subarray(7)));
    });
    const seen: string[] = [];
    for await (const item of jsonLines<{ a: string }>(await client.stream('GET', '/events'))) seen.push(item.a);
    expect(seen).toEqual(['ä', 'b', 'c']);
  });

  test('a broken connection shows as an error of the stream', async () => {
    const { client } = await serve((_, response) => {
      response.writeHead(200).write('{"a":1}\n');
      setImmediate(() => response.destroy());
    });
    const items = jsonLines(await client.stream('GET', '/events'));
    expect(await items.next()).toEqual({ done: false, value: { a: 1 } });
    await expect(items.next()).rejects.toThrow('aborted');
  });
});

describe('hijack', () => {
  test('writes and reads raw, with a body in the request, and half-closes', async () => {
    const { client, server } = await serve(() => {});
    server.on('upgrade', (request, socket, head) => {
      socket.write('HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n');
      socket.write('Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello ');
      let rest = head.toString().slice(Number(request.headers['content-length']));
      socket.on('data', (chunk: Buffer) => (rest += chunk.toString()));
      socket.on('end', () => socket.end(`got ${rest}`));
    });
    const { socket, contentType } = await client.hijack('POST', '/exec/x/start', { body: { Tty: false } });
    expect(contentType).toBe('application/vnd.docker.raw-stream');
    let answer = '';
    socket.on('data', (chunk: Buffer) => (answer += chunk.toString()));
    socket.end('input');
    await once(socket, 'end');
    expect(answer).toMatch(/^hello got .*input$/);
  });

  test('a refusal is a DockerError', async () => {
    const { client, server } = await serve(() => {});
    server.on('upgrade', (_, socket) => {
      socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{"message":"gone"');
    });
    await expect(client.hijack('POST', '/exec/x/start')).rejects.toThrow(DockerError);
  });
});

test.each([
  ['unix:///run/docker.sock', { socketPath: '/run/docker.sock' }],
  ['/run/docker.sock', { socketPath: '/run/docker.sock' }],
  ['tcp://127.0.0.1:2376', { host: '127.0.0.1', port: 2376 }],
  ['tcp://[::1]:2376', { host: '::1', port: 2376 }],
  ['tcp://engine', { host: 'engine', port: 2375 }],
])('address %s', (text, address) => {
  expect(parseEngineAddress(text)).toEqual(address);
});

test.each(['', 'unix://relative', 'ssh://host', 'tcp://'])('no address: %s', (text) => {
  expect(() => parseEngineAddress(text)).toThrow(RangeError);
});

test('versions compare by number, not by letter', () => {
  expect(olderVersion('1.9', '1.41')).toBe('1.9');
  expect(olderVersion('1.52', '1.51')).toBe('1.51');
});
