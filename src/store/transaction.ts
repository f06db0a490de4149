/**
 * What one `update` sees and does: the committed state with its own changes laid over it. Nothing is shared with
 * other transactions until the store takes the changes.
 */
import { Table } from './table.ts';
import { TABLES, type IndexName, type Objects, type TableName } from './schema.ts';

export interface ReadTable<T extends TableName> {
  readonly size: number;
  get(id: string): Objects[T] | undefined;
  /** Every object, in no particular order. */
  all(): Iterable<Objects[T]>;
  /** The objects an index has under `key`. */
  by(index: IndexName<T>, key: string): Objects[T][];
  /** How many `by` would return, without making them. */
  countBy(index: IndexName<T>, key: string): number;
  /** Every key under which an index has objects: far fewer, where many have one in common. */
  keys(index: IndexName<T>): Iterable<string>;
}

export interface WriteTable<T extends TableName> extends ReadTable<T> {
  /** Adds an object; throws if its id is taken. */
  create(object: Objects[T]): void;
  /** Puts an object in the place of the one with its id; throws if there is none. */
  update(object: Objects[T]): void;
  /** Removes an object; throws if there is none. */
  remove(id: string): void;
}

/** A consistent look at the state. Valid only while the function it was given to runs. */
export type View = { readonly [T in TableName]: ReadTable<T> };

/** A look at the state that can also change it. */
export type Transaction = { readonly [T in TableName]: WriteTable<T> } & {
  /** The number of this transaction: cluster-wide, only growing; what `meta.version` is set to when a spec moves. */
  readonly index: number;
};

/** One change of a committed transaction: `before` undefined: created; `after` undefined: removed. */
export type Event = { [T in TableName]: { table: T; before?: Objects[T]; after?: Objects[T] } }[TableName];

export type State = { readonly [T in TableName]: Table<T> };

export function emptyState(): State {
  return Object.fromEntries(TABLES.map((name) => [name, new Table(name)])) as unknown as State;
}

export function viewOf(state: State): View {
  return Object.fromEntries(
    TABLES.map((name) => [name, new CommittedTable(state[name] as Table<TableName>)]),
  ) as unknown as View;
}

class CommittedTable<T extends TableName> implements ReadTable<T> {
  readonly #table: Table<T>;

  constructor(table: Table<T>) {
    this.#table = table;
  }

  get size(): number {
    return this.#table.size;
  }

  get(id: string): Objects[T] | undefined {
    return this.#table.get(id);
  }

  all(): Iterable<Objects[T]> {
    return this.#table.values();
  }

  by(index: IndexName<T>, key: string): Objects[T][] {
    return this.#table.under(index, key);
  }

  countBy(index: IndexName<T>, key: string): number {
    return this.#table.countUnder(index, key);
  }

  keys(index: IndexName<T>): Iterable<string> {
    return this.#table.keysOf(index);
  }
}

/** What became of one row in a layer; undefined: not there. */
interface Laid<O> {
  readonly before: O | undefined;
  after: O | undefined;
}

/**
 * A layer of changes over one table, which stays as it is under it. Most transactions read by index nothing they
 * changed: their changes get indexes only when one is asked for.
 */
export class LayeredTable<T extends TableName> implements WriteTable<T> {
  readonly #name: T;
  readonly #below: ReadTable<T>;
  readonly #changes = new Map<string, Laid<Objects[T]>>();
  /** The row last read from below: nearly every write follows a reading of its row. */
  #lastRead: Objects[T] | undefined;
  #indexed: Table<T> | undefined;

  constructor(name: T, below: ReadTable<T>) {
    this.#name = name;
    this.#below = below;
  }

