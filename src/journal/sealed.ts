/**
 * A journal whose confidential rows are encrypted, whatever keeps them: the keeper below sees sealed values, the store above
 * clear ones. A sealed value is `sealed:<key id>:<base64>`, bound to its row's key, so that it opens nowhere else.
 *
 * The key file is made with the first row that needs it. Rows written before there was encryption are read as they are,
 * and sealed when the journal is next loaded. Without the key that a row names nothing is loaded and nothing is changed.
 */
import { existsSync } from 'node:fs';
import { JournalDamaged, JournalUnavailable, type Change, type Journal } from './journal.ts';
import { DataKey, readKeys, writeKeys } from './key-file.ts';

const SEALED = /^sealed:([0-9a-f]+):/;

export interface SealedJournalOptions {
  /** The keeper below; closed with this. */
  journal: Journal;
  /** Names the keeper to people, such as the path of its file. */
  name: string;
  keyFile: string;
  /** Whether the row of that key is confidential. */
  isConfidential: (key: string) => boolean;
}

export class SealedJournal implements Journal {
  readonly #options: SealedJournalOptions;
  #keys: readonly DataKey[] | undefined;

  constructor(options: SealedJournalOptions) {
    this.#options = options;
  }

  /** @throws JournalDamaged, naming the key file, if that cannot be read or a row cannot be opened with it */
  async load(): Promise<Map<string, string>> {
    const { journal, isConfidential } = this.#options;
    const rows = await journal.load();
    const clear: Change[] = [];
    for (const [key, value] of rows) {
      if (!isConfidential(key)) continue;
      const opened = this.#open(key, value);
      if (opened === undefined) clear.push({ key, value });
      else rows.set(key, opened);
    }
    if (clear.length > 0) await this.#seal(clear);
    return rows;
  }

  /** Rows that were written before there was encryption. A disk that is full now keeps nobody from reading them. */
  async #seal(clear: readonly Change[]): Promise<void> {
    try {
      await this.commit([clear]);
    } catch (error) {
      if (!(error instanceof JournalUnavailable)) throw error;
    }
  }

  async commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    const { journal, isConfidential } = this.#options;
    const sealed = transactions.map((changes) =>
      changes.map((change) => (isConfidential(change.key) ? new SealedChange(change, () => this.#key()) : change)),
    );
    await journal.commit(sealed);
  }

  close(): Promise<void> {
    return this.#options.journal.close();
  }

  /** The clear value of a row; undefined if it was never sealed. */
  #open(key: string, value: string): string | undefined {
    const match = SEALED.exec(value);
    if (match === null) return undefined;
    const [prefix, id] = match;
    const { name, keyFile } = this.#options;
    const dataKey = this.#known().find((candidate) => candidate.id === id);
    if (dataKey === undefined) {
      const trouble = existsSync(keyFile) ? 'holds other keys' : 'is missing';
      throw new JournalDamaged(
        `${name} is encrypted with the key ${id}, and ${keyFile}, where it belongs, ${trouble}: put it back from a backup; nothing was changed`,
      );
    }
    try {
      return dataKey.open(value.slice(prefix.length), key);
    } catch (error) {
      throw new JournalDamaged(
        `${name} is damaged: its row ${key} cannot be decrypted with the key ${id} of ${keyFile}; nothing was changed`,
        { cause: error },
      );
    }
  }

  /** The keys of the file, as they were when it was first looked at. */
  #known(): readonly DataKey[] {
    this.#keys ??= readKeys(this.#options.keyFile);
    return this.#keys ?? [];
  }

  /** The newest key; the first one is made here. */
  #key(): DataKey {
    const newest = this.#known().at(-1);
    if (newest !== undefined) return newest;
    const { keyFile } = this.#options;
    const first = DataKey.random();
    try {
      writeKeys(keyFile, [first]);
    } catch (error) {
      throw new JournalUnavailable(
        `${keyFile}, the key of the cluster's state, cannot be written (${(error as Error).message}); nothing was changed, try again later`,
        { cause: error },
      );
    }
    this.#keys = [first];
    return first;
  }
}

/** Sealed when the keeper reads it, because that is when the row below is written out. */
class SealedChange implements Change {
  readonly #change: Change;
  readonly #dataKey: () => DataKey;

  constructor(change: Change, dataKey: () => DataKey) {
    this.#change = change;
    this.#dataKey = dataKey;
  }

  get key(): string {
    return this.#change.key;
  }

  get value(): string | null {
    const { value } = this.#change;
    if (value === null) return null;
    const dataKey = this.#dataKey();
    return `sealed:${dataKey.id}:${dataKey.seal(value, this.key)}`;
  }
}
