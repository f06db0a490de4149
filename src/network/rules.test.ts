/** Rule texts: what nft and iptables are told, and that they accept it. */
import { execFileSync } from 'node:child_process';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Balanced, TableShape } from './balancing.ts';
import { BalancingTable, mergeBalance, removeTable, rotated } from './balancing.ts';
import type { CommandRunner } from './command.ts';
import { CommandFailed } from './command.ts';
import { whyNoNamespaces } from './fake-hosts.fixture.ts';
import { applyFirewall, firewallRules, isMissingProgram } from './firewall.ts';
import { hostRoutes } from './host-routes.ts';
import { hostTable } from './host-rules.ts';
import { deviceNames, engineNetworkName, networkOfAlias } from './names.ts';
import { nameServerRules, returnPathRules, VIP_TABLE } from './task-rules.ts';

const balanced = (vip: number, backends: readonly number[]): Balanced => ({
  key: `10.1.2.${vip}`,
  backends: backends.map((each) => `10.1.1.${each}`),
});

const HOST_TABLE = hostTable(
  'drover_test',
  {
    id: 'i',
    name: 'ingress',
    environment: 'default',
    subnet: '10.1.0.0/16',
    gateway: '10.1.0.1',
    vni: 5000,
    dataPathPort: 4789,
    ingress: true,
    internal: false,
    labels: {},
    options: {},
  },
  'drb0123456789',
);

/** What each of these changes is told to nft as. */
async function toldOf(
  shape: TableShape,
  whole: ReadonlyMap<string, readonly Balanced[]>,
  changes: readonly ReadonlyMap<string, readonly Balanced[]>[],
): Promise<string[]> {
  const table = new BalancingTable();
  const told: string[] = [];
  await table.make(shape, whole, async (rules) => told.push(rules));
  for (const touched of changes) await table.change(touched, async (rules) => told.push(rules));
  return told;
}

describe('balancing', () => {
  const before = new Map([
    ['a', [balanced(1, [1, 2])]],
    ['b', [balanced(2, [3])]],
  ]);
  const linesOf = (text: string | undefined) => (text ?? '').split('\n').filter((line) => line !== '');

  test('a change of backends replaces one chain, and no more', async () => {
    const [, ...changes] = await toldOf(VIP_TABLE, before, [
      new Map([['a', [balanced(1, [2])]]]),
      new Map([['b', [balanced(2, [3])]]]),
    ]);
    expect(changes.map(linesOf)).toEqual([
      [
        expect.stringMatching(/^flush chain ip drover b_[0-9a-f]{16}$/),
        expect.stringMatching(/^add rule ip drover b_[0-9a-f]{16} dnat to 10\.1\.1\.2$/),
      ],
    ]);
  });

  test('a packet that finds nothing in the map of its chain, for that has just been replaced, is sent on all the same', async () => {
    const [, change] = await toldOf(VIP_TABLE, before, [new Map([['b', [balanced(2, [3, 4])]]])]);
    expect(linesOf(change).map((line) => line.replace(/b_\w+/, 'b'))).toEqual([
      'flush chain ip drover b',
      'add rule ip drover b dnat to numgen inc mod 2 map { 0 : 10.1.1.3, 1 : 10.1.1.4 }',
      'add rule ip drover b dnat to 10.1.1.3',
    ]);
  });

  test('who comes and who goes leaves the others what they have, and the table', async () => {
    const [, ...changes] = await toldOf(VIP_TABLE, before, [
      new Map([
        ['a', []],
        ['c', [balanced(3, [5])]],
      ]),
      new Map([['d', [balanced(4, [])]]]),
    ]);
    expect(changes.map((text) => linesOf(text).map((line) => line.replaceAll(/b_\w+/g, 'b')))).toEqual([
      [
        'delete element ip drover targets { 10.1.2.1 }',
        'flush chain ip drover b',
        'add chain ip drover b',
        'flush chain ip drover b',
        'add rule ip drover b dnat to 10.1.1.5',
        'add element ip drover targets { 10.1.2.3 : goto b }',
      ],
      [
        // Of the one that went.
        'add chain ip drover b',
        'delete chain ip drover b',
        'add chain ip drover b',
        'flush chain ip drover b',
        'add element ip drover targets { 10.1.2.4 : goto b }',
        'add element ip drover idle { 10.1.2.4 }',
      ],
    ]);
  });

  test('what changes hands is of the later of two services, whatever becomes of the other one', async () => {
    const [, ...changes] = await toldOf(VIP_TABLE, before, [
      new Map([['c', [balanced(2, [7])]]]),
      new Map([['b', [balanced(2, [])]]]),
      new Map([['b', []]]),
      new Map([['c', [balanced(2, [8])]]]),
    ]);
    expect(changes.map((text) => linesOf(text).map((line) => line.replace(/b_\w+/, 'b')))).toEqual([
      ['flush chain ip drover b', 'add rule ip drover b dnat to 10.1.1.7'],
      ['flush chain ip drover b', 'add rule ip drover b dnat to 10.1.1.8'],
    ]);
  });

  test('after a transaction that failed the table is made anew', async () => {
    const table = new BalancingTable();
    await table.make(VIP_TABLE, before, async () => {});
    await expect(table.change(new Map([['b', []]]), () => Promise.reject(new Error('no nft')))).rejects.toThrow(
      'no nft',
    );
    expect(table.isKnown).toBe(false);
    await expect(table.change(new Map([['b', []]]), async () => {})).rejects.toThrow('is not known');
    await table.make(VIP_TABLE, before, async () => {});
    expect(table.isKnown).toBe(true);
  });

  test('rotation keeps every backend, and differs between tasks', () => {
    fc.assert(
      fc.property(fc.array(fc.string()), fc.string(), (all, seed) => {
        expect(rotated(all, seed).sort()).toEqual([...all].sort());
      }),
    );
    expect(
      new Set(['t1', 't2', 't3', 't4', 't5'].map((seed) => rotated(['a', 'b', 'c'], seed)[0])).size,
    ).toBeGreaterThan(1);
  });
});

