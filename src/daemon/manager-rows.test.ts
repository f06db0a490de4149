import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Loop } from '../control/loop.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { silentLog } from '../model/clock.ts';
import type { Node } from '../model/objects.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { Store } from '../store/store.ts';
import { managerRowsLoop, statusOf } from './manager-rows.ts';

type Reachability = NonNullable<Node['manager']>['reachability'];

function manager(id: string, said: Reachability = 'unknown', state: Node['status']['state'] = 'ready'): Node {
  return {
    id,
    meta: { version: 1, createdAt: '', updatedAt: '' },
    spec: { Labels: {}, Role: 'manager', Availability: 'active' },
    status: { state, message: '', address: '10.0.0.1', since: '' },
    manager: { address: `${id}.example:2377`, leader: false, reachability: said },
    gateways: {},
  };
}

describe('what is said of a manager', () => {
  test.each([
    ['ready', 'unknown', undefined, 'unknown'],
    ['ready', 'unknown', true, 'reachable'],
    ['ready', 'reachable', false, 'unreachable'],
    ['unknown', 'reachable', undefined, 'reachable'],
    ['unknown', 'unreachable', undefined, 'unreachable'],
    ['unknown', 'unreachable', true, 'reachable'],
    ['down', 'reachable', true, 'unreachable'],
  ] as const)('its node %s, said %s, it answers %s: %s', (state, said, answers, expected) => {
    expect(statusOf(manager('m', said, state), 'other', answers)).toMatchObject({
      leader: false,
      reachability: expected,
    });
  });

  test('who leads is in reach, whatever was said', () => {
    expect(statusOf(manager('m', 'unreachable'), 'm', undefined)).toMatchObject({
      leader: true,
      reachability: 'reachable',
    });
  });

  test('nothing of one that was demoted, or never was one', () => {
    const demoted = { ...manager('m'), spec: { ...manager('m').spec, Role: 'worker' as const } };
    const { manager: _, ...worker } = demoted;
    expect(statusOf(demoted, 'other', true)).toBeUndefined();
    expect(statusOf(worker, 'other', true)).toBeUndefined();
  });
});

describe('the rows of managers', () => {
  const clock = new FakeClock();
  const answers = new Map<string, boolean>();
  const removed: string[] = [];
  let steppedAside = 0;
  let refuse: string | undefined;
  let store: Store;
  let loop: Loop;

  beforeEach(async () => {
    answers.clear();
    removed.length = 0;
    steppedAside = 0;
    refuse = undefined;
    store = await Store.open(new MemoryJournal());
    await store.update((tx) => ['m1', 'm2', 'm3'].forEach((id) => tx.nodes.create(manager(id))));
    loop = managerRowsLoop({
      store,
      clock,
      log: silentLog,
      leaderId: 'm1',
      answers: (id) => answers.get(id),
      remove: async ({ nodeId, address }) => {
        if (refuse !== undefined) throw new Error(refuse);
        removed.push(`${nodeId} at ${address}`);
      },
      stepAside: () => (steppedAside += 1),
    });
    loop.start();
    await clock.advance(1);
  });
  afterEach(async () => {
    await loop.stop();
    await store.close();
  });

  const said = () =>
    store.view((view) =>
      [...view.nodes.all()].map(({ id, manager: one }) =>
        one === undefined ? `${id} worker` : `${id} ${one.leader ? 'leader' : one.reachability}`,
      ),
    );
  const demote = (id: string) =>
    store.update((tx) => {
      const node = tx.nodes.get(id)!;
      tx.nodes.update({ ...node, spec: { ...node.spec, Role: 'worker' } });
    });

  test('say who leads, and who answers as soon as that is known', async () => {
    expect(said()).toEqual(['m1 leader', 'm2 unknown', 'm3 unknown']);
    answers.set('m2', true).set('m3', false);
    for (const id of answers.keys()) loop.mark(id);
    await clock.advance(1);
    expect(said()).toEqual(['m1 leader', 'm2 reachable', 'm3 unreachable']);
  });

  test('one that is demoted is taken out of the journal, and then it is none', async () => {
    await demote('m2');
    await clock.advance(1);
    expect(removed).toEqual(['m2 at m2.example']);
    expect(said()).toEqual(['m1 leader', 'm2 worker', 'm3 unknown']);
  });

  test('while taking it out would lose the quorum it stays one; it goes when it can', async () => {
    refuse = 'this would result in a loss of quorum';
    await demote('m2');
    await clock.advance(1_000);
    expect(said()[1]).toBe('m2 unknown');
    refuse = undefined;
    await clock.advance(20_000);
    expect(said()[1]).toBe('m2 worker');
  });

  test('the leader that is demoted steps aside, for another to take it out', async () => {
    await demote('m1');
    await clock.advance(1);
    expect(steppedAside).toBe(1);
    expect(removed).toEqual([]);
    expect(said()[0]).toBe('m1 leader');
  });
});
