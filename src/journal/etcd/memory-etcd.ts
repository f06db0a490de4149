/**
 * What etcd keeps, in memory: rows with revisions, and their history up to a compaction. No time and no network: the simulator's
 * twin adds both.
 */
import { EtcdError, type Condition, type Operation, type Range, type Row, type RowEvent, type Rows } from './api.ts';
import type { Txn, TxnOutcome } from './api.ts';

interface Recorded {
  event: RowEvent;
  /** The row as it was before. */
  before: Row | undefined;
}

/** All that one transaction changed: one revision. */
type Listener = (events: readonly RowEvent[]) => void;

/** So much history is kept at most: whoever is further behind has to read all rows. */
const HISTORY = 10_000;

export class MemoryEtcd {
  readonly #rows = new Map<string, Row>();
  readonly #listeners = new Set<Listener>();
  readonly #maxOps: number;
  #history: Recorded[] = [];
  #compacted = 0;
  revision = 1;

  constructor(maxOps = 128) {
    this.#maxOps = maxOps;
  }

  get(key: string): Row | undefined {
    return this.#rows.get(key);
  }

  range(range: Range, { limit = 0, revision = 0 } = {}): Rows {
    if (range.to === `${range.from}\0` && revision === 0) {
      const row = this.#rows.get(range.from);
      return { rows: row === undefined ? [] : [row], more: false, revision: this.revision };
    }
    const at = revision === 0 || revision === this.revision ? this.#rows : this.#asOf(revision);
    const rows = [...at.values()].filter(({ key }) => holds(range, key)).sort((a, b) => (a.key < b.key ? -1 : 1));
    const more = limit > 0 && rows.length > limit;
    return { rows: more ? rows.slice(0, limit) : rows, more, revision: this.revision };
  }

  txn({ when, write, otherwise }: Txn): TxnOutcome {
    if (Math.max(when.length, write.length, otherwise.length) > this.#maxOps)
      throw new EtcdError('refused', 'too many operations in txn request');
    if (isTwofold(write)) throw new EtcdError('refused', 'duplicate key given in txn request');
    if (!when.every((condition) => this.#meets(condition)))
      return { applied: false, revision: this.revision, read: otherwise.map((key) => this.#rows.get(key)) };
    this.#change(write);
    return { applied: true, revision: this.revision, read: [] };
  }

  /** All events of the history from `revision` on. Throws EtcdError `compacted`. */
  since(revision: number): RowEvent[] {
    if (revision <= this.#compacted) throw new EtcdError('compacted', 'required revision has been compacted');
    return this.#history.map(({ event }) => event).filter((event) => event.revision >= revision);
  }

  /** Calls `listener` with each change. Returns the end of it. */
  watch(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  compact(revision = this.revision): void {
    this.#compacted = Math.max(this.#compacted, revision);
    this.#history = this.#history.filter(({ event }) => event.revision > this.#compacted);
  }

  #meets({ key, value }: Condition): boolean {
    return (this.#rows.get(key)?.value ?? null) === value;
  }

  #change(operations: readonly Operation[]): void {
    const revision = this.revision + 1;
    const made: Recorded[] = [];
    for (const operation of operations) {
      if ('put' in operation) made.push(this.#put(operation, revision));
      else if ('remove' in operation) made.push(...this.#remove(operation.remove, revision));
      else {
        const { rows } = this.range(operation.removeRange);
        for (const { key } of rows) made.push(...this.#remove(key, revision));
      }
    }
    if (made.length === 0) return;
    this.revision = revision;
    for (const one of made) this.#history.push(one);
    if (this.#history.length > HISTORY) this.compact(this.#history[HISTORY / 2]!.event.revision);
    const events = made.map(({ event }) => event);
    for (const listener of this.#listeners) listener(events);
  }

  #put({ put: key, value }: { put: string; value: string }, revision: number): Recorded {
    const before = this.#rows.get(key);
    this.#rows.set(key, { key, value, modRevision: revision });
    return { event: { key, value, revision }, before };
  }

  #remove(key: string, revision: number): Recorded[] {
    const before = this.#rows.get(key);
    if (before === undefined) return [];
    this.#rows.delete(key);
    return [{ event: { key, value: null, revision }, before }];
  }

  #asOf(revision: number): Map<string, Row> {
    if (revision < this.#compacted) throw new EtcdError('compacted', 'required revision has been compacted');
    const rows = new Map(this.#rows);
    for (let i = this.#history.length - 1; i >= 0 && this.#history[i]!.event.revision > revision; i--) {
      const { event, before } = this.#history[i]!;
      if (before === undefined) rows.delete(event.key);
      else rows.set(event.key, before);
    }
    return rows;
  }
}

/** Whether a key is put that is put again, or removed: etcd takes no such transaction. */
function isTwofold(write: readonly Operation[]): boolean {
  const puts = write.flatMap((operation) => ('put' in operation ? [operation.put] : []));
  const removes = (operation: Operation, key: string) =>
    ('remove' in operation && operation.remove === key) ||
    ('removeRange' in operation && holds(operation.removeRange, key));
  return new Set(puts).size < puts.length || puts.some((key) => write.some((operation) => removes(operation, key)));
}

export function holds({ from, to }: Range, key: string): boolean {
  return key >= from && key < to;
}
