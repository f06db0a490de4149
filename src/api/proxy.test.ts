/** The pass-through against an engine that streams, stalls, breaks off and upgrades. All waits are for the thing itself. */
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { startApi, type TestApi } from './api.fixture.ts';

let started: TestApi | undefined;

afterEach(async () => {
  await started?.close();
  started = undefined;
});

async function withEngine(play: (request: IncomingMessage, response: ServerResponse) => void): Promise<TestApi> {
  return (started = await startApi(play));
}

/** Opens a request and leaves its body and answer to the test. */
function open(api: TestApi, method: string, path: string, headers: Record<string, string> = {}) {
  return httpRequest({ socketPath: api.socketPath, method, path, headers, agent: false });
}

function nextChunk(response: IncomingMessage): Promise<string> {
  return once(response, 'data').then(([chunk]) => String(chunk));
}

async function untilSeen(socket: Socket, text: string): Promise<string> {
  let all = '';
  for await (const chunk of socket) {
    all += String(chunk);
    if (all.includes(text)) break;
  }
  return all;
}

describe('requests', () => {
  test('go on with method, version, query, body and headers; the answer comes back as it is', async () => {
    const api = await withEngine((request, response) => {
      let body = '';
      request.on('data', (chunk) => (body += String(chunk)));
      request.on('end', () => {
        const { method, url, headers } = request;
        const text = JSON.stringify({ method, url, body, type: headers['content-type'], host: headers.host });
        response
          .writeHead(418, 'Teapot', { 'Content-Type': 'application/json', 'X-Extra': 'yes', 'Api-Version': '1.99' })
          .end(text);
      });
    });
    const answer = await api.call('PUT', '/env/default/v1.30/images/a%2Fb/json?q=1', '{"a": 1}');
    expect(answer.status).toBe(418);
    expect(answer.json).toEqual({
      method: 'PUT',
      url: '/v1.30/images/a%2Fb/json?q=1',
      body: '{"a": 1}',
      type: 'application/json',
      host: 'api.moby.localhost',
    });
    expect(answer.headers['x-extra']).toBe('yes');
    expect(answer.headers['api-version']).toBe('1.41');
  });

  test('headers and each chunk reach the client at once', async () => {
    let engine: ServerResponse | undefined;
    const api = await withEngine((_, response) => {
      engine = response.writeHead(200, { 'Content-Type': 'application/json' });
      engine.flushHeaders();
    });
    const request = open(api, 'POST', '/v1.41/containers/x/wait');
    request.end();
    const [response] = await once(request, 'response');
    engine!.write('one');
    expect(await nextChunk(response)).toBe('one');
    engine!.write('two');
    expect(await nextChunk(response)).toBe('two');
    engine!.end();
    await once(response, 'end');
  });

  test('a body is streamed on while it comes, whatever its type says', async () => {
    let engine: IncomingMessage | undefined;
    const arrived = Promise.withResolvers<void>();
    const api = await withEngine((request, response) => {
      engine = request;
      arrived.resolve();
      request.once('end', () => response.end('done'));
    });
    const request = open(api, 'POST', '/build', {
      'Content-Type': 'no media type at all',
      'Transfer-Encoding': 'chunked',
    });
    request.write('first');
    await arrived.promise;
    expect(await nextChunk(engine!)).toBe('first');
    request.end('second');
    expect(await nextChunk(engine!)).toBe('second');
    const [response] = await once(request, 'response');
    expect(await nextChunk(response)).toBe('done');
  });

  test('a client that hangs up ends the request of the engine', async () => {
    const gone = Promise.withResolvers<void>();
    const api = await withEngine((_, response) => {
      response.once('close', gone.resolve);
      response.write('log line');
    });
    const request = open(api, 'GET', '/containers/x/logs?follow=1');
    request.on('error', () => {});
    request.end();
    const [response] = await once(request, 'response');
    response.on('error', () => {});
    await nextChunk(response);
    request.destroy();
    await gone.promise;
    expect((await api.call('GET', '/_ping')).status).toBe(200);
  });

  test('a client that hangs up in the middle of its body ends the request of the engine', async () => {
    const gone = Promise.withResolvers<void>();
    const arrived = Promise.withResolvers<void>();
    const api = await withEngine((request) => {
      request.on('error', () => gone.resolve());
      request.once('data', () => arrived.resolve());
    });
    const request = open(api, 'POST', '/build', { 'Content-Length': '1000' });
    request.on('error', () => {});
    request.write('part');
    await arrived.promise;
    request.destroy();
    await expect(gone.promise).resolves.toBeUndefined();
  });

  test('an engine that breaks off in the middle of an answer breaks the connection: a stump is no whole', async () => {
    const api = await withEngine((_, response) => {
      response.write('part', () => response.destroy());
    });
    const request = open(api, 'GET', '/containers/json');
    request.end();
    const [response] = await once(request, 'response');
    response.resume();
    const [error] = await once(response, 'error');
    expect(error.code).toBe('ECONNRESET');
  });

  test('an engine that is away is a 503 that names its socket, and cluster answers go on', async () => {
    const api = await withEngine(() => {});
    api.engine.closeAllConnections();
    api.engine.close();
    await once(api.engine, 'close');
    const answer = await api.call('GET', '/v1.41/containers/json');
    expect(answer.status).toBe(503);
    expect(answer.json.message).toContain(`Cannot reach the Docker Engine of this host at unix://${api.enginePath}`);
    expect((await api.call('GET', '/v1.41/services')).json).toEqual([]);
    expect((await api.call('GET', '/v1.41/networks')).json).toEqual([]);
    const ping = await api.call('GET', '/_ping');
    expect([ping.status, ping.headers['api-version'], ping.headers['builder-version']]).toEqual([200, '1.41', '1']);
    const info = (await api.call('GET', '/info')).json;
    expect(info.Swarm.LocalNodeState).toBe('active');
    expect(info.Warnings[0]).toContain('the Docker Engine does not answer');
    expect((await api.call('GET', '/version')).json.ApiVersion).toBe('1.41');
  });
});

