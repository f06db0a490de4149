/**
 * A journal whose confidential rows are encrypted (row-seal.ts), whatever keeps them: the keeper below sees sealed values, the
 * store above clear ones. The key file is made with the first row that needs it. Rows written before there was encryption are
 * read as they are, and sealed when the journal is next loaded.
 */
import { JournalUnavailable, type Change, type Journal } from './journal.ts';
import { RowSeal, type RowSealOptions } from './row-seal.ts';

export interface SealedJournalOptions extends RowSealOptions {
  /** The keeper below; closed with this. */
  journal: Journal;
}

export class SealedJournal implements Journal {
  readonly #journal: Journal;
  readonly #seal: RowSeal;

  /** `seal`: that of a journal which several managers share, who all have the key. */
  constructor({ journal, ...options }: SealedJournalOptions, seal = new RowSeal(options, { mayMakeKey: true })) {
    this.#journal = journal;
    this.#seal = seal;
  }

  /** @throws JournalDamaged, naming the key file, if that cannot be read or a row cannot be opened with it; KeyFileLocked */
  async load(): Promise<Map<string, string>> {
    const rows = await this.#journal.load();
    const clear: Change[] = [];
    for (const [key, value] of rows) {
      const opened = this.#seal.open(key, value);
      if (!opened.asItShouldBe) clear.push({ key, value });
      else if (opened.value !== value) rows.set(key, opened.value);
    }
    if (clear.length > 0) await this.#sealRows(clear);
    return rows;
  }

  /** Rows that were written before there was encryption. A disk that is full now keeps nobody from reading them. */
  async #sealRows(clear: readonly Change[]): Promise<void> {
    try {
      await this.commit([clear]);
    } catch (error) {
      if (!(error instanceof JournalUnavailable)) throw error;
    }
  }

  async commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    await this.#journal.commit(transactions.map((changes) => changes.map((change) => this.#seal.seal(change))));
  }

  close(): Promise<void> {
    return this.#journal.close();
  }
}
