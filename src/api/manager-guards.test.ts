import { describe, expect, test } from 'vitest';
import type { Node } from '../model/objects.ts';
import { aNode } from './api.fixture.ts';
import { assertDemotable, leaveRefusal } from './manager-guards.ts';

/** One letter a node: `r`eachable, `u`nreachable, `j`oining, `w`orker. */
function nodes(letters: string): Node[] {
  return letters.split('').map((letter, at) => {
    const Role = letter === 'w' ? ('worker' as const) : ('manager' as const);
    const reachability = letter === 'r' ? ('reachable' as const) : ('unreachable' as const);
    const manager = { address: `n${at}:2377`, leader: at === 0, reachability };
    const spec = { Labels: {}, Role, Availability: 'active' as const };
    return aNode(`n${at}`, { spec, ...('ru'.includes(letter) ? { manager } : {}) });
  });
}

describe('demoting', () => {
  const LAST = 'attempting to demote the last manager of the swarm';
  const QUORUM = "can't remove member from the raft: this would result in a loss of quorum";
  test.each([
    ['rww', 0, LAST],
    ['rrw', 1, undefined],
    ['rr', 0, undefined],
    ['rrr', 0, undefined],
    ['rru', 1, QUORUM],
    ['rru', 2, undefined],
    ['rrruu', 1, QUORUM],
    ['rj', 0, QUORUM],
    ['rj', 1, undefined],
  ])('%s, number %i: %s', (letters, at, refused) => {
    const all = nodes(letters);
    const demote = () => assertDemotable(all[at]!, all);
    if (refused === undefined) expect(demote).not.toThrow();
    else expect(demote).toThrow(expect.objectContaining({ status: 400, message: refused }));
  });
});

describe('where the state lies in an etcd that stands elsewhere, no majority is needed', () => {
  test.each([
    ['rww', 0, 'attempting to demote the last manager of the swarm'],
    ['rr', 0, undefined],
    ['rru', 1, undefined],
    ['ruuu', 3, undefined],
    ['ruu', 0, 'attempting to demote the last manager of the swarm that can be reached'],
    ['rj', 0, 'attempting to demote the last manager of the swarm that can be reached'],
    ['rj', 1, undefined],
  ])('demoting: %s, number %i: %s', (letters, at, refused) => {
    const all = nodes(letters);
    const demote = () => assertDemotable(all[at]!, all, { outsideEtcd: true });
    if (refused === undefined) expect(demote).not.toThrow();
    else expect(demote).toThrow(expect.objectContaining({ status: 400, message: refused }));
  });

  test.each([
    ['rw', /Removing the last manager erases all current state/],
    ['ru', /manager\. Demote it first with `docker node demote`, or use `--force`/],
    ['rrr', /manager\. Demote it first/],
  ])('leaving without force: %s', (letters, said) =>
    expect(leaveRefusal('n0', nodes(letters), { outsideEtcd: true })).toMatch(said),
  );
});

describe('leaving without force', () => {
  const BEGIN = 'You are attempting to leave the swarm on a node that is participating as a manager. ';
  const RESTORE =
    'The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message.';
  const leaves = (left: number, of: number) =>
    `Removing this node leaves ${left} managers out of ${of}. Without a Raft quorum your swarm will be inaccessible. `;
  const LAST = 'Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.';
  test.each([
    ['rw', LAST],
    ['rr', leaves(1, 2) + RESTORE],
    ['rrr', RESTORE],
    ['rru', leaves(1, 3) + RESTORE],
    ['rrrrr', RESTORE],
    ['rrruu', leaves(2, 5) + RESTORE],
    ['urr', RESTORE],
  ])('%s: …%s', (letters, said) => expect(leaveRefusal('n0', nodes(letters))).toBe(BEGIN + said));

  test('when the state of the managers is not known', () =>
    expect(leaveRefusal('n0', undefined)).toBe(BEGIN + RESTORE));
});