describe('upgrades', () => {
  /** An engine that answers `101` and then echoes what it gets, in capitals; after the client's end it says `BYE`. */
  async function echoingEngine(protocol: string): Promise<{ api: TestApi; heads: string[] }> {
    const heads: string[] = [];
    const api = await withEngine(() => {});
    api.engine.on('upgrade', (request, socket, head) => {
      heads.push(`${request.method} ${request.url} ${request.headers.upgrade} ${head.toString()}`);
      socket.write(
        `HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`,
      );
      socket.on('data', (chunk: Buffer) => socket.write(chunk.toString().toUpperCase()));
      socket.once('end', () => socket.end('BYE'));
      socket.on('error', () => {});
    });
    return { api, heads };
  }

  async function raw(api: TestApi, text: string): Promise<Socket> {
    const socket = connect({ path: api.socketPath, allowHalfOpen: true });
    await once(socket, 'connect');
    socket.write(text);
    return socket;
  }

  test.each(['tcp', 'h2c'])('%s: two ways, and one way may end before the other', async (protocol) => {
    const { api, heads } = await echoingEngine(protocol);
    const socket = await raw(
      api,
      `POST /v1.41/containers/x/attach?stdin=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\nContent-Length: 0\r\n\r\n`,
    );
    const head = await once(socket, 'data').then(([chunk]) => String(chunk));
    expect(head).toMatch(/^HTTP\/1.1 101 UPGRADED\r\n/);
    expect(head).toContain('application/vnd.docker.raw-stream');
    socket.write('hello');
    expect(await once(socket, 'data').then(([chunk]) => String(chunk))).toBe('HELLO');
    socket.end();
    expect(await untilSeen(socket, 'BYE')).toBe('BYE');
    expect(heads).toEqual([`POST /v1.41/containers/x/attach?stdin=1 ${protocol} `]);
  });

  test('a body in the head of the request, and input right behind it, arrive in order', async () => {
    const { api, heads } = await echoingEngine('tcp');
    const body = '{"Detach":false}';
    const socket = await raw(
      api,
      `POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}stdin`,
    );
    socket.end();
    const answer = await untilSeen(socket, 'BYE');
    // Part of it may be in the head that the engine's server read at once, the rest is echoed in capitals.
    const atOnce = (heads[0] ?? '').slice('POST /exec/x/start tcp '.length);
    expect((atOnce + answer.split('\r\n\r\n')[1]).toUpperCase()).toBe('{"DETACH":FALSE}STDINBYE');
  });

  test('an engine that refuses is heard, and the connection ends with that', async () => {
    const api = await withEngine(() => {});
    api.engine.on('upgrade', (_, socket) => {
      socket.end(
        'HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n{"message":"not running"}',
      );
    });
    const socket = await raw(
      api,
      'POST /exec/x/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n',
    );
    const answer = await untilSeen(socket, 'not running');
    expect(answer).toMatch(/^HTTP\/1.1 409 Conflict\r\n/);
    expect(answer).toContain('Connection: close');
    socket.destroy();
  });

  test('a client that vanishes takes its stream to the engine with it, once the engine has something to say', async () => {
    const gone = Promise.withResolvers<void>();
    const api = await withEngine(() => {});
    api.engine.on('upgrade', (_, socket) => {
      socket.write('HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
      socket.on('error', () => {});
      socket.once('close', () => gone.resolve());
      const talk = (): void => void socket.write('output', (error) => error ?? setImmediate(talk));
      socket.resume().once('end', talk);
    });
    const socket = await raw(
      api,
      'POST /containers/x/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n',
    );
    await once(socket, 'data');
    socket.destroy();
    await expect(gone.promise).resolves.toBeUndefined();
  });

  test('an engine that is away, and a version too new, are answered in plain HTTP', async () => {
    const api = await withEngine(() => {});
    const head = 'HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n';
    expect(await untilSeen(await raw(api, `POST /v1.99/exec/x/start ${head}`), '}')).toMatch(
      /^HTTP\/1.1 400 .*too new/s,
    );
    api.engine.closeAllConnections();
    api.engine.close();
    await once(api.engine, 'close');
    expect(await untilSeen(await raw(api, `POST /exec/x/start ${head}`), '}')).toMatch(
      /^HTTP\/1.1 503 .*Cannot reach/s,
    );
  });

  test('a cluster route is answered although the request offers an upgrade', async () => {
    const api = await withEngine(() => {});
    const answer = await api.call('GET', '/v1.41/services', undefined, { Connection: 'Upgrade', Upgrade: 'h2c' });
    expect([answer.status, answer.json]).toEqual([200, []]);
  });
});
