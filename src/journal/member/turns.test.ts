import { describe, expect, test } from 'vitest';
import type { Member } from './api.ts';
import type { Asked } from './statuses.ts';
import { nextStep, standIns, told, turnsIn, type Situation, type Turns } from './turns.ts';

const member = (id: string, learner = false): Member => ({
  id,
  name: `${id}-x`,
  peerUrls: [],
  clientUrls: [],
  learner,
});
const status = (memberId: string, more: Partial<Asked> = {}): Asked => ({
  memberId,
  endpoint: `${memberId}:2379`,
  leaderId: 'a',
  version: '3.4.23',
  learner: false,
  dbSizeBytes: 1,
  dbSizeInUseBytes: 1,
  raftIndex: 5_000,
  raftAppliedIndex: 5_000,
  revision: 1,
  ...more,
});

/** Three members, `a` etcd's leader; `b` looks, and runs with the old root. */
const three: Situation = {
  selfId: 'b',
  root: 'new',
  upToDate: false,
  staleMs: 1_000,
  turns: { roots: { a: 'old', b: 'old', c: 'old' } },
  standMs: 1_000,
  members: [member('a'), member('b'), member('c')],
  statuses: [status('a'), status('b'), status('c')],
};
const turns = (turn: string | undefined, roots: Turns['roots'] = three.turns.roots): Turns => ({ roots, turn });
const current = { a: 'new', b: 'new', c: 'new' };

describe('nextStep', () => {
  const cases: [why: string, change: Partial<Situation>, step: ReturnType<typeof nextStep>][] = [
    ['nobody else is away', {}, 'restart'],
    ['it took the turn, and droverd was restarted', { turns: turns('b') }, 'restart'],
    ['another has the turn', { turns: turns('c') }, 'wait'],
    ['another took the turn long ago, and left it', { turns: turns('c'), standMs: 60_000 }, 'restart'],
    ['the one whose turn it was is no member any more', { turns: turns('z') }, 'restart'],
    ['another does not answer', { statuses: [status('a'), status('b')] }, 'wait'],
    ['it does not answer itself', { statuses: [status('a'), status('c')] }, 'restart'],
    ['another is far behind', { statuses: [status('a'), status('b'), status('c', { raftAppliedIndex: 9 })] }, 'wait'],
    ['another has no leader', { statuses: [status('a'), status('b'), status('c', { leaderId: '0' })] }, 'wait'],
    ['nobody has a leader', { statuses: ['a', 'b', 'c'].map((id) => status(id, { leaderId: '0' })) }, 'wait'],
    ['the leader goes last', { selfId: 'a' }, 'wait'],
    ['the leader, all others are done', { selfId: 'a', turns: turns(undefined, { ...current, a: 'old' }) }, 'restart'],
    ['the leader has waited long enough', { selfId: 'a', staleMs: 120_000 }, 'restart'],
    ['up to date and said so', { upToDate: true, turns: turns(undefined, current) }, 'nothing'],
    ['up to date, not said yet', { upToDate: true }, 'tell'],
    ['up to date, its turn is over', { upToDate: true, turns: turns('b', current) }, 'tell'],
    ['not in touch with the others yet', { upToDate: true, statuses: [status('b', { leaderId: '0' })] }, 'wait'],
  ];
  test.each(cases)('%s', (_why, change, step) => {
    expect(nextStep({ ...three, ...change })).toBe(step);
  });

  test('of two none can be spared: only while both answer', () => {
    const two = { ...three, members: [member('a'), member('b')], statuses: [status('a'), status('b')] };
    expect(nextStep(two)).toBe('restart');
    expect(nextStep({ ...two, statuses: [status('b')] })).toBe('wait');
  });

  test('one alone waits for nobody', () => {
    const one = { ...three, members: [member('b')], statuses: [status('b', { leaderId: 'b' })] };
    expect(nextStep(one)).toBe('restart');
  });
});

describe('standIns', () => {
  test('the leader first, learners never', () => {
    const ids = (seen: Situation) => standIns(seen)?.map(({ memberId }) => memberId);
    expect(ids({ ...three, statuses: three.statuses.toReversed() })).toEqual(['a', 'c']);
    expect(ids({ ...three, selfId: 'a' })).toEqual(['b', 'c']);
    expect(ids({ ...three, members: [member('a'), member('b'), member('c', true)] })).toEqual(['a']);
  });

  test('of five, one may be away besides', () => {
    const ids = ['a', 'b', 'c', 'd', 'e'];
    const five = { ...three, members: ids.map((id) => member(id)), statuses: ids.map((id) => status(id)) };
    expect(standIns({ ...five, statuses: five.statuses.slice(0, 4) })).toHaveLength(3);
    expect(standIns({ ...five, statuses: five.statuses.slice(0, 3) })).toBeUndefined();
  });
});

describe('what members say', () => {
  test('that they are done; those who are no more are forgotten', () => {
    const seen = { ...three, turns: turns('b', { b: 'old', c: 'new', gone: 'old' }) };
    expect(told(seen)).toEqual({ roots: { b: 'new', c: 'new' }, turn: undefined });
    expect(told({ ...seen, turns: turns('c') }).turn).toBe('c');
  });

  test('is read as it was written', () => {
    expect(turnsIn(undefined)).toEqual({ roots: {} });
    expect(turnsIn(JSON.stringify(turns('c')))).toEqual(turns('c'));
    expect(() => turnsIn('{"turn":1}')).toThrow(/roots/);
  });
});
