/**
 * The journal of a cluster with one manager: an embedded database (`node:sqlite`, WAL, `synchronous=FULL`).
 *
 * It opens only what is sound and what it understands: a file that is no database, is damaged, belongs to another
 * program or was written by a newer Drover is refused by name (JournalDamaged) and not changed by a byte.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { setImmediate as turn } from 'node:timers/promises';
import { keepPrivate } from './private-file.ts';
import { JournalDamaged, JournalUnavailable, type Change, type Journal } from './journal.ts';

/** "drov": tells our files from other programs' (SQLite header, offset 68). */
const APPLICATION_ID = 0x64726f76;
/** Raised with every change of layout that an older Drover could not read (SQLite's user_version). 2: sealed rows. */
const FORMAT = 2;

const HEADER = { bytes: 72, magic: 'SQLite format 3\0', userVersionAt: 60, applicationIdAt: 68 };

/** SQLite's extended result codes for a sync that failed: whether what was to be synced will be there, nobody knows. */
const IN_DOUBT = new Set([1034, 1290]);
/** … and for having no room or right to make the file of shared memory that stands beside a database with a WAL. */
const NO_SHARED_MEMORY = new Set([14, 4618, 4874, 5386]);

/** SQLite's primary result codes after which nothing was written and a later try may succeed. */
const TRANSIENT = new Map([
  [5, 'is locked by another program'],
  [8, 'cannot be written'],
  [10, 'could not be written (input/output error)'],
  [13, 'could not be written: the disk is full'],
]);

export class SqliteJournal implements Journal {
  readonly #path: string;
  readonly #db: DatabaseSync;
  readonly #put: StatementSync;
  readonly #remove: StatementSync;
  #open = true;

  /** Opens or creates the database at `path`. Throws JournalDamaged. */
  constructor(path: string) {
    this.#path = path;
    // An empty file is what a crash in the middle of creation leaves.
    const isNew = (statSync(path, { throwIfNoEntry: false })?.size ?? 0) === 0;
    if (!isNew) verify(path);
    // It holds the key of the root certificate and the join tokens.
    keepPrivate(path);
    this.#db = openDatabase(path, isNew);
    this.#put = this.#db.prepare(
      'INSERT INTO state (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
    );
    this.#remove = this.#db.prepare('DELETE FROM state WHERE key = ?');
  }

  async load(): Promise<Map<string, string>> {
    const rows = new Map<string, string>();
    for (const row of this.#db.prepare('SELECT key, value FROM state').iterate()) {
      rows.set(row['key'] as string, row['value'] as string);
    }
    return rows;
  }

  async commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    try {
      this.#db.exec('BEGIN IMMEDIATE');
      for (const transaction of transactions) {
        for (const { key, value } of transaction) {
          if (value === null) this.#remove.run(key);
          else this.#put.run(key, value);
        }
      }
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isOpen && this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw asUnavailable(error, this.#path);
    }
    // All that was one piece. Whoever waits for something else, a heartbeat say, has a turn before the next one.
    await turn();
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#db.close();
  }
}

/** What a failed commit is to the caller: see the contract in journal.ts. */
export function asUnavailable(error: unknown, path: string): unknown {
  const code = codeOf(error);
  // Extended result codes keep the primary one in their low byte.
  const reason = IN_DOUBT.has(code) ? undefined : TRANSIENT.get(code & 0xff);
  if (reason === undefined) return error;
  return new JournalUnavailable(`the state database ${path} ${reason}; nothing was changed, try again later`, {
    cause: error,
  });
}

function codeOf(error: unknown): number {
  return (error as { errcode?: number }).errcode ?? 0;
}

/** `alone`: no other program can look at it, and a full disk, on which shared memory cannot be had, is no obstacle. */
function openDatabase(path: string, isNew: boolean, alone = false): DatabaseSync {
  const db = new DatabaseSync(path);
  try {
    if (alone) db.exec('PRAGMA locking_mode = EXCLUSIVE');
    // Identity first, outside the WAL, so that it always stands in the file's own header.
    if (isNew) db.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${FORMAT};`);
    db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000;
      CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;`);
    if (!isNew) raiseFormat(db);
    return db;
  } catch (error) {
    db.close();
    if (alone || !NO_SHARED_MEMORY.has(codeOf(error))) throw error;
    return openDatabase(path, isNew, true);
  }
}

/** A file of an older format becomes one of this. Where nothing can be written now, so can nothing that needs the new one. */
function raiseFormat(db: DatabaseSync): void {
  try {
    if (Number(db.prepare('PRAGMA user_version').get()?.['user_version']) < FORMAT)
      db.exec(`PRAGMA user_version = ${FORMAT}`);
  } catch (error) {
    if (!TRANSIENT.has(codeOf(error) & 0xff)) throw error;
  }
}

/** Throws JournalDamaged unless the file is a sound database of this format. Reads only. */
function verify(path: string): void {
  const header = Buffer.alloc(HEADER.bytes);
  const fd = openSync(path, 'r');
  try {
    readSync(fd, header, 0, header.length, 0);
  } finally {
    closeSync(fd);
  }
  if (header.toString('latin1', 0, HEADER.magic.length) !== HEADER.magic) {
    throw new JournalDamaged(
      `${path} is not a Drover state database, or its beginning is damaged; it was left untouched`,
    );
  }
  if (header.readInt32BE(HEADER.applicationIdAt) !== APPLICATION_ID) {
    throw new JournalDamaged(`${path} is a database of another program; it was left untouched`);
  }
  const format = header.readInt32BE(HEADER.userVersionAt);
  if (format > FORMAT) {
    throw new JournalDamaged(
      `${path} was written by a newer Drover (format ${format}; this one reads up to ${FORMAT}); it was left untouched`,
    );
  }
  // Read-only: not even the write-ahead log is folded in before the file is known to be sound.
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    const [first] = db.prepare('PRAGMA quick_check(1)').all();
    const verdict = first?.['quick_check'];
    if (verdict !== 'ok') throw new Error(String(verdict));
  } catch (error) {
    // No room to look: that is not the file's fault, and what is damaged in it shows when it is read.
    if (NO_SHARED_MEMORY.has(codeOf(error))) return;
    throw new JournalDamaged(`${path} is damaged (${(error as Error).message}); it was left untouched`, {
      cause: error,
    });
  } finally {
    db.close();
  }
}
