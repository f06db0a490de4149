/** When a member is started again, and what is said: with an etcd of words, and a clock that is told. */
import { describe, expect, test } from 'vitest';
import { silentLog } from '../../model/clock.ts';
import { FakeClock } from '../../sim/fake-clock.ts';
import type { EtcdApi } from '../etcd/api.ts';
import { EtcdUnreachable, type MemberApi, type MemberStatus } from './api.ts';
import { Restarts } from './restarts.ts';

const ids = ['a', 'b', 'c'];
const urlOf = (id: string) => `https://${id}:2379`;

/** Three members of which `a` is this node's and `b` leads; what answers, and what was done. */
function world() {
  const clock = new FakeClock();
  const seen = {
    upToDate: false,
    silent: new Set<string>(),
    turns: null as string | null,
    restarts: 0,
    asked: ['a:2379'] as readonly string[],
    /** Where the journal asked while the member was started again. */
    askedMeanwhile: undefined as readonly string[] | undefined,
    beforeTurn: () => {},
  };
  const status = async (memberId: string): Promise<MemberStatus> => {
    if (seen.silent.has(memberId)) throw new EtcdUnreachable('silent');
    const size = { dbSizeBytes: 1, dbSizeInUseBytes: 1, raftIndex: 1, raftAppliedIndex: 1, revision: 1 };
    return { memberId, leaderId: 'b', version: '3.4.23', learner: false, ...size };
  };
  const api = (endpoints: readonly string[]): Partial<MemberApi> => ({
    status: () => status(endpoints[0]![0]!),
    agreedRevision: async () => (await status(endpoints[0]![0]!)).revision,
    members: async () =>
      ids.map((id) => ({ id, name: `${id}-x`, peerUrls: [], clientUrls: [urlOf(id)], learner: false })),
    close: () => {},
  });
  const etcd: Partial<EtcdApi> = {
    range: async () => ({
      rows: seen.turns === null ? [] : [{ key: 'turns', value: seen.turns, modRevision: 1 }],
      more: false,
      revision: 1,
    }),
    async txn({ when, write }) {
      seen.beforeTurn();
      const applied = when[0]!.value === seen.turns;
      if (applied) seen.turns = (write[0] as { value: string }).value;
      return { applied, revision: 1, read: [] };
    },
    close: () => {},
  };
  const restarts = new Restarts({
    member: {
      name: 'a-x',
      endpoint: 'a:2379',
      upToDate: async () => seen.upToDate,
      rootDigest: async () => 'new',
      async restart() {
        seen.restarts += 1;
        seen.askedMeanwhile = seen.asked;
        seen.upToDate = true;
        seen.silent.delete('a');
      },
    },
    connect: (endpoints) => api(endpoints) as MemberApi,
    open: async () => etcd as EtcdApi,
    divert: (endpoints) => (seen.asked = endpoints),
    key: 'turns',
    clock,
    log: silentLog,
  });
  return { clock, seen, restarts };
}

describe('a member that runs with what holds no more', () => {
  test('is started again in its turn, while the journal asks the leader’s; then the turn is over', async () => {
    const { clock, seen, restarts } = world();
    restarts.start();
    await clock.advance(2_000);
    expect(seen.restarts).toBe(1);
    expect(seen.askedMeanwhile).toEqual(['b:2379', 'c:2379']);
    expect(seen.asked).toEqual(['a:2379']);
    expect(JSON.parse(seen.turns!)).toEqual({ roots: { a: 'new' } });
    await clock.advance(60_000);
    expect(seen.restarts).toBe(1);
  });

  test('waits for one that does not answer, says so after a minute, and goes on by itself', async () => {
    const { clock, seen, restarts } = world();
    seen.silent.add('c');
    restarts.start();
    await clock.advance(59_000);
    expect(restarts.degraded()).toEqual([]);
    await clock.advance(2_000);
    expect(restarts.degraded()[0]).toMatch(/as soon as the other managers' etcd can do without it/);
    expect(seen.restarts).toBe(0);
    seen.silent.clear();
    await clock.advance(2_000);
    expect(seen.restarts).toBe(1);
    expect(restarts.degraded()).toEqual([]);
  });

  test('has its root everywhere once all have said so, and not while they cannot be asked', async () => {
    const { clock, seen, restarts } = world();
    expect(await restarts.isEverywhere()).toBe(false);
    seen.turns = JSON.stringify({ roots: { b: 'new', c: 'new' } });
    restarts.start();
    await clock.advance(2_000);
    expect(await restarts.isEverywhere()).toBe(true);
    seen.turns = JSON.stringify({ roots: { a: 'new', b: 'old', c: 'new' } });
    expect(await restarts.isEverywhere()).toBe(false);
    seen.turns = 'nonsense';
    expect(await restarts.isEverywhere()).toBe(false);
  });

  test('does not begin if another takes the turn in between', async () => {
    const { clock, seen, restarts } = world();
    const others = JSON.stringify({ roots: {}, turn: 'c' });
    seen.beforeTurn = () => (seen.turns = others);
    restarts.start();
    await clock.advance(30_000);
    expect([seen.restarts, seen.turns]).toEqual([0, others]);
  });

  test('does not begin once nobody looks after it any more', async () => {
    const { clock, seen, restarts } = world();
    seen.beforeTurn = () => restarts.stop();
    restarts.start();
    await clock.advance(30_000);
    expect([seen.restarts, seen.asked]).toEqual([0, ['a:2379']]);
  });

  test('is started without a turn if it has not answered for a minute: it is of no use as it is', async () => {
    const { clock, seen, restarts } = world();
    seen.silent = new Set(ids);
    restarts.start();
    await clock.advance(59_000);
    expect(seen.restarts).toBe(0);
    await clock.advance(3_000);
    expect(seen.restarts).toBe(1);
    expect(seen.askedMeanwhile).toEqual(['a:2379']);
  });
});
