import { existsSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  findProcess,
  isRunning,
  parseInnerPid,
  parseStat,
  signal,
  startInBackground,
  stop,
  waitUntil,
} from './processes.ts';

/** A line of /proc/PID/stat: 52 fields, of which the 22nd is the start time. */
function statLine(pid: number, name: string, startTicks: number): string {
  const rest = Array.from({ length: 49 }, (_, at) => String(at));
  rest[18] = String(startTicks);
  return `${pid} (${name}) S ${rest.join(' ')}`;
}

describe('a line of /proc/PID/stat', () => {
  test.each(['sh', 'a b', 'x) S (y', '((('])('of a process called %s', (name) => {
    expect(parseStat(statLine(42, name, 77_000))).toEqual({ pid: 42, startTicks: 77_000, state: 'S' });
  });

  test.each(['', 'nonsense', '42 (sh) S 1 2', 'x (sh) S'])('is none: %j', (line) => {
    expect(parseStat(line)).toBeUndefined();
  });
});

test('the innermost PID is the last of the NSpid line', () => {
  expect(parseInnerPid('Name:\tsh\nNSpid:\t4711\t12\nNSpgid:\t1\n')).toBe(12);
  expect(parseInnerPid('Name:\tsh\nNSpid:\t4711\n')).toBe(4711);
  expect(parseInnerPid('Name:\tsh\n')).toBeUndefined();
});

test('a PID with another start time is another process: never found, never signalled', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  const ended = once(child, 'exit');
  await once(child, 'spawn');
  const real = parseStat(await readFile(`/proc/${child.pid}/stat`, 'utf8'))!;
  const recycled = { pid: real.pid, startTicks: real.startTicks - 1 };
  expect(await isRunning(recycled)).toBe(false);
  await signal(recycled, 'SIGKILL');
  expect(await isRunning(real)).toBe(true);
  await stop(real, 'SIGKILL', 5_000);
  expect(await isRunning(real)).toBe(false);
  await ended;
});

describe('a process in the background', () => {
  let dir: string;
  beforeEach(async () => void (dir = await mkdtemp(join(tmpdir(), 'lab-'))));
  afterEach(() => rm(dir, { recursive: true, force: true }));

  test('is found by the PID file that it wrote itself, until it has ended', async () => {
    const pidFile = join(dir, 'x.stat');
    await startInBackground({ command: ['sleep', '60'], pidFile, log: join(dir, 'x.log') });
    let found = await findProcess(pidFile);
    await waitUntil(
      async () => (found = await findProcess(pidFile)) !== undefined,
      5_000,
      () => 'never on record',
    );
    await stop(found!, 'SIGTERM', 5_000);
    expect(await findProcess(pidFile)).toBeUndefined();
  });

  test('writes what it prints to its log', async () => {
    const log = join(dir, 'y.log');
    await startInBackground({ command: ['sh', '-c', 'echo out; echo err >&2'], pidFile: join(dir, 'y.stat'), log });
    // The shell makes the log when it comes to run.
    const printed = async (): Promise<string> => (existsSync(log) ? readFile(log, 'utf8') : '');
    await waitUntil(async () => (await printed()).split('\n').length === 3, 5_000, printed);
    expect(await printed()).toBe('out\nerr\n');
  });

  test('is not found by a PID file that is missing or damaged', async () => {
    expect(await findProcess(join(dir, 'none'))).toBeUndefined();
    await writeFile(join(dir, 'half'), '12 (sl');
    expect(await findProcess(join(dir, 'half'))).toBeUndefined();
  });
});

test('waiting in vain says what for', async () => {
  await expect(
    waitUntil(
      async () => false,
      1,
      () => 'the thing did not come',
    ),
  ).rejects.toThrow('the thing did not come');
});
