import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import { silentLog, timestamp } from '../model/clock.ts';
import type { Node, NodeDescription } from '../model/objects.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { Store } from '../store/store.ts';
import type { Loop } from './loop.ts';
import { newcomersLoop } from './newcomers.ts';

const MINUTE_MS = 60_000;

let clock: FakeClock;
let store: Store;
let loop: Loop;
beforeEach(async () => {
  clock = new FakeClock();
  store = await Store.open(new MemoryJournal());
  loop = newcomersLoop({ store, clock, log: silentLog });
  loop.start();
});
afterEach(() => loop.stop());

const joined = (id: string): Node => {
  const now = timestamp(clock.now());
  return {
    id,
    meta: { version: 1, createdAt: now, updatedAt: now },
    spec: { Labels: {}, Role: 'worker', Availability: 'active' },
    status: { state: 'unknown', message: '', address: '', since: now },
    gateways: {},
  };
};
const put = (node: Node) =>
  store.update((tx) => tx.nodes[tx.nodes.get(node.id) === undefined ? 'create' : 'update'](node));
const there = () => store.view((view) => [...view.nodes.all()].map(({ id }) => id).sort());

test('a node that joined and never came is forgotten after 15 minutes; one that came, and a manager, never', async () => {
  const came = joined('came');
  await put(joined('lost'));
  await put(came);
  await put({ ...joined('manager'), manager: { address: '', leader: true, reachability: 'reachable' } });
  await clock.advance(5 * MINUTE_MS);
  await put({ ...came, description: {} as NodeDescription });
  await put({ ...joined('later') });
  await clock.advance(9 * MINUTE_MS);
  expect(there()).toEqual(['came', 'later', 'lost', 'manager']);
  await clock.advance(2 * MINUTE_MS);
  expect(there()).toEqual(['came', 'later', 'manager']);
  await clock.advance(60 * MINUTE_MS);
  expect(there()).toEqual(['came', 'manager']);
});

test('the time goes on under the next manager, which gives it one minute of its own', async () => {
  await put(joined('a'));
  await loop.stop();
  await clock.advance(10 * MINUTE_MS);
  await put(joined('b'));
  await clock.advance(60 * MINUTE_MS);
  await put(joined('c'));
  loop = newcomersLoop({ store, clock, log: silentLog });
  loop.start();
  await clock.advance(MINUTE_MS / 2);
  expect(there()).toEqual(['a', 'b', 'c']);
  await clock.advance(MINUTE_MS);
  expect(there()).toEqual(['c']);
  await clock.advance(14 * MINUTE_MS);
  expect(there()).toEqual([]);
});
