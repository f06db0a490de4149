/**
 * An engine for tests that can hang: it takes every call and, while `hangs` is set, answers none, as one does whose
 * process is stopped. What was asked meanwhile is not done later. It knows one image and whatever containers it is given.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from '../../src/api/api.fixture.ts';
import { DockerClient } from '../../src/docker/client.ts';

interface FakeContainer {
  id: string;
  labels: Record<string, string>;
  status: 'created' | 'running' | 'exited';
}

export class HangingEngine {
  hangs = false;
  /** `METHOD /path` of each call, versions and queries left out. */
  readonly calls: string[] = [];
  readonly client: DockerClient;
  readonly #directory: string;
  readonly #server: Server;
  readonly #containers = new Map<string, FakeContainer>();
  #waiting: { call: string; resolve: () => void }[] = [];

  private constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), 'drover-engine-'));
    this.#server = createServer((request, response) => void this.#take(request, response));
    this.client = new DockerClient({ socketPath: join(this.#directory, 'engine.sock') });
  }

  static async start(): Promise<HangingEngine> {
    const engine = new HangingEngine();
    engine.#server.listen(join(engine.#directory, 'engine.sock'));
    await once(engine.#server, 'listening');
    return engine;
  }

  /** Resolves at the next call that begins with `call`. */
  called(call: string): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ call, resolve }));
  }

  close(): void {
    this.client.close();
    this.#server.closeAllConnections();
    this.#server.close();
    rmSync(this.#directory, { recursive: true });
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '').replace(/^\/v1\.\d+/, '').split('?')[0] ?? '';
    const call = `${request.method} ${path}`;
    let body = '';
    for await (const chunk of request) body += String(chunk);
    this.calls.push(call);
    const told = this.#waiting.filter((one) => call.startsWith(one.call));
    this.#waiting = this.#waiting.filter((one) => !told.includes(one));
    if (!this.hangs) this.#answer(call, path, body, response);
    for (const { resolve } of told) resolve();
  }

  #answer(call: string, path: string, body: string, response: ServerResponse): void {
    response.setHeader('Api-Version', '1.41');
    const id = path.split('/')[2] ?? '';
    const found = this.#containers.get(id);
    if (call === 'GET /_ping') response.end('OK');
    else if (call === 'GET /info')
      json(response, 200, {
        Name: 'h',
        OSType: 'linux',
        Architecture: 'x86_64',
        NCPU: 1,
        MemTotal: 1,
        ServerVersion: '20',
        Labels: [],
        Plugins: {},
      });
    else if (call === 'GET /events') response.writeHead(200).flushHeaders();
    else if (call.startsWith('GET /images/')) json(response, 200, {});
    else if (call === 'POST /images/create') response.end('{}\n');
    else if (call === 'GET /containers/json')
      json(
        response,
        200,
        [...this.#containers.values()].map((one) => ({ Id: one.id, State: one.status, Labels: one.labels })),
      );
    else if (call === 'POST /containers/create') {
      const made = `c${this.#containers.size + 1}`;
      const { Labels: labels = {} } = JSON.parse(body) as { Labels?: Record<string, string> };
      this.#containers.set(made, { id: made, labels, status: 'created' });
      json(response, 201, { Id: made });
    } else if (found === undefined) json(response, 404, { message: `no such thing: ${path}` });
    else if (path.endsWith('/start')) {
      found.status = 'running';
      response.writeHead(204).end();
    } else if (path.endsWith('/stop')) {
      found.status = 'exited';
      response.writeHead(204).end();
    } else if (call.startsWith('DELETE')) {
      this.#containers.delete(id);
      response.writeHead(204).end();
    } else {
      const State = {
        Status: found.status,
        Running: found.status === 'running',
        Pid: 1,
        ExitCode: 0,
        OOMKilled: false,
        Error: '',
        StartedAt: '',
      };
      json(response, 200, {
        Id: id,
        State,
        Config: { Labels: found.labels, StopTimeout: 30 },
        NetworkSettings: { Ports: null },
      });
    }
  }
}
