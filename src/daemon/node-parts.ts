/**
 * What every member of a cluster runs: the agent with its engine and network, and the session with a manager. Starts without
 * an engine or a manager in reach, and goes on when they come.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Agent } from '../agent/agent.ts';
import { Attachments } from '../agent/attachments.ts';
import { readBootId } from '../agent/boot-id.ts';
import { AgentMemory } from '../agent/memory.ts';
import { ContainerStreams } from '../agent/streams/container-streams.ts';
import { TmpfsFiles } from '../agent/task-files.ts';
import { AgentSession, type AgentSessionState } from '../dispatch/agent-session.ts';
import { attachClient } from '../dispatch/attach-client.ts';
import { renewCertificate } from '../dispatch/request-certificate.ts';
import type { DockerClient } from '../docker/client.ts';
import { ConnectedContainers } from '../engine/connected-containers.ts';
import { DockerEngine } from '../engine/docker-engine.ts';
import { DockerNetworks } from '../engine/engine-networks.ts';
import type { Clock, Log, Random, Timer } from '../model/clock.ts';
import type { NodeDescription } from '../model/objects.ts';
import { spawnRunner, type CommandRunner } from '../network/command.ts';
import { hostNameServers } from '../network/host-name-servers.ts';
import { hostRoutes } from '../network/host-routes.ts';
import { NodeNetwork } from '../network/node-network.ts';
import { nodeTlsInfo } from '../pki/authority.ts';
import { saveIdentity } from '../pki/files.ts';
import type { Identity } from '../pki/identity.ts';
import { Renewal } from '../pki/renewal.ts';
import { certificateError } from './certificate-words.ts';
import type { Membership } from './membership.ts';

export interface NodePartsDeps {
  membership: Membership;
  identity: Identity;
  dataDir: string;
  client: DockerClient;
  clock: Clock;
  random: Random;
  log: Log;
  /** Called with host:port of the managers whenever a manager names them. */
  remember(managers: { nodeId: string; address: string }[]): void;
  /** Gives this node its next certificate (PEM) for a request. Undefined but on the leader: the managers are to be asked. */
  certify(csr: string): Promise<string> | undefined;
  /** Whether this node may have its certificate by another issuer than now. */
  mayChangeIssuer: () => Promise<boolean>;
  /** Called once the next certificate is on the disk and in use here. */
  renewed(identity: Identity): void;
}

/** How often this host looks at itself: what it says of itself is sent only if it changed. */
const DESCRIBE_MS = 20_000;
const DESCRIBE_RETRY_MS = 1_000;

const memoryFile = (dataDir: string) => join(dataDir, 'agent.db');
const taskFiles = (dataDir: string, run: CommandRunner) => new TmpfsFiles({ dir: join(dataDir, 'tasks'), run });

/** Removes what the agent of an earlier membership remembered, so that the next one does not run it. */
export function removeNodeMemory(dataDir: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(memoryFile(dataDir) + suffix, { force: true });
}

/**
 * Removes every container, network and rule that this node's membership made on the host, whoever made them and when: its
 * parts must have stopped. May be repeated. Throws what could not be removed, an engine that is away above all.
 */
export async function clearHost(
  deps: Pick<NodePartsDeps, 'membership' | 'dataDir' | 'client' | 'clock' | 'log'>,
): Promise<void> {
  const { client, clock, log, membership, dataDir } = deps;
  const { nodeId, dataPathAddress } = membership;
  const engine = new DockerEngine({ client, clock, log });
  await Promise.all(
    (await engine.list(nodeId)).map(async ({ containerId }) => {
      await engine.stop(containerId);
      await engine.remove(containerId);
    }),
  );
  const networks = new DockerNetworks({ client, nodeId });
  await disconnectContainers(networks, new ConnectedContainers({ client, clock }));
  const run = spawnRunner();
  await new NodeNetwork({ nodeId, dataDir, dataPathAddress, engine: networks, run, clock, log }).destroy();
  await taskFiles(dataDir, run).keepOnly(new Set());
  removeNodeMemory(dataDir);
}

/** Takes single containers out of the overlays that are about to go: they run on without them, as when a node leaves Swarm. */
async function disconnectContainers(networks: DockerNetworks, containers: ConnectedContainers): Promise<void> {
  const ours = new Set((await networks.list()).map(({ name }) => name));
  for (const { containerId, endpoints } of await containers.list([...ours])) {
    for (const { engineNetwork } of endpoints)
      if (ours.has(engineNetwork)) await containers.disconnect(engineNetwork, containerId);
  }
}

export class NodeParts {
  readonly #deps: NodePartsDeps;
  readonly #run: CommandRunner;
  readonly #engine: DockerEngine;
  readonly #memory: AgentMemory;
  readonly #network: NodeNetwork;
  /** Single containers of this node in overlays. */
  readonly attachments: Attachments;
  readonly #agent: Agent;
  readonly #session: AgentSession;
  readonly #renewal: Renewal;
  #identity: Identity;
  #description: NodeDescription | undefined;
  #describeTimer: Timer | undefined;
  #sessionWaiters: (() => void)[] = [];
  #stopped = false;

