/**
 * Connections that stand, in a real kernel, while the task they lead to leaves balancing: one host that has the task,
 * one that is only the edge they came in by, one with a task that uses a VIP, and a client outside.
 */
import { spawn, type ChildProcess, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AssignmentChange, EndpointAssignment } from '../model/assignments.ts';
import { FakeLan, whyNoNamespaces, type FakeHost } from './fake-hosts.fixture.ts';

const APP = 'appnetwork';
const INGRESS = 'ingressnetwork';
const NETWORKS = { [APP]: '10.235', [INGRESS]: '10.234' };
const PORT = 90;
const PUBLISHED = 9090;

/** Echoes every line with its name; at SIGUSR2 it speaks unasked, on each connection. */
const ECHO = `
const [name, port] = process.argv.slice(1);
const all = new Set();
require('node:net').createServer((s) => {
  all.add(s); s.on('close', () => all.delete(s)); s.on('error', () => {}); s.on('data', (d) => s.write(name + ' ' + d));
}).listen(+port, '0.0.0.0', () => console.log('ready'));
process.on('SIGUSR2', () => { for (const s of all) s.write(name + ' unasked\\n'); });`;

/** Says over one connection what it reads, and prints what comes back, or how the connection ended. */
const CALLER = `
const [host, port, localPort] = process.argv.slice(1);
const s = require('node:net').connect({ host, port: +port, localPort: +localPort || undefined });
s.on('error', (e) => console.log(e.code)); s.on('end', () => console.log('end'));
s.pipe(process.stdout); process.stdin.pipe(s);`;

/** A connection from somewhere, kept open. */
class Call {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;

  /** `localPort` 0: any. */
  constructor(namespace: string, host: string, port: number, localPort = 0) {
    const ends = [host, String(port), String(localPort)];
    const command = [`--net=/run/netns/${namespace}`, process.execPath, '-e', CALLER, ...ends];
    this.#child = spawn('nsenter', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface(this.#child.stdout);
  }

  /** What comes back for a line; rejects after 3 s. */
  async say(text: string): Promise<string> {
    this.#child.stdin.write(`${text}\n`);
    return this.hears();
  }

