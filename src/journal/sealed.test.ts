import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { journalContract } from './journal.contract.ts';
import { JournalDamaged, JournalUnavailable } from './journal.ts';
import { DataKey, KeyFile, readKeys, writeKeys } from './key-file.ts';
import { MemoryJournal } from './memory.ts';
import { SealedJournal } from './sealed.ts';
import { SqliteJournal } from './sqlite.ts';

const isConfidential = (key: string) => key.startsWith('secrets/') || key.startsWith('tasks/');

journalContract('sealed over sqlite', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'drover-sealed-'));
  const name = join(dir, 'state.db');
  return {
    open: async () =>
      new SealedJournal({
        journal: new SqliteJournal(name),
        name,
        keyFile: new KeyFile(join(dir, 'state.key')),
        isConfidential,
      }),
    dispose: async () => rmSync(dir, { recursive: true }),
  };
});

describe('SealedJournal', () => {
  let dir: string;
  let keyFile: string;
  let values: Map<string, string>;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'drover-sealed-'));
    keyFile = join(dir, 'state.key');
    values = new Map();
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  const open = (): SealedJournal =>
    new SealedJournal({
      journal: new MemoryJournal(values),
      name: 'state.db',
      keyFile: new KeyFile(keyFile),
      isConfidential,
    });
  const row = (key: string, value: string | null) => [[{ key, value }]];
  const written = async (): Promise<void> => open().commit(row('secrets/a', 'hunter2'));

  test('seals what is confidential, leaves the rest as it is, and makes one key, for its owner alone', async () => {
    const journal = open();
    await journal.commit(row('nodes/n', 'plain'));
    expect(existsSync(keyFile)).toBe(false);
    await journal.commit(row('secrets/a', 'hunter2'));
    await journal.commit(row('secrets/b', 'hunter2'));
    expect(values.get('nodes/n')).toBe('plain');
    expect(values.get('secrets/a')).toMatch(/^sealed:[0-9a-f]{8}:[\w+/=]+$/);
    expect(values.get('secrets/a')).not.toBe(values.get('secrets/b'));
    expect(JSON.stringify([...values])).not.toContain('hunter2');
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(readKeys(keyFile)).toHaveLength(1);
    expect((await open().load()).get('secrets/b')).toBe('hunter2');
    await journal.commit(row('secrets/a', null));
    expect([...(await open().load()).keys()]).toEqual(['nodes/n', 'secrets/b']);
  });

  test('two clusters never share a key', async () => {
    await written();
    const [first] = readKeys(keyFile)!;
    rmSync(keyFile);
    values.clear();
    await written();
    expect(readKeys(keyFile)![0]!.id).not.toBe(first!.id);
  });

  test('rows from before there was encryption are read, and sealed by reading them', async () => {
    values.set('secrets/old', 'clear').set('nodes/n', 'plain');
    expect(await open().load()).toEqual(
      new Map([
        ['secrets/old', 'clear'],
        ['nodes/n', 'plain'],
      ]),
    );
    expect(values.get('secrets/old')).toMatch(/^sealed:/);
    expect((await open().load()).get('secrets/old')).toBe('clear');
  });

  test('after a newer key has come, the rows of the older one still open', async () => {
    await written();
    writeKeys(keyFile, [...readKeys(keyFile)!, DataKey.random()]);
    await open().commit(row('secrets/b', 'new'));
    const ids = [...values.values()].map((value) => value.split(':')[1]);
    expect(new Set(ids).size).toBe(2);
    expect((await open().load()).get('secrets/a')).toBe('hunter2');
  });

  test.each<[string, () => void, RegExp]>([
    ['is lost', () => rmSync(keyFile), /state\.key, where it belongs, is missing: put it back from a backup/],
    ['is of another cluster', () => writeKeys(keyFile, [DataKey.random()]), /state\.key, .* holds other keys/],
    ['is damaged', () => writeFileSync(keyFile, '{"keys":[{"id":"00'), /state\.key, .* \(it is not its JSON\)/],
    ['is empty', () => writeFileSync(keyFile, '{"keys":[]}'), /state\.key, .* it holds no key/],
    ['has a key that is too short', () => writeFileSync(keyFile, '{"keys":[{"id":"0","key":"aa"}]}'), /holds no key/],
  ])('a key file that %s is named, and nothing is changed', async (_what, spoil, sentence) => {
    await written();
    spoil();
    const before = existsSync(keyFile) ? readFileSync(keyFile, 'utf8') : undefined;
    const rows = new Map(values);
    await expect(open().load()).rejects.toThrow(JournalDamaged);
    await expect(open().load()).rejects.toThrow(sentence);
    expect(existsSync(keyFile) ? readFileSync(keyFile, 'utf8') : undefined).toBe(before);
    expect(values).toEqual(rows);
  });

  test('a row that was moved under another key, or changed by a bit, does not open', async () => {
    await written();
    const sealed = values.get('secrets/a')!;
    values.set('secrets/b', sealed);
    await expect(open().load()).rejects.toThrow(/its row secrets\/b cannot be decrypted/);
    values.delete('secrets/b');
    values.set('secrets/a', sealed.slice(0, -6) + (sealed.at(-6) === 'A' ? 'B' : 'A') + sealed.slice(-5));
    await expect(open().load()).rejects.toThrow(/its row secrets\/a cannot be decrypted/);
  });

  test('a key that cannot be written down is none: nothing is committed', async () => {
    const nowhere = new SealedJournal({
      journal: new MemoryJournal(values),
      name: 'state.db',
      keyFile: new KeyFile(join(dir, 'missing', 'state.key')),
      isConfidential,
    });
    await expect(nowhere.commit(row('secrets/a', 'hunter2'))).rejects.toThrow(JournalUnavailable);
    expect(values.size).toBe(0);
  });
});
