import { describe, expect, test } from 'vitest';
import { AddressError, onlyAddress, parseEndpoint, type Interfaces } from './addresses.ts';

function interfaces(addresses: Record<string, string[]>): Interfaces {
  return Object.fromEntries(
    Object.entries(addresses).map(([name, list]) => [
      name,
      list.map((address) => ({
        address,
        netmask: '255.255.255.0',
        family: 'IPv4' as const,
        mac: '',
        internal: name === 'lo',
        cidr: null,
      })),
    ]),
  );
}

const host = interfaces({
  lo: ['127.0.0.1'],
  eth0: ['10.0.0.5'],
  docker0: ['172.17.0.1'],
  two: ['10.1.0.1', '10.1.0.2'],
  none: [],
});

describe('parseEndpoint', () => {
  test.each([
    ['10.0.0.9', { host: '10.0.0.9', port: 2377 }],
    ['10.0.0.9:4000', { host: '10.0.0.9', port: 4000 }],
    ['eth0', { host: '10.0.0.5', port: 2377 }],
    ['eth0:99', { host: '10.0.0.5', port: 99 }],
  ])('%s', (text, endpoint) => expect(parseEndpoint(text, host)).toEqual(endpoint));

  test.each([
    ['10.0.0.9:0', /expected an IPv4 address or an interface/],
    ['10.0.0.9:x', /expected an IPv4/],
    ['1:2:3', /expected an IPv4/],
    ['eth9', /neither an IPv4 address nor an interface/],
    ['two', /more than one IPv4 address \(10\.1\.0\.1 and 10\.1\.0\.2\)/],
    ['none', /has no IPv4 address/],
  ])('%s is refused', (text, message) => {
    expect(() => parseEndpoint(text, host)).toThrow(AddressError);
    expect(() => parseEndpoint(text, host)).toThrow(message);
  });
});

describe('onlyAddress', () => {
  test('leaves out loopback and container bridges', () => {
    expect(
      onlyAddress(interfaces({ lo: ['127.0.0.1'], eth0: ['10.0.0.5'], docker0: ['172.17.0.1'], drb0: ['10.0.0.1'] })),
    ).toBe('10.0.0.5');
  });

  test('two: says which, in the words the docker CLI looks for', () => {
    expect(() => onlyAddress(host)).toThrow(/^could not choose an IP address to advertise .*10\.0\.0\.5 on eth0 and/);
  });

  test('none', () => expect(() => onlyAddress({})).toThrow("could not find the system's IP address"));
});
