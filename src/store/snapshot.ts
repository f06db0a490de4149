/**
 * All rows of the state as of one moment, while writes go on: objects are frozen, so holding them is enough; they are written
 * out one by one, as they are asked for. And which rows are confidential, wherever they are kept.
 */
import { indexRow } from './rows.ts';
import { TABLES, type TableName } from './schema.ts';
import type { Store } from './store.ts';

export interface Snapshot {
  /** The number of the last transaction in it. */
  readonly index: number;
  /** Every row as a journal has it, the index last. May be asked for once. */
  readonly rows: Iterable<{ key: string; value: string }>;
}

/** The tables whose rows hold what nobody should read off a disk: keys, tokens, secrets, credentials of registries. */
const CONFIDENTIAL: ReadonlySet<string> = new Set<TableName>([
  'clusters',
  'secrets',
  'configs',
  'services',
  'serviceSpecs',
]);

/** Whether the row of that key, such as `secrets/abc`, is confidential. */
export function isConfidential(key: string): boolean {
  return CONFIDENTIAL.has(key.slice(0, key.indexOf('/')));
}

export function snapshotOf(store: Store): Snapshot {
  const objects = store.view((view) =>
    TABLES.flatMap((table) => {
      const all: Iterable<{ id: string }> = view[table].all();
      return Array.from(all, (object) => ({ table, object }));
    }),
  );
  return { index: store.index, rows: rowsOf(objects, store.index) };
}

function* rowsOf(
  objects: readonly { table: TableName; object: { id: string } }[],
  index: number,
): Generator<{ key: string; value: string }> {
  for (const { table, object } of objects) yield { key: `${table}/${object.id}`, value: JSON.stringify(object) };
  const { key, value } = indexRow(index);
  yield { key, value: value! };
}
