import { describe, expect, test } from 'vitest';
import { silentLog } from '../../model/clock.ts';
import { EtcdError } from '../etcd/api.ts';
import type { MemberStatus } from './api.ts';
import { clock, Hosts } from './hosts.fixture.ts';
import type { Asked } from './statuses.ts';
import { compactionPoint, nextToDefragment, sizeWords, Upkeep } from './upkeep.ts';

const MIB = 1024 ** 2;
const MINUTE = 60_000;

describe('compactionPoint', () => {
  const every = (revisions: number[]) => revisions.map((revision, at) => ({ atMs: at * MINUTE, revision }));
  test('nothing before history is old enough', () => {
    expect(compactionPoint([], 0)).toBeUndefined();
    expect(compactionPoint(every([5_000, 6_000, 7_000]), 2 * MINUTE)).toBeUndefined();
  });
  test('what is older than five minutes', () => {
    expect(compactionPoint(every([5_000, 6_000, 7_000, 8_000, 9_000, 10_000, 11_000]), 6 * MINUTE)).toBe(6_000);
  });
  test('never the last thousand', () => {
    expect(compactionPoint(every([5_000, 5_000, 5_000, 5_000, 5_000, 5_100]), 5 * MINUTE)).toBe(4_100);
    expect(compactionPoint(every([10, 10, 10, 10, 10, 10]), 5 * MINUTE)).toBeUndefined();
  });
  test('all of it while etcd is full', () => {
    expect(compactionPoint(every([5_000]), 0, true)).toBe(5_000);
  });
});

describe('nextToDefragment', () => {
  const sized = (memberId: string, sizeMib: number, inUseMib: number): Asked => ({
    ...status(sizeMib, inUseMib),
    memberId,
    endpoint: memberId,
  });
  test('none that is small, or mostly in use', () => {
    expect(nextToDefragment([sized('leader', 60, 1), sized('b', 100, 60)], 2, false)).toBeUndefined();
  });
  test('followers before the leader', () => {
    const [leader, b] = [sized('leader', 200, 50), sized('b', 200, 50)];
    expect(nextToDefragment([leader, b], 2, false)).toBe(b);
    expect(nextToDefragment([leader, sized('b', 60, 50)], 2, false)).toBe(leader);
  });
  test('none while one of them does not answer', () => {
    expect(nextToDefragment([sized('leader', 200, 50), sized('b', 200, 50)], 3, false)).toBeUndefined();
  });
  test('small ones too while etcd is full', () => {
    const b = sized('b', 10, 5);
    expect(nextToDefragment([sized('leader', 10, 9.5), b], 2, true)).toBe(b);
  });
});

test('sizeWords say how full etcd is', () => {
  expect(sizeWords(status(900, 700), [], 1_000 * MIB)).toEqual([]);
  expect(sizeWords(status(900, 850), [], 1_000 * MIB)).toEqual([
    "the managers' etcd is nearly full (850 of 1000 MiB in use)",
  ]);
  expect(sizeWords(status(1_001, 850), [{ memberId: 'a', kind: 'nospace' }], 1_000 * MIB)[0]).toMatch(
    /is full and takes no writes \(850 of 1000 MiB in use\)/,
  );
  expect(sizeWords(status(1, 1), [{ memberId: 'a', kind: 'corrupt' }], 1_000 * MIB)[0]).toMatch(/differs/);
});

test('an etcd that is full says so, and takes writes again once there is room', async () => {
  const hosts = await Hosts.make();
  const quotaBytes = 8 * MIB;
  const host = await hosts.add('manager', { quotaBytes });
  const upkeep = new Upkeep({ connect: host.connect, endpoint: host.endpoint, quotaBytes, clock, log: silentLog });
  try {
    await host.member().bootstrap();
    const fill = async () => {
      for (let i = 0; i < 40; i++) await host.put('key', String(i).padEnd(MIB / 2, 'x'));
    };
    const error = await fill().catch((error: unknown) => error);
    expect((error as EtcdError).failure).toBe('full');
    expect(await host.get('key')).toMatch(/^\d+x/);
    upkeep.start();
    await expect.poll(() => upkeep.degraded()[0], { interval: 1 }).toMatch(/is full and takes no writes/);
    await expect.poll(() => host.put('key', 'small').then(() => 'written', String)).toBe('written');
    await expect.poll(() => upkeep.degraded()).toEqual([]);
  } finally {
    upkeep.stop();
    await hosts.dispose();
  }
});

function status(sizeMib: number, inUseMib: number): MemberStatus {
  const size = { dbSizeBytes: sizeMib * MIB, dbSizeInUseBytes: inUseMib * MIB };
  const raft = { raftIndex: 1, raftAppliedIndex: 1, revision: 1 };
  return { memberId: 'a', leaderId: 'leader', version: '3.4.23', learner: false, ...size, ...raft };
}
