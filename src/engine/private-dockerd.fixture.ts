/**
 * A Docker Engine of one's own for tests: in network, mount and process namespaces of its own, with data in a
 * temporary folder and an image made of busybox. Promises: it touches no other engine, and after `close()` nothing of
 * it is left, because killing the first process of its namespace kills all.
 */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess, ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { promisify } from 'node:util';
import { DockerClient, EngineUnreachable } from '../docker/client.ts';
import { jsonLines } from '../docker/json-lines.ts';
import type { PullProgress } from '../docker/types.ts';

const run = promisify(execFile);
const BUSYBOX = '/bin/busybox';
const APPLETS = ['sh', 'sleep', 'true', 'false', 'cat', 'ip', 'httpd', 'hostname'];
const UP_WITHIN_MS = 60_000;
const NEEDED = ['/usr/sbin/dockerd', '/usr/bin/tini', BUSYBOX];

/** What every private engine says that its host has. */
const GENERIC_RESOURCES = ['gpu=a', 'gpu=b', 'ssd=3'];

/** The image every private engine has. */
export const TEST_IMAGE = 'drover-test:latest';

/** Why no private engine can be had here, or undefined if it can. */
export function noDockerdBecause(): string | undefined {
  if (process.getuid?.() !== 0) return 'not root';
  const missing = NEEDED.find((path) => !existsSync(path));
  return missing === undefined ? undefined : `${missing} is missing`;
}

export class PrivateDockerd {
  readonly client: DockerClient;
  readonly #folder: string;
  readonly #holder: ChildProcess;
  readonly #holderPid: number;
  #daemon: ChildProcess | undefined;

  private constructor(folder: string, holder: ChildProcess, holderPid: number) {
    this.#folder = folder;
    this.#holder = holder;
    this.#holderPid = holderPid;
    this.client = new DockerClient({ socketPath: join(folder, 'docker.sock') });
  }

  static async start(): Promise<PrivateDockerd> {
    const folder = mkdtempSync(join(tmpdir(), 'drover-dockerd-'));
    // It reads from us, so that it ends with us, however we end; and all processes of its namespace end with it.
    const script = 'ip link set lo up; echo up; exec cat';
    const namespaces = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const holder = spawn('unshare', [...namespaces, 'tini', '--', 'sh', '-c', script], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    await once(holder.stdout, 'data');
    const children = readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8');
    const engine = new PrivateDockerd(folder, holder, Number(children.trim().split(' ')[0]));
    try {
      await engine.up();
      await engine.#importImage();
    } catch (error) {
      await engine.close();
      throw error;
    }
    return engine;
  }

  /** Starts the daemon and settles when it answers. */
  async up(): Promise<void> {
    const flags = [
      '--data-root',
      'data',
      '--exec-root',
      'exec',
      '--pidfile',
      'docker.pid',
      '--config-file',
      'daemon.json',
    ];
    const paths = flags.map((flag) => (flag.startsWith('--') ? flag : join(this.#folder, flag)));
    const host = ['-H', `unix://${join(this.#folder, 'docker.sock')}`, '--live-restore', '--log-level', 'error'];
    const enter = ['-t', String(this.#holderPid), '-n', '-m', '-p'];
    writeFileSync(join(this.#folder, 'daemon.json'), JSON.stringify({ 'node-generic-resources': GENERIC_RESOURCES }));
    const log = openSync(join(this.#folder, 'log'), 'a');
    const daemon = spawn('nsenter', [...enter, 'dockerd', ...paths, ...host], { stdio: ['ignore', log, log] });
    closeSync(log);
    this.#daemon = daemon;
    const deadline = AbortSignal.timeout(UP_WITHIN_MS);
    while (!(await this.#answers())) {
      deadline.throwIfAborted();
      if (daemon.exitCode !== null) throw new Error(`dockerd: ${readFileSync(join(this.#folder, 'log'), 'utf8')}`);
    }
  }

  /** Ends the daemon; its containers run on. */
  async down(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === undefined || daemon.exitCode !== null) return;
    // nsenter has forked for the process namespace: the daemon itself is the one in the pidfile of that namespace.
    const pid = readFileSync(join(this.#folder, 'docker.pid'), 'utf8').trim();
    const exited = once(daemon, 'exit');
    await run('nsenter', ['-t', String(this.#holderPid), '-p', '-m', 'kill', '-TERM', pid]);
    await exited;
  }

  async close(): Promise<void> {
    this.client.close();
    await this.down();
    const exited = once(this.#holder, 'exit');
    process.kill(this.#holderPid, 'SIGKILL');
    await exited;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Runs a command in the engine's network namespace and returns what it prints. */
  async inNetwork(command: string, ...args: string[]): Promise<string> {
    return (await run('nsenter', ['-t', String(this.#holderPid), '-n', command, ...args])).stdout;
  }

  /** Runs a command among the processes of the engine and its containers and returns what it prints. */
  async inProcesses(command: string, ...args: string[]): Promise<string> {
    return (await run('nsenter', ['-t', String(this.#holderPid), '-p', '-m', command, ...args])).stdout;
  }

  /** Starts a command in the engine's network namespace; the caller ends it. */
  spawnInNetwork(command: string, ...args: string[]): ChildProcessByStdio<Writable, Readable, null> {
    const enter = ['-t', String(this.#holderPid), '-n', command, ...args];
    return spawn('nsenter', enter, { stdio: ['pipe', 'pipe', 'inherit'] });
  }

  async #answers(): Promise<boolean> {
    try {
      await this.client.ping({ timeoutMs: 1_000 });
      return true;
    } catch (error) {
      if (!(error instanceof EngineUnreachable)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
      return false;
    }
  }

  async #importImage(): Promise<void> {
    const root = join(this.#folder, 'rootfs');
    for (const folder of ['bin', 'tmp', 'etc', 'data']) mkdirSync(join(root, folder), { recursive: true });
    copyFileSync(BUSYBOX, join(root, 'bin/busybox'));
    for (const applet of APPLETS) symlinkSync('busybox', join(root, 'bin', applet));
    const tar = spawn('tar', ['-C', root, '-c', '.'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [repo, tag] = TEST_IMAGE.split(':');
    const progress = await this.client.stream('POST', '/images/create', {
      query: { fromSrc: '-', repo, tag },
      headers: { 'Content-Type': 'application/x-tar' },
      body: tar.stdout,
    });
    for await (const line of jsonLines<PullProgress>(progress)) {
      if (line.error !== undefined) throw new Error(line.error);
    }
  }
}
