/**
 * Processes that outlive the command that started them, and are found again without a mistake: a process is its PID
 * *and* its start time in this boot, so a PID that the kernel has given to somebody else is never signalled.
 */
import { execFile, spawn } from 'node:child_process';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

/** What identifies a process for as long as the machine runs. */
export interface ProcessId {
  pid: number;
  /** Clock ticks between boot and the start of the process (field 22 of /proc/PID/stat). */
  startTicks: number;
}

const POLL_MS = 20;

/** Reads a line of /proc/PID/stat; the command name in it may hold spaces and brackets. Undefined if it is none. */
export function parseStat(line: string): (ProcessId & { state: string }) | undefined {
  const open = line.indexOf(' (');
  const close = line.lastIndexOf(') ');
  if (open < 0 || close < 0) return undefined;
  const fields = line.slice(close + 2).split(' ');
  const pid = Number(line.slice(0, open));
  const startTicks = Number(fields[19]);
  const state = fields[0];
  if (!Number.isInteger(pid) || !Number.isInteger(startTicks) || !state) return undefined;
  return { pid, startTicks, state };
}

/** The last PID of a status file's `NSpid:` line: what the process is called in its own PID namespace. */
export function parseInnerPid(status: string): number | undefined {
  const line = /^NSpid:\s+(.+)$/m.exec(status)?.[1];
  return line === undefined ? undefined : Number(line.trim().split(/\s+/).at(-1));
}

/** Content of a file under /proc, or undefined once the process is gone. */
async function readProc(path: string, read: (path: string) => Promise<string>): Promise<string | undefined> {
  try {
    return await read(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH'))
      return undefined;
    throw error;
  }
}

const readText = (path: string): Promise<string> => readFile(path, 'utf8');

/** True while that very process runs; a zombie has ended. */
export async function isRunning(id: ProcessId): Promise<boolean> {
  const line = await readProc(`/proc/${id.pid}/stat`, readText);
  const now = line === undefined ? undefined : parseStat(line);
  return now !== undefined && now.startTicks === id.startTicks && now.state !== 'Z' && now.state !== 'X';
}

/**
 * The running process a PID file tells of. The file holds the process's own /proc/self/stat, as it saw itself; with
 * `within`, that was inside the PID namespace of that process, and the answer is what this side calls it.
 */
export async function findProcess(pidFile: string, within?: ProcessId): Promise<ProcessId | undefined> {
  const line = await readProc(pidFile, readText);
  const inner = line === undefined ? undefined : parseStat(line);
  if (inner === undefined) return undefined;
  if (within === undefined) return (await isRunning(inner)) ? inner : undefined;
  const namespace = await readProc(`/proc/${within.pid}/ns/pid`, readlink);
  if (namespace === undefined) return undefined;
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const status = await readProc(`/proc/${entry}/status`, readText);
    if (status === undefined || parseInnerPid(status) !== inner.pid) continue;
    const outer = { pid: Number(entry), startTicks: inner.startTicks };
    if ((await readProc(`/proc/${entry}/ns/pid`, readlink)) === namespace && (await isRunning(outer))) return outer;
  }
  return undefined;
}

/** Signals that very process, if it still runs. */
export async function signal(id: ProcessId, name: NodeJS.Signals): Promise<void> {
  if (!(await isRunning(id))) return;
  try {
    process.kill(id.pid, name);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

/** Resolves when `condition` holds; after `timeoutMs` it throws `describe()`. */
export async function waitUntil(
  condition: () => Promise<boolean>,
  timeoutMs: number,
  describe: () => Promise<string> | string,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(await describe());
    await pause(POLL_MS);
  }
}

/** Signals a process and resolves when it has ended; throws if it is still there after `timeoutMs`. */
export async function stop(id: ProcessId, name: NodeJS.Signals, timeoutMs: number): Promise<void> {
  await signal(id, name);
  await waitUntil(
    async () => !(await isRunning(id)),
    timeoutMs,
    () => `process ${id.pid} is still running ${timeoutMs} ms after ${name}`,
  );
}

/** Runs a program to its end and returns what it printed; throws with its error output if it fails. */
export async function run(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program} ${args.join(' ')}: ${stderr.trim() || error.message}`, { cause: error }));
    });
  });
}

/**
 * `$0` log, `$1` PID file, then the command. The process writes its own PID file before it becomes the command: there
 * is no moment at which it runs and is not on record.
 */
const BACKGROUND = `cd / && setsid sh -c 'read -r stat </proc/self/stat && echo "$stat" >"$0.new" && mv "$0.new" "$0" && exec "$@"' "$@" \
</dev/null >>"$0" 2>&1 &`;

/** What starts a process in the background, and where it leaves its traces. Paths are the process's own. */
export interface Background {
  command: readonly string[];
  pidFile: string;
  log: string;
  /** Words that enter other namespaces before the shell, such as `nsenter …`. */
  enter?: readonly string[];
}

/** Starts a process that outlives this one, in a session of its own and with a plain environment. */
export async function startInBackground(background: Background): Promise<void> {
  const [program = 'sh', ...args] = [
    ...(background.enter ?? []),
    'sh',
    '-c',
    BACKGROUND,
    background.log,
    background.pidFile,
    ...background.command,
  ];
  await new Promise<void>((resolve, reject) => {
    // No pipes: the process would hold their ends, and the command would seem never to finish.
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'], env: plainEnvironment() });
    child.once('error', reject);
    child.once('exit', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`could not start ${background.command[0] ?? ''}: the shell ended with ${String(code)}`));
    });
  });
}

/** Daemons get no more of the caller's environment than what is meant for them. */
export function plainEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => name.startsWith('DROVER_') || name === 'LANG');
  return { ...Object.fromEntries(kept), PATH: searchPath(), HOME: '/root' };
}

/** The caller's PATH and where administrators' programs stand. */
export function searchPath(): string {
  return [
    process.env['PATH'] ?? '',
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
    '/usr/local/bin',
    '/usr/bin',
    '/bin',
  ].join(':');
}
