/** On this machine's own kernel: mounts below a directory of the test's. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { spawnRunner, type CommandRunner } from '../network/command.ts';
import { TmpfsFiles } from './task-files.ts';

const TMPFS_MAGIC = 0x01021994;
const run = spawnRunner();

let base: string;
let dir: string;
let files: TmpfsFiles;

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'drover-files-'));
  dir = join(base, 'tasks');
  files = new TmpfsFiles({ dir, run });
});
afterEach(async () => {
  await files.keepOnly(new Set());
  rmSync(base, { recursive: true });
});

const file = (content: string | Buffer, more: object = {}) => ({
  target: '/run/secrets/x',
  uid: 0,
  gid: 0,
  mode: 0o444,
  content: Buffer.from(content),
  ...more,
});
const mounts = () =>
  readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.includes(base));

test('files stand on a tmpfs of their own, with owner and mode, and nothing is left of them afterwards', async () => {
  const [one, two] = await files.put('t1', [
    file('hunter2'),
    file(Buffer.alloc(500 * 1024 - 1, 7), { target: '/big', uid: 65534, gid: 100, mode: 0o400 }),
  ]);
  expect([one!.target, two!.target]).toEqual(['/run/secrets/x', '/big']);
  expect(readFileSync(one!.source, 'utf8')).toBe('hunter2');
  expect(statfsSync(one!.source).type).toBe(TMPFS_MAGIC);
  expect(statSync(one!.source)).toMatchObject({ uid: 0, gid: 0, size: 7 });
  expect(statSync(one!.source).mode & 0o7777).toBe(0o444);
  expect(statSync(two!.source)).toMatchObject({ uid: 65534, gid: 100 });
  expect(statSync(two!.source).mode & 0o7777).toBe(0o400);
  expect(statSync(join(dir, 't1')).mode & 0o777).toBe(0o700);
  expect(mounts()).toHaveLength(1);
  await files.release('t1');
  expect(mounts()).toEqual([]);
  expect(readdirSync(dir)).toEqual([]);
  await files.release('t1');
});

test('whoever still holds a file that was released finds it empty', async () => {
  const [held] = await files.put('t1', [file('hunter2')]);
  // As a container has it: the file alone, bound to another place.
  const place = join(base, 'held');
  await run(['touch', place]);
  await run(['mount', '--bind', held!.source, place]);
  try {
    expect(readFileSync(place, 'utf8')).toBe('hunter2');
    await files.release('t1');
    expect(readFileSync(place, 'utf8')).toBe('');
  } finally {
    await run(['umount', place]);
  }
});

test('put again takes the place of what was there, larger or not, with one mount', async () => {
  await files.put('t1', [file('a')]);
  const again = await files.put('t1', [file(Buffer.alloc(300_000, 1)), file('b')]);
  expect(again.map(({ source }) => statSync(source).size)).toEqual([300_000, 1]);
  expect(mounts()).toHaveLength(1);
});

test('what an earlier process left is known, kept while it is used, and removed when it is not', async () => {
  await files.put('used', [file('a')]);
  await files.put('left', [file('b')]);
  const next = new TmpfsFiles({ dir, run });
  await next.keepOnly(new Set(['used']));
  expect(readdirSync(dir)).toEqual(['used']);
  expect(readFileSync(join(dir, 'used', '0'), 'utf8')).toBe('a');
  await next.release('used');
  expect(mounts()).toEqual([]);
});

test('many at once, and taken away while being made: none is left', async () => {
  await Promise.all(
    Array.from({ length: 8 }, async (_, at) => {
      const made = files.put(`t${at}`, [file('x')]);
      if (at % 2 === 0) await files.release(`t${at}`);
      await made;
    }),
  );
  expect(readdirSync(dir).toSorted()).toEqual(['t1', 't3', 't5', 't7']);
  await files.keepOnly(new Set());
  expect([readdirSync(dir), mounts()]).toEqual([[], []]);
});

test('without a tmpfs nothing is written: neither where mounting fails nor where it only seems to work', async () => {
  const broken: CommandRunner[] = [async () => Promise.reject(new Error('mount: permission denied')), async () => ''];
  const sentences = [/permission denied/, /could not be made a tmpfs/];
  for (const [at, runner] of broken.entries()) {
    const unable = new TmpfsFiles({ dir: join(base, `unable${at}`), run: runner });
    await expect(unable.put('t1', [file('hunter2')])).rejects.toThrow(sentences[at]);
    expect(readdirSync(join(base, `unable${at}`, 't1'))).toEqual([]);
  }
});
