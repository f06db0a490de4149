import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { JournalDamaged } from './journal.ts';
import { DataKey, KeyFile, KeyFileLocked, readKeys, writeKeys, WrongUnlockKey } from './key-file.ts';

describe('a locked key file', () => {
  let dir: string;
  let path: string;
  const keys = [DataKey.random(), DataKey.random()];
  const [unlockKey, other] = [randomBytes(32), randomBytes(32)];
  const plain = JSON.stringify(keys);
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'drover-key-'));
    path = join(dir, 'state.key');
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  const text = () => readFileSync(path, 'utf8');
  const idsIn = (read: DataKey[] | undefined) => JSON.stringify(read);

  test('holds its keys encrypted, for its owner alone, and opens with its unlock key only', () => {
    writeKeys(path, keys, unlockKey);
    for (const { key } of JSON.parse(plain) as { key: string }[]) expect(text()).not.toContain(key);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(idsIn(readKeys(path, unlockKey))).toBe(plain);
    expect(() => readKeys(path)).toThrow(KeyFileLocked);
    expect(() => readKeys(path, other)).toThrow(WrongUnlockKey);
  });

  test('that is damaged says so, whatever the unlock key', () => {
    writeKeys(path, keys, unlockKey);
    const { locked, sha256 } = JSON.parse(text()) as { locked: string; sha256: string };
    const spoilt = locked.replace(/^./, (first) => (first === 'A' ? 'B' : 'A'));
    writeFileSync(path, JSON.stringify({ locked: spoilt, sha256 }));
    for (const key of [undefined, unlockKey, other]) {
      expect(() => readKeys(path, key)).toThrow(JournalDamaged);
      expect(() => readKeys(path, key)).toThrow(/its checksum is wrong/);
    }
  });

  test('knows whether it is locked, and takes no wrong key', () => {
    writeKeys(path, keys, unlockKey);
    const file = new KeyFile(path);
    expect(file.isLocked()).toBe(true);
    expect(() => file.unlock(other)).toThrow(WrongUnlockKey);
    expect(file.isLocked()).toBe(true);
    file.unlock(unlockKey);
    expect(file.isLocked()).toBe(false);
    expect(idsIn(file.read())).toBe(plain);
    file.forget();
    expect(file.isLocked()).toBe(true);
  });

  test('is locked, locked anew and unlocked for good; the keys stay the same', () => {
    writeKeys(path, keys);
    const file = new KeyFile(path);
    for (const lock of [unlockKey, other, undefined]) {
      file.lockWith(lock);
      expect(file.isLockedWith(lock)).toBe(true);
      expect(idsIn(file.read())).toBe(plain);
      expect(idsIn(readKeys(path, lock))).toBe(plain);
    }
    expect(file.isLockedWith(unlockKey)).toBe(false);
  });

  test('keeps its lock if it cannot be written', () => {
    writeKeys(path, keys, unlockKey);
    const file = new KeyFile(path, unlockKey);
    const before = text();
    mkdirSync(`${path}.new`);
    expect(() => file.lockWith(other)).toThrow(/EISDIR/);
    expect(text()).toBe(before);
    expect(file.isLockedWith(unlockKey)).toBe(true);
    expect(idsIn(file.read())).toBe(plain);
  });

  test('of nobody who unlocked it is not locked anew', () => {
    writeKeys(path, keys, unlockKey);
    const before = text();
    expect(() => new KeyFile(path).lockWith(other)).toThrow(KeyFileLocked);
    expect(text()).toBe(before);
  });

  test('where there is no file yet, the first one is locked', () => {
    const file = new KeyFile(path);
    file.lockWith(unlockKey);
    expect(file.exists()).toBe(false);
    file.write(keys);
    expect(() => readKeys(path)).toThrow(KeyFileLocked);
    expect(idsIn(readKeys(path, unlockKey))).toBe(plain);
  });
});
