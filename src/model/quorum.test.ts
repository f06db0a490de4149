import { describe, expect, test } from 'vitest';
import { countManagers, quorumOf, quorumWithout, type ManagerRow } from './quorum.ts';

/** One letter a node: `r`eachable, `u`nreachable, unknown `?`, `d`emoted but still taking part, `j`oining, `w`orker. */
function rows(letters: string): ManagerRow[] {
  const reachability = { r: 'reachable', u: 'unreachable', '?': 'unknown', d: 'reachable' } as const;
  return letters.split('').map((letter, at) => {
    const Role = letter === 'w' || letter === 'd' ? 'worker' : 'manager';
    const row: ManagerRow = { id: `n${at}`, spec: { Labels: {}, Role, Availability: 'active' } };
    if (!(letter in reachability)) return row;
    const said = reachability[letter as keyof typeof reachability];
    return { ...row, manager: { address: `n${at}:2377`, leader: at === 0, reachability: said } };
  });
}

test.each([
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 3],
  [5, 3],
  [7, 4],
])('the quorum of %i managers is %i', (managers, quorum) => expect(quorumOf(managers)).toBe(quorum));

test('who takes part is counted by reach', () =>
  expect(countManagers(rows('rru?djw'))).toEqual({ reachable: 3, unreachable: 1 }));

describe('a majority remains without', () => {
  test.each([
    ['the only manager', 'r', 0, false],
    ['one of two', 'rr', 1, true],
    ['the leader of two', 'rr', 0, true],
    ['the one of two that is gone', 'ru', 1, true],
    ['the one of two that is left', 'ru', 0, false],
    ['one of three', 'rrr', 2, true],
    ['one of three while another is gone', 'rru', 1, false],
    ['the one of three that is gone', 'rru', 2, true],
    ['one of three while another is not known yet', 'rr?', 1, false],
    ['one of five while two are gone', 'rrruu', 1, false],
    ['one of five while one is gone', 'rrrru', 1, true],
    ['one of three while another is being demoted', 'rrd', 1, true],
    ['the last one that is not being demoted', 'rdd', 0, false],
    ['the last one while another is joining', 'rj', 0, false],
    ['one that is joining', 'rj', 1, true],
    ['a worker', 'rrw', 2, true],
  ])('%s (%s): %s', (_what, letters, at, expected) => expect(quorumWithout(rows(letters), `n${at}`)).toBe(expected));
});
