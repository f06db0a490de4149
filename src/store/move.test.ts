import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { JournalUnavailable, type Change, type Journal } from '../journal/journal.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { NotLeading } from '../journal/shared.ts';
import { node, nodeRow, nodesOf } from './nodes.fixture.ts';
import { Store } from './store.ts';

/** A journal on `rows` that counts its commits, and at one of them does as told. */
class CountedJournal implements Journal {
  readonly #memory: MemoryJournal;
  commits = 0;
  largest = 0;
  atCommit: (count: number, commit: () => Promise<void>) => Promise<void> = (_, commit) => commit();

  constructor(rows: Map<string, string>) {
    this.#memory = new MemoryJournal(rows);
  }

  load(): Promise<Map<string, string>> {
    return this.#memory.load();
  }

  commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    this.largest = Math.max(this.largest, ...transactions.map((changes) => changes.length));
    this.commits += 1;
    return this.atCommit(this.commits, () => this.#memory.commit(transactions));
  }

  async close(): Promise<void> {}
}

const NODES = 2500;

/** A store of many nodes on a journal of its own, and a new journal in which an earlier move was broken off. */
async function beforeMove() {
  const oldRows = new Map<string, string>();
  const oldJournal = new CountedJournal(oldRows);
  const store = await Store.open(oldJournal);
  await store.update((tx) => {
    for (let i = 0; i < NODES; i++) tx.nodes.create(node(`n${i}`, `h${i}`));
  });
  const stale = [nodeRow('gone', 'h'), nodeRow('n1', 'as it was'), { key: 'index', value: '0' }];
  const newRows = new Map(stale.map(({ key, value }) => [key, value]));
  return { store, oldRows, oldJournal, newRows, newJournal: new CountedJournal(newRows) };
}

const create = (id: string) => (tx: Parameters<Parameters<Store['update']>[0]>[0]) => tx.nodes.create(node(id, 'h'));

describe('moveTo', () => {
  test('copies all rows in small transactions, then finish, then writes go to the new journal only', async () => {
    const { store, oldRows, oldJournal, newRows, newJournal } = await beforeMove();
    const asked = Promise.withResolvers<void>();
    oldJournal.atCommit = async (_, commit) => {
      asked.resolve();
      await setImmediate();
      await commit();
    };
    const underWay = store.update(create('before'));
    await asked.promise;
    const finished = Promise.withResolvers<void>();
    let atFinish = new Map<string, string>();
    const finish = async () => {
      atFinish = new Map(newRows);
      finished.resolve();
    };
    const moved = store.moveTo(newJournal, finish);
    await expect(store.moveTo(newJournal, finish)).rejects.toThrow('being moved');
    await underWay;
    const waits = store.update(create('after'));
    await finished.promise;
    const old = new Map(oldRows);
    await Promise.all([moved, waits]);
    expect(old.has('nodes/before')).toBe(true);
    expect(atFinish).toEqual(old);
    expect(newJournal.largest).toBeLessThanOrEqual(64);
    expect(oldRows).toEqual(old);
    expect(oldJournal.commits).toBe(2);
    expect(newRows.get('nodes/after')).toBeDefined();
    expect(newRows.get('index')).toBe('3');
    expect(Object.keys(nodesOf(await Store.open(new MemoryJournal(newRows))))).toHaveLength(NODES + 2);
  });

  test('a row that is larger than others goes alone', async () => {
    const store = await Store.open(new MemoryJournal());
    const large = 'x'.repeat(300 * 1024);
    await store.update((tx) => {
      for (const id of ['a', 'b', 'c']) tx.nodes.create(node(id, large));
    });
    const journal = new CountedJournal(new Map());
    await store.moveTo(journal, () => Promise.resolve());
    expect(journal.largest).toBe(2);
    expect((await journal.load()).size).toBe(4);
  });

  test('afterwards it leads on a shared journal: it steps down when another leads', async () => {
    const { store, newJournal } = await beforeMove();
    const over = store.steppedDown;
    await store.moveTo(newJournal, () => Promise.resolve());
    newJournal.atCommit = () => Promise.reject(new NotLeading('the fence stands'));
    await expect(store.update(create('a'))).rejects.toBeInstanceOf(NotLeading);
    expect(await over).toMatchObject({ message: 'the fence stands' });
    expect(store.leading).toBe(false);
  });

  test('whatever fails, the old journal goes on as if nothing had happened, and the next try comes to its end', async () => {
    const failures: ((journal: CountedJournal) => () => Promise<void>)[] = [
      (journal) => {
        journal.atCommit = () => Promise.reject(new JournalUnavailable('no quorum'));
        return () => Promise.resolve();
      },
      (journal) => {
        journal.atCommit = async (count, commit) => {
          await commit();
          if (count === 2) throw new Error('no answer');
        };
        return () => Promise.resolve();
      },
      () => () => Promise.reject(new Error('disk full')),
    ];
    for (const failure of failures) {
      const { store, oldRows, newRows, newJournal } = await beforeMove();
      const moved = store.moveTo(newJournal, failure(newJournal));
      const waits = store.update(create('meanwhile'));
      await expect(moved).rejects.toThrow(/no quorum|no answer|disk full/);
      await waits;
      await store.update(create('later'));
      expect(store.leading).toBe(true);
      expect(Object.keys(nodesOf(await Store.open(new MemoryJournal(oldRows))))).toHaveLength(NODES + 2);
      newJournal.atCommit = (_, commit) => commit();
      await store.moveTo(newJournal, () => Promise.resolve());
      expect(newRows).toEqual(oldRows);
    }
  });

  test('killed at any point: the old journal is whole, and so is the new one once the change was made durable', async () => {
    const commits = 3;
    for (let killAt = 1; killAt <= commits + 2; killAt++) {
      const { store, oldRows, newRows, newJournal } = await beforeMove();
      const whole = new Map(oldRows);
      const killed = Promise.withResolvers<never>();
      const dead = Promise.withResolvers<void>();
      const die = () => {
        dead.resolve();
        return killed.promise;
      };
      newJournal.atCommit = async (count, commit) => {
        if (count === killAt) return die();
        return commit();
      };
      let durable = false;
      void store.moveTo(newJournal, async () => {
        if (killAt === commits + 1) return die();
        durable = true;
        return die();
      });
      void store.update(create('never answered'));
      await dead.promise;
      expect(newJournal.commits).toBe(Math.min(killAt, commits));
      expect(oldRows).toEqual(whole);
      expect(durable).toBe(killAt === commits + 2);
      if (durable) expect(newRows).toEqual(whole);
      // The next life.
      const again = await Store.open(new MemoryJournal(durable ? newRows : oldRows));
      expect(Object.keys(nodesOf(again))).toHaveLength(NODES);
      await again.update(create('next life'));
    }
  });

  test('only a store with a journal of its own moves, and none that is closed', async () => {
    const follower = Store.replica();
    const journal = new MemoryJournal();
    await expect(follower.moveTo(journal, () => Promise.resolve())).rejects.toThrow('journal of its own');
    follower.replace(new Map());
    follower.lead(journal);
    await expect(follower.moveTo(journal, () => Promise.resolve())).rejects.toThrow('journal of its own');
    const own = await Store.open(journal);
    await own.close();
    await expect(own.moveTo(journal, () => Promise.resolve())).rejects.toMatchObject({ name: 'StoreClosed' });
  });
});
