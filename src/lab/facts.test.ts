import { expect, test } from 'vitest';
import { firewallDevices, ourTables, parseLinks, parseRemotes, parseRules } from './facts.ts';

test('links of ours are known by their name, what they are for by their alias', () => {
  const links = [
    { ifname: 'eth0', addr_info: [{ family: 'inet', local: '10.77.0.1' }] },
    {
      ifname: 'drb0123456789',
      ifalias: 'drover node1 net1',
      addr_info: [
        { family: 'inet', local: '10.0.1.1' },
        { family: 'inet6', local: 'fe80::1' },
      ],
    },
    { ifname: 'drvabcdef0123', addr_info: [] },
    {},
  ];
  expect(parseLinks(JSON.stringify(links))).toEqual([
    { name: 'drb0123456789', networkId: 'net1', addresses: ['10.0.1.1'] },
    { name: 'drvabcdef0123', networkId: '', addresses: [] },
  ]);
});

test('where addresses are looked for: only whole pairs, only on devices of ours', () => {
  const devices = [{ name: 'drv1', networkId: 'net1', addresses: [] }];
  const neighbours = [
    { dst: '10.0.1.5', dev: 'drv1', lladdr: '02:42:0a:00:01:05', state: ['PERMANENT'] },
    { dst: '10.0.1.6', dev: 'drv1', lladdr: '02:42:0a:00:01:06', state: ['PERMANENT'] },
    { dst: '10.0.1.7', dev: 'eth0', lladdr: '02:42:0a:00:01:07', state: ['PERMANENT'] },
  ];
  const forwarding = [
    { mac: '02:42:0a:00:01:05', ifname: 'drv1', master: 'drb1', state: 'permanent' },
    { mac: '02:42:0a:00:01:05', ifname: 'drv1', dst: '10.77.0.2', state: 'permanent' },
    { mac: '02:42:0a:00:01:07', ifname: 'eth0', dst: '10.77.0.2', state: 'permanent' },
  ];
  expect(parseRemotes(devices, JSON.stringify(neighbours), JSON.stringify(forwarding))).toEqual([
    { networkId: 'net1', address: '10.0.1.5', host: '10.77.0.2' },
  ]);
  expect(parseRemotes(devices, '', '')).toEqual([]);
});

test("the kernel's own routing rules are no leftovers", () => {
  const rules = [0, 7042, 32766, 32767].map((priority) => ({ priority, src: 'all' }));
  expect(parseRules(JSON.stringify(rules))).toEqual(['{"priority":7042,"src":"all"}']);
});

test('firewall rules with our comment tell the devices they name', () => {
  const printed = `-P FORWARD DROP
-A DOCKER-USER -i drb0123456789 -o drb0123456789 -m comment --comment "drover 12345678" -j ACCEPT
-A INPUT -i drbaaaaaaaaaa -p udp -m udp --dport 53 -m comment --comment "drover 12345678" -j ACCEPT
-A FORWARD -i docker0 -j ACCEPT`;
  expect(firewallDevices(printed)).toEqual(['drb0123456789', 'drbaaaaaaaaaa']);
});

test('only our nft tables are read: their ports and addresses', () => {
  const ruleset = {
    nftables: [
      { metainfo: { version: '1.0.6' } },
      { table: { family: 'ip', name: 'filter' } },
      { rule: { family: 'ip', table: 'filter', expr: [{ match: { right: '172.17.0.2' } }] } },
      { table: { family: 'ip', name: 'drover_12345678' } },
      {
        map: {
          table: 'drover_12345678',
          name: 'targets',
          elem: [[{ concat: ['tcp', 8080] }, { goto: { target: 'b_1' } }]],
        },
      },
      {
        rule: {
          table: 'drover_12345678',
          expr: [{ dnat: { addr: '10.0.0.5', port: 80 } }, { prefix: { addr: '10.0.0.0' } }],
        },
      },
    ],
  };
  expect(ourTables(JSON.stringify(ruleset))).toEqual({
    names: ['drover_12345678'],
    ports: ['tcp/8080'],
    addresses: ['10.0.0.5', '10.0.0.0'],
  });
});
