/**
 * An etcd process, found again without a mistake: it is the one whose command line names our data folder, and it is told
 * from a later process of the same PID by its start time. It lives on when droverd ends. Nothing else is ever signalled.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Clock } from '../../model/clock.ts';

const POLL_MS = 25;
/** etcd hands its leadership over before it ends; what takes longer than this hangs. */
const GRACE_MS = 8_000;
const KILLED_MS = 5_000;
/** Far more than our own command line has. */
const COMMAND_LINE_BYTES = 64 * 1024;
const STAT_BYTES = 4096;

export interface EtcdProcess {
  pid: number;
  /** Clock ticks since boot, from /proc. */
  startTime: string;
  /** Its flags. */
  arguments: readonly string[];
}

/** The etcd that runs on `folder`, whoever started it; undefined if none does. */
export async function findEtcdOn(folder: string): Promise<EtcdProcess | undefined> {
  const flag = `--data-dir=${folder}`;
  const room = Buffer.allocUnsafe(COMMAND_LINE_BYTES);
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const line = await readProc(`/proc/${entry}/cmdline`, room);
    if (line === undefined || !line.includes(flag)) continue;
    const [program = '', ...flags] = line.split('\0').slice(0, -1);
    if (basename(program) !== 'etcd' || !flags.includes(flag)) continue;
    const startTime = await startTimeOf(Number(entry));
    if (startTime !== undefined) return { pid: Number(entry), startTime, arguments: flags };
  }
  return undefined;
}

/** True while that very process runs; a zombie has ended. */
export async function isRunning({ pid, startTime }: EtcdProcess): Promise<boolean> {
  return (await startTimeOf(pid)) === startTime;
}

/**
 * Starts etcd at `path`; what it says is added to `logFile`. Rejects if the program cannot be run at all. `exited` is called
 * when it ends while this process lives.
 */
export async function launchEtcd(
  path: string,
  flags: readonly string[],
  logFile: string,
  exited: () => void,
): Promise<EtcdProcess> {
  const output = openSync(logFile, 'a', 0o600);
  // Nothing of ours is inherited: ETCD_* would be settings, *_PROXY would stand between members, NOTIFY_SOCKET is ours.
  const env = {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    ...(process.arch === 'arm64' && { ETCD_UNSUPPORTED_ARCH: 'arm64' }),
  };
  const child = spawn(path, flags, { detached: true, stdio: ['ignore', output, output], cwd: '/', env });
  closeSync(output);
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', reject);
  });
  child.once('exit', exited);
  child.unref();
  const pid = child.pid ?? 0;
  return { pid, startTime: (await startTimeOf(pid)) ?? '', arguments: flags };
}

/** Ends that process: asks, then insists. Resolves when it has ended; rejects if it cannot be ended (it hangs in the kernel). */
export async function endEtcd(running: EtcdProcess, clock: Clock): Promise<void> {
  await signal(running, 'SIGTERM');
  if (await endsWithin(running, GRACE_MS, clock)) return;
  await signal(running, 'SIGKILL');
  if (await endsWithin(running, KILLED_MS, clock)) return;
  throw new Error(`etcd (pid ${running.pid}) does not end: its disk may hang`);
}

/** The last `bytes` of a file, from `from` on; empty if it is not there. */
export async function tailOf(path: string, from: number, bytes = 32_768): Promise<string> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (file === undefined) return '';
  try {
    const { size } = await file.stat();
    // Cut short since: what was said lies in what is there now.
    const start = Math.max(from > size ? 0 : from, size - bytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.max(0, size - start)), 0, size - start, start);
    return buffer.subarray(0, bytesRead).toString('utf8');
  } finally {
    await file.close();
  }
}

/** Why etcd ended, in its own words: the last error in its log. Undefined if it says none. */
export function lastWords(log: string): string | undefined {
  for (const line of log.trimEnd().split('\n').reverse()) {
    const entry = parseLine(line);
    if (entry === undefined) {
      if (/^(panic:|etcd:|error |flag )/.test(line)) return line.slice(0, 300);
      continue;
    }
    if (!/fatal|panic|error/.test(entry.level ?? '')) continue;
    return [entry.msg, entry.error].filter(Boolean).join(': ').slice(0, 300);
  }
  return undefined;
}

/** Whether etcd ended because the others have removed it: it must never start under this name again. */
export function saysRemoved(log: string): boolean {
  return /the member has been permanently removed from the cluster/.test(log);
}

function parseLine(line: string): { level?: string; msg?: string; error?: string } | undefined {
  try {
    const entry: unknown = JSON.parse(line);
    return typeof entry === 'object' && entry !== null ? entry : undefined;
  } catch {
    // Go's own words on a crash are no JSON.
    return undefined;
  }
}

async function endsWithin(running: EtcdProcess, ms: number, clock: Clock): Promise<boolean> {
  const deadline = clock.monotonic() + ms;
  while (await isRunning(running)) {
    if (clock.monotonic() >= deadline) return false;
    await new Promise<void>((resolve) => clock.after(POLL_MS, resolve));
  }
  return true;
}

async function signal(running: EtcdProcess, name: NodeJS.Signals): Promise<void> {
  if (!(await isRunning(running))) return;
  try {
    process.kill(running.pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Field 22 of /proc/PID/stat; undefined if there is no such process, or only its remains. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readProc(`/proc/${pid}/stat`, Buffer.allocUnsafe(STAT_BYTES));
  const [state, ...rest] = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? [];
  return state === 'Z' || state === 'X' ? undefined : rest[18];
}

/** As much of a file in /proc as there is room for, undefined if its process is gone. It has no size: `readFile` takes 64 KiB for each. */
async function readProc(path: string, room: Buffer): Promise<string | undefined> {
  try {
    await using file = await open(path);
    const { bytesRead } = await file.read(room, 0, room.length, 0);
    return room.toString('utf8', 0, bytesRead);
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}
