import { assert, property, string } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatSubnet, parseSubnet } from '../model/addresses.ts';
import { clearNumbers, hostAddress, labSubnet, LAB_COUNT, parseDestination, preferredNumbers } from './addresses.ts';

const subnet = (cidr: string) => parseSubnet(cidr)!;

test('the default lab is 10.77.0.0/24, its first host .1', () => {
  expect(preferredNumbers('default')[0]).toBe(0);
  expect(formatSubnet(labSubnet(0))).toBe('10.77.0.0/24');
  expect(formatSubnet(labSubnet(255))).toBe('10.77.255.0/24');
  expect(hostAddress(0, 1)).toBe('10.77.0.1');
});

test('every name tries every number once, always in the same order', () => {
  assert(
    property(string(), (name) => {
      const numbers = preferredNumbers(name);
      expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: LAB_COUNT }, (_, at) => at));
      expect(preferredNumbers(name)).toEqual(numbers);
      expect(numbers[0] === 0).toBe(name === 'default');
    }),
  );
});

describe('numbers clear of what is routed', () => {
  test.each([
    ['nothing routed', [], [0, 1, 2]],
    ['one subnet taken', ['10.77.1.0/24'], [0, 2]],
    ['a part of one taken', ['10.77.2.128/25'], [0, 1]],
    ['a wide route over all', ['10.0.0.0/8'], []],
    ['an unrelated route', ['192.168.0.0/16'], [0, 1, 2]],
  ])('%s', (_name, routed, expected) => {
    expect(clearNumbers([0, 1, 2], routed.map(subnet))).toEqual(expected);
  });
});

test.each([
  ['10.77.3.0/24', '10.77.3.0/24'],
  ['10.77.3.9', '10.77.3.9/32'],
  ['default', undefined],
])('a destination %s of ip route', (text, expected) => {
  const parsed = parseDestination(text);
  expect(parsed && formatSubnet(parsed)).toBe(expected);
});
