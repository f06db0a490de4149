/**
 * What managers have shown to be so, over all their lives: a leader that begins knows all that any leader before it has shown,
 * and no row ever goes back. Remembers when things happened, in the world's time, for the rules that need it.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Task } from '../../model/objects.ts';
import { TaskState } from '../../model/states.ts';
import { TABLES, type TableName } from '../../store/schema.ts';
import type { Event, Store, View } from '../../store/store.ts';
import { backwards } from './forward.ts';
import { addressTwice, overReserved, portOrNameTwice } from './places.ts';

export class Committed {
  readonly #now: () => number;
  readonly #violated: (message: string) => void;
  readonly #rows = new Map<string, { id: string }>();
  /** The number of the newest transaction that any leader has shown. */
  index = 0;
  /** The store that showed it. */
  newest: Store | undefined;
  /** Since when a task is to run. */
  readonly startedAt = new Map<string, number>();
  /** Since when a task is to end. */
  readonly endedAt = new Map<string, number>();
  /** When a node was last known to be down; Infinity while it is. */
  readonly lostAt = new Map<string, number>();

  /** When a manager's clock last jumped: one that begins after that knows no better. */
  clockJumpedAt = -1;
  /** Told of every row that is shown: for whoever looks into a run. */
  seen: (event: Event) => void = () => {};

  constructor(now: () => number, violated: (message: string) => void) {
    this.#now = now;
    this.#violated = violated;
  }

  /** Looks at all that this store shows from now on, as a leader's or as a follower's. */
  watch(store: Store): void {
    store.watch((events) => {
      for (const event of events) this.#check(backwards(event));
      if (store.leading) this.#shown(store, events);
    });
  }

  /** This store's manager leads from now on. */
  leads(store: Store): void {
    if (store.index < this.index)
      this.#violated(`a leader begins with transaction ${store.index}, after ${this.index} was shown`);
    store.view((view) => {
      for (const [key, row] of this.#rows) this.#check(this.#compare(view, key, row, store.index === this.index));
      this.#rows.clear();
      for (const table of TABLES) {
        for (const row of view[table].all()) this.#put({ table, after: row } as Event);
      }
    });
    this.index = store.index;
    this.newest = store;
  }

  #compare(view: View, key: string, row: { id: string }, same: boolean): string | undefined {
    const table = key.slice(0, key.indexOf('/')) as TableName;
    const now = view[table].get(row.id);
    if (same && !isDeepStrictEqual(now, row)) return `${key} is not what the last leader has shown`;
    if (now === undefined) return undefined;
    return backwards({ table, before: row, after: now } as Event);
  }

  #shown(store: Store, events: readonly Event[]): void {
    // What a leader of before learns late was written before the one of now began.
    if (store.index <= this.index && this.newest !== store) return;
    this.index = store.index;
    this.newest = store;
    for (const event of events) this.#put(event);
    store.view((view) => this.#checkView(view, events));
  }

  #checkView(view: View, events: readonly Event[]): void {
    const nodes = new Set<string>();
    let addresses = false;
    for (const { table, before, after } of events) {
      if (table === 'tasks') {
        const { nodeId } = (after ?? before)!;
        if (nodeId !== '') nodes.add(nodeId);
        if (before?.networks !== after?.networks) addresses = true;
      } else if (table === 'nodes' || table === 'services' || table === 'networks') addresses = true;
    }
    for (const id of nodes) {
      const node = view.nodes.get(id);
      if (node !== undefined) this.#check(overReserved(view, node));
    }
    if (addresses) this.#check(addressTwice(view) ?? portOrNameTwice(view));
  }

  #put(event: Event): void {
    this.seen(event);
    const { table, before, after } = event;
    const key = `${table}/${(after ?? before)!.id}`;
    if (after === undefined) this.#rows.delete(key);
    else this.#rows.set(key, after);
    if (table === 'tasks' && after !== undefined) this.#timeTask(after);
    if (table === 'nodes') this.#timeNode((after ?? before)!.id, after?.status.state === 'down' || after === undefined);
  }

  #timeTask({ id, desiredState }: Task): void {
    const times = desiredState > TaskState.COMPLETE ? this.endedAt : this.startedAt;
    if (desiredState >= TaskState.RUNNING && !times.has(id)) times.set(id, this.#now());
  }

  #timeNode(id: string, lost: boolean): void {
    if (lost) this.lostAt.set(id, Infinity);
    else if (this.lostAt.get(id) === Infinity) this.lostAt.set(id, this.#now());
  }

  #check(wrong: string | undefined): void {
    if (wrong !== undefined) this.#violated(wrong);
  }
}
