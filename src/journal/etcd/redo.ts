/**
 * Transactions that are larger than one of etcd's. Their changes are first written, in parts, below `redo/`; the last part makes
 * all of it valid. Then the rows are written, in as many steps as it takes, and the last step removes the parts. Whoever reads
 * meanwhile sees none of it before the last part, and all of it from then on; a new leader finishes what it finds valid, and
 * removes what it does not.
 */
import type { Change } from '../journal.ts';
import type { Row, RowEvent } from './api.ts';
import type { Keys } from './keys.ts';

interface Part {
  last: boolean;
  changes: [key: string, value: string | null][];
}

/** What the parts of a large transaction are, none of them longer than `mostBytes` unless one change alone is. */
export function partsOf(changes: readonly Change[], mostBytes: number): string[] {
  const parts: Part[] = [];
  let bytes = Infinity;
  for (const { key, value } of changes) {
    const more = Buffer.byteLength(JSON.stringify([key, value])) + 1;
    if (bytes + more > mostBytes) {
      parts.push({ last: false, changes: [] });
      bytes = 64;
    }
    parts.at(-1)!.changes.push([key, value]);
    bytes += more;
  }
  parts.at(-1)!.last = true;
  return parts.map((part) => JSON.stringify(part));
}

/** The changes that the parts, in their order, make; undefined while the last one is missing. */
export function changesOf(parts: readonly string[]): Change[] | undefined {
  const last = parts.at(-1);
  if (last === undefined || !(JSON.parse(last) as Part).last) return undefined;
  const read = parts.map((part) => JSON.parse(part) as Part);
  return read.flatMap(({ changes }) => changes.map(([key, value]) => ({ key, value })));
}

/** What a reader makes of what lies in etcd: rows as they are after each revision, as if there were no large transactions. */
export class Reader {
  readonly #keys: Keys;
  readonly #parts = new Map<string, string>();
  /** The large transaction was told, and its rows are being written: they are known already. */
  #told = false;

  constructor(keys: Keys) {
    this.#keys = keys;
  }

  /** All rows, from all that lies in the range, sorted by key. Begins anew. */
  rows(all: readonly Row[]): Map<string, string> {
    const rows = new Map<string, string>();
    this.#parts.clear();
    for (const { key, value } of all) {
      const row = this.#keys.keyOfRow(key);
      if (row !== undefined) rows.set(row, value);
      else if (this.#keys.isRedo(key)) this.#parts.set(key, value);
    }
    const large = changesOf([...this.#parts.values()]);
    this.#told = large !== undefined;
    for (const { key, value } of large ?? []) {
      if (value === null) rows.delete(key);
      else rows.set(key, value);
    }
    return rows;
  }

  /** The changes that the events of one revision mean; they may be none. */
  changes(events: readonly RowEvent[]): Change[] {
    const changes: Change[] = [];
    let added = false;
    for (const { key, value } of events) {
      const row = this.#keys.keyOfRow(key);
      if (row !== undefined) changes.push({ key: row, value });
      else if (!this.#keys.isRedo(key)) continue;
      else if (value === null) this.#parts.delete(key);
      else {
        this.#parts.set(key, value);
        added = true;
      }
    }
    if (this.#told) {
      this.#told = this.#parts.size > 0;
      return [];
    }
    const large = added ? changesOf([...this.#parts.values()]) : undefined;
    if (large === undefined) return changes;
    this.#told = true;
    return large;
  }
}
