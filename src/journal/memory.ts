/** A journal that lasts as long as the process: for tests and the simulator. Passes the same compliance suite. */
import type { Change, Journal } from './journal.ts';

export class MemoryJournal implements Journal {
  readonly #values: Map<string, string>;

  /** Journals given the same map share what lasts: closing one and making another is a restart. */
  constructor(values: Map<string, string> = new Map()) {
    this.#values = values;
  }

  async load(): Promise<Map<string, string>> {
    return new Map(this.#values);
  }

  async commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    // Read everything before anything is applied: a commit that fails applies nothing.
    const changes = transactions.flat().map(({ key, value }) => ({ key, value }));
    for (const { key, value } of changes) {
      if (value === null) this.#values.delete(key);
      else this.#values.set(key, value);
    }
  }

  async close(): Promise<void> {}
}
