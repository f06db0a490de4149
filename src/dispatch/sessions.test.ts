/** What a manager writes of its own accord, under a clock that moves when told. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import { JournalUnavailable } from '../journal/journal.ts';
import { silentLog } from '../model/clock.ts';
import type { Node } from '../model/objects.ts';
import { FakeClock, settle } from '../sim/fake-clock.ts';
import { Store } from '../store/store.ts';
import { Sessions } from './sessions.ts';
import { node } from './testbed.fixture.ts';

let clock: FakeClock;
let journal: MemoryJournal;
let store: Store;
let sessions: Sessions;

beforeEach(async () => {
  clock = new FakeClock();
  journal = new MemoryJournal();
  store = await Store.open(journal);
  const periods = { checkMs: 1_000 };
  sessions = new Sessions({ store, clock, random: Math.random, log: silentLog, managers: () => [], periods });
});
afterEach(() => sessions.close());

const state = (id: string) => store.view((view) => view.nodes.get(id)?.status.state);
const inState = (id: string, of: Node['status']['state'], since = ''): Node => ({
  ...node(id),
  status: { state: of, message: '', address: '10.77.0.1', since },
});

describe('a manager that has just started', () => {
  test('knows no node’s state until it is heard, and takes it for down after 10 s', async () => {
    await store.update((tx) => {
      tx.nodes.create(inState('a', 'ready'));
      tx.nodes.create(inState('b', 'down', new Date(clock.now()).toISOString()));
    });
    await sessions.start();
    expect([state('a'), state('b')]).toEqual(['unknown', 'down']);
    await clock.advance(9_000);
    expect(state('a')).toBe('unknown');
    await clock.advance(2_000);
    expect(state('a')).toBe('down');
  });
});

test('a node that joined and never came is down after 10 s', async () => {
  await sessions.start();
  await store.update((tx) => tx.nodes.create(node('a')));
  await clock.advance(11_000);
  expect(state('a')).toBe('down');
});

test('a verdict that the journal cannot take is written as soon as it can', async () => {
  await store.update((tx) => tx.nodes.create(inState('a', 'ready')));
  await sessions.start();
  const commit = journal.commit.bind(journal);
  journal.commit = () => Promise.reject(new JournalUnavailable('no quorum'));
  await clock.advance(12_000);
  expect(state('a')).toBe('unknown');
  journal.commit = commit;
  await clock.advance(2_000);
  expect(state('a')).toBe('down');
});

test('closing ends it all: nothing is written afterwards', async () => {
  await store.update((tx) => tx.nodes.create(inState('a', 'ready')));
  await sessions.start();
  sessions.close();
  await clock.advance(30_000);
  await settle();
  expect(state('a')).toBe('unknown');
});
