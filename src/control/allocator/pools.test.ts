import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatIPv4, formatSubnet, parseIPv4, parseSubnet } from '../../model/addresses.ts';
import { ipam, networkRow } from '../scheduler/rows.fixture.ts';
import { AddressPool } from './address-pool.ts';
import { PortPool } from './port-pool.ts';
import { addressPlan, chooseSubnet, chooseVni, type Taken } from './subnets.ts';

const address = (text: string) => parseIPv4(text)!;
const subnet = (text: string) => parseSubnet(text)!;

describe('AddressPool', () => {
  test('gives every address but the first, the last and the reserved, once; then none', () => {
    const pool = new AddressPool(subnet('10.0.1.0/29'), undefined, [address('10.0.1.1')]);
    const given = Array.from({ length: 6 }, () => pool.take());
    expect(given.map((value) => value && formatIPv4(value))).toEqual([
      '10.0.1.2',
      '10.0.1.3',
      '10.0.1.4',
      '10.0.1.5',
      '10.0.1.6',
      undefined,
    ]);
    expect([pool.capacity, pool.free]).toEqual([5, 0]);
  });

  test('goes round: what was just released comes last', () => {
    const pool = new AddressPool(subnet('10.0.1.0/29'));
    const first = pool.take()!;
    pool.release(first);
    const next = Array.from({ length: 6 }, () => pool.take()!);
    expect(next.indexOf(first)).toBe(5);
  });

  test('a range narrows it; what lies outside is passed over', () => {
    const pool = new AddressPool(subnet('10.0.0.0/16'), subnet('10.0.255.252/30'), [address('10.0.0.1')]);
    pool.claim(address('10.0.3.3'));
    pool.release(address('10.0.255.255'));
    expect(pool.free).toBe(3);
    expect([pool.take(), pool.take(), pool.take(), pool.take()]).toEqual([
      address('10.0.255.252'),
      address('10.0.255.253'),
      address('10.0.255.254'),
      undefined,
    ]);
  });

  test('who asks for an address gets it if it is free, outside the range too, and never a reserved one', () => {
    const pool = new AddressPool(subnet('10.0.0.0/24'), subnet('10.0.0.128/25'), [address('10.0.0.1')]);
    const free = (...last: number[]) => last.map((each) => pool.isFree(address(`10.0.0.${each}`)));
    expect(free(0, 1, 2, 130, 255)).toEqual([false, false, true, true, false]);
    expect(pool.isFree(address('10.0.1.2'))).toBe(false);
    for (const last of [1, 2, 130]) pool.claim(address(`10.0.0.${last}`));
    expect(free(1, 2, 130)).toEqual([false, false, false]);
    expect(pool.inUse()).toEqual([address('10.0.0.2'), address('10.0.0.130')]);
    for (const last of [1, 2, 130]) pool.release(address(`10.0.0.${last}`));
    expect(free(1, 2, 130)).toEqual([false, true, true]);
    expect(pool.inUse()).toEqual([]);
  });

  test('behaves as a set', () => {
    const operation = fc.oneof(
      fc.constant('take' as const),
      fc.nat(255).map((claim) => ({ claim })),
      fc.nat(255).map((release) => ({ release })),
    );
    fc.assert(
      fc.property(fc.integer({ min: 24, max: 30 }), fc.array(operation, { maxLength: 400 }), (prefix, operations) => {
        const base = address('192.168.7.0');
        const size = 2 ** (32 - prefix);
        const pool = new AddressPool({ base, prefix }, undefined, [base + 1]);
        const model = new Set<number>();
        const givable = (value: number) => value > base + 1 && value < base + size - 1;
        for (const op of operations) {
          if (op === 'take') {
            const value = pool.take();
            if (value === undefined) expect(model.size).toBe(pool.capacity);
            else {
              expect(givable(value) && !model.has(value)).toBe(true);
              model.add(value);
            }
          } else if ('claim' in op) {
            pool.claim(base + op.claim);
            if (givable(base + op.claim)) model.add(base + op.claim);
          } else {
            pool.release(base + op.release);
            model.delete(base + op.release);
          }
          expect(pool.free).toBe(pool.capacity - model.size);
        }
        expect(pool.inUse()).toEqual([...model].sort((a, b) => a - b));
      }),
    );
  });
});

describe('PortPool', () => {
  test('a port has one owner for each protocol', () => {
    const ports = new PortPool();
    expect(ports.claim('tcp', 80, 'a')).toBe(true);
    expect(ports.claim('tcp', 80, 'a')).toBe(true);
    expect(ports.claim('tcp', 80, 'b')).toBe(false);
    expect(ports.claim('udp', 80, 'b')).toBe(true);
    ports.release('tcp', 80, 'b');
    expect(ports.owner('tcp', 80)).toBe('a');
    ports.release('tcp', 80, 'a');
    expect(ports.inUse()).toEqual(['udp/80=b']);
  });

  test('dynamic ports go round and pass over what is taken', () => {
    const ports = new PortPool({ first: 100, last: 103 });
    ports.claim('tcp', 101, 'a');
    const next = () => ports.nextDynamic('tcp', new Set([102]));
    expect([next(), next(), next()]).toEqual([100, 103, 100]);
    ports.claim('tcp', 100, 'a');
    ports.claim('tcp', 103, 'a');
    expect(next()).toBeUndefined();
    expect(ports.nextDynamic('udp', new Set())).toBe(101);
  });
});

