/**
 * Classic bugs, planted between the parts of a manager, to see whether the simulator finds them. None of it is in the parts
 * themselves.
 */
import type { Change, Journal } from '../journal/journal.ts';
import { isTerminal, TaskState } from '../model/states.ts';
import type { Event, Listener, Store, View } from '../store/store.ts';
import type { PlantedBug } from './manager-host.ts';
import type { Cluster } from './shared-journal.ts';

/** Between a look at the state and the watch that goes on from it: what happens meanwhile, nobody hears of. */
const GAP_MS = 20;

export const PLANTED = {
  /** An event is lost between snapshot and watch. */
  'lost-event': { seenByControl: withGap },
  /** What a task reserves is counted twice when it gets its node. */
  'reservation-twice': {
    seenByControl: (store: Store) => telling(store, (event) => (isPlacement(event) ? [event, event] : [event])),
  },
  /** What a task reserved is given back twice when it ends. */
  'release-twice': {
    seenByControl: (store: Store) => telling(store, (event) => (isEnd(event) ? [event, event] : [event])),
  },
  /** A write is not fenced: it is applied whoever leads by then. */
  unfenced: { keeper: withoutFence },
  /** A write is acknowledged before it is durable. */
  'early-answer': { seenByStore: (journal: Journal) => new EagerJournal(journal) },
} satisfies Record<string, PlantedBug>;

export type Planted = keyof typeof PLANTED;

function withGap(store: Store, { clock }: Parameters<NonNullable<PlantedBug['seenByControl']>>[1]): Store {
  return seenAs(store, {
    viewAndWatch: <R>(fn: (view: View) => R, listener: Listener) => {
      let stop = () => {};
      const timer = clock.after(GAP_MS, () => (stop = store.watch(listener)));
      return {
        result: store.view(fn),
        stop: () => {
          timer.cancel();
          stop();
        },
      };
    },
  });
}

function telling(store: Store, told: (event: Event) => Event[]): Store {
  return seenAs(store, {
    viewAndWatch: <R>(fn: (view: View) => R, listener: Listener) =>
      store.viewAndWatch(fn, (events) => listener(events.flatMap(told))),
  });
}

function isPlacement({ table, before, after }: Event): boolean {
  if (table !== 'tasks' || before === undefined || after === undefined) return false;
  return before.status.state < TaskState.ASSIGNED && after.status.state === TaskState.ASSIGNED;
}

function isEnd({ table, before, after }: Event): boolean {
  if (table !== 'tasks' || before === undefined || after === undefined) return false;
  return !isTerminal(before.status.state) && isTerminal(after.status.state);
}

/** The store, but for some of its methods. */
function seenAs(store: Store, instead: Partial<Store>): Store {
  return new Proxy(store, {
    get(target, name) {
      const method = (instead as Record<PropertyKey, unknown>)[name] ?? Reflect.get(target, name, target);
      return typeof method === 'function' && !(name in instead) ? method.bind(target) : method;
    },
  });
}

/** Only who takes the leader's key has to find it free; what is written is written. */
function withoutFence({ etcd }: Cluster): void {
  const txn = etcd.txn.bind(etcd);
  etcd.txn = (asked) => {
    const isElection = asked.when.some((condition) => 'createRevision' in condition && condition.createRevision === 0);
    return txn(isElection ? asked : { ...asked, when: [] });
  };
}

class EagerJournal implements Journal {
  readonly #journal: Journal;
  #tail: Promise<void> = Promise.resolve();

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  load(): Promise<Map<string, string>> {
    return this.#journal.load();
  }

  async commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    const written = transactions.map((changes) => changes.map(({ key, value }) => ({ key, value })));
    this.#tail = this.#tail.then(() => this.#journal.commit(written)).catch(() => {});
  }

  close(): Promise<void> {
    return this.#journal.close();
  }
}
