/** A real etcd on loopback for tests, of one member or several, and a wire to it that can be cut. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, closeSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../daemon/system.ts';
import { freePorts } from '../free-ports.fixture.ts';
import type { EtcdIdentity } from './channels.ts';
import { EtcdClient } from './client.ts';

export const realClock = systemClock;

/** Short, so that tests are: a lease of 1 s is the least that etcd gives with it. */
const TIMING = ['--heartbeat-interval=50', '--election-timeout=500'];

function isStopped(pid: number): boolean {
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.every((thread) => /\) T /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')));
}

export class EtcdMember {
  /** host:port for clients. */
  readonly endpoint: string;
  readonly #args: string[];
  readonly #logFile: string;
  readonly #identity: EtcdIdentity | undefined;
  #process: ChildProcess | undefined;

  constructor(endpoint: string, args: string[], logFile: string, identity?: EtcdIdentity) {
    this.endpoint = endpoint;
    this.#args = args;
    this.#logFile = logFile;
    this.#identity = identity;
  }

  start(): void {
    const log = openSync(this.#logFile, 'a');
    this.#process = spawn('etcd', this.#args, { stdio: ['ignore', log, log] });
    closeSync(log);
  }

  /** Resolves once it answers what a majority agrees on. */
  async ready(): Promise<void> {
    const identity = this.#identity;
    const options = { endpoints: [this.endpoint], clock: realClock, tryMs: 500 };
    const client = await EtcdClient.make({ ...options, ...(identity && { identity }) });
    try {
      for (const untilMs = Date.now() + 30_000; ;) {
        const error = await client.range({ from: 'x', to: 'y' }).then(
          () => undefined,
          (error: unknown) => error,
        );
        if (error === undefined) return;
        if (Date.now() > untilMs || this.#process?.exitCode != null)
          throw new Error(`etcd does not start:\n${readFileSync(this.#logFile, 'utf8').slice(-2000)}`, {
            cause: error,
          });
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    } finally {
      client.close();
    }
  }

  /** Resolves once no thread of it runs: until then it still answers. */
  async pause(): Promise<void> {
    const pid = this.#process?.pid;
    if (pid === undefined) return;
    process.kill(pid, 'SIGSTOP');
    while (!isStopped(pid)) await new Promise((resolve) => setImmediate(resolve));
  }

  resume(): void {
    this.#process?.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }
}

export interface EtcdCluster {
  members: EtcdMember[];
  dispose(): Promise<void>;
}

export interface EtcdSettings {
  members?: number;
  /** Further ones. */
  flags?: readonly string[];
  /** Clients are served over TLS; then flags name the certificates, and this client is taken. */
  identity?: EtcdIdentity;
}

/** Starts the members and waits until they answer. */
export async function startEtcd(settings: EtcdSettings = {}): Promise<EtcdCluster> {
  const { members: count = 1, flags: more = [], identity } = settings;
  const dir = mkdtempSync(join(tmpdir(), 'drover-etcd-'));
  const ports = await freePorts(2 * count);
  const peer = (i: number) => `http://127.0.0.1:${ports[2 * i + 1]}`;
  const initial = Array.from({ length: count }, (_, i) => `m${i}=${peer(i)}`).join(',');
  const members = Array.from({ length: count }, (_, i) => {
    const url = `${identity === undefined ? 'http' : 'https'}://127.0.0.1:${ports[2 * i]}`;
    const flags = {
      name: `m${i}`,
      'data-dir': join(dir, `m${i}`),
      logger: 'zap',
      'log-level': 'warn',
      'listen-client-urls': url,
      'advertise-client-urls': url,
      'listen-peer-urls': peer(i),
      'initial-advertise-peer-urls': peer(i),
      'initial-cluster': initial,
      'initial-cluster-state': 'new',
    };
    const args = [...Object.entries(flags).map(([name, value]) => `--${name}=${value}`), ...TIMING, ...more];
    return new EtcdMember(`127.0.0.1:${ports[2 * i]}`, args, join(dir, `m${i}.log`), identity);
  });
  const dispose = async () => {
    await Promise.all(members.map((member) => member.kill()));
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    for (const member of members) member.start();
    await Promise.all(members.map((member) => member.ready()));
  } catch (error) {
    await dispose();
    throw error;
  }
  return { members, dispose };
}

/** What a wire does with what is sent: passes it on, holds it all back, or holds the answers back. */
export type WireMode = 'open' | 'cut' | 'deaf';

/** A TCP proxy in front of one etcd. Connections that were held back are broken when it opens again. */
export class Wire {
  readonly #server: Server;
  readonly #pairs = new Set<[Socket, Socket]>();
  #mode: WireMode = 'open';

  private constructor(server: Server) {
    this.#server = server;
  }

  static async to(endpoint: string): Promise<Wire> {
    const [host, port] = endpoint.split(':');
    const server = createServer();
    const wire = new Wire(server);
    server.on('connection', (client) => wire.#join(client, connect(Number(port), host)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return wire;
  }

  get endpoint(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  set mode(mode: WireMode) {
    const before = this.#mode;
    this.#mode = mode;
    if (mode === 'open' && before !== 'open') this.#break();
    else for (const pair of this.#pairs) this.#hold(pair);
  }

  async close(): Promise<void> {
    this.#break();
    await once(this.#server.close(), 'close');
  }

  #join(client: Socket, server: Socket): void {
    const pair: [Socket, Socket] = [client, server];
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of pair) socket.on('error', end).on('close', end).setNoDelay(true);
    client.on('data', (data) => server.write(data));
    server.on('data', (data) => client.write(data));
    this.#hold(pair);
  }

  #hold([client, server]: [Socket, Socket]): void {
    if (this.#mode === 'cut') client.pause();
    if (this.#mode !== 'open') server.pause();
  }

  #break(): void {
    for (const [client, server] of this.#pairs) {
      client.destroy();
      server.destroy();
    }
  }
}
