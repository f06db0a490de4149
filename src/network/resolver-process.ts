/**
 * Starts, adopts and keeps alive the resolver process (decision 5). It outlives `droverd`; a new `droverd` of the
 * same code takes it over, one of other code starts a new resolver beside it and ends the old one after that.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { openSync, closeSync } from 'node:fs';
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Clock, Log, Timer } from '../model/clock.ts';
import type { Status } from './resolver/names.ts';
import { STATUS_FILE } from './resolver/names.ts';

/** Found from the folder above, whose layout the bundle (packaging/bundle.ts) has too: there, this code is `daemon/main.mjs`. */
const ENTRY = fileURLToPath(new URL(`../network/resolver/main${extname(import.meta.url)}`, import.meta.url));
const CHECK_MS = 1_000;
const READY_POLL_MS = 20;
const READY_MS = 10_000;
const PID_FILE = 'resolver.pid';
const LOG_FILE = 'resolver.log';
/** It keeps names, not much else: a small heap, little garbage left lying. Megabytes, as V8 counts. */
const NODE_FLAGS = ['--max-old-space-size=128', '--max-semi-space-size=1', '--no-warnings'];

interface Running {
  pid: number;
  /** Clock ticks since boot, from /proc: a pid alone may be somebody else's by now. */
  startTime: string;
  /** Hash of the code it runs. */
  version: string;
}

export interface ResolverProcessDeps {
  directory: string;
  clock: Clock;
  log: Log;
  /** Script to run; in the bundle it stands beside `droverd`. */
  entry?: string;
  /** Put before the command, such as `nsenter --net=…`. */
  prefix?: readonly string[];
  port?: number;
}

export class ResolverProcess {
  readonly #deps: ResolverProcessDeps;
  readonly #entry: string;
  #running: Running | undefined;
  #timer: Timer | undefined;
  #checking: Promise<void> = Promise.resolve();
  #stopped = false;
  #trouble: string | undefined;

  constructor(deps: ResolverProcessDeps) {
    this.#deps = deps;
    this.#entry = deps.entry ?? ENTRY;
  }

  get pid(): number | undefined {
    return this.#running?.pid;
  }

  /** Promises a resolver of this code that answers, or that it is tried again and `degraded` says why. */
  async start(): Promise<void> {
    await this.#check();
    this.#watch();
  }

  /** What does not work, in words. */
  async degraded(): Promise<string[]> {
    if (this.#trouble !== undefined) return [this.#trouble];
    const status = await readJson<Status>(join(this.#deps.directory, STATUS_FILE));
    return Object.entries(status?.addresses ?? {}).flatMap(([address, error]) =>
      error === null || /EADDRNOTAVAIL/.test(error) ? [] : [`names do not resolve on ${address}: ${error}`],
    );
  }

  /** Lets the resolver go on by itself. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#checking;
  }

  /** Ends the resolver. */
  async destroy(): Promise<void> {
    await this.stop();
    const running = await this.#remembered();
    if (running !== undefined) process.kill(running.pid, 'SIGTERM');
    await rm(join(this.#deps.directory, PID_FILE), { force: true });
    this.#running = undefined;
  }

  #watch(): void {
    if (this.#stopped) return;
    this.#timer = this.#deps.clock.after(CHECK_MS, () => {
      this.#checking = this.#check().finally(() => this.#watch());
    });
  }

  async #check(): Promise<void> {
    try {
      const { pid, startTime } = this.#running ?? {};
      if (pid !== undefined && (await startTimeOf(pid)) === startTime) return;
      if (pid !== undefined) this.#deps.log.warn({ pid }, 'the resolver has died; starting another');
      this.#running = undefined;
      this.#running = await this.#adoptOrLaunch();
      this.#trouble = undefined;
    } catch (error) {
      this.#trouble = `names do not resolve: ${error instanceof Error ? error.message : String(error)}`;
      this.#deps.log.error({ err: error }, 'the resolver does not start');
    }
  }

  async #adoptOrLaunch(): Promise<Running> {
    const version = await codeVersion(this.#entry);
    const before = await this.#remembered();
    if (before?.version === version) return before;
    const running = await this.#launch(version);
    // Both listen for a moment: no question falls between the old code and the new.
    if (before !== undefined) process.kill(before.pid, 'SIGTERM');
    return running;
  }

  async #launch(version: string): Promise<Running> {
    const { directory, prefix = [], port, log } = this.#deps;
    const [file, ...args] = [...prefix, process.execPath, ...NODE_FLAGS, this.#entry, directory];
    if (file === undefined) throw new RangeError('no command');
    if (port !== undefined) args.push(String(port));
    // What the one before said last is kept: it tells why that one ended.
    await rename(join(directory, LOG_FILE), join(directory, `${LOG_FILE}.1`)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    const output = openSync(join(directory, LOG_FILE), 'w', 0o600);
    const child = spawn(file, args, { detached: true, stdio: ['ignore', 'ignore', output], cwd: '/' });
    closeSync(output);
    const failed = new Promise<never>((_resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) =>
        reject(new Error(`the resolver ended with ${String(code ?? signal)} (${LOG_FILE})`)),
      );
    });
    failed.catch(() => {});
    child.unref();
    await Promise.race([failed, this.#ready(() => child.pid)]);
    const pid = child.pid ?? 0;
    const running = { pid, startTime: (await startTimeOf(pid)) ?? '', version };
    await writeFile(join(directory, `${PID_FILE}.new`), JSON.stringify(running), { mode: 0o600 });
    await rename(join(directory, `${PID_FILE}.new`), join(directory, PID_FILE));
    log.info({ pid }, 'the resolver is running');
    return running;
  }

  /** Waits until the process has read its files and said so. */
  async #ready(pid: () => number | undefined): Promise<void> {
    const { clock, directory } = this.#deps;
    const deadline = clock.monotonic() + READY_MS;
    while (clock.monotonic() < deadline) {
      const status = await readJson<Status>(join(directory, STATUS_FILE));
      if (status !== undefined && status.pid === pid()) return;
      await new Promise<void>((resolve) => clock.after(READY_POLL_MS, resolve));
    }
    throw new Error(`the resolver is not ready after ${READY_MS} ms`);
  }

  /** What the pid file names, if it still lives. */
  async #remembered(): Promise<Running | undefined> {
    const running = await readJson<Running>(join(this.#deps.directory, PID_FILE));
    if (running === undefined || (await startTimeOf(running.pid)) !== running.startTime) return undefined;
    return running;
  }
}

/** Field 22 of /proc/PID/stat; undefined if there is no such process, or only its remains. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  const [state, ...rest] = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  return state === 'Z' || state === 'X' ? undefined : rest[18];
}

/** Changes with the code of the resolver: with the scripts in the entry's folder. */
async function codeVersion(entry: string): Promise<string> {
  const folder = dirname(entry);
  const scripts = (await readdir(folder)).filter((file) => /(?<!\.test)\.[mc]?[jt]s$/.test(file)).sort();
  const hash = createHash('sha256').update(process.version);
  for (const script of scripts) hash.update(script).update(await readFile(join(folder, script)));
  return hash.digest('hex');
}

/** A file's content; undefined if it is missing or not whole. */
async function readJson<T>(path: string): Promise<T | undefined> {
  try {
    const content: T = JSON.parse(await readFile(path, 'utf8'));
    return content;
  } catch {
    // Not there (yet), or half a file after a power cut: either way it says nothing.
    return undefined;
  }
}