  get size(): number {
    let size = this.#below.size;
    for (const { before, after } of this.#changes.values())
      size += Number(after !== undefined) - Number(before !== undefined);
    return size;
  }

  get(id: string): Objects[T] | undefined {
    const laid = this.#changes.get(id);
    return laid === undefined ? this.#readBelow(id) : laid.after;
  }

  *all(): Iterable<Objects[T]> {
    for (const object of this.#below.all()) if (!this.#changes.has(object.id)) yield object;
    for (const { after } of this.#changes.values()) if (after !== undefined) yield after;
  }

  by(index: IndexName<T>, key: string): Objects[T][] {
    const below = this.#below.by(index, key);
    if (this.#changes.size === 0) return below;
    return [...below.filter((object) => !this.#changes.has(object.id)), ...this.#index().under(index, key)];
  }

  countBy(index: IndexName<T>, key: string): number {
    return this.#changes.size === 0 ? this.#below.countBy(index, key) : this.by(index, key).length;
  }

  *keys(index: IndexName<T>): Iterable<string> {
    for (const key of this.#below.keys(index)) if (this.countBy(index, key) > 0) yield key;
    if (this.#changes.size === 0) return;
    for (const key of this.#index().keysOf(index)) if (this.#below.countBy(index, key) === 0) yield key;
  }

  create(object: Objects[T]): void {
    const before = this.get(object.id);
    if (before !== undefined) throw new Error(`${this.#name}: ${object.id} exists already`);
    this.lay(object.id, before, object);
  }

  update(object: Objects[T]): void {
    const before = this.get(object.id);
    if (before === undefined) throw new Error(`${this.#name}: there is no ${object.id} to update`);
    this.lay(object.id, before, object);
  }

  remove(id: string): void {
    const before = this.get(id);
    if (before === undefined) throw new Error(`${this.#name}: there is no ${id} to remove`);
    this.lay(id, before, undefined);
  }

  /** Net changes against what lies below; an object created and removed again is none. */
  addEventsTo(events: Event[]): void {
    for (const { before, after } of this.#changes.values()) {
      if (before !== after) events.push({ table: this.#name, before, after } as Event);
    }
  }

  /** Puts `after` in the place of `before`, which is what `get` finds; undefined: nothing. */
  lay(id: string, before: Objects[T] | undefined, after: Objects[T] | undefined): void {
    const laid = this.#changes.get(id);
    if (laid === undefined) this.#changes.set(id, { before, after });
    else laid.after = after;
    if (after !== undefined) this.#indexed?.put(after);
    else this.#indexed?.delete(id);
  }

  #readBelow(id: string): Objects[T] | undefined {
    if (this.#lastRead?.id !== id) this.#lastRead = this.#below.get(id);
    return this.#lastRead;
  }

  #index(): Table<T> {
    if (this.#indexed === undefined) {
      this.#indexed = new Table(this.#name);
      for (const { after } of this.#changes.values()) if (after !== undefined) this.#indexed.put(after);
    }
    return this.#indexed;
  }
}

export interface OpenTransaction {
  readonly tx: Transaction;
  /** The net changes so far, in table order. */
  readonly events: () => Event[];
  /** Lays further changes, those of another transaction, over this one. */
  readonly fold: (events: readonly Event[]) => void;
}

/** Opens a transaction over `below`. */
export function openTransaction(below: View, index: number): OpenTransaction {
  const layers = new Layers(below, index);
  return {
    tx: layers as unknown as Transaction,
    events: () => layers.events(),
    fold: (events) => layers.fold(events),
  };
}

/**
 * A transaction's tables, each under its name. A layer is made when its table is first asked for: most transactions touch one
 * or two, and there is one for every report of an agent.
 */
class Layers {
  readonly index: number;
  readonly #below: View;
  /** In table order. */
  readonly #made: (LayeredTable<TableName> | undefined)[] = Array.from({ length: TABLES.length });

  static {
    TABLES.forEach((name, at) =>
      Object.defineProperty(Layers.prototype, name, {
        get(this: Layers) {
          return this.#layer(name, at);
        },
      }),
    );
  }

  constructor(below: View, index: number) {
    this.#below = below;
    this.index = index;
  }

  events(): Event[] {
    const events: Event[] = [];
    for (const layer of this.#made) layer?.addEventsTo(events);
    return events;
  }

  fold(events: readonly Event[]): void {
    for (const { table, before, after } of events)
      this.#layer(table, TABLES.indexOf(table)).lay((after ?? before)!.id, before, after);
  }

  #layer(name: TableName, at: number): LayeredTable<TableName> {
    return (this.#made[at] ??= new LayeredTable(name, this.#below[name]));
  }
}
