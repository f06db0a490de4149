import { describe, expect, test } from 'vitest';
import { inRole, keeperTrouble, unusedEtcd, withKeeper } from './keeper.ts';
import type { Membership } from './membership.ts';

const etcd = { endpoints: ['e:2379'], tls: false, prefix: '/drover/' };

function membership(more: Partial<Membership> = {}): Membership {
  const address = '10.0.0.1';
  return {
    nodeId: 'n',
    clusterId: 'c',
    role: 'manager',
    listenAddress: `${address}:2377`,
    advertiseAddress: address,
    dataPathAddress: address,
    managers: [`${address}:2377`],
    ...more,
  };
}

test.each([
  ['manager', true, { role: 'manager', keeper: 'outside-etcd' }],
  ['manager', false, { role: 'manager', keeper: 'etcd' }],
  ['worker', true, { role: 'worker' }],
] as const)('who becomes a %s, an etcd being named: %s', (role, outside, expected) =>
  expect(inRole(role, outside)).toEqual(expected),
);

describe('what a manager begins with', () => {
  type Keeper = Membership['keeper'];
  test.each<[Keeper, boolean, boolean, Keeper]>([
    // A database stays what it is, and so does what the others share once they have let this one in.
    [undefined, true, true, undefined],
    [undefined, true, false, undefined],
    ['etcd', true, true, 'etcd'],
    ['outside-etcd', false, true, 'outside-etcd'],
    // Not let in yet: a wrong start is mended by another.
    ['etcd', true, false, 'outside-etcd'],
    ['outside-etcd', false, false, 'etcd'],
    ['etcd', false, false, 'etcd'],
  ])('%s, an etcd being named: %s, let in: %s', (keeper, outside, placed, expected) => {
    const before = membership(keeper === undefined ? {} : { keeper });
    expect(withKeeper(before, { outside, placed }).keeper).toBe(expected);
  });
});

test('a manager of a swarm whose state stands elsewhere says that it was started without it, or with files that are not there', () => {
  expect(keeperTrouble({ keeper: 'outside-etcd' }, undefined)).toMatch(
    /start droverd on this manager with the --etcd-/,
  );
  expect(keeperTrouble({ keeper: 'outside-etcd' }, etcd)).toBe('');
  const gone = { ...etcd, tls: true, caFile: '/no/such/ca.pem' };
  expect(keeperTrouble({ keeper: 'outside-etcd' }, gone)).toMatch('--etcd-cacert /no/such/ca.pem cannot be read');
  expect(keeperTrouble({ keeper: 'etcd' }, undefined)).toBe('');
  expect(keeperTrouble({}, gone)).toBe('');
});

test('an etcd that is named for nothing is said, on managers', () => {
  expect(unusedEtcd({ role: 'manager' }, true)).toMatch(/--etcd-endpoints is not used.* in a database of this manager/);
  expect(unusedEtcd({ role: 'manager', keeper: 'etcd' }, true)).toMatch(/managers’ own/);
  expect(unusedEtcd({ role: 'manager', keeper: 'outside-etcd' }, true)).toBe('');
  expect(unusedEtcd({ role: 'worker' }, true)).toBe('');
  expect(unusedEtcd({ role: 'manager' }, false)).toBe('');
});
