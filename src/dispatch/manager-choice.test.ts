import { describe, expect, test } from 'vitest';
import { ManagerChoice, round, type KnownManagers, type Outcome } from './manager-choice.ts';

const BACKOFF = { first: 100, most: 8_000 };
const configured = (...addresses: string[]): KnownManagers => ({ named: [], configured: addresses });

/** Dials and their pauses, if each comes to what `outcome` says; `random` is 1, so that pauses are the longest. */
function dials(known: KnownManagers, count: number, outcome: (address: string, at: number) => Outcome): string[] {
  const choice = new ManagerChoice(BACKOFF, () => 1);
  let address = '';
  return Array.from({ length: count }, (_, at) => {
    address = choice.next(known, address);
    return `${address} ${choice.pauseAfter(address, outcome(address, at), known)}`;
  });
}

test.each<[KnownManagers, string, string[]]>([
  [configured('a', 'b', 'c'), '', ['a', 'b', 'c']],
  [configured('a', 'b', 'c'), 'b', ['c', 'a', 'b']],
  [{ named: ['a', 'b', 'c'], configured: ['b'] }, 'b', ['c', 'a', 'b']],
  [{ named: ['b', 'c'], configured: ['a'] }, 'c', ['b', 'c', 'a']],
  [{ named: ['b', 'c'], configured: ['a', 'x'] }, 'a', ['b', 'c', 'x', 'a']],
  [configured('a'), 'a', ['a']],
])('round %#', (known, last, expected) => expect(round(known, last)).toEqual(expected));

describe('pauses', () => {
  test('of a single manager double up to the most', () =>
    expect(dials(configured('a'), 9, () => ({ kind: 'failed' }))).toEqual(
      [200, 400, 800, 1600, 3200, 6400, 8000, 8000, 8000].map((pause) => `a ${pause}`),
    ));

  test('grow by rounds through all of them', () =>
    expect(dials(configured('a', 'b', 'c'), 7, () => ({ kind: 'failed' }))).toEqual([
      'a 100',
      'b 100',
      'c 200',
      'a 200',
      'b 200',
      'c 400',
      'a 400',
    ]));

  test('begin anew after a session, with the others first', () =>
    expect(dials(configured('a', 'b', 'c'), 4, (_, at) => ({ kind: at === 1 ? 'lost' : 'failed' }))).toEqual([
      'a 100',
      'b 100',
      'c 100',
      'a 100',
    ]));

  test('stay short while nobody leads', () =>
    expect(dials(configured('a'), 5, () => ({ kind: 'referred', leader: '' }))).toEqual([
      'a 200',
      'a 400',
      'a 800',
      'a 1000',
      'a 1000',
    ]));

  test('of who was removed are the longest, of who was replaced grow', () => {
    expect(dials(configured('a'), 1, () => ({ kind: 'removed' }))).toEqual(['a 8000']);
    expect(dials(configured('a'), 2, () => ({ kind: 'replaced' }))).toEqual(['a 200', 'a 400']);
  });

  test('have jitter', () => {
    const choice = new ManagerChoice(BACKOFF, () => 0);
    expect(choice.pauseAfter('a', { kind: 'failed' }, configured('a'))).toBe(100);
  });
});

describe('the leader', () => {
  const known = configured('a', 'b', 'c');

  test('is dialled at once when it is named, also one that nobody knew', () => {
    expect(
      dials(known, 2, (address) => (address === 'a' ? { kind: 'referred', leader: 'c' } : { kind: 'lost' })),
    ).toEqual(['a 0', 'c 100']);
    expect(dials(known, 2, () => ({ kind: 'referred', leader: 'new' }))).toEqual(['a 0', 'new 100']);
  });

  test('that leads no more gives way to the others at once, if there are others', () => {
    expect(dials(known, 2, () => ({ kind: 'left' }))).toEqual(['a 0', 'b 0']);
    expect(dials(configured('a'), 1, () => ({ kind: 'left' }))).toEqual(['a 100']);
  });

  test('is not sought without a pause by those whom managers send in a circle', () =>
    expect(
      dials(configured('a', 'b'), 6, (address) => ({ kind: 'referred', leader: address === 'a' ? 'b' : 'a' })).map(
        (dial) => dial.split(' ')[1],
      ),
    ).toEqual(['0', '0', '200', '0', '0', '800']));
});
