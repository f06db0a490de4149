/** How much of what waits the store makes durable in one piece. */
import { expect, test } from 'vitest';
import type { Change } from '../journal/journal.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { node, nodesOf } from './nodes.fixture.ts';
import { Store } from './store.ts';

/** A journal that notes how many rows each transaction of each batch has, the index left out. */
class NotingJournal extends MemoryJournal {
  readonly batches: number[][] = [];

  override commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    this.batches.push(transactions.map((rows) => rows.length - 1));
    return super.commit(transactions);
  }
}

async function written(sizes: readonly number[]) {
  const journal = new NotingJournal();
  const store = await Store.open(journal);
  const order: number[] = [];
  await Promise.all(
    sizes.map(async (size, at) => {
      await store.update((tx) => {
        for (let i = 0; i < size; i++) tx.nodes.create(node(`${at}-${i}`, String(tx.index)));
      });
      order.push(at);
    }),
  );
  return { batches: journal.batches, order, nodes: nodesOf(store), index: store.index };
}

test('a batch ends with the transaction that brings it to 2,000 rows', async () => {
  const sizes = Array.from({ length: 500 }, () => 50);
  const { batches, order, nodes, index } = await written(sizes);
  expect(batches.map((batch) => batch.length)).toEqual([...Array.from({ length: 12 }, () => 40), 20]);
  expect(order).toEqual(sizes.map((_, at) => at));
  expect(Object.keys(nodes)).toHaveLength(25_000);
  expect(index).toBe(500);
  // Each saw the number of its own place in the order.
  expect(sizes.every((_, at) => nodes[`${at}-49`] === String(at + 1))).toBe(true);
});

test('a transaction is never divided: one that is larger than a batch is one by itself', async () => {
  const { batches } = await written([1_999, 5_000, 1, 1]);
  expect(batches).toEqual([
    [1_999, 5_000],
    [1, 1],
  ]);
});

test('small ones: at most 512 in a batch', async () => {
  const { batches } = await written(Array.from({ length: 1_100 }, () => 1));
  expect(batches.map((batch) => batch.length)).toEqual([512, 512, 76]);
});

test('what transactions ask for in their turn is of a later batch', async () => {
  const journal = new NotingJournal();
  const store = await Store.open(journal);
  let inner: Promise<void> | undefined;
  await store.update((tx) => {
    tx.nodes.create(node('a', 'h'));
    inner = store.update((later) => later.nodes.create(node('b', 'h')));
  });
  await inner;
  expect(journal.batches).toEqual([[1], [1]]);
});

test('what waits behind a full batch hears at once when the leading ends', async () => {
  const store = Store.replica();
  store.replace(new Map());
  const journal = new NotingJournal();
  store.lead(journal);
  const all = Array.from({ length: 100 }, (_, at) =>
    store.update((tx) => {
      for (let i = 0; i < 50; i++) tx.nodes.create(node(`${at}-${i}`, 'h'));
      if (at === 60) void store.follow();
    }),
  );
  const results = await Promise.allSettled(all);
  const failed = results.map((result) => (result.status === 'rejected' ? (result.reason as Error).name : 'ok'));
  expect(failed).toEqual([
    ...Array.from({ length: 40 }, () => 'ok'),
    ...Array.from({ length: 60 }, () => 'NotLeading'),
  ]);
  expect(journal.batches).toHaveLength(1);
});
