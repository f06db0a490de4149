/**
 * The network of one node: makes the kernel, the engine and the resolver what the manager assigned, in the
 * background, and keeps trying. What stands goes on working while nobody calls (promise 2); what cannot be made
 * is said in `degraded()`.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { AssignmentChange } from '../model/assignments.ts';
import type { Clock, Log, Timer } from '../model/clock.ts';
import type { CommandRunner } from './command.ts';
import { servedConnections } from './connections.ts';
import { Facts } from './facts.ts';
import { applyFirewall, firewallRules, isMissingProgram } from './firewall.ts';
import type { Attached, AttachedTask } from './local-tasks.ts';
import { forEach, LocalTasks } from './local-tasks.ts';
import { engineNetworkName, firewallComment } from './names.ts';
import type { EngineNetworks } from './overlay.ts';
import { Overlays } from './overlays.ts';
import { PublishedPorts } from './published-ports.ts';
import { namesOf, ResolverFeed } from './resolver-feed.ts';
import type { ResolverProcessDeps } from './resolver-process.ts';
import { ResolverProcess } from './resolver-process.ts';
import { Work } from './work.ts';

/** Milliseconds: the first wait after a failure, doubled up to the last. */
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 10_000;
/** Milliseconds between two looks at what engine and administrators may have changed behind our back. */
const RECHECK_MS = 15_000;
/** Milliseconds that a step may take before it is called a trouble: while it lasts, no later change is in force. */
const SLOW_MS = 20_000;
const CONCURRENT_NETWORKS = 4;

export interface NodeNetworkDeps {
  nodeId: string;
  /** Of `droverd`; the resolver's files live in `resolver/` below it. */
  dataDir: string;
  /** Address other nodes send VXLAN packets to. */
  dataPathAddress: string;
  engine: EngineNetworks;
  run: CommandRunner;
  clock: Clock;
  log: Log;
  /** Name servers for names that are not ours, `address` or `address:port`; absent: the host's own. */
  upstreamResolvers?: string[];
  /** For tests and bundles: how the resolver is started. */
  resolver?: Pick<ResolverProcessDeps, 'entry' | 'prefix' | 'port'>;
}

export class NodeNetwork {
  readonly #deps: NodeNetworkDeps;
  readonly #log: Log;
  readonly #facts: Facts;
  readonly #overlays: Overlays;
  readonly #tasks: LocalTasks;
  readonly #ports: PublishedPorts;
  readonly #feed: ResolverFeed;
  readonly #resolver: ResolverProcess;
  /** What is being done, what waits for it to be over, and what failed and waits for its time. */
  #doing: Work | undefined;
  #waiting = new Work();
  #failed: Work | undefined;
  #retryMs = FIRST_RETRY_MS;
  #retryTimer: Timer | undefined;
  #recheckTimer: Timer | undefined;
  /** True once a full state has come: rules made from less would cut running tasks off. */
  #informed = false;
  #stopped = false;
  #resolverTrouble: string[] = [];
  readonly #troubles = new Map<string, string>();
  /** The steps that are being taken, and since when on the monotonic clock. */
  readonly #underWay = new Map<string, number>();

  constructor(deps: NodeNetworkDeps) {
    const { nodeId, run, dataDir, clock } = deps;
    const directory = join(dataDir, 'resolver');
    this.#deps = deps;
    this.#log = deps.log.child({ room: 'network' });
    this.#facts = new Facts(nodeId);
    this.#overlays = new Overlays(deps, this.#facts);
    this.#tasks = new LocalTasks(nodeId, this.#facts, run);
    this.#ports = new PublishedPorts(nodeId, this.#facts, run);
    this.#feed = new ResolverFeed(directory);
    this.#resolver = new ResolverProcess({ directory, clock, log: this.#log, ...deps.resolver });
  }

