/**
 * Keeps one etcd running: adopts the one that runs already, starts it otherwise, starts it again with growing pauses when it
 * dies, and keeps its log bounded. It ends for good when told to, or when the others have removed the member.
 */
import { copyFile, stat, statfs, truncate } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Clock, Log, Random, Timer } from '../../model/clock.ts';
import { runsAlike } from './arguments.ts';
import {
  endEtcd,
  findEtcdOn,
  isRunning,
  lastWords,
  launchEtcd,
  saysRemoved,
  tailOf,
  type EtcdProcess,
} from './process.ts';

const CHECK_MS = 1_000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
/** One that has run this long begins with short pauses again. */
const STEADY_MS = 60_000;
const LOG_BYTES = 8 * 1024 ** 2;
/** With less than this free, etcd's disk counts as full: one piece of its log is 64 MB. */
const FULL_BYTES = 64 * 1024 ** 2;

export interface SupervisorDeps {
  clock: Clock;
  random: Random;
  log: Log;
  /** Where etcd is; asked at each start, for it may have been upgraded. Rejects if it is not there. */
  binary(): Promise<string>;
}

/** What is to run. */
export interface Orders {
  /** Asked at each start: the root certificate may have changed since. */
  flags: () => Promise<readonly string[]>;
  /** As in the flags. */
  folder: string;
  logFile: string;
}

/** The others have removed this member: its data is of no use any more. */
export class MemberRemoved extends Error {
  override readonly name = 'MemberRemoved';
}

export class Supervisor {
  readonly #deps: SupervisorDeps;
  #orders: Orders | undefined;
  #running: EtcdProcess | undefined;
  #logFrom = 0;
  #startedMs = 0;
  #failures = 0;
  #trouble: string | undefined;
  #removed = false;
  #onRemoved: (() => void) | undefined;
  #timer: Timer | undefined;
  /** Checks and ends take turns. */
  #turn: Promise<void> = Promise.resolve();

  constructor(deps: SupervisorDeps) {
    this.#deps = deps;
  }

  get pid(): number | undefined {
    return this.#running?.pid;
  }

  /** How often in a row it has ended by itself. */
  get failures(): number {
    return this.#failures;
  }

  /** Why it does not run, in words; undefined while it does. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  get removed(): boolean {
    return this.#removed;
  }

  /** Whether what runs was started with other flags than `flags`: by an older droverd, or for another root. */
  runsOtherwise(flags: readonly string[]): boolean {
    return this.#running !== undefined && !runsAlike(this.#running.arguments, flags);
  }

  /**
   * Runs etcd as ordered from now on. Resolves after the first try, whatever came of it: see `trouble`. One that runs on the
   * same data is adopted, with the flags that it has. `onRemoved` is called once if the others have removed the member.
   */
  async start(orders: Orders, onRemoved?: () => void): Promise<void> {
    await this.detach();
    this.#orders = orders;
    this.#onRemoved = onRemoved;
    this.#failures = 0;
    this.#removed = false;
    this.#trouble = undefined;
    await this.#takeTurn(() => this.#check());
  }

  /** Ends it, and keeps it ended. Nothing runs on the data of the last orders when it resolves. */
  async stop(): Promise<void> {
    const orders = this.#orders;
    await this.detach();
    if (orders !== undefined) await endOn(orders.folder, this.#deps.clock);
    this.#running = undefined;
  }

  /** Looks after it no longer, and lets it run. */
  async detach(): Promise<void> {
    this.#orders = undefined;
    this.#timer?.cancel();
    await this.#turn;
  }

  #takeTurn(work: () => Promise<void>): Promise<void> {
    this.#turn = this.#turn.then(work);
    return this.#turn;
  }

  /** Never rejects. */
  async #check(): Promise<void> {
    const orders = this.#orders;
    if (orders === undefined) return;
    let pauseMs = CHECK_MS;
    try {
      if (this.#running !== undefined && (await isRunning(this.#running))) this.#trouble = undefined;
      else pauseMs = await this.#mend(orders);
      await boundLog(orders.logFile);
    } catch (error) {
      this.#failed(error instanceof Error ? error.message : String(error));
      pauseMs = this.#pauseMs();
    }
    if (this.#orders !== orders || this.#removed) return;
    this.#timer = this.#deps.clock.after(pauseMs, () => void this.#takeTurn(() => this.#check()));
  }

  /** It does not run: says why, and starts it unless it has to wait first. Returns when to look again, in milliseconds. */
  async #mend(orders: Orders): Promise<number> {
    const { clock, log } = this.#deps;
    const died = this.#running;
    this.#running = undefined;
    if (died !== undefined) {
      const said = await tailOf(orders.logFile, this.#logFrom);
      if (saysRemoved(said)) return this.#wasRemoved();
      if (clock.monotonic() - this.#startedMs > STEADY_MS) this.#failures = 0;
      this.#failed(`etcd has ended${reasonIn(said)}${await diskWords(orders.folder)}`);
      return this.#pauseMs();
    }
    this.#running = await findEtcdOn(orders.folder);
    if (this.#running === undefined) await this.#launch(orders);
    else log.info({ pid: this.#running.pid }, 'etcd was running already; it is looked after again');
    this.#startedMs = clock.monotonic();
    return CHECK_MS;
  }

  async #launch({ flags, logFile }: Orders): Promise<void> {
    this.#logFrom = await sizeOf(logFile);
    const path = await this.#deps.binary();
    this.#running = await launchEtcd(path, await flags(), logFile, () => void this.#takeTurn(() => this.#checkSoon()));
    this.#deps.log.info({ pid: this.#running.pid }, 'etcd has been started');
  }

  async #checkSoon(): Promise<void> {
    if (this.#orders === undefined) return;
    this.#timer?.cancel();
    await this.#check();
  }

  #wasRemoved(): number {
    this.#removed = true;
    this.#trouble = 'the other managers have removed this one';
    this.#deps.log.warn({}, 'etcd has ended: the other managers have removed this member');
    this.#onRemoved?.();
    return CHECK_MS;
  }

  #failed(reason: string): void {
    this.#failures += 1;
    if (reason !== this.#trouble) this.#deps.log.warn({ failures: this.#failures }, reason);
    this.#trouble = reason;
  }

  /** Doubling with each failure, ± half. */
  #pauseMs(): number {
    const full = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.#failures - 1, 20));
    return full * (0.5 + this.#deps.random() / 2);
  }
}

/** Ends whatever etcd runs on `folder`. */
export async function endOn(folder: string, clock: Clock): Promise<void> {
  const running = await findEtcdOn(folder);
  if (running !== undefined) await endEtcd(running, clock);
}

function reasonIn(log: string): string {
  const words = lastWords(log);
  return words === undefined ? '' : `: ${words}`;
}

/** On a full disk etcd's own words are lost: its log is there too. */
async function diskWords(folder: string): Promise<string> {
  const { bavail, bsize } = await statfs(dirname(folder));
  const freeBytes = bavail * bsize;
  if (freeBytes >= FULL_BYTES) return '';
  return ` (the disk with ${dirname(folder)} is full: ${Math.floor(freeBytes / 1024 ** 2)} MiB free)`;
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw error;
  }
}

/** etcd holds its log open, so it is copied and cut, not moved; a line written in between is lost. */
async function boundLog(logFile: string): Promise<void> {
  if ((await sizeOf(logFile)) < LOG_BYTES) return;
  await copyFile(logFile, `${logFile}.1`);
  await truncate(logFile, 0);
}