describe('chooseSubnet', () => {
  const policy = { pools: ['10.0.0.0/8'], prefix: 20 };
  const taken = (...cidrs: string[]): Taken[] => cidrs.map((cidr) => ({ subnet: subnet(cidr), what: 'network other' }));
  const choose = (
    spec: Parameters<typeof networkRow>[1],
    others: Taken[] = [],
    rest: { policy?: typeof policy; from?: string } = {},
  ) => {
    const result = chooseSubnet(
      networkRow('n', spec).spec,
      others,
      rest.policy ?? policy,
      address(rest.from ?? '0.0.0.0'),
    );
    return 'error' in result ? result.error : formatSubnet(result.subnet);
  };

  test.each<[string, string, string]>([
    ['the first of the pool', choose({}), '10.0.0.0/20'],
    ['ingress: a /16', choose({ Ingress: true }), '10.0.0.0/16'],
    ['ingress beside what a host has', choose({ Ingress: true }, taken('10.0.9.0/24')), '10.1.0.0/16'],
    ['the next after a small one', choose({}, taken('10.0.0.0/24')), '10.0.16.0/20'],
    ['the next after a large one', choose({}, taken('10.0.0.0/12')), '10.16.0.0/20'],
    ['after the last given', choose({}, [], { from: '10.0.32.0' }), '10.0.32.0/20'],
    ['round to the start', choose({}, taken('10.128.0.0/9'), { from: '10.128.0.0' }), '10.0.0.0/20'],
    [
      'the second pool',
      choose({}, taken('10.0.0.0/20'), { policy: { pools: ['10.0.0.0/20', '10.9.0.0/20'], prefix: 20 } }),
      '10.9.0.0/20',
    ],
    [
      'ingress in a pool below /16',
      choose({ Ingress: true }, [], { policy: { pools: ['10.3.0.0/18'], prefix: 24 } }),
      '10.3.0.0/22',
    ],
    [
      'ingress in a pool no larger than the others are',
      choose({ Ingress: true }, [], { policy: { pools: ['10.3.0.0/24'], prefix: 25 } }),
      '10.3.0.0/25',
    ],
    ['the user’s', choose({ IPAM: ipam('172.20.0.5/24') }), '172.20.0.0/24'],
    ['none left', choose({}, taken('10.0.0.0/8')), 'no free /20 subnet is left in the address pools (10.0.0.0/8)'],
    [
      'overlap',
      choose({ IPAM: ipam('10.1.0.0/16') }, taken('10.1.2.0/24')),
      'subnet 10.1.0.0/16 overlaps 10.1.2.0/24 of network other',
    ],
    ['no subnet', choose({ IPAM: ipam('fd00::/64') }), 'subnet fd00::/64 is not an IPv4 subnet'],
    [
      'too small',
      choose({ IPAM: ipam('10.0.0.0/30') }),
      'subnet 10.0.0.0/30 is too small for an overlay: the smallest is a /29',
    ],
    [
      'range outside',
      choose({ IPAM: ipam('10.0.0.0/24', { IPRange: '10.0.1.0/25' }) }),
      'IP range 10.0.1.0/25 does not lie in subnet 10.0.0.0/24',
    ],
    [
      'gateway outside',
      choose({ IPAM: ipam('10.0.0.0/24', { Gateway: '10.0.1.1' }) }),
      'gateway 10.0.1.1 does not lie in subnet 10.0.0.0/24',
    ],
  ])('%s', (_, actual, expected) => expect(actual).toBe(expected));

  test('never overlaps what stands, and finds room where there is some', () => {
    const cidr = fc.record({ base: fc.nat(255), prefix: fc.integer({ min: 18, max: 28 }) });
    fc.assert(
      fc.property(fc.array(cidr, { maxLength: 12 }), fc.nat(65535), (others, from) => {
        const standing = others.map(({ base, prefix }) => ({ subnet: subnet(`10.0.${base}.0/${prefix}`), what: 'x' }));
        const result = chooseSubnet(
          networkRow('n').spec,
          standing,
          { pools: ['10.0.0.0/16'], prefix: 20 },
          address('10.0.0.0') + from,
        );
        const inUse = new Set(
          standing.flatMap((s) =>
            Array.from(
              { length: Math.max(1, 2 ** (20 - s.subnet.prefix)) },
              (_, i) => Math.floor(s.subnet.base / 4096) + i,
            ),
          ),
        );
        if ('error' in result) expect(inUse.size).toBe(16);
        else expect(inUse.has(result.subnet.base / 4096)).toBe(false);
      }),
    );
  });
});

test('addressPlan: the nominal gateway is the user’s, or the first address', () => {
  const plan = (spec: Parameters<typeof networkRow>[1]) =>
    addressPlan(networkRow('n', spec).spec, subnet('10.0.0.0/24'));
  expect(plan({})).toEqual({ range: subnet('10.0.0.0/24'), gateway: address('10.0.0.1') });
  expect(plan({ IPAM: ipam('10.0.0.0/24', { IPRange: '10.0.0.128/25', Gateway: '10.0.0.254' }) })).toEqual({
    range: subnet('10.0.0.128/25'),
    gateway: address('10.0.0.254'),
  });
});

test('chooseVni goes round its range', () => {
  const range = { first: 10, last: 12 };
  expect(chooseVni(new Set(), 0, range)).toBe(10);
  expect(chooseVni(new Set([11]), 11, range)).toBe(12);
  expect(chooseVni(new Set([12]), 12, range)).toBe(10);
  expect(chooseVni(new Set([10, 11, 12]), 10, range)).toBeUndefined();
  expect(chooseVni(new Set(), 0)).toBe(4097);
});
