/**
 * The cluster's state: objects in memory, made durable by a journal.
 *
 * - `view` is synchronous and sees what is committed.
 * - `update` runs its function once, alone, on the newest state, earlier updates of the same batch included; it
 *   resolves when the changes are durable and in memory. If the function throws, nothing of it happens.
 * - Watchers hear of every committed change, in order, after memory shows it and before `update` resolves.
 * - While a batch is being made durable, later updates gather into the next one (group commit).
 *
 * With one manager the store has a journal of its own (`open`). With several it is a replica that either follows, told by
 * `replace` and `apply` what another manager wrote, or leads (`lead` … `follow`) and writes itself; views, watchers and those
 * who wait for an index notice nothing of the change. After leading it must be told all rows anew before it leads again:
 * what it wrote last may be in doubt.
 *
 * Objects are frozen: change a copy and give it to `update`.
 */
import type { Change, Journal } from '../journal/journal.ts';
import { NotLeading } from '../journal/shared.ts';
import { copyInto } from './move.ts';
import { Queue } from './queue.ts';
import { differenceTo, eventsOf, indexRow, RowChange, rowsOf, type Difference } from './rows.ts';
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

/** Where writes go. */
interface Writer {
  readonly journal: Journal;
  /** No other manager writes there: it ends with the store, and the store with it. */
  readonly own: boolean;
  /** Resolves, with why, when writes go there no more. */
  readonly over: PromiseWithResolvers<Error>;
}

/** `moveTo` was asked for. */
interface Move {
  readonly journal: Journal;
  readonly finish: () => Promise<void>;
  readonly done: PromiseWithResolvers<void>;
}

interface Waiter {
  readonly index: number;
  readonly reached: PromiseWithResolvers<void>;
}

/** The store was closed, or cannot go on after a failure of its journal or a listener; no more writes are taken. */
export class StoreClosed extends Error {
  override readonly name = 'StoreClosed';
}

/** Whether what was asked for happened is not known, and not known here: the state shows it once a leader is followed again. */
export class InDoubt extends Error {
  override readonly name = 'InDoubt';
}

/**
 * Bounds one batch, so that a burst of writes cannot hold the loop for long: SQLite takes a batch in one piece. No transaction
 * is begun beyond either; the last one, or a single large one, may have more rows.
 */
const MAX_BATCH = { transactions: 512, rows: 2_000 };

export class Store {
  readonly #state: State = emptyState();
  readonly #view: View = viewOf(this.#state);
  readonly #listeners = new Set<Listener>();
  readonly #waiters = new Set<Waiter>();
  /** Undefined: this store follows. */
  #writer: Writer | undefined;
  /** Whether memory is what the journal held when this store was last told all of it, and all that came after. */
  #complete = false;
  readonly #queue = new Queue<Pending>();
  #move: Move | undefined;
  #writing: Promise<void> | undefined;
  /** Gives up the commit under way: see `follow`. */
  #giveUp: ((why: Error) => void) | undefined;
  #index = 0;
  /** Why no more writes are asked for; those asked for before are still made, unless it has ended. */
  #closed: Error | undefined;
  #ended: Error | undefined;
  readonly #lost = Promise.withResolvers<Error>();

  private constructor() {}

  /** Opens the state that `journal` keeps, which nobody else writes to. Rejects if a row cannot be understood. */
  static async open(journal: Journal): Promise<Store> {
    const store = new Store();
    store.replace(await journal.load());
    store.#writer = { journal, own: true, over: Promise.withResolvers() };
    return store;
  }

  /** An empty store that follows: it is told what is written by `replace` and `apply`, and may come to `lead`. */
  static replica(): Store {
    return new Store();
  }

  /** Whether writes are taken here. */
  get leading(): boolean {
    return this.#writer !== undefined;
  }

  /** The number of the last transaction in memory; 0: none yet. */
  get index(): number {
    return this.#index;
  }

