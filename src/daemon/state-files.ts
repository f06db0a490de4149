/** The files of a manager's state in its data directory: the database, as long as it is alone, and the key of confidential rows. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Journal } from '../journal/journal.ts';
import { KeyFile } from '../journal/key-file.ts';
import { SealedJournal } from '../journal/sealed.ts';
import { SqliteJournal } from '../journal/sqlite.ts';
import { isConfidential } from '../store/snapshot.ts';
import { Store } from '../store/store.ts';

const stateFile = (dataDir: string) => join(dataDir, 'state.db');
const keyFile = (dataDir: string) => join(dataDir, 'state.key');

/** Where the key of a data directory's state is. */
export function keyFileOf(dataDir: string): KeyFile {
  return new KeyFile(keyFile(dataDir));
}

/** The journal of a data directory as it lies there, its confidential rows encrypted. Throws JournalDamaged. */
export function openRawJournal(dataDir: string): Journal {
  return new SqliteJournal(stateFile(dataDir));
}

/** The journal of a data directory, its confidential rows sealed with the key beside it. Throws JournalDamaged. */
export function openJournal(dataDir: string, file = keyFileOf(dataDir)): Journal {
  return new SealedJournal({
    journal: openRawJournal(dataDir),
    name: stateFile(dataDir),
    keyFile: file,
    isConfidential,
  });
}

/** Opens the journal and the state in it. The caller closes both. Throws JournalDamaged, KeyFileLocked. */
export async function openState(
  dataDir: string,
  file = keyFileOf(dataDir),
): Promise<{ store: Store; journal: Journal; close(): Promise<void> }> {
  const journal = openJournal(dataDir, file);
  const store = await Store.open(journal).catch(async (error: unknown) => {
    await journal.close();
    throw error;
  });
  return {
    store,
    journal,
    async close() {
      await store.close();
      await journal.close();
    },
  };
}

/** Removes the state of a cluster that this node has left, or never finished making. */
export function removeState(dataDir: string): void {
  removeDatabase(dataDir);
  for (const suffix of ['', '.new']) rmSync(keyFile(dataDir) + suffix, { force: true });
}

/** The state lies elsewhere now. */
export function removeDatabase(dataDir: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(stateFile(dataDir) + suffix, { force: true });
}
