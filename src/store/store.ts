/**
 * The cluster's state: objects in memory, made durable by a journal.
 *
 * - `view` is synchronous and sees what is committed.
 * - `update` runs its function once, alone, on the newest state, earlier updates of the same batch included; it
 *   resolves when the changes are durable and in memory. If the function throws, nothing of it happens.
 * - Watchers hear of every committed change, in order, after memory shows it and before `update` resolves.
 * - While a batch is being made durable, later updates gather into the next one (group commit).
 *
 * Objects are frozen: change a copy and give it to `update`.
 */
import type { Change, Journal } from '../journal/journal.ts';
import { TABLES, type TableName } from './schema.ts';
import {
  emptyState,
  openTransaction,
  viewOf,
  type Event,
  type State,
  type Transaction,
  type View,
} from './transaction.ts';

export type { Event, ReadTable, Transaction, View, WriteTable } from './transaction.ts';

export type Listener = (events: readonly Event[]) => void;

interface Pending {
  run: (tx: Transaction) => unknown;
  resolve: (value: never) => void;
  reject: (error: unknown) => void;
}

/** The store was closed, or cannot go on after a failure of its journal or a listener; no more writes are taken. */
export class StoreClosed extends Error {
  override readonly name = 'StoreClosed';
}

const INDEX_KEY = 'index';
/** Bounds one batch, so that a burst of writes cannot hold the loop for long. */
const MAX_BATCH = 512;

export class Store {
  readonly #journal: Journal;
  readonly #state: State;
  readonly #view: View;
  readonly #listeners = new Set<Listener>();
  #queue: Pending[] = [];
  #writing: Promise<void> | undefined;
  #index: number;
  /** Why no more writes are asked for; those asked for before are still made, unless it has ended. */
  #closed: Error | undefined;
  #ended: Error | undefined;
  readonly #lost = Promise.withResolvers<Error>();

  private constructor(journal: Journal, state: State, index: number) {
    this.#journal = journal;
    this.#state = state;
    this.#view = viewOf(state);
    this.#index = index;
  }

  /** Opens the state that `journal` keeps. Rejects if a row cannot be understood. */
  static async open(journal: Journal): Promise<Store> {
    const state = emptyState();
    let index = 0;
    for (const [key, value] of await journal.load()) {
      if (key === INDEX_KEY) {
        index = Number(value);
        continue;
      }
      const table = key.slice(0, key.indexOf('/')) as TableName;
      if (!TABLES.includes(table)) throw new Error(`the journal has a row of an unknown kind: ${key}`);
      state[table].put(Object.freeze(JSON.parse(value)));
    }
    return new Store(journal, state, index);
  }

  /** Gives `fn` a consistent look at the committed state. The look must not be kept beyond the call. */
  view<R>(fn: (view: View) => R): R {
    return fn(this.#view);
  }

  /** A look and, without a gap, all events after it. Returns what `fn` returned and a function that ends the watch. */
  viewAndWatch<R>(fn: (view: View) => R, listener: Listener): { result: R; stop: () => void } {
    const result = fn(this.#view);
    return { result, stop: this.watch(listener) };
  }

  /**
   * Calls `listener` with the events of each committed batch. Listeners must be quick and must not throw: one that does ends
   * the store, which `lost` tells.
   */
  watch(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Runs `fn` as one transaction. Resolves with its result once that is durable. Rejects with what `fn` threw
   * (nothing changed), with JournalUnavailable (nothing changed), or with StoreClosed.
   */
  update<R>(fn: (tx: Transaction) => R): Promise<R> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    return new Promise<R>((resolve, reject) => {
      this.#queue.push({ run: fn, resolve, reject });
      this.#writing ??= this.#drain();
    });
  }

  /** Resolves with the reason if the journal or a listener fails so that the store cannot go on; else never. */
  get lost(): Promise<Error> {
    return this.#lost.promise;
  }

  /** Ends after the writes already asked for; later ones are refused. The journal stays open. */
  async close(): Promise<void> {
    this.#closed ??= new StoreClosed('the store is closed');
    await this.#writing;
  }

  async #drain(): Promise<void> {
    // One turn later: updates asked for in the same tick share the first batch.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, MAX_BATCH);
      if (this.#ended === undefined) await this.#commit(batch);
      else for (const { reject } of batch) reject(this.#ended);
    }
    this.#writing = undefined;
  }

  async #commit(batch: Pending[]): Promise<void> {
    const laid = openTransaction(this.#view, this.#index);
    let index = this.#index;
    const transactions: Change[][] = [];
    const events: Event[] = [];
    const settle: (() => void)[] = [];
    const taken: Pending[] = [];
    for (const pending of batch) {
      const { tx, events: net } = openTransaction(laid.tx, index + 1);
      let result: unknown;
      try {
        result = pending.run(tx);
      } catch (error) {
        pending.reject(error);
        continue;
      }
      const changes = net();
      taken.push(pending);
      settle.push(() => pending.resolve(result as never));
      if (changes.length === 0) continue;
      index += 1;
      const rows: Change[] = changes.map((event) => new RowChange(event));
      rows.push({ key: INDEX_KEY, value: String(index) });
      transactions.push(rows);
      for (const event of changes) events.push(event);
      laid.fold(changes);
    }
    try {
      if (transactions.length > 0) await this.#journal.commit(transactions);
    } catch (error) {
      const failure = (error as Error).name === 'JournalUnavailable' ? error : this.#lose(error as Error);
      for (const pending of taken) pending.reject(failure);
      return;
    }
    this.#index = index;
    for (const event of events) this.#apply(event);
    if (events.length > 0) this.#tell(events);
    for (const done of settle) done();
  }

  /**
   * A listener that throws has missed what it was told, and nobody will tell it again: what it keeps right would stay wrong
   * without a word. So the store ends on purpose, and who starts anew looks at all of it.
   */
  #tell(events: readonly Event[]): void {
    for (const listener of this.#listeners) {
      try {
        listener(events);
      } catch (error) {
        const cause = error instanceof Error ? error : new Error(String(error));
        this.#end(`who watches the state failed at a change of ${changesIn(events)} (${cause.message})`, cause);
      }
    }
  }

  /** What the journal holds is unknown until it is opened anew: nobody may build upon what is in memory. */
  #lose(cause: Error): Error {
    return this.#end(`what was written last is in doubt (${cause.message})`, cause);
  }

  /** Takes no more writes, for a reason that only a new start ends. */
  #end(reason: string, cause: Error): Error {
    this.#ended ??= new StoreClosed(`${reason}; droverd has to start again`, { cause });
    this.#closed ??= this.#ended;
    this.#lost.resolve(this.#ended);
    return this.#ended;
  }

  #apply(event: Event): void {
    const table = this.#state[event.table] as { put(object: unknown): void; delete(id: string): void };
    if (event.after === undefined) table.delete((event.before as { id: string }).id);
    else table.put(Object.freeze(event.after));
  }
}

/** Such as `services, tasks`. */
function changesIn(events: readonly Event[]): string {
  return [...new Set(events.map((event) => event.table))].join(', ');
}

/** The row of an object in the journal, written out when the journal reads it. */
class RowChange implements Change {
  readonly #event: Event;

  constructor(event: Event) {
    this.#event = event;
  }

  get key(): string {
    const { table, before, after } = this.#event;
    return `${table}/${(after ?? before)!.id}`;
  }

  get value(): string | null {
    const { after } = this.#event;
    return after === undefined ? null : JSON.stringify(after);
  }
}
