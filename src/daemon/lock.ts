/**
 * One `droverd` a data directory: the second start is refused while the first lives, and never after it has died,
 * however it died. The lock is the kernel's, taken through SQLite because Node has no other way to one.
 */
import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';

export class DataDirInUse extends Error {
  override readonly name = 'DataDirInUse';
}

const SQLITE_BUSY = 5;

/** Locks `dataDir` until the process ends or `release` is called. Throws DataDirInUse. */
export function lockDataDir(dataDir: string): { release(): void } {
  const db = new DatabaseSync(join(dataDir, 'lock'));
  try {
    db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;');
  } catch (error) {
    db.close();
    if ((error as { errcode?: number }).errcode !== SQLITE_BUSY) throw error;
    throw new DataDirInUse(
      `the data directory ${dataDir} is in use by another droverd; give this one its own --data-dir`,
    );
  }
  return { release: () => db.close() };
}
