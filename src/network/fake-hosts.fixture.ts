/**
 * Hosts for tests: network namespaces on a common bridge, each with a `NodeNetwork` whose engine is a few `ip`
 * commands, and containers that are a namespace and one process. Needs root; removes everything it made.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { macOf } from '../model/addresses.ts';
import type { Clock, Log } from '../model/clock.ts';
import { silentLog } from '../model/clock.ts';
import type { CommandRunner } from './command.ts';
import { spawnRunner } from './command.ts';
import { deviceNames } from './names.ts';
import { NodeNetwork } from './node-network.ts';
import type { NodeNetworkDeps } from './node-network.ts';
import type { EngineNetwork, EngineNetworks } from './overlay.ts';
import { deleteLink } from './overlay.ts';

const outer = spawnRunner();

/** Why these tests cannot run here; undefined if they can. */
export function whyNoNamespaces(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'SKIPPED: network namespaces need root';
}

const realClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, fn) {
    const timer = setTimeout(fn, delayMs).unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

/** Serves its name and the caller's address, TCP and UDP, on port 80; says so on its first line. */
const SERVER = `
const [name] = process.argv.slice(1);
require('node:net').createServer((s) => { s.on('error', () => {}); s.end(name + ' ' + s.remoteAddress); }).listen(80, '0.0.0.0', () => {
  const u = require('node:dgram').createSocket('udp4');
  u.on('message', (m, r) => u.send(name + ' ' + r.address, r.port, r.address));
  u.bind(80, () => console.log('ready'));
});`;

export class FakeLan {
  readonly name: string;
  readonly #prefix: string;
  readonly #namespaces: string[] = [];
  readonly #children: ChildProcess[] = [];
  readonly #directories: string[] = [];
  readonly hosts: FakeHost[] = [];

  /** The LAN's bridge is in a namespace of its own, where no engine's firewall drops what passes. */
  get #lan(): string {
    return `${this.name}lan`;
  }

  /** `prefix` is dotted, three octets: the LAN's /24. `name` at most 4 characters. */
  constructor(name: string, prefix: string) {
    this.name = name;
    this.#prefix = prefix;
  }

  async up(): Promise<void> {
    const run = await this.namespace(this.#lan);
    await run(['ip', 'link', 'add', 'lan', 'type', 'bridge']);
    await run(['ip', 'link', 'set', 'lan', 'up']);
  }

  /** A namespace on the LAN, without anything of ours: a client outside. */
  async outsider(number: number): Promise<{ address: string; run: CommandRunner; namespace: string }> {
    const namespace = `${this.name}h${number}`;
    const address = `${this.#prefix}.${number}`;
    const run = await this.namespace(namespace);
    const inLan = ['ip', '-n', this.#lan, 'link'];
    await outer([...inLan, 'add', namespace, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace]);
    await outer([...inLan, 'set', namespace, 'master', 'lan', 'up']);
    await run(['ip', 'address', 'add', `${address}/24`, 'dev', 'eth0']);
    await run(['ip', 'link', 'set', 'eth0', 'up']);
    return { address, run, namespace };
  }

  async host(number: number, log: Log = silentLog): Promise<FakeHost> {
    const { address, run, namespace } = await this.outsider(number);
    const dataDir = await mkdtemp(join(tmpdir(), 'drover-network-'));
    this.#directories.push(dataDir);
    // As real hosts have it: what is not expressly let through is not (trap 5).
    await run(['iptables', '-P', 'FORWARD', 'DROP']);
    await run(['sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1']);
    // With `br_netfilter` and without: both are found in the wild. The kernel may not have it at all.
    await run(['sysctl', '-eqw', `net.bridge.bridge-nf-call-iptables=${number % 2}`]);
    const host = new FakeHost(this, { number, address, run, namespace, dataDir, log });
    this.hosts.push(host);
    return host;
  }

  async namespace(name: string): Promise<CommandRunner> {
    await outer(['ip', 'netns', 'add', name]);
    this.#namespaces.push(name);
    const run = spawnRunner(['nsenter', `--net=/run/netns/${name}`]);
    await run(['ip', 'link', 'set', 'lo', 'up']);
    return run;
  }

  /** Starts a process in a namespace that ends with the test. */
  async spawn(namespace: string, script: string, args: string[]): Promise<ChildProcess> {
    const command = [`--net=/run/netns/${namespace}`, process.execPath, '-e', script, ...args];
    const child = spawn('nsenter', command, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#children.push(child);
    await once(child.stdout, 'data');
    return child;
  }

  async down(): Promise<void> {
    for (const host of this.hosts) await host.network.destroy();
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    for (const namespace of this.#namespaces) await outer(['ip', 'netns', 'delete', namespace]);
    for (const directory of this.#directories) await rm(directory, { recursive: true, force: true });
  }
}

export interface FakeTask {
  taskId: string;
  networks: { networkId: string; address: string }[];
  published: boolean;
}

export class FakeHost {
  readonly nodeId: string;
  readonly address: string;
  readonly run: CommandRunner;
  readonly engine: FakeEngine;
  readonly deps: NodeNetworkDeps;
  readonly #lan: FakeLan;
  network: NodeNetwork;

  constructor(
    lan: FakeLan,
    at: { number: number; address: string; run: CommandRunner; namespace: string; dataDir: string; log: Log },
  ) {
    this.#lan = lan;
    this.nodeId = `node${at.number}`;
    this.address = at.address;
    this.run = at.run;
    this.engine = new FakeEngine(at.run);
    this.deps = {
      nodeId: this.nodeId,
      dataDir: at.dataDir,
      dataPathAddress: at.address,
      engine: this.engine,
      run: at.run,
      clock: realClock,
      log: at.log,
      upstreamResolvers: [],
      resolver: { prefix: ['nsenter', `--net=/run/netns/${at.namespace}`] },
    };
    this.network = new NodeNetwork(this.deps);
  }

  /** As when `droverd` is killed and started again: nothing is told, another one begins. */
  restarted(): NodeNetwork {
    this.network = new NodeNetwork(this.deps);
    return this.network;
  }

  /** A container on these networks, as the engine would make it; promises its namespace and process. */
  async container(task: FakeTask): Promise<{ pid: number; run: CommandRunner; namespace: string }> {
    const namespace = `${this.#lan.name}${task.taskId}`;
    await this.network.expect(task);
    const run = await this.#lan.namespace(namespace);
    // As the engine does: a container does not speak before its process does.
    await run(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1']);
    let device = 0;
    for (const { networkId, address } of task.networks) {
      const { gateway } = await this.network.prepare(networkId);
      const { bridge } = deviceNames(this.nodeId, networkId);
      const mtu = (await this.run(['cat', `/sys/class/net/${bridge}/mtu`]).catch(() => '1450')).trim();
      const outside = `${task.taskId}v${device}`;
      const inside = `eth${device++}`;
      const peer = ['peer', 'name', inside, 'netns', `/run/netns/${namespace}`, 'address', macOf(address), 'mtu', mtu];
      await this.run(['ip', 'link', 'add', outside, 'mtu', mtu, 'type', 'veth', ...peer]);
      await this.run(['ip', 'link', 'set', outside, 'master', bridge, 'up']);
      await run(['ip', 'address', 'add', `${address}/16`, 'dev', inside]);
      await run(['ip', 'link', 'set', inside, 'up']);
      if (device === 1) await run(['ip', 'route', 'add', 'default', 'via', gateway]);
    }
    const child = await this.#lan.spawn(namespace, SERVER, [task.taskId]);
    return { pid: child.pid ?? 0, run, namespace };
  }
}

/** The engine's networks, made of `ip link`. */
export class FakeEngine implements EngineNetworks {
  readonly #run: CommandRunner;
  readonly networks = new Map<string, EngineNetwork>();

  constructor(run: CommandRunner) {
    this.#run = run;
  }

  async ensure(network: EngineNetwork): Promise<string> {
    if (!this.networks.has(network.name)) {
      const { bridge, gateway, subnet, mtu } = network;
      await this.#run(['ip', 'link', 'add', bridge, 'mtu', String(mtu), 'type', 'bridge']);
      await this.#run(['ip', 'address', 'add', `${gateway}/${subnet.split('/')[1]}`, 'dev', bridge]);
      await this.#run(['ip', 'link', 'set', bridge, 'up']);
      this.networks.set(network.name, network);
    }
    return network.name;
  }

  list(): Promise<{ id: string; name: string; labels: Record<string, string> }[]> {
    return Promise.resolve([...this.networks.values()].map(({ name, labels }) => ({ id: name, name, labels })));
  }

  async remove(id: string): Promise<void> {
    const network = this.networks.get(id);
    if (network === undefined) return;
    await deleteLink(this.#run, network.bridge);
    this.networks.delete(id);
  }
}
