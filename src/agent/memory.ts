/**
 * What the agent must still know after a restart: its last assignments and the last status of each task
 * (decisions-and-traps.md 10), in one SQLite file. Promises: consistent after a crash of the process or the host; what
 * the last moments before a power cut wrote may be missing, because a manager or the engine knows it as well; no secret
 * is ever in it. It is
 * a memory, not a truth: a file that is damaged or of another format is set aside, and the manager tells everything again.
 */
import { existsSync, renameSync, rmSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import type { StatementSync } from 'node:sqlite';
import { keepPrivate } from '../journal/private-file.ts';
import type { AssignmentChange } from '../model/assignments.ts';
import type { Log } from '../model/clock.ts';
import type { TaskStatus } from '../model/objects.ts';

const FORMAT = 1;
const SCHEMA = `
  PRAGMA journal_mode = WAL;
  CREATE TABLE IF NOT EXISTS facts (kind TEXT, key TEXT, change TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS statuses (task TEXT PRIMARY KEY, status TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  PRAGMA user_version = ${FORMAT};
`;

export interface Remembered {
  /** Undefined if no manager has ever told everything: then what is missing means nothing. */
  facts: AssignmentChange[] | undefined;
  /** By task id. */
  statuses: Map<string, TaskStatus>;
  /** The boot of the host in which this was written. */
  bootId: string | undefined;
}

/** What is to be written, the newest of each alone. */
interface Due {
  /** What was written of facts before holds no more. */
  anew: boolean;
  /** By kind and key. */
  facts: Map<string, AssignmentChange>;
  /** By task id; null: forgotten. */
  statuses: Map<string, TaskStatus | null>;
  bootId: string | undefined;
}

const nothing = (): Due => ({ anew: false, facts: new Map(), statuses: new Map(), bootId: undefined });

/** A write that fails @throws what SQLite does; it is made by the next one that succeeds, or by `catchUp`. */
export class AgentMemory {
  #due = nothing();
  readonly #database: DatabaseSync;
  readonly #put: StatementSync;
  readonly #drop: StatementSync;
  readonly #putStatus: StatementSync;
  readonly #dropStatus: StatementSync;
  readonly #putSetting: StatementSync;

  private constructor(database: DatabaseSync) {
    this.#database = database;
    this.#put = database.prepare('INSERT OR REPLACE INTO facts (kind, key, change) VALUES (?, ?, ?)');
    this.#drop = database.prepare('DELETE FROM facts WHERE kind = ? AND key = ?');
    this.#putStatus = database.prepare('INSERT OR REPLACE INTO statuses (task, status) VALUES (?, ?)');
    this.#dropStatus = database.prepare('DELETE FROM statuses WHERE task = ?');
    this.#putSetting = database.prepare('INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)');
  }

  /**
   * Opens or makes the file; `:memory:` keeps nothing. A file that cannot be understood is renamed to `<path>.damaged`.
   * @throws if there is no room or right to open it: what it holds is as good as before
   */
  static open(path: string, log: Log): AgentMemory {
    try {
      return AgentMemory.#readable(path);
    } catch (error) {
      if (path === ':memory:' || !existsSync(path) || isOfTheDisk(error)) throw error;
      log.error({ path, error: String(error) }, "the agent's memory cannot be read: set aside, beginning anew");
      renameSync(path, `${path}.damaged`);
      for (const rest of ['-wal', '-shm']) rmSync(path + rest, { force: true });
      return new AgentMemory(openDatabase(path));
    }
  }

  /** What cannot be read back is no memory: damage inside of a file shows only then. */
  static #readable(path: string): AgentMemory {
    const database = openDatabase(path);
    try {
      const memory = new AgentMemory(database);
      memory.load();
      return memory;
    } catch (error) {
      database.close();
      throw error;
    }
  }

  load(): Remembered {
    const rows = this.#database.prepare('SELECT change FROM facts').all();
    const statuses = new Map<string, TaskStatus>();
    for (const row of this.#database.prepare('SELECT task, status FROM statuses').all()) {
      const status: TaskStatus = JSON.parse(String(row.status));
      statuses.set(String(row.task), status);
    }
    const parse = (text: unknown): AssignmentChange => JSON.parse(String(text));
    const complete = this.#setting('complete') !== undefined;
    return {
      facts: complete ? rows.map((row) => parse(row.change)) : undefined,
      statuses,
      bootId: this.#setting('bootId'),
    };
  }

  /** These are all facts now. */
  replace(facts: readonly AssignmentChange[]): void {
    this.#due.anew = true;
    this.#due.facts.clear();
    this.apply(facts);
  }

  /** Secrets are not written down: whoever needs one again gets it from a manager. */
  apply(changes: readonly AssignmentChange[]): void {
    for (const change of changes)
      if (change.kind !== 'secret') this.#due.facts.set(`${change.kind} ${change.key}`, change);
    this.#write();
  }

  saveStatus(taskId: string, status: TaskStatus): void {
    this.#due.statuses.set(taskId, status);
    this.#write();
  }

  forgetStatus(taskId: string): void {
    this.#due.statuses.set(taskId, null);
    this.#write();
  }

  saveBootId(bootId: string): void {
    this.#due.bootId = bootId;
    this.#write();
  }

  /** Makes the writes that have failed, if any: a disk that was full may have room again. */
  catchUp(): void {
    const { anew, facts, statuses, bootId } = this.#due;
    if (anew || facts.size > 0 || statuses.size > 0 || bootId !== undefined) this.#write();
  }

  close(): void {
    this.#database.close();
  }

  #setting(name: string): string | undefined {
    const row = this.#database.prepare('SELECT value FROM settings WHERE name = ?').get(name);
    return row === undefined ? undefined : String(row.value);
  }

  /** Writes all that is due in one piece. What stays due when it fails is no more than there is to be known. */
  #write(): void {
    try {
      this.#database.exec('BEGIN');
      this.#writeRows(this.#due);
      this.#database.exec('COMMIT');
    } catch (error) {
      // A full disk has it rolled back already.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
    this.#due = nothing();
  }

  #writeRows({ anew, facts, statuses, bootId }: Due): void {
    if (anew) {
      this.#database.exec('DELETE FROM facts');
      this.#putSetting.run('complete', 'yes');
    }
    for (const change of facts.values()) {
      if (change.value === null) this.#drop.run(change.kind, change.key);
      else this.#put.run(change.kind, change.key, JSON.stringify(change));
    }
    for (const [taskId, status] of statuses) {
      if (status === null) this.#dropStatus.run(taskId);
      else this.#putStatus.run(taskId, JSON.stringify(status));
    }
    if (bootId !== undefined) this.#putSetting.run('bootId', bootId);
  }
}

/** True if the file was not looked at: SQLite's primary codes for locked, read-only, input/output error, full, no access. */
function isOfTheDisk(error: unknown): boolean {
  const { errcode = 0 } = error as { errcode?: number };
  return [5, 8, 10, 13, 14].includes(errcode & 0xff);
}

function openDatabase(path: string): DatabaseSync {
  // Assignments hold the credentials of registries.
  if (path !== ':memory:') keepPrivate(path);
  const database = new DatabaseSync(path);
  try {
    // Without others there is no need of shared memory: a file that a full disk would have no room for.
    database.exec('PRAGMA locking_mode = EXCLUSIVE');
    const format = Number(database.prepare('PRAGMA user_version').get()?.user_version);
    if (format !== 0 && format !== FORMAT) throw new Error(`format ${format} is not known`);
    // Nothing is written to a file that is there already: it can be read where nothing can be written.
    if (format === 0) database.exec(SCHEMA);
    // No sync at each commit: see the promise above.
    database.exec('PRAGMA synchronous = NORMAL');
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}
