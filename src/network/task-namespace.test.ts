import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, expect, test } from 'vitest';
import { TaskNamespace } from './task-namespace.ts';

const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

/** A process that runs until it is killed, and what it says at first. */
async function runs(script: string): Promise<{ child: ChildProcess; pid: number; said: string }> {
  const child = spawn('sh', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  const [data]: unknown[] = await once(child.stdout, 'data');
  return { child, pid: child.pid ?? 0, said: String(data).trim() };
}

const hold = (pid: number, stillOurs?: () => Promise<boolean>) => TaskNamespace.hold(pid, async () => '', stillOurs);

test('a process that runs has a namespace, until it has ended', async () => {
  const { child, pid } = await runs('echo up; read _');
  const held = await hold(pid);
  expect(await held?.belongsTo(pid)).toBe(true);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(await held?.belongsTo(pid)).toBe(false);
  await held?.release();
  expect(await hold(pid)).toBeUndefined();
});

test('one that has ended has none, even while its parent has yet to take notice of that', async () => {
  const { said } = await runs('exec 3<&0; sh -c "exec sleep 0" & echo $!; exec cat <&3');
  const found = async () => {
    const held = await hold(Number(said));
    await held?.release();
    return held;
  };
  await expect.poll(found).toBeUndefined();
  // It is still there.
  expect(process.kill(Number(said), 0)).toBe(true);
});

test('nor has one that is not the task’s any more', async () => {
  const { pid } = await runs('echo up; read _');
  expect(await hold(pid, async () => false)).toBeUndefined();
});
