/**
 * A simulated host with an engine and an agent: the real agent and the real session of it, on the twins of engine and network.
 * Its daemon may be killed, paused and stopped, and its power cut; containers live and die as on a real host.
 */
import { Agent } from '../agent/agent.ts';
import { AgentSession } from '../dispatch/agent-session.ts';
import type { TaskFiles } from '../agent/task-files.ts';
import type { ClientHttp2Session } from 'node:http2';
import type { TaskAssignment } from '../model/assignments.ts';
import type { Clock, Log } from '../model/clock.ts';
import type { NodeDescription, NodeResources } from '../model/objects.ts';
import { EngineHost } from './engine-host.ts';
import type { EventLoop } from './event-loop.ts';
import { NodeMemory } from './node-memory.ts';
import { NodeNetworkTwin } from './node-network.ts';
import { hostTime, Process, type HostTime } from './process.ts';
import type { Chance } from './seeded.ts';

export interface NodeHostDeps {
  loop: EventLoop;
  chance: Chance;
  log: Log;
  nodeId: string;
  /** Of the host; also its name in the network. */
  hostname: string;
  /** Its place among the hosts, from 1: makes its address. */
  number: number;
  resources: NodeResources;
  managers: readonly string[];
  /** Dials a manager from this host. */
  dial: (address: string, from: NodeHost) => ClientHttp2Session;
  started: (task: TaskAssignment) => void;
}

const NO_FILES: TaskFiles = {
  put: () => Promise.reject(new Error('no task of the simulator has files')),
  release: async () => {},
  keepOnly: async () => {},
};
const DESCRIBE_RETRY_MS = 1_000;
const NO_TLS = { trustRoot: '', certIssuerSubject: '', certIssuerPublicKey: '' };

export class NodeHost {
  readonly nodeId: string;
  readonly name: string;
  readonly time: HostTime = hostTime();
  readonly #deps: NodeHostDeps;
  readonly engine: EngineHost;
  readonly #memory = new NodeMemory();
  process: Process;
  #session: AgentSession | undefined;
  #agent: Agent | undefined;
  #boot = 1;
  #on = true;
  #left = false;
  #description: NodeDescription | undefined;

  constructor(deps: NodeHostDeps) {
    this.#deps = deps;
    this.nodeId = deps.nodeId;
    this.name = deps.hostname;
    this.process = new Process(deps.loop, deps.hostname, this.time);
    this.process.kill();
    const { chance, resources, hostname, started } = deps;
    this.engine = new EngineHost({
      clock: this.#engineClock(),
      chance: chance.of('engine'),
      resources,
      hostname,
      started,
    });
  }

  get address(): string {
    return `10.77.1.${this.#deps.number}`;
  }

  get isOn(): boolean {
    return this.#on;
  }

  get connected(): boolean {
    return this.process.running && this.#session?.state().phase === 'connected';
  }

  /** The managers took it for none of theirs. */
  get removed(): boolean {
    return this.process.alive && this.#session?.state().phase === 'removed';
  }

  /** Starts the daemon, if it does not run. */
  start(): void {
    const { loop, chance, log, hostname, nodeId, managers, dial } = this.#deps;
    if (!this.#on || this.#left || this.process.alive) return;
    const process = new Process(loop, hostname, this.time);
    this.process = process;
    const { clock } = process;
    const { random } = chance;
    const network = new NodeNetworkTwin(clock, chance.of('network'));
    const agent = new Agent({
      nodeId,
      engine: this.engine.seenFrom(process),
      network,
      memory: this.#memory,
      files: NO_FILES,
      bootId: `boot ${this.#boot}`,
      clock,
      random,
      log,
      report: (reports) => session.report(reports),
    });
    const session = new AgentSession({
      addresses: managers,
      identity: { nodeId, role: 'worker', clusterId: 'sim', certificate: '', key: '', rootCertificate: '' },
      agent: {
        replace: (facts) => agent.replace(facts),
        apply: (changes) => agent.apply(changes),
        settled: () => network.settled(),
        description: () => this.#description!,
      },
      advertiseAddress: this.address,
      clock,
      random,
      log,
      dial: (address) => dial(address, this),
    });
    this.#agent = agent;
    this.#session = session;
    agent.start();
    void this.#openSession(agent, session, clock);
  }

  /** SIGTERM: it says goodbye, and its containers run on. */
  async stop(): Promise<void> {
    const { process } = this;
    if (!process.running) return;
    await this.#session?.close();
    await this.#agent?.stop();
    process.kill();
  }

  /** `docker swarm leave`: nothing of it stays. */
  leave(): void {
    this.#left = true;
    this.process.kill();
    for (const { containerId } of this.engine.engine.containers.values()) void this.engine.engine.remove(containerId);
  }

  powerCut(): void {
    if (!this.#on) return;
    this.#on = false;
    this.process.kill({ silently: true });
    this.engine.engine.powerCut();
    this.#memory.powerCut(this.#deps.chance);
  }

  powerOn(): void {
    if (this.#on) return;
    this.#on = true;
    this.#boot++;
    this.engine.engine.comeBack();
    this.start();
  }

  async #openSession(agent: Agent, session: AgentSession, clock: Clock): Promise<void> {
    for (;;) {
      try {
        const host = await agent.describe();
        this.#description = { ...host, tls: NO_TLS, routes: ['10.77.1.0/24'], dataPathAddress: this.address };
        session.start();
        return;
      } catch {
        // The engine is away: without it there is nothing to say of this host yet.
        await new Promise<void>((resolve) => clock.after(DESCRIBE_RETRY_MS, resolve));
      }
    }
  }

  /** The engine is a process of its own, which nobody pauses. */
  #engineClock(): Clock {
    const { loop, hostname } = this.#deps;
    return new Process(loop, `${hostname} engine`, this.time).clock;
  }
}
