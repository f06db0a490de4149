/**
 * One table in memory: objects by id, and the same objects by the keys of each index. Knows nothing of transactions.
 * An object has one row for life, and the indexes hold rows: a write touches only the indexes whose fields changed.
 */
import { INDEXES, type Index, type IndexName, type Objects, type TableName } from './schema.ts';

interface Row<T> {
  object: T;
}

interface KeptIndex<T> extends Index<T> {
  readonly found: Found<T>;
}

/** Key → the rows under it; one that is alone there stands for itself, for of slots there are as many as of tasks. */
type Found<T> = Map<string, Row<T> | Set<Row<T>>>;

export class Table<T extends TableName> {
  readonly #rows = new Map<string, Row<Objects[T]>>();
  readonly #indexes: readonly KeptIndex<Objects[T]>[];
  readonly #byName = new Map<string, KeptIndex<Objects[T]>>();

  constructor(name: T) {
    const definitions = INDEXES[name] as Record<string, Index<Objects[T]>>;
    for (const [index, { fields, keys }] of Object.entries(definitions)) {
      this.#byName.set(index, { fields, keys, found: new Map() });
    }
    this.#indexes = [...this.#byName.values()];
  }

  get size(): number {
    return this.#rows.size;
  }

  get(id: string): Objects[T] | undefined {
    return this.#rows.get(id)?.object;
  }

  *values(): Generator<Objects[T]> {
    for (const row of this.#rows.values()) yield row.object;
  }

  /** The objects an index has under a key. */
  under(index: IndexName<T>, key: string): Objects[T][] {
    const rows = this.#byName.get(index)?.found.get(key);
    if (rows === undefined) return [];
    if (!(rows instanceof Set)) return [rows.object];
    const objects: Objects[T][] = [];
    for (const { object } of rows) objects.push(object);
    return objects;
  }

  /** How many `under` returns. */
  countUnder(index: IndexName<T>, key: string): number {
    const rows = this.#byName.get(index)?.found.get(key);
    if (rows === undefined) return 0;
    return rows instanceof Set ? rows.size : 1;
  }

  /** Every key under which an index has objects. */
  keysOf(index: IndexName<T>): Iterable<string> {
    return this.#byName.get(index)?.found.keys() ?? [];
  }

  /** Puts an object in the place of the one with its id, if any. */
  put(object: Objects[T]): void {
    const row = this.#rows.get(object.id);
    if (row === undefined) {
      const fresh = { object };
      this.#rows.set(object.id, fresh);
      for (const { keys, found } of this.#indexes) for (const key of asList(keys(object))) add(found, key, fresh);
      return;
    }
    const old = row.object;
    row.object = object;
    for (const { fields, keys, found } of this.#indexes) {
      if (haveSame(fields, old, object)) continue;
      const was = keys(old);
      const is = keys(object);
      if (was === is) continue;
      const before = asList(was);
      const after = asList(is);
      for (const key of before) if (!after.includes(key)) drop(found, key, row);
      for (const key of after) if (!before.includes(key)) add(found, key, row);
    }
  }

  delete(id: string): void {
    const row = this.#rows.get(id);
    if (row === undefined) return;
    for (const { keys, found } of this.#indexes) for (const key of asList(keys(row.object))) drop(found, key, row);
    this.#rows.delete(id);
  }
}

function haveSame<T>(fields: readonly (keyof T)[], a: T, b: T): boolean {
  for (const field of fields) if (a[field] !== b[field]) return false;
  return true;
}

function asList(keys: string | readonly string[] | undefined): readonly string[] {
  if (keys === undefined) return [];
  return typeof keys === 'string' ? [keys] : keys;
}

function add<T>(found: Found<T>, key: string, row: Row<T>): void {
  const rows = found.get(key);
  if (rows === undefined) found.set(key, row);
  else if (rows instanceof Set) rows.add(row);
  else if (rows !== row) found.set(key, new Set([rows, row]));
}

function drop<T>(found: Found<T>, key: string, row: Row<T>): void {
  const rows = found.get(key);
  if (rows instanceof Set) rows.delete(row);
  if (rows === row || (rows instanceof Set && rows.size === 0)) found.delete(key);
}
