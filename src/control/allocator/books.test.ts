import { expect, test } from 'vitest';
import { MemoryJournal } from '../../journal/memory.ts';
import { TaskState } from '../../model/states.ts';
import { Store } from '../../store/store.ts';
import { clusterRow, ipam, networkRow, serviceRow, serviceSpec, taskRow } from '../scheduler/rows.fixture.ts';
import { Books } from './books.ts';

test('a new leader goes on after the newest address, not with one that was given back a moment ago', async () => {
  const store = await Store.open(new MemoryJournal());
  await store.update((tx) => {
    tx.clusters.create(clusterRow());
    const network = networkRow('n', { IPAM: ipam('10.0.1.0/24') });
    tx.networks.create({ ...network, allocation: { subnet: '10.0.1.0/24', vni: 4097 } });
    const web = serviceRow('web', serviceSpec('web'));
    const make = (id: string, address: string, createdAt: string, state: TaskState) => {
      const networks = [{ networkId: 'n', address, aliases: [] }];
      tx.tasks.create(taskRow(id, web, { meta: { ...web.meta, createdAt }, state, networks }));
    };
    make('a', '10.0.1.20', '2026-01-01T00:00:02Z', TaskState.RUNNING);
    make('b', '10.0.1.30', '2026-01-01T00:00:03Z', TaskState.FAILED);
    make('c', '10.0.1.10', '2026-01-01T00:00:01Z', TaskState.RUNNING);
  });
  const books = new Books();
  store.view((view) => books.rebuild(view));
  expect(books.takeAddress('n')).toBe('10.0.1.31');
});
