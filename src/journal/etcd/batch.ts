/** What fits into one transaction of etcd: so many operations and bytes, and no key twice. */
import type { Change } from '../journal.ts';

export interface Limits {
  /** Rows in one transaction. */
  rows: number;
  /** Bytes of their keys and values. */
  bytes: number;
}

/** What a row costs beside its key and value. */
const ROW_BYTES = 32;

/** Changes that become one transaction; of two changes of a row the later one holds. */
export class Batch {
  readonly #limits: Limits;
  readonly #changes = new Map<string, { change: Change; bytes: number }>();
  #bytes = 0;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  get changes(): Change[] {
    return [...this.#changes.values()].map(({ change }) => change);
  }

  get size(): number {
    return this.#changes.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get fits(): boolean {
    return this.size <= this.#limits.rows && this.#bytes <= this.#limits.bytes;
  }

  /** Adds all of them if the batch fits afterwards, else none. */
  tryToAdd(changes: Iterable<Change>): boolean {
    const before = new Map<string, { change: Change; bytes: number } | undefined>();
    for (const change of changes) {
      if (!before.has(change.key)) before.set(change.key, this.#changes.get(change.key));
      this.#put(change);
    }
    if (this.fits) return true;
    for (const [key, entry] of before) {
      this.#remove(key);
      if (entry !== undefined) this.#put(entry.change);
    }
    return false;
  }

  /** Adds all of them, whether they fit or not. */
  add(changes: Iterable<Change>): void {
    for (const change of changes) this.#put(change);
  }

  #put(change: Change): void {
    const { key, value } = change;
    this.#remove(key);
    const bytes = Buffer.byteLength(key) + Buffer.byteLength(value ?? '') + ROW_BYTES;
    this.#changes.set(key, { change, bytes });
    this.#bytes += bytes;
  }

  #remove(key: string): void {
    this.#bytes -= this.#changes.get(key)?.bytes ?? 0;
    this.#changes.delete(key);
  }
}
