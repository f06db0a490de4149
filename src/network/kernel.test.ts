/** The network in a real kernel: three hosts, two of them with tasks, a client outside. */
import { access, readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type {
  AssignmentChange,
  EndpointAssignment,
  NetworkAssignment,
  ServiceAssignment,
} from '../model/assignments.ts';
import type { CommandRunner } from './command.ts';
import { FakeLan, whyNoNamespaces } from './fake-hosts.fixture.ts';
import type { FakeHost } from './fake-hosts.fixture.ts';
import { deviceNames } from './names.ts';

/** Connects `count` times and prints the replies as JSON; a failure is printed as its code. */
const CLIENT = `
const [proto, host, port, count, from] = process.argv.slice(1);
const tcp = () => new Promise((r) => { let t = ''; const s = require('node:net').connect(+port, host);
  s.setTimeout(3000, () => s.destroy(new Error('ETIMEDOUT'))); s.on('data', (d) => t += d); s.on('error', (e) => r(e.code ?? e.message)); s.on('end', () => r(t)); });
const u = proto === 'udp' ? require('node:dgram').createSocket('udp4') : undefined;
const udp = () => new Promise((r) => { const t = setTimeout(() => r('ETIMEDOUT'), 3000);
  u.once('message', (m) => { clearTimeout(t); r(String(m)); }); u.send('x', +port, host); });
(async () => { if (u && from) await new Promise((r) => u.bind(+from, r)); const all = []; for (let i = 0; i < +count; i++) all.push(await (u ? udp() : tcp())); console.log(JSON.stringify(all)); process.exit(0); })();`;

const LOOKUP = `
const [server, name, type] = process.argv.slice(1);
const r = new (require('node:dns').promises.Resolver)({ timeout: 6000, tries: 1 }); r.setServers([server]);
r.resolve(name, type).then((a) => console.log(JSON.stringify(a)), (e) => console.log(JSON.stringify(e.code)));`;

/** The task a reply is from. */
const nameOf = (reply: string): string => reply.split(' ')[0] ?? '';

const pidIn = async (file: string): Promise<number> => {
  const content: { pid: number } = JSON.parse(await readFile(file, 'utf8'));
  return content.pid;
};

async function connect(
  run: CommandRunner,
  host: string,
  port: number,
  count = 1,
  proto = 'tcp',
  from = '',
): Promise<string[]> {
  return JSON.parse(await run([process.execPath, '-e', CLIENT, proto, host, String(port), String(count), from]));
}

async function lookup(run: CommandRunner, server: string, name: string, type = 'A'): Promise<string[] | string> {
  return JSON.parse(await run([process.execPath, '-e', LOOKUP, server, name, type]));
}

const APP = 'appnetwork';
const INGRESS = 'ingressnetwork';

function network(id: string, host: number): NetworkAssignment {
  const ingress = id === INGRESS;
  return {
    id,
    name: ingress ? 'ingress' : 'app',
    environment: 'default',
    subnet: ingress ? '10.232.0.0/16' : '10.233.0.0/16',
    gateway: gateway(id, host),
    vni: ingress ? 4097 : 4098,
    dataPathPort: 4789,
    ingress,
    internal: false,
    labels: {},
    options: {},
  };
}

function gateway(id: string, host: number): string {
  return `10.${id === INGRESS ? 232 : 233}.0.${host}`;
}

function endpoint(networkId: string, host: FakeHost, taskId: string, slot: number, serving = true): EndpointAssignment {
  return {
    networkId,
    taskId,
    serviceId: 'web',
    slot,
    nodeId: host.nodeId,
    address: `10.${networkId === INGRESS ? 232 : 233}.1.${slot}`,
    dataPathAddress: host.address,
    serving,
    aliases: [],
  };
}

const SERVICES: ServiceAssignment[] = [
  {
    networkId: APP,
    serviceId: 'web',
    environment: 'default',
    name: 'web',
    aliases: ['www'],
    vip: '10.233.2.1',
    ports: [],
  },
  {
    networkId: APP,
    serviceId: 'none',
    environment: 'default',
    name: 'none',
    aliases: [],
    vip: '10.233.2.2',
    ports: [],
  },
  {
    networkId: INGRESS,
    serviceId: 'web',
    environment: 'default',
    name: 'web',
    aliases: [],
    vip: '10.232.2.1',
    ports: (['tcp', 'udp'] as const).map((protocol) => ({
      protocol,
      targetPort: 80,
      publishedPort: 8080,
      publishMode: 'ingress',
    })),
  },
];

const reason = whyNoNamespaces();

describe.skipIf(reason !== undefined)(`three hosts${reason === undefined ? '' : ` (${reason})`}`, () => {
  const lan = new FakeLan(`d${process.pid % 1000}`, '10.231.7');
  const endpoints = new Map<string, EndpointAssignment>();
  const tasks = new Map<string, { pid: number; run: CommandRunner; host: FakeHost }>();
  let hosts: FakeHost[] = [];
  let client: { address: string; run: CommandRunner };
  const pick = (i: number): FakeHost => hosts[i - 1] ?? expect.fail(`no host ${i}`);
  const task = (id: string): { pid: number; run: CommandRunner; host: FakeHost } =>
    tasks.get(id) ?? expect.fail(`no task ${id}`);

  /** What the manager tells one host. */
  const assignments = (number: number): AssignmentChange[] => [
    ...[APP, INGRESS].map((id) => ({ kind: 'network', key: id, value: network(id, number) }) as const),
    ...[APP, INGRESS].flatMap((networkId) =>
      hosts.map((peer, i) => {
        const value = {
          networkId,
          nodeId: peer.nodeId,
          gateway: gateway(networkId, i + 1),
          dataPathAddress: peer.address,
        };
        return { kind: 'peer', key: `${networkId}/${peer.nodeId}`, value } as const;
      }),
    ),
    ...[...endpoints].map(([key, value]) => ({ kind: 'endpoint', key, value }) as const),
    ...SERVICES.map((value) => ({ kind: 'service', key: `${value.networkId}/${value.serviceId}`, value }) as const),
  ];

  const tell = async (changes: AssignmentChange[]): Promise<void> => {
    for (const host of hosts) host.network.apply(changes);
    await Promise.all(hosts.map((host) => host.network.settled()));
  };

  const setEndpoint = (taskId: string, host: FakeHost, slot: number, serving: boolean): AssignmentChange[] =>
    [APP, INGRESS].map((id) => {
      const value = endpoint(id, host, taskId, slot, serving);
      endpoints.set(`${id}/${taskId}`, value);
      return { kind: 'endpoint', key: `${id}/${taskId}`, value };
    });

  const networksOf = (slot: number) => [
    { networkId: INGRESS, address: `10.232.1.${slot}` },
    { networkId: APP, address: `10.233.1.${slot}` },
  ];

  const run = async (taskId: string, host: FakeHost, slot: number): Promise<void> => {
    await tell(setEndpoint(taskId, host, slot, false));
    const fake = { taskId, networks: networksOf(slot), published: true };
    const { pid, run } = await host.container(fake);
    tasks.set(taskId, { pid, run, host });
    await host.network.attach({ ...fake, pid });
    await tell(setEndpoint(taskId, host, slot, true));
  };

  beforeAll(async () => {
    await lan.up();
    hosts = [await lan.host(1), await lan.host(2), await lan.host(3)];
    client = await lan.outsider(99);
    await Promise.all(hosts.map((host) => host.network.start()));
    hosts.forEach((host, i) => host.network.replace(assignments(i + 1)));
    await Promise.all(hosts.map((host) => host.network.settled()));
    await run('t1', pick(1), 1);
    await run('t2', pick(2), 2);
    await run('t3', pick(2), 3);
  }, 60_000);

  afterAll(async () => {
    await lan.down();
  }, 60_000);

  test('nothing is degraded', () => {
    expect(hosts.map((host) => host.network.degraded())).toEqual([[], [], []]);
  });

  test('a task reaches one on another host by its address', async () => {
    expect(await connect(task('t1').run, '10.233.1.2', 80)).toEqual(['t2 10.233.1.1']);
  });

  test('an address that a task of another host had a moment ago leads to the one that has it now', async () => {
    const networks = [{ networkId: APP, address: '10.233.1.30' }];
    const start = async (taskId: string, host: FakeHost): Promise<CommandRunner> => {
      const value = { ...endpoint(APP, host, taskId, 30, false), serviceId: 'none' };
      await tell([{ kind: 'endpoint', key: `${APP}/${taskId}`, value }]);
      const { pid, run } = await host.container({ taskId, networks, published: false });
      await host.network.attach({ taskId, pid, networks, published: false });
      return run;
    };
    // Its frames show host 2 where its MAC is.
    expect(await connect(await start('m1', pick(1)), '10.233.1.2', 80)).toEqual(['t2 10.233.1.30']);
    await pick(1).network.detach('m1');
    await pick(1).run(['ip', 'link', 'delete', 'm1v0']);
    await tell([{ kind: 'endpoint', key: `${APP}/m1`, value: null }]);
    // The next one says nothing until it is asked.
    await start('m2', pick(2));
    expect(await connect(task('t1').run, '10.233.1.30', 80)).toEqual(['m2 10.233.1.1']);
    await pick(2).network.detach('m2');
    await tell([{ kind: 'endpoint', key: `${APP}/m2`, value: null }]);
  });

  test('a VIP takes turns among all tasks, the caller itself among them', async () => {
    const replies = await connect(task('t1').run, '10.233.2.1', 80, 30);
    const counts = Map.groupBy(replies, nameOf);
    expect(['t1', 't2', 't3'].map((name) => counts.get(name)?.length)).toEqual([10, 10, 10]);
  });

  test('a VIP that nobody serves refuses at once', async () => {
    expect(await connect(task('t1').run, '10.233.2.2', 80)).toEqual(['ECONNREFUSED']);
  });

  test.each([1, 2, 3])('a published port answers on host %i, and the task sees the client', async (number) => {
    const replies = await connect(client.run, pick(number).address, 8080, 6);
    expect(replies.sort()).toEqual(['t1', 't1', 't2', 't2', 't3', 't3'].map((name) => `${name} ${client.address}`));
  });

  test.each([1, 3])('a published UDP port answers on host %i, and the task sees the client', async (number) => {
    expect(await connect(client.run, pick(number).address, 8080, 1, 'udp')).toEqual([
      expect.stringContaining(client.address),
    ]);
  });

  test.each([1, 2, 3])('a published port answers on localhost and the own address of host %i', async (number) => {
    for (const address of ['127.0.0.1', pick(number).address]) {
      const replies = await connect(pick(number).run, address, 8080, 3);
      expect(replies.map(nameOf).sort()).toEqual(['t1', 't2', 't3']);
    }
  });

  test('a task reaches a published port through its own node', async () => {
    const replies = await connect(task('t1').run, pick(1).address, 8080, 3);
    expect(replies.map(nameOf).sort()).toEqual(['t1', 't2', 't3']);
  });

  test('names resolve: VIP, tasks, slots, with the network behind them, and back', async () => {
    const ask = (name: string, type?: string) => lookup(task('t1').run, gateway(APP, 1), name, type);
    expect(await ask('web')).toEqual(['10.233.2.1']);
    expect(await ask('WWW.app')).toEqual(['10.233.2.1']);
    expect(new Set(await ask('tasks.web'))).toEqual(new Set(['10.233.1.1', '10.233.1.2', '10.233.1.3']));
    expect(await ask('web.2')).toEqual(['10.233.1.2']);
    expect(await ask('1.2.233.10.in-addr.arpa', 'PTR')).toEqual(['web.app']);
    expect(await ask('web', 'AAAA')).toEqual('ENODATA');
  });

  test.each([
    ['VIP', () => task('t3').run, () => ({ address: '10.233.2.1', port: 80 })],
    ['published port', () => client.run, () => ({ address: pick(3).address, port: 8080 })],
  ])('UDP from one port to a %s leaves a task that serves no more', async (_what, runner, target) => {
    const { address, port } = target();
    const ask = async (): Promise<string> =>
      nameOf((await connect(runner(), address, port, 1, 'udp', '5353'))[0] ?? '');
    const pinned = await ask();
    expect([await ask(), await ask()]).toEqual([pinned, pinned]);
    const { host } = task(pinned);
    await tell(setEndpoint(pinned, host, Number(pinned.slice(1)), false));
    const after = await ask();
    await tell(setEndpoint(pinned, host, Number(pinned.slice(1)), true));
    expect(['t1', 't2', 't3'].filter((name) => name !== pinned)).toContain(after);
  });

  test('a question before the rules stand is answered when they do', async () => {
    await tell(setEndpoint('t4', pick(3), 4, false));
    const fake = { taskId: 't4', networks: networksOf(4), published: true };
    const { pid, run } = await pick(3).container(fake);
    const early = lookup(run, gateway(APP, 3), 'web');
    await pick(3).network.attach({ ...fake, pid });
    expect(await early).toEqual(['10.233.2.1']);
    await pick(3).network.detach('t4');
    const gone = [APP, INGRESS].map((id) => ({ kind: 'endpoint', key: `${id}/t4`, value: null }) as const);
    for (const { key } of gone) endpoints.delete(key);
    await tell(gone);
  });

  test('after a restart of droverd everything stands, and the same resolver goes on', async () => {
    const host = pick(1);
    const pidFile = `${host.deps.dataDir}/resolver/resolver.pid`;
    const before = await readFile(pidFile, 'utf8');
    await host.network.stop();
    expect(await connect(client.run, host.address, 8080, 3)).toHaveLength(3);
    expect(await lookup(task('t1').run, gateway(APP, 1), 'web')).toEqual(['10.233.2.1']);
    const network = host.restarted();
    await network.start();
    network.replace(assignments(1));
    await network.attach({ taskId: 't1', pid: task('t1').pid, networks: networksOf(1), published: true });
    await network.settled();
    expect(network.degraded()).toEqual([]);
    expect(await readFile(pidFile, 'utf8')).toBe(before);
    expect(await connect(task('t1').run, '10.233.2.1', 80)).toHaveLength(1);
  });

  test('a resolver that dies is replaced', async () => {
    const host = pick(2);
    const pidFile = `${host.deps.dataDir}/resolver/resolver.pid`;
    const pid = await pidIn(pidFile);
    process.kill(pid, 'SIGKILL');
    await expect.poll(() => pidIn(pidFile)).not.toBe(pid);
    expect(await lookup(task('t2').run, gateway(APP, 2), 'web')).toEqual(['10.233.2.1']);
  });

  test('a resolver of other code gives way to a new one, and no question is lost meanwhile', async () => {
    const host = pick(2);
    const pidFile = `${host.deps.dataDir}/resolver/resolver.pid`;
    await host.network.stop();
    const before: { pid: number; version: string } = JSON.parse(await readFile(pidFile, 'utf8'));
    await writeFile(pidFile, JSON.stringify({ ...before, version: 'another' }));
    const network = host.restarted();
    network.replace(assignments(2));
    const asking = new AbortController();
    const asker = (async () => {
      const answers: (string | string[])[] = [];
      while (!asking.signal.aborted) answers.push(await lookup(task('t2').run, gateway(APP, 2), 'web'));
      return answers;
    })();
    await network.start();
    await expect
      .poll(() =>
        access(`/proc/${before.pid}`).then(
          () => 'alive',
          () => 'gone',
        ),
      )
      .toBe('gone');
    asking.abort();
    expect((await asker).filter((answer) => answer[0] !== '10.233.2.1')).toEqual([]);
    expect(await pidIn(pidFile)).not.toBe(before.pid);
    for (const [taskId, slot] of [
      ['t2', 2],
      ['t3', 3],
    ] as const) {
      await network.attach({ taskId, pid: task(taskId).pid, networks: networksOf(slot), published: true });
    }
  });

  test('a service that is missing in a new full state is gone from the tasks', async () => {
    const host = pick(2);
    const vips = () => task('t2').run(['nft', 'list', 'map', 'ip', 'drover', 'targets']);
    expect(await vips()).toContain('10.233.2.2');
    host.network.replace(assignments(2).filter(({ key }) => key !== `${APP}/none`));
    await host.network.settled();
    expect(await vips()).not.toContain('10.233.2.2');
    expect(await vips()).toContain('10.233.2.1');
    host.network.replace(assignments(2));
    await host.network.settled();
    expect(await vips()).toContain('10.233.2.2');
  });

  test('rules that somebody flushed come back', async () => {
    const host = pick(2);
    await host.run(['nft', 'flush', 'ruleset']);
    host.network.engineRestarted();
    await host.network.settled();
    expect(await host.run(['nft', 'list', 'tables'])).toMatch(/drover/);
    expect(await connect(client.run, host.address, 8080, 3)).toHaveLength(3);
  });

  test('what is taken away leaves nothing behind', async () => {
    const host = pick(3);
    host.network.replace([]);
    await host.network.settled();
    expect(host.network.degraded()).toEqual([]);
    expect(await host.run(['ip', '-br', 'link'])).not.toMatch(/dr[bv]/);
    expect(await host.run(['nft', 'list', 'tables'])).not.toMatch(/drover/);
    expect(await host.run(['iptables', '-S'])).not.toMatch(/drover/);
    expect(host.engine.networks.size).toBe(0);
    await expect.poll(() => host.run(['ss', '-Hlnu', 'sport', '=', '53'])).toBe('');
  });

  test('where no VXLAN device can be made, the network works on its own node, and says so', async () => {
    const host = pick(3);
    const foreign = [
      'ip',
      'link',
      'add',
      'foreign',
      'type',
      'vxlan',
      'id',
      '4098',
      'dstport',
      '4789',
      'local',
      host.address,
    ];
    await host.run(foreign);
    host.network.replace(assignments(3));
    await host.network.settled();
    expect(host.network.degraded()).toEqual([expect.stringContaining('network app reaches only tasks on this node')]);
    expect(await host.network.prepare(APP)).toMatchObject({ gateway: gateway(APP, 3) });
    await host.run(['ip', 'link', 'delete', 'foreign']);
    host.network.engineRestarted();
    await host.network.settled();
    expect(host.network.degraded()).toEqual([]);
    const { vxlan, vxlanMac } = deviceNames('node3', APP);
    expect(await host.run(['bridge', 'fdb', 'show', 'dev', vxlan])).toContain('02:42:0a:e9:01:01');
    // Not one the kernel has drawn: see names.ts.
    expect(await host.run(['ip', 'link', 'show', 'dev', vxlan])).toContain(`link/ether ${vxlanMac} `);
  });

  test('an address that moves to another node is followed, and what a dead droverd left is put right', async () => {
    const host = pick(3);
    const { vxlan } = deviceNames('node3', APP);
    const fdb = () => host.run(['bridge', 'fdb', 'show', 'dev', vxlan]);
    const at = (node: number): AssignmentChange => ({
      kind: 'endpoint',
      key: `${APP}/mover`,
      value: { ...endpoint(APP, pick(node), 'mover', 9), serviceId: 'none' },
    });
    host.network.apply([at(1)]);
    await host.network.settled();
    expect(await fdb()).toMatch(new RegExp(`02:42:0a:e9:01:09 dst ${pick(1).address}`));
    host.network.apply([at(2)]);
    await host.network.settled();
    expect(await fdb()).toMatch(new RegExp(`02:42:0a:e9:01:09 dst ${pick(2).address}`));
    await host.network.stop();
    await host.run([
      'bridge',
      'fdb',
      'add',
      '02:42:0a:e9:01:63',
      'dev',
      vxlan,
      'dst',
      pick(1).address,
      'self',
      'permanent',
    ]);
    const network = host.restarted();
    await network.start();
    network.replace(assignments(3));
    await network.settled();
    expect(network.degraded()).toEqual([]);
    expect(await fdb()).not.toMatch(/02:42:0a:e9:01:(09|63)/);
    expect(await fdb()).toMatch(/02:42:0a:e9:01:01/);
  });
});
