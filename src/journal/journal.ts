/**
 * How state lasts: the contract that every keeper (memory, SQLite, etcd) passes in one compliance suite.
 *
 * A journal is a map from string keys to string values that changes by transactions:
 * - a transaction is applied whole or not at all, whatever crashes;
 * - when `commit` resolves, its transactions survive `kill -9` and power loss;
 * - when `commit` rejects with JournalUnavailable, none of them is applied; any other rejection leaves it unknown,
 *   and the caller must `load` again before it goes on;
 * - transactions are applied in the order given, calls to `commit` in the order made.
 */

/** `value: null` removes the key. */
export interface Change {
  key: string;
  value: string | null;
}

export interface Journal {
  /** All keys and values, in no particular order. */
  load(): Promise<Map<string, string>>;
  /** Applies each transaction atomically, in order; a keeper may make them durable together (group commit). */
  commit(transactions: readonly (readonly Change[])[]): Promise<void>;
  /** Releases the keeper's resources. Pending commits end first. Idempotent. */
  close(): Promise<void>;
}

/** The journal took nothing and may take the same again later (disk full, no quorum). The message is for users. */
export class JournalUnavailable extends Error {
  override readonly name = 'JournalUnavailable';
}

/** What lies on disk is not a journal that this version can open. It was left untouched. The message names it. */
export class JournalDamaged extends Error {
  override readonly name = 'JournalDamaged';
}
