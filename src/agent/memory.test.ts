import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { AssignmentChange } from '../model/assignments.ts';
import { silentLog } from '../model/clock.ts';
import { TaskState } from '../model/states.ts';
import { readBootId } from './boot-id.ts';
import { AgentMemory } from './memory.ts';

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'drover-memory-'));
  path = join(folder, 'agent.db');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const peer = (nodeId: string): AssignmentChange => ({
  kind: 'peer',
  key: `net/${nodeId}`,
  value: { networkId: 'net', nodeId, gateway: '10.0.0.2', dataPathAddress: '192.0.2.1' },
});
const status = { timestamp: 'now', state: TaskState.RUNNING, message: 'started' };

test('what was written is there after the file was closed; nothing told is not the same as told nothing', () => {
  const first = AgentMemory.open(path, silentLog);
  expect(first.load()).toEqual({ facts: undefined, statuses: new Map(), bootId: undefined });
  first.replace([peer('a'), peer('b')]);
  first.apply([{ kind: 'peer', key: 'net/a', value: null }, peer('c')]);
  first.saveStatus('t1', status);
  first.saveStatus('t2', status);
  first.forgetStatus('t2');
  first.saveBootId('boot');
  first.close();
  const second = AgentMemory.open(path, silentLog);
  expect(second.load()).toEqual({ facts: [peer('b'), peer('c')], statuses: new Map([['t1', status]]), bootId: 'boot' });
  second.replace([]);
  expect(second.load().facts).toEqual([]);
  second.close();
});

test('a damaged file and one of a later format are set aside, not destroyed', () => {
  writeFileSync(path, 'this is no database, but long enough to be taken for one'.repeat(100));
  AgentMemory.open(path, silentLog).close();
  expect(existsSync(`${path}.damaged`)).toBe(true);
  const later = new DatabaseSync(path);
  later.exec('PRAGMA user_version = 99');
  later.close();
  const memory = AgentMemory.open(path, silentLog);
  expect(memory.load().facts).toBeUndefined();
  memory.close();
});

test('nobody else may read it: it holds the credentials of registries', () => {
  const modes = (): number[] =>
    readdirSync(dirname(path)).map((name) => statSync(join(dirname(path), name)).mode & 0o777);
  const first = AgentMemory.open(path, silentLog);
  first.replace([peer('n1')]);
  expect(new Set(modes())).toEqual(new Set([0o600]));
  first.close();
  chmodSync(path, 0o644);
  AgentMemory.open(path, silentLog).close();
  expect(new Set(modes())).toEqual(new Set([0o600]));
});

test('a file that is damaged inside is set aside as well', () => {
  const first = AgentMemory.open(path, silentLog);
  first.replace(Array.from({ length: 500 }, (_, i) => peer(`node${i}`)));
  first.close();
  const bytes = readFileSync(path);
  bytes.fill(0xa5, 4096 * 2, bytes.length);
  writeFileSync(path, bytes);
  const second = AgentMemory.open(path, silentLog);
  expect(second.load().facts).toBeUndefined();
  second.close();
  expect(readFileSync(`${path}.damaged`).equals(bytes)).toBe(true);
});

test('what a full disk had no room for is written once there is room', () => {
  const disk = join(folder, 'disk');
  mkdirSync(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', disk]);
  try {
    const onDisk = join(disk, 'agent.db');
    const first = AgentMemory.open(onDisk, silentLog);
    first.replace([peer('gone')]);
    first.saveStatus('ended', status);
    const filler = join(disk, 'filler');
    const fd = openSync(filler, 'w');
    expect(() => {
      for (;;) writeSync(fd, Buffer.alloc(4096));
    }).toThrow(/ENOSPC/);
    closeSync(fd);
    const many = Array.from({ length: 500 }, (_, i) => peer(`node${i}`));
    expect(() => first.apply(many)).toThrow(/full/);
    expect(() => first.apply([{ kind: 'peer', key: 'net/gone', value: null }])).toThrow(/full/);
    expect(() => first.forgetStatus('ended')).toThrow(/full/);
    rmSync(filler);
    first.catchUp();
    first.close();
    const second = AgentMemory.open(onDisk, silentLog);
    const { facts, statuses } = second.load();
    expect(facts?.map(({ key }) => key).toSorted()).toEqual(many.map(({ key }) => key).toSorted());
    expect(statuses).toEqual(new Map());
    second.close();
  } finally {
    execFileSync('umount', ['-l', disk]);
  }
});

test('the boot is the same as long as the host is up', async () => {
  expect(await readBootId()).toMatch(/^[0-9a-f-]{36}\/\d+$/);
  expect(await readBootId()).toBe(await readBootId());
});
