import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { JournalDamaged, JournalUnavailable } from './journal.ts';
import { journalContract } from './journal.contract.ts';
import { asUnavailable, SqliteJournal } from './sqlite.ts';

journalContract('sqlite', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'drover-journal-'));
  return {
    open: async () => new SqliteJournal(join(dir, 'state.db')),
    dispose: async () => rmSync(dir, { recursive: true }),
  };
});

describe('SqliteJournal', () => {
  let dir: string;
  let path: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'drover-journal-'));
    path = join(dir, 'state.db');
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  async function written(rows = 1): Promise<void> {
    const journal = new SqliteJournal(path);
    await journal.commit([Array.from({ length: rows }, (_, i) => ({ key: `k${i}`, value: 'v'.repeat(1000) }))]);
    await journal.close();
  }

  function refusedUntouched(message: RegExp): void {
    const before = readFileSync(path);
    expect(() => new SqliteJournal(path)).toThrow(JournalDamaged);
    expect(() => new SqliteJournal(path)).toThrow(message);
    expect(readFileSync(path).equals(before)).toBe(true);
  }

  test('its files are for their owner alone', async () => {
    const journal = new SqliteJournal(path);
    await journal.commit([[{ key: 'a', value: 'x' }]]);
    for (const file of ['', '-wal', '-shm']) expect(statSync(path + file).mode & 0o777).toBe(0o600);
    await journal.close();
  });

  test('refuses a file that is no database', () => {
    writeFileSync(path, 'hello, I am a text');
    refusedUntouched(/state\.db is not a Drover state database/);
  });

  test("refuses another program's database", () => {
    const db = new DatabaseSync(path);
    db.exec('CREATE TABLE t (x)');
    db.close();
    refusedUntouched(/database of another program/);
  });

  test('refuses a newer format', async () => {
    await written();
    const db = new DatabaseSync(path);
    db.exec('PRAGMA user_version = 99');
    db.close();
    refusedUntouched(/newer Drover \(format 99; this one reads up to 2\)/);
  });

  test('refuses a database damaged in the middle', async () => {
    await written(200);
    const bytes = readFileSync(path);
    bytes.fill(0xa5, 4096 * 3, 4096 * 5);
    writeFileSync(path, bytes);
    refusedUntouched(/is damaged/);
  });

  test('another program holding the write lock: unavailable, then fine', async () => {
    const journal = new SqliteJournal(path);
    const other = new DatabaseSync(path);
    other.exec('BEGIN IMMEDIATE');
    await expect(journal.commit([[{ key: 'a', value: 'x' }]])).rejects.toThrow(JournalUnavailable);
    other.exec('ROLLBACK');
    other.close();
    await journal.commit([[{ key: 'b', value: 'x' }]]);
    expect([...(await journal.load()).keys()]).toEqual(['b']);
    await journal.close();
  });

  test('a commit that has resolved has let whatever else waited have its turn', async () => {
    const journal = new SqliteJournal(path);
    let heard = false;
    setImmediate(() => (heard = true));
    await journal.commit([[{ key: 'a', value: 'x' }]]);
    expect(heard).toBe(true);
    await journal.close();
  });

  test('kill -9 loses nothing that was acknowledged', async () => {
    const script = `
      import { SqliteJournal } from ${JSON.stringify(new URL('./sqlite.ts', import.meta.url).href)};
      const journal = new SqliteJournal(${JSON.stringify(path)});
      for (let i = 0; ; i++) {
        await journal.commit([[{ key: 'a' + i, value: 'x' }, { key: 'b' + i, value: 'x' }]]);
        if (!process.stdout.write(i + '\\n')) await new Promise((resolve) => process.stdout.once('drain', resolve));
      }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let acknowledged = -1;
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged = Number(line);
      if (acknowledged === 200) child.kill('SIGKILL');
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    expect(acknowledged).toBeGreaterThanOrEqual(200);
    const journal = new SqliteJournal(path);
    const rows = await journal.load();
    for (let i = 0; i <= acknowledged; i++) expect(rows.has(`a${i}`) && rows.has(`b${i}`)).toBe(true);
    expect([...rows.keys()].filter((key) => key.startsWith('a')).length).toBe(rows.size / 2);
    await journal.close();
  });
});

test.each([
  [13, 'JournalUnavailable', 'the disk is full'],
  [10 | (3 << 8), 'JournalUnavailable', 'input/output error'],
  [5, 'JournalUnavailable', 'locked by another program'],
  // A sync that failed may have been done or not: no word of "nothing was changed".
  [10 | (4 << 8), 'Error', 'disk I/O error'],
  [10 | (5 << 8), 'Error', 'disk I/O error'],
  [11, 'Error', 'disk I/O error'],
])('SQLite result %i is %s', (errcode, name, message) => {
  const failure = asUnavailable(Object.assign(new Error('disk I/O error'), { errcode }), '/state.db') as Error;
  expect(failure.name).toBe(name);
  expect(failure.message).toContain(message);
});