const reason = whyNoNamespaces();

describe.skipIf(reason !== undefined)(`in the kernel${reason === undefined ? '' : ` (${reason})`}`, () => {
  const listOf = (scripts: string[], table: string): string[] => {
    const command = `${scripts.map((_script, i) => `printf %s "$s${i}" | nft -f - || exit 1`).join('\n')}\nnft -j list table ${table}`;
    const env = Object.fromEntries(scripts.map((script, i) => [`s${i}`, script]));
    const json = execFileSync('unshare', ['-n', 'sh', '-c', command], {
      encoding: 'utf8',
      env: { ...process.env, ...env },
    });
    const { nftables }: { nftables: object[] } = JSON.parse(json);
    return nftables.map((each) => JSON.stringify(each).replace(/"handle": ?\d+,?/g, '')).sort();
  };

  /** Without the chains of what went: they are there, empty, until the next that comes or goes. */
  const inUse = (listed: string[]): string[] => {
    return listed.filter((each) => {
      const [, chain] = /^\{"chain".*"name": ?"(b_\w+)"/.exec(each) ?? [];
      return chain === undefined || listed.some((other) => other !== each && other.includes(chain));
    });
  };

  const steps = fc.array(
    fc.dictionary(
      fc.constantFrom('a', 'b', 'c', 'also a'),
      fc.option(fc.uniqueArray(fc.integer({ min: 1, max: 4 }), { maxLength: 4 })),
      { minKeys: 1 },
    ),
    { minLength: 1, maxLength: 5 },
  );
  /** Two of the services want the same. */
  const wanted = (service: string) => service.charCodeAt(service.length - 1);
  const shapes: [string, TableShape, (service: string, backends: number[]) => Balanced][] = [
    ['VIPs', VIP_TABLE, (service, backends) => balanced(wanted(service), backends)],
    [
      'ports',
      HOST_TABLE,
      (service, backends) => ({
        key: `udp . ${wanted(service)}`,
        protocol: 'udp',
        backends: backends.map((each) => `10.1.1.${each} . 80`),
      }),
    ],
  ];

  test.each(shapes)(
    '%s: changes end in the same rules as the whole table, which may be made again',
    async (_name, shape, make) => {
      await fc.assert(
        fc.asyncProperty(steps, async (steps) => {
          const changes = steps.map(
            (step) =>
              new Map(
                Object.entries(step).map(([service, backends]) => [
                  service,
                  backends === null ? [] : [make(service, backends)],
                ]),
              ),
          );
          const standing = changes.reduce<ReadonlyMap<string, readonly Balanced[]>>(mergeBalance, new Map());
          const changed = await toldOf(shape, new Map(), changes);
          const [whole = ''] = await toldOf(shape, standing, []);
          const table = `ip ${shape.name}`;
          expect(inUse(listOf(changed, table))).toEqual(listOf([whole], table));
          expect(inUse(listOf([...changed, whole], table))).toEqual(listOf([whole], table));
        }),
        { numRuns: 12 },
      );
    },
  );

  test('the way back is accepted, and may be made again', () => {
    expect(listOf([returnPathRules('lo'), returnPathRules('lo')], 'netdev drover_return')).toContainEqual(
      expect.stringContaining('"edges"'),
    );
  });

  test('questions to other name servers are turned, and left alone again', () => {
    const turned = nameServerRules({ gateway: '10.1.0.2', instead: ['192.0.2.53', '10.1.0.2'] });
    expect(String(listOf([turned, turned], 'ip drover_names'))).toMatch(/192\.0\.2\.53(.|\n)*10\.1\.0\.2/);
    expect(
      listOf([turned, `${nameServerRules({ gateway: '', instead: [] })}add table ip probe\n`], 'ip probe'),
    ).toHaveLength(2);
  });

  test('a table that never stood can be removed', () => {
    const script = `${removeTable('drover_x')}\nadd table ip probe\n`;
    expect(listOf([script], 'ip probe')).toHaveLength(2);
  });
});

/** An iptables that keeps its lines. */
function fakeIptables(lines: string[]): { run: CommandRunner; restores: () => number } {
  let restores = 0;
  return {
    restores: () => restores,
    run: (argv, options) => {
      if (argv[0] === 'iptables') return Promise.resolve(lines.join('\n'));
      restores++;
      for (const line of (options?.input ?? '').split('\n')) {
        const [verb, ...rest] = line.split(' ');
        if (verb?.startsWith(':')) lines.push(`-N ${verb.slice(1)}`);
        else if (verb === '-I') {
          // On top of its chain.
          const first = lines.findIndex((each) => each.startsWith(`-A ${rest[0]} `));
          lines.splice(first < 0 ? lines.length : first, 0, ['-A', ...rest].join(' '));
        } else if (verb === '-D') {
          const at = lines.indexOf(['-A', ...rest].join(' '));
          if (at < 0) throw new Error(`no such rule: ${line}`);
          lines.splice(at, 1);
        }
      }
      return Promise.resolve('');
    },
  };
}

describe('firewall', () => {
  const rules = firewallRules(
    [
      { device: 'drb1', ingress: true, internal: false },
      { device: 'drb2', ingress: false, internal: false },
      { device: 'drb3', ingress: false, internal: true },
    ],
    'drover me',
  );

  test('makes what is missing once, keeps what is foreign, and takes its own away', async () => {
    const foreign = ['-P FORWARD DROP', '-A FORWARD -j DROP', '-A INPUT -m comment --comment "drover other" -j ACCEPT'];
    const lines = [...foreign];
    const { run, restores } = fakeIptables(lines);
    await applyFirewall(run, rules, 'drover me');
    await applyFirewall(run, rules, 'drover me');
    expect(restores()).toBe(1);
    expect(lines.filter((line) => line.includes('"drover me"'))).toHaveLength(rules.length);
    expect(lines).toContain('-A FORWARD -j DOCKER-USER');
    await applyFirewall(run, rules.slice(0, 1), 'drover me');
    expect(lines.filter((line) => line.includes('"drover me"'))).toHaveLength(1);
    await applyFirewall(run, [], 'drover me');
    expect(lines.toSorted()).toEqual([...foreign, '-N DOCKER-USER', '-A FORWARD -j DOCKER-USER'].sort());
  });

  test('wants nothing of a host where nothing of ours is', async () => {
    const { run, restores } = fakeIptables(['-P FORWARD ACCEPT']);
    await applyFirewall(run, [], 'drover me');
    expect(restores()).toBe(0);
  });

  test('nobody outside reaches a task by its overlay address', () => {
    const forwarding = rules.filter(({ chain }) => chain === 'DOCKER-USER').map(({ spec }) => spec);
    const accepted = forwarding.filter((spec) => spec.endsWith('ACCEPT'));
    expect(accepted).toHaveLength(5);
    expect(accepted.filter((spec) => !/-i (drb\d) -o \1 |--ctstate DNAT/.test(spec))).toEqual([]);
  });

  test('an internal network is closed before a published port lets it out, whichever came first', async () => {
    const lines = ['-N DOCKER-USER', '-A FORWARD -j DOCKER-USER'];
    const { run, restores } = fakeIptables(lines);
    const withoutInternal = firewallRules([{ device: 'drb1', ingress: true, internal: false }], 'drover me');
    const inOrder = () => lines.filter((line) => line.startsWith('-A DOCKER-USER')).map((line) => line.slice(15));
    await applyFirewall(run, withoutInternal, 'drover me');
    await applyFirewall(run, rules, 'drover me');
    expect(inOrder()[0]).toContain('-i drb3 ! -o drb3 ');
    expect(inOrder()).toEqual(rules.filter(({ chain }) => chain === 'DOCKER-USER').map(({ spec }) => spec));
    lines.splice(lines.indexOf('-A FORWARD -j DOCKER-USER'), 1);
    await applyFirewall(run, rules, 'drover me');
    expect(lines).toContain('-A FORWARD -j DOCKER-USER');
    expect(restores()).toBe(3);
  });

  test('a missing program is told from one that fails', () => {
    expect(isMissingProgram(Object.assign(new Error('spawn'), { code: 'ENOENT' }))).toBe(true);
    expect(isMissingProgram(new CommandFailed(['iptables'], 4, 'Permission denied'))).toBe(false);
  });
});

test('device names fit, differ by node and network, and their alias leads back', () => {
  const names = deviceNames('node', 'network');
  expect(names.bridge.length).toBeLessThanOrEqual(15);
  expect(names.vxlan.length).toBeLessThanOrEqual(15);
  expect(deviceNames('other', 'network').bridge).not.toBe(names.bridge);
  expect(networkOfAlias('node', names.alias)).toBe('network');
  expect(networkOfAlias('other', names.alias)).toBeUndefined();
});

test('the ingress network sorts first, internal ones last: the first gives the default gateway', () => {
  const name = (id: string, ingress: boolean, internal: boolean) => engineNetworkName('n', { id, ingress, internal });
  const names = [name('c', false, true), name('b', false, false), name('a', true, false)];
  expect([...names].sort()).toEqual([...names].reverse());
});

test('host routes: all but the default one, and not our own bridges', async () => {
  const run: CommandRunner = (argv) =>
    Promise.resolve(
      JSON.stringify(
        argv.includes('route')
          ? [
              { dst: 'default', dev: 'eth0' },
              { dst: '10.9.0.0/16', dev: 'tun0' },
              { dst: '10.1.0.0/16', dev: 'drb0123456789' },
              { type: 'broadcast', dst: '192.168.1.255', dev: 'eth0' },
              { type: 'local', dst: '192.168.1.7', dev: 'eth0' },
              { dst: '203.0.113.9', dev: 'eth0' },
            ]
          : [
              { ifname: 'eth0', addr_info: [{ local: '192.168.1.7', prefixlen: 24 }] },
              { ifname: 'drb0123456789', addr_info: [{ local: '10.1.0.1', prefixlen: 16 }] },
            ],
      ),
    );
  expect(await hostRoutes(run)).toEqual(['10.9.0.0/16', '192.168.1.0/24', '203.0.113.9/32']);
});