  /** Resolves once memory shows transaction `index`. Rejects with the signal's reason when aborted, or with StoreClosed. */
  async reached(index: number, signal?: AbortSignal): Promise<void> {
    if (this.#index >= index) return;
    if (this.#closed !== undefined) throw this.#closed;
    signal?.throwIfAborted();
    const waiter: Waiter = { index, reached: Promise.withResolvers() };
    const abort = () => waiter.reached.reject(signal?.reason);
    this.#waiters.add(waiter);
    signal?.addEventListener('abort', abort);
    try {
      await waiter.reached.promise;
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#waiters.delete(waiter);
    }
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
   * Runs `fn` as one transaction. Resolves with its result once that is durable. Rejects with what `fn` threw, with
   * JournalUnavailable, with NotLeading or with StoreClosed: nothing changed; or with InDoubt.
   */
  update<R>(fn: (tx: Transaction) => R): Promise<R> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    if (this.#writer === undefined) return Promise.reject(notLeading());
    return new Promise<R>((resolve, reject) => {
      this.#queue.push({ run: fn, resolve, reject });
      this.#writing ??= this.#drain();
    });
  }

  /**
   * All rows, as a journal has them, that a leader elsewhere has written: memory becomes that. Watchers hear of the difference
   * as of one batch; what is the same stays the same object. Throws, and changes nothing, if a row cannot be understood, if
   * this store leads or was closed.
   */
  replace(rows: ReadonlyMap<string, string>): void {
    this.#assertFollowing();
    this.#show(differenceTo(this.#state, rows), 0);
    this.#complete = true;
  }

  /**
   * The next transaction that a leader elsewhere has written. Throws, and changes nothing, if a row cannot be understood or
   * the transaction was told before, if no `replace` has told what it changes, if this store leads or was closed.
   */
  apply(changes: readonly Change[]): void {
    this.#assertFollowing();
    if (!this.#complete) throw new Error('changes were told before all rows were');
    const difference = eventsOf(this.#state, changes);
    if (difference.index !== undefined && difference.index <= this.#index)
      throw new Error(`transaction ${difference.index} was told again, after ${this.#index}`);
    this.#show(difference, this.#index);
  }

  /**
   * From now on writes go to `journal`, which is shared with other managers; memory must be what it holds. The store steps down
   * by itself when a write is refused because another leads, or is in doubt. Throws unless it follows, has been told all rows,
   * and no commit of an earlier leadership is under way (await `follow` first).
   */
  lead(journal: Journal): void {
    this.#assertFollowing();
    if (!this.#complete) throw new Error('a store leads only after it was told all rows');
    this.#writer = { journal, own: false, over: Promise.withResolvers() };
  }

  /**
   * Ends leading at once: writes that wait or come later reject with NotLeading. Resolves when the commit under way, if any,
   * has come to its end; `signal` gives it up, and its updates reject with InDoubt. Does nothing more if it follows already.
   */
  async follow(signal?: AbortSignal): Promise<void> {
    if (this.#writer?.own === true) throw new Error('a store with a journal of its own has nobody to follow');
    this.#stepDown(notLeading());
    if (this.#writing === undefined) return;
    const giveUp = () => this.#giveUp?.(new Error('it was given up', { cause: signal?.reason }));
    signal?.addEventListener('abort', giveUp);
    if (signal?.aborted === true) giveUp();
    await this.#writing;
    signal?.removeEventListener('abort', giveUp);
  }

  /** Resolves, with why, when the leading of now ends, whoever ends it; at once if this store follows. */
  get steppedDown(): Promise<Error> {
    return this.#writer?.over.promise ?? Promise.resolve(notLeading());
  }

  /**
   * Moves from the journal of its own to `journal`, shared with other managers: between two batches all rows are copied there,
   * `finish` makes the change of keeper durable, and then writes go there, as after `lead`. Writes wait meanwhile. If copying
   * or `finish` fails it rejects with that, and the old journal goes on as if nothing had happened: so `finish` must reject
   * only if the change will not be seen at the next start. The old journal is never written by this, nor after `finish`;
   * what a broken-off copy left in the new one is made right by the next.
   */
  async moveTo(journal: Journal, finish: () => Promise<void>): Promise<void> {
    if (this.#closed !== undefined) throw this.#closed;
    if (this.#writer?.own !== true) throw new Error('only a store with a journal of its own moves to another');
    if (this.#move !== undefined) throw new Error('the state is being moved to another journal already');
    this.#move = { journal, finish, done: Promise.withResolvers() };
    this.#writing ??= this.#drain();
    await this.#move.done.promise;
  }

  /** Resolves with the reason if the journal or a listener fails so that the store cannot go on; else never. */
  get lost(): Promise<Error> {
    return this.#lost.promise;
  }

  /** Ends after the writes already asked for; later ones are refused. The journal stays open. */
  async close(): Promise<void> {
    this.#closed ??= new StoreClosed('the store is closed');
    await this.#writing;
    this.#forsake(this.#closed);
  }

  async #drain(): Promise<void> {
    // One turn later: updates asked for in the same tick share the first batch.
    await Promise.resolve();
    for (;;) {
      const writer = this.#writer;
      if (writer === undefined) break;
      if (this.#move !== undefined) await this.#moveRows(this.#move, writer);
      else if (this.#queue.length > 0) await this.#commit(writer);
      else break;
    }
    this.#writing = undefined;
  }

  async #commit(writer: Writer): Promise<void> {
    const laid = openTransaction(this.#view, this.#index);
    let index = this.#index;
    const transactions: Change[][] = [];
    const events: Event[] = [];
    const settle: (() => void)[] = [];
    const taken: Pending[] = [];
    // What these ask for in their turn is of a later batch.
    let left = Math.min(this.#queue.length, MAX_BATCH.transactions);
    for (; left > 0 && events.length < MAX_BATCH.rows; left -= 1) {
      const pending = this.#queue.shift();
      // One of them has ended the leading, and those that wait were told.
      if (pending === undefined) break;
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
      rows.push(indexRow(index));
      transactions.push(rows);
      for (const event of changes) events.push(event);
      laid.fold(changes);
    }
    try {
      if (transactions.length > 0) await this.#write(transactions, writer);
    } catch (error) {
      const failure = this.#failed(error as Error, writer);
      for (const pending of taken) pending.reject(failure);
      return;
    }
    this.#show({ events, index }, this.#index);
    for (const done of settle) done();
  }

  async #write(transactions: readonly Change[][], writer: Writer): Promise<void> {
    // A transaction's own function may have ended the leading.
    if (this.#writer !== writer) throw notLeading();
    const givenUp = Promise.withResolvers<never>();
    this.#giveUp = givenUp.reject;
    try {
      await Promise.race([writer.journal.commit(transactions), givenUp.promise]);
    } finally {
      this.#giveUp = undefined;
    }
  }

  /** What a failed commit means; returns what its updates are told. */
  #failed(error: Error, writer: Writer): unknown {
    if (error.name === 'JournalUnavailable') return error;
    // What the journal holds is unknown until it is opened anew: nobody may build upon what is in memory.
    if (writer.own) return this.#end(inDoubt(error), error);
    const refused = error.name === 'NotLeading';
    if (this.#writer === writer) this.#stepDown(refused ? error : notLeading(error));
    return refused ? error : new InDoubt(inDoubt(error), { cause: error });
  }

  async #moveRows({ journal, finish, done }: Move, writer: Writer): Promise<void> {
    try {
      await copyInto(journal, rowsOf(this.#state, this.#index));
      await finish();
    } catch (error) {
      this.#move = undefined;
      done.reject(error);
      return;
    }
    this.#move = undefined;
    this.#writer = { ...writer, journal, own: false };
    done.resolve();
  }

  /** Writes go nowhere from now on. Those that wait are told why. */
  #stepDown(why: Error): void {
    const writer = this.#writer;
    if (writer === undefined) return;
    this.#writer = undefined;
    this.#complete = false;
    for (let pending = this.#queue.shift(); pending !== undefined; pending = this.#queue.shift()) pending.reject(why);
    this.#move?.done.reject(why);
    this.#move = undefined;
    writer.over.resolve(why);
  }

  #assertFollowing(): void {
    if (this.#closed !== undefined) throw this.#closed;
    if (this.#writer !== undefined) throw new Error('this store leads: nobody else tells it what was written');
    if (this.#writing !== undefined) throw new Error('the last commit of this store has not come to its end');
  }

  /** Memory shows it, then the watchers hear of it, then those who wait for its index. */
  #show({ events, index }: Difference, unnamed: number): void {
    for (const event of events) this.#put(event);
    this.#index = index ?? unnamed;
    if (events.length > 0) this.#tell(events);
    for (const waiter of this.#waiters) if (waiter.index <= this.#index) waiter.reached.resolve();
  }

  /**
   * A listener that throws has missed what it was told, and nobody will tell it again: what it keeps right would stay wrong
   * without a word. So the store ends on purpose, and who starts anew looks at all of it.
   */
  #tell(events: readonly Event[]): void {
    // Who begins to watch meanwhile has seen all this, and who ends it meanwhile wants no more.
    const watching = [...this.#listeners];
    for (const listener of watching) {
      if (!this.#listeners.has(listener)) continue;
      try {
        listener(events);
      } catch (error) {
        const cause = error instanceof Error ? error : new Error(String(error));
        this.#end(`who watches the state failed at a change of ${changesIn(events)} (${cause.message})`, cause);
      }
    }
  }

  /** Takes no more writes, for a reason that only a new start ends. */
  #end(reason: string, cause: Error): Error {
    this.#ended ??= new StoreClosed(`${reason}; droverd has to start again`, { cause });
    this.#closed ??= this.#ended;
    this.#stepDown(this.#ended);
    this.#forsake(this.#ended);
    this.#lost.resolve(this.#ended);
    return this.#ended;
  }

  /** Nothing will be reached any more. */
  #forsake(why: Error): void {
    for (const waiter of this.#waiters) waiter.reached.reject(why);
  }

  #put(event: Event): void {
    const table = this.#state[event.table] as { put(object: unknown): void; delete(id: string): void };
    if (event.after === undefined) table.delete((event.before as { id: string }).id);
    else table.put(Object.freeze(event.after));
  }
}

/** `lastWrite`: what an earlier write failed with, so that leading ended. */
function notLeading(lastWrite?: Error): NotLeading {
  const why = lastWrite === undefined ? '' : `, because ${inDoubt(lastWrite)}`;
  return new NotLeading(`this manager does not lead the swarm${why}; nothing was changed`, { cause: lastWrite });
}

function inDoubt(cause: Error): string {
  return `what was written last is in doubt (${cause.message})`;
}

/** Such as `services, tasks`. */
function changesIn(events: readonly Event[]): string {
  return [...new Set(events.map((event) => event.table))].join(', ');
}
