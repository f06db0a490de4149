/**
 * The state as the journal has it: a row for each object, `table/id` → its JSON, and the row `index` with the number of
 * the last transaction. Both ways: what a transaction writes, and what rows written elsewhere change in memory.
 */
import type { Change } from '../journal/journal.ts';
import type { Task } from '../model/objects.ts';
import { TABLES, type TableName } from './schema.ts';
import type { Event, State } from './transaction.ts';

export const INDEX_KEY = 'index';

type Stored = NonNullable<Event['after']>;

/** The row of an object in the journal, written out when the journal reads it. */
export class RowChange implements Change {
  readonly #event: Event;

  constructor(event: Event) {
    this.#event = event;
  }

  get key(): string {
    const { table, before, after } = this.#event;
    return rowKey(table, (after ?? before)!.id);
  }

  get value(): string | null {
    const { after } = this.#event;
    return after === undefined ? null : JSON.stringify(after);
  }
}

/** The row that every transaction which changes something ends with. */
export function indexRow(index: number): Change {
  return { key: INDEX_KEY, value: String(index) };
}

/** Every row of the state, the index last. Written out one by one, as they are asked for. */
export function* rowsOf(state: State, index: number): Generator<{ key: string; value: string }> {
  for (const table of TABLES) {
    for (const object of state[table].values()) {
      yield { key: rowKey(table, object.id), value: JSON.stringify(object) };
    }
  }
  yield { key: INDEX_KEY, value: String(index) };
}

/** What rows mean to the state: the events that bring it there, and the index they name, if any. */
export interface Difference {
  events: Event[];
  index: number | undefined;
}

/**
 * What makes `state` equal to `rows`, which are all there are. An object whose row says what it says already is left alone.
 *
 * @throws Error that names the row which cannot be understood
 */
export function differenceTo(state: State, rows: ReadonlyMap<string, string>): Difference {
  const byTable = new Map<TableName, Event[]>(TABLES.map((table) => [table, []]));
  const texts = new SharedTexts(state);
  for (const [table, events] of byTable) {
    for (const before of state[table].values())
      if (!rows.has(rowKey(table, before.id))) events.push(eventOf(table, before, undefined));
  }
  for (const [key, value] of rows) {
    if (key === INDEX_KEY) continue;
    const { table, id } = parseKey(key);
    const before = state[table].get(id);
    if (before !== undefined && JSON.stringify(before) === value) continue;
    byTable.get(table)!.push(eventOf(table, before, texts.share(table, parseObject(key, id, value), before)));
  }
  return { events: [...byTable.values()].flat(), index: parseIndex(rows.get(INDEX_KEY)) };
}

/**
 * What the rows of one transaction change in `state`, in their order; a row may be there more than once.
 *
 * @throws Error that names the row which cannot be understood
 */
export function eventsOf(state: State, changes: readonly Change[]): Difference {
  const events: Event[] = [];
  const laid = new Map<string, Stored | undefined>();
  const texts = new SharedTexts(state);
  let index: number | undefined;
  for (const { key, value } of changes) {
    if (key === INDEX_KEY) {
      index = parseIndex(value ?? undefined);
      continue;
    }
    const { table, id } = parseKey(key);
    const before = laid.has(key) ? laid.get(key) : state[table].get(id);
    const after = value === null ? undefined : texts.share(table, parseObject(key, id, value), before);
    if (before === undefined && after === undefined) continue;
    laid.set(key, after);
    events.push(eventOf(table, before, after));
  }
  return { events, index };
}

/**
 * The texts that many rows have in common, above all the ids by which they refer to each other. A row that was read has texts of
 * its own; what is looked for by the very text that it is kept under is found without comparing the two, and its hash is known.
 */
class SharedTexts {
  readonly #state: State;
  readonly #seen = new Map<string, string>();

  constructor(state: State) {
    this.#state = state;
  }

  /** Gives a row that was just read the texts that are there already in the place of its own. `before`: what it was. */
  share(table: TableName, row: Stored, before: Stored | undefined): Stored {
    if (table === 'nodes' || table === 'services') row.id = this.#one(row.id);
    if (table === 'tasks') this.#shareTask(row as Task, before as Task | undefined);
    return row;
  }

  #shareTask(task: Task, before: Task | undefined): void {
    for (const field of ['serviceId', 'serviceName', 'nodeId'] as const) {
      const text = task[field];
      task[field] = text === before?.[field] ? before[field] : this.#one(text);
    }
  }

  #one(text: string): string {
    let one = this.#seen.get(text);
    if (one === undefined) {
      one = this.#state.services.get(text)?.id ?? this.#state.nodes.get(text)?.id ?? text;
      this.#seen.set(text, one);
    }
    return one;
  }
}

function rowKey(table: TableName, id: string): string {
  return `${table}/${id}`;
}

function parseKey(key: string): { table: TableName; id: string } {
  const slash = key.indexOf('/');
  const table = key.slice(0, slash) as TableName;
  if (!TABLES.includes(table)) throw new Error(`the journal has a row of an unknown kind: ${key}`);
  return { table, id: key.slice(slash + 1) };
}

function parseObject(key: string, id: string, value: string): Stored {
  let object: unknown;
  try {
    object = JSON.parse(value);
  } catch (error) {
    throw new Error(`the journal has a row that is no JSON: ${key}`, { cause: error });
  }
  if ((object as { id?: unknown } | null)?.id !== id)
    throw new Error(`the journal has another object in the row ${key}`);
  return object as Stored;
}

/** No row: nothing was ever written. */
function parseIndex(value: string | undefined): number {
  const index = Number(value ?? 0);
  if (!Number.isSafeInteger(index) || index < 0)
    throw new Error(`the journal has a row ${INDEX_KEY} that is no number`);
  return index;
}

function eventOf(table: TableName, before: Stored | undefined, after: Stored | undefined): Event {
  return { table, before, after } as Event;
}
