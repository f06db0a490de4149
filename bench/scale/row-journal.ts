/**
 * A journal in memory outside the JavaScript heap: each row is written out and copied, as a database would be given it, and
 * what it keeps is no burden to the garbage collector of the manager under test. A commit takes `COMMIT_MS` of simulated time.
 */
import type { Change, Journal } from '../../src/journal/journal.ts';
import type { Clock } from '../../src/model/clock.ts';
import { offHeap } from './off-heap.ts';

/** What a commit takes on a good disk. */
const COMMIT_MS = 2;
const SLAB_BYTES = 64 * 1024 * 1024;
/** Places are multiples of this; a row's length stands before it. */
const UNIT_BYTES = 64;
const LENGTH_BYTES = 4;

export class RowJournal implements Journal {
  readonly #clock: Clock;
  readonly #slabs: Buffer[] = [];
  #usedBytes = SLAB_BYTES;
  /** Key → place, in units. */
  readonly #places = new Map<string, number>();
  /** Places that are free again, by their size in units. */
  readonly #free = new Map<number, number[]>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get bytes(): number {
    return this.#slabs.length * SLAB_BYTES;
  }

  async load(): Promise<Map<string, string>> {
    const rows = new Map<string, string>();
    for (const [key, place] of this.#places) {
      const { slab, at } = this.#find(place);
      rows.set(key, slab.toString('utf8', at + LENGTH_BYTES, at + LENGTH_BYTES + slab.readUInt32LE(at)));
    }
    return rows;
  }

  async commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    for (const transaction of transactions) {
      for (const { key, value } of transaction) {
        const old = this.#places.get(key);
        if (old !== undefined) this.#release(old);
        if (value === null) this.#places.delete(key);
        else this.#places.set(key, this.#put(value));
      }
    }
    await new Promise<void>((resolve) => void this.#clock.after(COMMIT_MS, resolve));
  }

  async close(): Promise<void> {}

  #put(value: string): number {
    const length = Buffer.byteLength(value);
    const place = this.#take(unitsFor(length));
    const { slab, at } = this.#find(place);
    slab.writeUInt32LE(length, at);
    slab.write(value, at + LENGTH_BYTES);
    return place;
  }

  #take(units: number): number {
    const free = this.#free.get(units)?.pop();
    if (free !== undefined) return free;
    const bytes = units * UNIT_BYTES;
    if (bytes > SLAB_BYTES) throw new Error('a row that is larger than any this journal was made for');
    if (this.#usedBytes + bytes > SLAB_BYTES) {
      this.#slabs.push(offHeap(SLAB_BYTES));
      this.#usedBytes = 0;
    }
    const place = ((this.#slabs.length - 1) * SLAB_BYTES + this.#usedBytes) / UNIT_BYTES;
    this.#usedBytes += bytes;
    return place;
  }

  #release(place: number): void {
    const { slab, at } = this.#find(place);
    const units = unitsFor(slab.readUInt32LE(at));
    const free = this.#free.get(units);
    if (free === undefined) this.#free.set(units, [place]);
    else free.push(place);
  }

  #find(place: number): { slab: Buffer; at: number } {
    const at = place * UNIT_BYTES;
    return { slab: this.#slabs[Math.floor(at / SLAB_BYTES)]!, at: at % SLAB_BYTES };
  }
}

function unitsFor(length: number): number {
  return Math.ceil((length + LENGTH_BYTES) / UNIT_BYTES);
}
