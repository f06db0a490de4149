import { expect, test } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import { node } from './nodes.fixture.ts';
import { isConfidential, snapshotOf } from './snapshot.ts';
import { Store } from './store.ts';

test('a snapshot is what the journal held at its moment, whatever is written while it is read', async () => {
  const journal = new MemoryJournal();
  const store = await Store.open(journal);
  await store.update((tx) => {
    tx.nodes.create(node('a', 'h1'));
    tx.nodes.create(node('b', 'h2'));
  });
  const then = await journal.load();
  const { index, rows } = snapshotOf(store);
  await store.update((tx) => {
    tx.nodes.remove('a');
    tx.nodes.update({ ...tx.nodes.get('b')!, gateways: { n: '10.0.0.1' } });
  });
  const read = [...rows];
  expect(new Map(read.map(({ key, value }) => [key, value]))).toEqual(then);
  expect(index).toBe(1);
  expect(read.at(-1)).toEqual({ key: 'index', value: '1' });
  await store.close();
});

test.each([
  ['clusters/cluster', true],
  ['secrets/x', true],
  ['configs/x', true],
  ['services/x', true],
  ['serviceSpecs/x', true],
  ['nodes/x', false],
  ['tasks/x', false],
  ['index', false],
])('%s is confidential: %j', (key, expected) => expect(isConfidential(key)).toBe(expected));