  /** Promises a resolver that knows what it knew before, or says in `degraded()` why there is none. */
  async start(): Promise<void> {
    const { upstreamResolvers } = this.#deps;
    await this.#feed.open({
      resolvConf: '/etc/resolv.conf',
      ...(upstreamResolvers && { upstreams: upstreamResolvers }),
    });
    await this.#resolver.start();
    this.#resolverTrouble = await this.#resolver.degraded();
    this.#recheck();
  }

  /** Takes in differences; the kernel follows in the background. */
  apply(changes: readonly AssignmentChange[]): void {
    for (const change of changes) for (const touch of this.#facts.apply(change)) this.#waiting.add(touch);
    this.#begin();
  }

  /** Takes in the full state: whatever else is known or stands on this node is removed. */
  replace(all: readonly AssignmentChange[]): void {
    if (!this.#informed) this.#waiting.leftovers = true;
    this.#informed = true;
    this.apply(this.#facts.difference(all));
  }

  /** Resolves when all changes taken in so far are in force, or are in `degraded()` for what keeps them from it. */
  async settled(): Promise<void> {
    const waiting = this.#waiting.empty ? undefined : this.#waiting.done;
    await this.#doing?.done;
    await waiting;
  }

  /** Promises a bridge that containers may be created on, by the engine's name for it; rejects with the reason if there is none. */
  async prepare(networkId: string): Promise<{ engineNetwork: string; gateway: string }> {
    await this.settled();
    const overlay = this.#overlays.get(networkId);
    if (overlay?.engineId === undefined) {
      const reason = this.#troubles.get(`network ${networkId}`) ?? 'it is not assigned to this node';
      throw new Error(`network ${networkId} is not ready: ${reason}`);
    }
    return { engineNetwork: engineNetworkName(this.#deps.nodeId, overlay.network), gateway: overlay.network.gateway };
  }

  /** Before a task's container starts: questions from its addresses wait until `attach`, a few seconds at most. */
  async expect(task: Pick<AttachedTask, 'taskId' | 'networks'>): Promise<void> {
    await this.#feed.hold(
      task.taskId,
      task.networks.map((network) => network.address),
    );
  }

  /**
   * The container runs: promises its rules, then answers to its questions, unless its process has ended. May be
   * repeated; after a restart of `droverd` it is called for adopted containers, after `replace`.
   */
  async attach(task: AttachedTask): Promise<Attached> {
    if (!this.#informed) throw new Error('the state of the network is not known yet');
    const attached = await this.#tasks.attach(task);
    if (attached === 'attached') await this.#feed.release(task.taskId, task.networks);
    return attached;
  }

  /** The container is gone. */
  async detach(taskId: string): Promise<void> {
    await this.#tasks.detach(taskId);
    await this.#feed.hold(taskId);
  }

  /** How many connections the task with this process serves, other than with itself. Rejects if it has ended. */
  connections(pid: number): Promise<number> {
    return servedConnections(pid);
  }

  /** What does not work in full on this node, in words; empty when all is well. */
  degraded(): string[] {
    const isolated = [...this.#overlays.all()].flatMap((overlay) => overlay.degraded ?? []);
    const slowSince = this.#deps.clock.monotonic() - SLOW_MS;
    const slow = [...this.#underWay].filter(([, sinceMs]) => sinceMs <= slowSince);
    return [
      ...isolated,
      ...this.#troublesInWords(),
      ...slow.map(([what]) => `${what}: has been under way for more than ${SLOW_MS / 1000} s`),
      ...this.#resolverTrouble,
    ];
  }

  /** The engine has started again: it may have made its chains and bridges anew. */
  engineRestarted(): void {
    for (const overlay of this.#overlays.all()) this.#waiting.add({ kind: 'network', networkId: overlay.network.id });
    this.#waiting.firewall = true;
    this.#begin();
  }

  /** Lets go of everything and leaves it in place, the resolver too. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#retryTimer?.cancel();
    this.#recheckTimer?.cancel();
    await this.#doing?.done;
    this.#waiting.finish();
    await this.#resolver.stop();
    await this.#tasks.releaseAll();
  }

  /**
   * Removes everything of ours from this node, for `swarm leave`: call it when no container of ours is left, instead
   * of `stop`. Rejects with what could not be removed.
   */
  async destroy(): Promise<void> {
    this.replace([]);
    await this.settled();
    await this.stop();
    await this.#resolver.destroy();
    await this.#ports.remove();
    await rm(join(this.#deps.dataDir, 'resolver'), { recursive: true, force: true });
    if (this.#troubles.size > 0) throw new Error(`left behind: ${this.#troublesInWords().join('; ')}`);
  }

  #begin(): void {
    if (this.#doing !== undefined || this.#stopped || this.#waiting.empty) return;
    const work = this.#waiting;
    this.#doing = work;
    // A batch of calls in one turn of the event loop is one piece of work.
    setImmediate(() => {
      this.#waiting = new Work();
      void this.#converge(work).then(() => {
        this.#doing = undefined;
        work.finish();
        this.#begin();
      });
    });
  }

  async #converge(work: Work): Promise<void> {
    const failed = new Work();
    if (work.leftovers) failed.leftovers = !(await this.#attempt('leftovers', () => this.#removeLeftovers()));
    await forEach([...work.networks], CONCURRENT_NETWORKS, async (networkId) => {
      const done = await this.#attempt(`network ${networkId}`, () => this.#overlays.update(networkId));
      if (!done) failed.add({ kind: 'network', networkId });
    });
    if (work.firewall) failed.firewall = !(await this.#attempt('host rules', () => this.#ports.verify()));
    const fenced = work.networks.size > 0 || work.firewall || work.leftovers;
    if (fenced) failed.firewall = !(await this.#attempt('firewall', () => this.#firewall())) || failed.firewall;
    const placed = new Set([...work.networks, ...work.addresses.keys()]);
    await forEach([...placed], CONCURRENT_NETWORKS, async (networkId) => {
      const addresses = work.networks.has(networkId) ? undefined : work.addresses.get(networkId);
      const done = await this.#attempt(`forwarding ${networkId}`, () => this.#overlays.forward(networkId, addresses));
      if (!done) failed.add({ kind: 'network', networkId });
    });
    await this.#services(work, failed);
    // Last, so that a name never leads to an address that does not work yet.
    await forEach([...work.concerned()], CONCURRENT_NETWORKS, async (networkId) => {
      const facts = this.#facts.network(networkId);
      const done = await this.#attempt(`names ${networkId}`, () =>
        this.#feed.network(networkId, facts && namesOf(facts)),
      );
      if (!done) failed.add({ kind: 'network', networkId });
    });
    this.#retryLater(failed);
  }

  /** VIPs in the tasks, published ports on the host. */
  async #services(work: Work, failed: Work): Promise<void> {
    const services = new Map<string, ReadonlySet<string>>(work.services);
    for (const networkId of work.networks) {
      // Those that went together with the change of the network, and all that are there.
      const present = this.#facts.network(networkId)?.services.keys() ?? [];
      services.set(networkId, new Set([...(work.services.get(networkId) ?? []), ...present]));
    }
    const ingressId = this.#facts.ingress()?.id;
    const ports = ingressId === undefined ? undefined : services.get(ingressId);
    const ingressCameOrWent = ingressId === undefined ? work.networks.size > 0 : work.networks.has(ingressId);
    const untouched = !ingressCameOrWent && ports === undefined;
    // Beside each other: the ports are one command, the addresses one for each task here, and neither needs the other.
    const done = await Promise.all([
      this.#attempt('service addresses', async () => {
        const errors: unknown[] = [];
        await this.#tasks.update(services, (error) => errors.push(error));
        if (errors.length > 0) throw errors[0];
      }),
      untouched || this.#attempt('published ports', () => this.#ports.update(ingressCameOrWent ? undefined : ports)),
    ]);
    if (!done.includes(false)) return;
    for (const [networkId, keys] of services) {
      for (const serviceKey of keys) failed.add({ kind: 'service', networkId, serviceKey });
      if (keys.size === 0) failed.add({ kind: 'network', networkId });
    }
  }

  async #removeLeftovers(): Promise<void> {
    await this.#overlays.removeLeftovers();
    for (const networkId of await this.#feed.networks()) {
      if (this.#facts.network(networkId)?.network === undefined) await this.#feed.network(networkId, undefined);
    }
    if (this.#facts.ingress() === undefined) await this.#ports.remove();
  }

  async #firewall(): Promise<void> {
    const comment = firewallComment(this.#deps.nodeId);
    const bridges = [...this.#overlays.all()].map(({ devices, network }) => ({
      device: devices.bridge,
      ingress: network.ingress,
      internal: network.internal,
    }));
    try {
      await applyFirewall(this.#deps.run, firewallRules(bridges, comment), comment);
    } catch (error) {
      if (!isMissingProgram(error)) throw error;
    }
  }

  /** True if it went well; else the reason stands in `degraded()` until it does. */
  async #attempt(what: string, action: () => Promise<void>): Promise<boolean> {
    this.#underWay.set(what, this.#deps.clock.monotonic());
    try {
      await action();
      this.#troubles.delete(what);
      return true;
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      if (this.#troubles.get(what) !== text) this.#log.warn({ err: error }, `${what}: does not work yet`);
      this.#troubles.set(what, text);
      return false;
    } finally {
      this.#underWay.delete(what);
    }
  }

  #troublesInWords(): string[] {
    return [...this.#troubles].map(([what, reason]) => `${what}: ${reason}`);
  }

  #retryLater(failed: Work): void {
    if (failed.empty) {
      if (this.#failed === undefined) this.#retryMs = FIRST_RETRY_MS;
      return;
    }
    this.#failed ??= new Work();
    this.#failed.addAll(failed);
    if (this.#retryTimer !== undefined || this.#stopped) return;
    this.#retryTimer = this.#deps.clock.after(this.#retryMs, () => {
      this.#retryTimer = undefined;
      if (this.#failed !== undefined) this.#waiting.addAll(this.#failed);
      this.#failed = undefined;
      this.#begin();
    });
    this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS);
  }

  #recheck(): void {
    if (this.#stopped) return;
    this.#recheckTimer = this.#deps.clock.after(RECHECK_MS, () => {
      void (async () => {
        this.#resolverTrouble = await this.#resolver.degraded();
        for (const overlay of this.#overlays.all()) {
          if (overlay.degraded !== undefined) this.#waiting.add({ kind: 'network', networkId: overlay.network.id });
        }
        this.#waiting.firewall = true;
        this.#begin();
        this.#recheck();
      })();
    });
  }
}
