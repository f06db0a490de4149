import { afterEach, describe, expect, test } from 'vitest';
import { MemoryJournal } from '../../journal/memory.ts';
import { silentLog } from '../../model/clock.ts';
import { FakeClock } from '../../sim/fake-clock.ts';
import { Store, type Transaction } from '../../store/store.ts';
import { attachmentRow, clusterRow, ipam, networkRow, nodeRow } from '../scheduler/rows.fixture.ts';
import { Allocator } from './allocator.ts';

let running: Allocator | undefined;
afterEach(() => running?.loop.stop());

async function setUp(fill: (tx: Transaction) => void) {
  const store = await Store.open(new MemoryJournal());
  await store.update((tx) => {
    tx.clusters.create(clusterRow());
    fill(tx);
  });
  const clock = new FakeClock();
  const allocator = new Allocator({ store, clock, log: silentLog });
  running = allocator;
  allocator.loop.start();
  await clock.advance(0);
  return {
    store,
    allocator,
    do: async (fn: (tx: Transaction) => void) => {
      await store.update(fn);
      await clock.advance(0);
    },
    node: (id: string) => store.view((view) => view.nodes.get(id)!),
  };
}

describe('single containers', () => {
  test('get an address and their node a gateway, and give both back', async () => {
    const {
      do: change,
      store,
      node,
      allocator,
    } = await setUp((tx) => {
      tx.networks.create(networkRow('n', { IPAM: ipam('10.0.1.0/29') }));
      tx.nodes.create(nodeRow('a'));
    });
    const before = allocator.books.contents();
    const attachment = (id: string) => store.view((view) => view.attachments.get(id)!);
    await change((tx) => {
      tx.attachments.create(attachmentRow('c1', 'n', 'a'));
      tx.attachments.create(attachmentRow('c2', 'n', 'a', { wantedAddress: '10.0.1.6' }));
    });
    const given = [node('a').gateways['n'], attachment('c1').address, attachment('c2').address];
    expect(given).toEqual(['10.0.1.2', '10.0.1.3', '10.0.1.6']);
    await change((tx) => {
      tx.attachments.create(attachmentRow('taken', 'n', 'a', { wantedAddress: '10.0.1.6' }));
      tx.attachments.create(attachmentRow('gateway', 'n', 'a', { wantedAddress: '10.0.1.1' }));
      tx.attachments.create(attachmentRow('outside', 'n', 'a', { wantedAddress: '10.0.2.6' }));
    });
    expect(['taken', 'gateway', 'outside'].map((id) => attachment(id).error)).toEqual([
      'Address already in use',
      'Address already in use',
      "Invalid address 10.0.2.6: It does not belong to any of this network's subnets",
    ]);
    await change((tx) => ['c1', 'c2'].forEach((id) => tx.attachments.remove(id)));
    expect(node('a').gateways).toEqual({});
    expect(allocator.books.contents()).toEqual(before);
  });

  test('one for whose node a small network has no gateway is refused in words', async () => {
    const { store } = await setUp((tx) => {
      tx.networks.create(networkRow('n', { IPAM: ipam('10.0.1.0/29') }));
      ['a', 'b'].forEach((id) => tx.nodes.create(nodeRow(id)));
      for (let i = 0; i < 4; i++) tx.attachments.create(attachmentRow(`c${i}`, 'n', 'a'));
      tx.attachments.create(attachmentRow('late', 'n', 'b'));
    });
    const rows = store.view((view) => [...view.attachments.all()]);
    expect(rows.filter(({ address }) => address !== undefined)).toHaveLength(3);
    expect(rows.filter(({ error }) => error?.startsWith('network n is full: all 5 addresses') === true)).toHaveLength(
      2,
    );
  });

  test('wait for the subnet of a network that is just being made', async () => {
    const { do: change, store } = await setUp((tx) => tx.nodes.create(nodeRow('a')));
    await change((tx) => {
      tx.networks.create(networkRow('n'));
      tx.attachments.create(attachmentRow('c', 'n', 'a'));
    });
    expect(store.view((view) => view.attachments.get('c')!.address)).toMatch(/^10\./);
  });
});