  private constructor(deps: NodePartsDeps, bootId: string) {
    const { membership, identity, dataDir, client, clock, random, log } = deps;
    const { nodeId, dataPathAddress } = membership;
    this.#deps = deps;
    this.#identity = identity;
    this.#run = spawnRunner();
    this.#engine = new DockerEngine({ client, clock, log });
    this.#memory = AgentMemory.open(memoryFile(dataDir), log);
    this.#network = new NodeNetwork({
      nodeId,
      dataDir,
      dataPathAddress,
      engine: new DockerNetworks({ client, nodeId }),
      run: this.#run,
      clock,
      log,
    });
    this.attachments = new Attachments({
      nodeId,
      containers: new ConnectedContainers({ client, clock }),
      network: this.#network,
      registry: attachClient((path, body) => this.#session.ask(path, body)),
      hostNameServers: () => hostNameServers(),
      clock,
      random,
      log,
    });
    this.#agent = new Agent({
      nodeId,
      engine: this.#engine,
      network: this.#network,
      attachments: this.attachments,
      memory: this.#memory,
      files: taskFiles(dataDir, this.#run),
      bootId,
      clock,
      random,
      log,
      report: (reports) => this.#session.report(reports),
    });
    const streams = new ContainerStreams({ client, nodeId, log: log.child({ room: 'agent' }) });
    this.#session = new AgentSession({
      addresses: managerAddresses(membership),
      identity,
      agent: {
        replace: (facts) => {
          this.#agent.replace(facts);
          for (const waiter of this.#sessionWaiters.splice(0)) waiter();
        },
        apply: (changes) => this.#agent.apply(changes),
        settled: () => this.#network.settled(),
        // The session starts only once there is a description.
        description: () => this.#description!,
        managers: (managers) => deps.remember(managers),
        authority: ({ spreadMs, ...told }) => this.#renewal.follow(told, spreadMs),
        stream: (request, channel) => streams.serve(request, channel),
      },
      advertiseAddress: membership.advertiseAddress,
      clock,
      random,
      log: log.child({ room: 'dispatch' }),
    });
    this.#renewal = new Renewal({
      identity,
      clock,
      random,
      log: log.child({ room: 'pki' }),
      certify: (csr, present) =>
        deps.certify(csr) ?? renewCertificate({ addresses: this.#session.addresses(), identity: present, csr, clock }),
      mayChangeIssuer: deps.mayChangeIssuer,
      save: (parts) => saveIdentity(dataDir, parts),
      renewed: (next) => {
        this.#session.useIdentity(next);
        deps.renewed(next);
        this.#identify(next);
      },
    });
  }

  /** Starts all of it; the session opens as soon as the engine has said what this host is. */
  static async start(deps: NodePartsDeps): Promise<NodeParts> {
    const parts = new NodeParts(deps, await readBootId());
    await parts.#network.start();
    parts.#agent.start();
    parts.attachments.start();
    parts.#renewal.start();
    void parts.#describe();
    return parts;
  }

  session(): AgentSessionState {
    return this.#session.state();
  }

  /** What its user should know although this node takes part, in words; '' if all is well. */
  warning(): string {
    return this.#renewal.trouble() || this.#session.clockDifference();
  }

  /** What this host cannot do in full now, in words. */
  degraded(): string[] {
    const all = [...this.#network.degraded(), this.#renewal.trouble(), this.#session.clockDifference()];
    return all.filter((words) => words !== '');
  }

  /** Why this node's certificate is of no use now, and what to do about it; '' while it holds. */
  certificateError(): string {
    const { clock, membership } = this.#deps;
    return certificateError(this.#renewal.life(), clock.now(), membership);
  }

  /** Resolves with true once a manager has told this node what to run, with false after `timeoutMs`. */
  connected(timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.#deps.clock.after(timeoutMs, () => resolve(false));
      this.#sessionWaiters.push(() => {
        timer.cancel();
        resolve(true);
      });
    });
  }

  /** Ends control; containers, rules and names stay. `left`: this node gives up its place in the cluster. */
  async stop({ left = false } = {}): Promise<void> {
    this.#stopped = true;
    this.#describeTimer?.cancel();
    await this.#renewal.stop();
    await this.#session.close({ left });
    await this.#agent.stop();
    await this.attachments.stop();
    await this.#network.stop();
    this.#memory.close();
  }

  /** Says at once what this node proves itself by now: a rotation of the root waits for it. */
  #identify(identity: Identity): void {
    this.#identity = identity;
    if (this.#description === undefined) return;
    this.#description = { ...this.#description, tls: nodeTlsInfo(identity) };
    this.#session.describe();
  }

  /** Looks at this host and, the first time, opens the session; comes again by itself. */
  async #describe(): Promise<void> {
    let againMs = DESCRIBE_MS;
    try {
      const description = await this.#look();
      const changed = JSON.stringify(description) !== JSON.stringify(this.#description);
      const first = this.#description === undefined;
      this.#description = description;
      if (this.#stopped) return;
      if (first) this.#session.start();
      else if (changed) this.#session.describe();
    } catch (error) {
      // Without an engine there is nothing to say of this host yet; the agent reports the engine's absence.
      this.#deps.log.debug({ err: error }, 'this host cannot be described now');
      if (this.#description === undefined) againMs = DESCRIBE_RETRY_MS;
    }
    if (!this.#stopped) this.#describeTimer = this.#deps.clock.after(againMs, () => void this.#describe());
  }

  async #look(): Promise<NodeDescription> {
    const { membership } = this.#deps;
    const [host, routes] = await Promise.all([this.#agent.describe(), hostRoutes(this.#run)]);
    return {
      ...host,
      tls: nodeTlsInfo(this.#identity),
      routes,
      dataPathAddress: membership.dataPathAddress,
      degraded: this.degraded(),
    };
  }
}

/** A manager's own agent dials its own port first, wherever it listens; the others dial what they were told. */
function managerAddresses(membership: Membership): string[] {
  if (membership.role === 'worker') return membership.managers;
  const port = membership.listenAddress.slice(membership.listenAddress.lastIndexOf(':') + 1);
  const host = membership.listenAddress.slice(0, membership.listenAddress.lastIndexOf(':'));
  return [...new Set([`${host === '0.0.0.0' ? '127.0.0.1' : host}:${port}`, ...membership.managers])];
}
