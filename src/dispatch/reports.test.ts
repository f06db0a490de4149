import { expect, test } from 'vitest';
import { JournalUnavailable } from '../journal/journal.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { TaskState } from '../model/states.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { Store } from '../store/store.ts';
import { ReportWrites } from './reports.ts';
import { node, running, task } from './testbed.fixture.ts';

/** Nodes a and b with so many tasks each, a0 … and b0 …; `rows` counts those of each transaction from then on. */
async function withTasks(count: number) {
  const journal = new MemoryJournal();
  const store = await Store.open(journal);
  const tasksOf = (nodeId: string) => Array.from({ length: count }, (_, i) => `${nodeId}${i}`);
  await store.update((tx) => {
    for (const nodeId of ['a', 'b']) {
      tx.nodes.create(node(nodeId));
      for (const id of tasksOf(nodeId)) tx.tasks.create(task(id, 's', nodeId));
    }
  });
  const rows: number[] = [];
  const commit = journal.commit.bind(journal);
  journal.commit = (transactions) => {
    rows.push(...transactions.map(({ length }) => length - 1));
    return commit(transactions);
  };
  const stateOf = (id: string) => store.view((view) => view.tasks.get(id)?.status.state);
  return { journal, store, tasksOf, rows, stateOf, writes: new ReportWrites(store, new FakeClock()) };
}

test('what several nodes report while the store is busy is one transaction, and each hears of its own', async () => {
  const { writes, rows, stateOf } = await withTasks(2);
  const stored = await Promise.all([
    writes.take('a', [running('a0')]),
    writes.take('b', [running('b0'), running('a1')]),
    writes.take('a', [running('a1', TaskState.STARTING)]),
  ]);
  expect(stored.map((foreign) => foreign.map(({ taskId }) => taskId))).toEqual([[], ['a1'], []]);
  expect(['a0', 'b0', 'a1'].map(stateOf)).toEqual([TaskState.RUNNING, TaskState.RUNNING, TaskState.STARTING]);
  expect(rows).toEqual([3]);
});

test('no transaction is larger than a journal takes, and a node’s reports keep their order', async () => {
  const { writes, rows, stateOf, tasksOf } = await withTasks(130);
  await Promise.all([
    writes.take('b', [running('b0')]),
    writes.take(
      'a',
      tasksOf('a').map((id) => running(id, TaskState.STARTING)),
    ),
    writes.take('a', [running('a0')]),
  ]);
  expect(stateOf('a0')).toBe(TaskState.RUNNING);
  expect(stateOf('a129')).toBe(TaskState.STARTING);
  expect(Math.max(...rows)).toBe(100);
});

test('a report that comes while others are made durable is not told stored with them', async () => {
  const { writes, journal, rows, stateOf } = await withTasks(1);
  const commit = journal.commit.bind(journal);
  const underWay = Promise.withResolvers<void>();
  const durable = Promise.withResolvers<void>();
  journal.commit = async (transactions) => {
    underWay.resolve();
    await durable.promise;
    await commit(transactions);
  };
  const first = writes.take('a', [running('a0')]);
  await underWay.promise;
  const second = writes.take('b', [running('b0')]);
  durable.resolve();
  await first;
  expect(stateOf('b0')).toBe(TaskState.ASSIGNED);
  await second;
  expect(rows).toEqual([1, 1]);
});

test('what the journal cannot take, all who are in it are told; the next report is a new transaction', async () => {
  const { writes, journal, stateOf } = await withTasks(1);
  const commit = journal.commit.bind(journal);
  journal.commit = () => Promise.reject(new JournalUnavailable('no quorum'));
  const refused = await Promise.allSettled([writes.take('a', [running('a0')]), writes.take('b', [running('b0')])]);
  expect(refused.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  journal.commit = commit;
  await writes.take('a', [running('a0')]);
  expect(stateOf('a0')).toBe(TaskState.RUNNING);
});