  /** What comes next; rejects after 3 s. */
  async hears(): Promise<string> {
    const [line]: string[] = await once(this.#lines, 'line', { signal: AbortSignal.timeout(3_000) });
    return line ?? '';
  }

  async end(): Promise<void> {
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}

const reason = whyNoNamespaces();

describe.skipIf(reason !== undefined)(`connections that stand${reason === undefined ? '' : ` (${reason})`}`, () => {
  const lan = new FakeLan(`e${process.pid % 1000}`, '10.231.8');
  const serving = new Map([
    ['t1', true],
    ['t2', true],
  ]);
  const pids = new Map<string, number>();
  const servers = new Map<string, ChildProcess>();
  const calls: Call[] = [];
  let hosts: FakeHost[] = [];
  let client: { namespace: string };
  let caller: { namespace: string };
  const host = (number: number): FakeHost => hosts[number - 1] ?? expect.fail(`no host ${number}`);

  const networksOf = (slot: number) =>
    Object.entries(NETWORKS).map(([networkId, prefix]) => ({ networkId, address: `${prefix}.1.${slot}` }));

  const endpoint = (networkId: keyof typeof NETWORKS, slot: number): EndpointAssignment => ({
    networkId,
    taskId: `t${slot}`,
    serviceId: slot === 3 ? 'caller' : 'web',
    slot,
    nodeId: host(slot === 3 ? 3 : 2).nodeId,
    address: `${NETWORKS[networkId]}.1.${slot}`,
    dataPathAddress: host(slot === 3 ? 3 : 2).address,
    serving: serving.get(`t${slot}`) ?? false,
    aliases: [],
  });

  const facts = (number: number): AssignmentChange[] =>
    ([APP, INGRESS] as const).flatMap((networkId): AssignmentChange[] => {
      const ingress = networkId === INGRESS;
      const prefix = NETWORKS[networkId];
      const plain = {
        id: networkId,
        name: networkId,
        environment: 'default',
        internal: false,
        labels: {},
        options: {},
      };
      const service = { networkId, serviceId: 'web', environment: 'default', name: 'web', aliases: [] };
      const ports = [{ protocol: 'tcp', targetPort: PORT, publishedPort: PUBLISHED, publishMode: 'ingress' } as const];
      return [
        {
          kind: 'network',
          key: networkId,
          value: {
            ...plain,
            subnet: `${prefix}.0.0/16`,
            gateway: `${prefix}.0.${number}`,
            vni: ingress ? 4197 : 4198,
            dataPathPort: 4789,
            ingress,
          },
        },
        ...hosts.map((peer, i): AssignmentChange => {
          const value = {
            networkId,
            nodeId: peer.nodeId,
            gateway: `${prefix}.0.${i + 1}`,
            dataPathAddress: peer.address,
          };
          return { kind: 'peer', key: `${networkId}/${peer.nodeId}`, value };
        }),
        ...[1, 2, 3].map((slot): AssignmentChange => {
          return { kind: 'endpoint', key: `${networkId}/t${slot}`, value: endpoint(networkId, slot) };
        }),
        {
          kind: 'service',
          key: `${networkId}/web`,
          value: { ...service, vip: `${prefix}.2.1`, ports: ingress ? ports : [] },
        },
      ];
    });

  const settled = () => Promise.all(hosts.map((each) => each.network.settled()));

  /** Puts a task into balancing or takes it out, on all hosts. */
  const serve = async (slot: number, is: boolean): Promise<void> => {
    serving.set(`t${slot}`, is);
    const changes = ([APP, INGRESS] as const).map((id): AssignmentChange => ({
      kind: 'endpoint',
      key: `${id}/t${slot}`,
      value: endpoint(id, slot),
    }));
    for (const each of hosts) each.network.apply(changes);
    await settled();
  };

  const call = (namespace: string, address: string, port: number, localPort = 0): Call => {
    const made = new Call(namespace, address, port, localPort);
    calls.push(made);
    return made;
  };

  beforeAll(async () => {
    await lan.up();
    hosts = [await lan.host(1), await lan.host(2), await lan.host(3)];
    client = await lan.outsider(99);
    await Promise.all(hosts.map((each) => each.network.start()));
    hosts.forEach((each, i) => each.network.replace(facts(i + 1)));
    await settled();
    for (const slot of [1, 2, 3]) {
      const on = host(slot === 3 ? 3 : 2);
      const fake = { taskId: `t${slot}`, networks: networksOf(slot), published: true };
      const { pid, namespace } = await on.container(fake);
      await on.network.attach({ ...fake, pid });
      servers.set(`t${slot}`, await lan.spawn(namespace, ECHO, [`t${slot}`, String(PORT)]));
      pids.set(`t${slot}`, pid);
      if (slot === 3) caller = { namespace };
    }
  }, 60_000);

  afterAll(async () => {
    for (const each of calls) await each.end();
    await lan.down();
  }, 60_000);

  test.each([
    ['through an edge node', () => call(client.namespace, host(1).address, PUBLISHED)],
    ['through its own node', () => call(client.namespace, host(2).address, PUBLISHED)],
    ['through its VIP', () => call(caller.namespace, `${NETWORKS[APP]}.2.1`, PORT)],
  ])('%s it goes on, and new ones go elsewhere', async (_what, open) => {
    const held = open();
    const [name = ''] = (await held.say('one')).split(' ');
    const slot = Number(name.slice(1));
    const on = host(2).network;
    expect(await on.connections(pids.get(name) ?? 0)).toBe(1);
    await serve(slot, false);
    for (let i = 0; i < 3; i++) expect(await open().say('new')).toBe(`t${3 - slot} new`);
    expect(await held.say('two')).toBe(`${name} two`);
    await serve(slot, true);
    expect(await held.say('three')).toBe(`${name} three`);
    for (const each of calls.splice(0)) await each.end();
    await expect.poll(() => on.connections(pids.get(name) ?? 0)).toBe(0);
  });

  test('a client that calls all nodes from one port of its own gets the same task through each of them', async () => {
    await serve(2, false);
    const held = hosts.map((each) => call(client.namespace, each.address, PUBLISHED, 41_000));
    for (const round of ['one', 'two']) {
      expect(await Promise.all(held.map((each) => each.say(round)))).toEqual(hosts.map(() => `t1 ${round}`));
    }
    await serve(2, true);
    for (const each of calls.splice(0)) await each.end();
  });

  test('a task still finds the way to a silent client after droverd has begun anew on its host', async () => {
    await serve(2, false);
    const held = call(client.namespace, host(1).address, PUBLISHED);
    expect(await held.say('one')).toBe('t1 one');
    await host(2).network.attach({
      taskId: 't1',
      networks: networksOf(1),
      published: true,
      pid: pids.get('t1') ?? 0,
    });
    const heard = held.hears();
    servers.get('t1')?.kill('SIGUSR2');
    expect(await heard).toBe('t1 unasked');
    await serve(2, true);
    for (const each of calls.splice(0)) await each.end();
  });

  test('it goes on when its service is removed, which rewrites the tables of all nodes', async () => {
    const held = [
      call(client.namespace, host(1).address, PUBLISHED),
      call(caller.namespace, `${NETWORKS[APP]}.2.1`, PORT),
    ];
    const names = await Promise.all(held.map(async (each) => (await each.say('one')).split(' ')[0]));
    const gone = [APP, INGRESS].map((id): AssignmentChange => ({ kind: 'service', key: `${id}/web`, value: null }));
    for (const each of hosts) each.network.apply(gone);
    await serve(1, false);
    await serve(2, false);
    expect(await Promise.all(held.map((each) => each.say('two')))).toEqual(names.map((name) => `${name} two`));
  });
});
