/** What the agent needs of the rooms beside it, in its own words. */
import type { AssignmentChange, TaskStatusReport } from '../model/assignments.ts';
import type { AttachedContainer, NodeDescription } from '../model/objects.ts';

/** A running task as the network is told of it. */
export interface RunningTask {
  taskId: string;
  /** First process of its container. */
  pid: number;
  networks: readonly { networkId: string; address: string }[];
  /** True if ports of its service are published through the ingress network. */
  published: boolean;
  /** For a container that may ask others: our resolver, and the name servers it stands in for. */
  nameServers?: { gateway: string; instead: readonly string[] };
  /** Asked once its namespace is held: is `pid` the task's even now (decisions-and-traps.md, trap 4)? */
  stillOurs(): Promise<boolean>;
}

/** The network of this node. */
export interface NodeNetworkPort {
  /** Takes in all facts, or what changed; the kernel follows in the background. */
  replace(all: readonly AssignmentChange[]): void;
  apply(changes: readonly AssignmentChange[]): void;
  /** Resolves when all that was taken in so far is in force, or is said in `degraded()`. Does not reject. */
  settled(): Promise<void>;
  /** A network that containers may be created on; rejects with the reason if there is none (yet). */
  prepare(networkId: string): Promise<{ engineNetwork: string; gateway: string }>;
  /** Before the task's container starts. */
  expect(task: { taskId: string; networks: readonly { networkId: string; address: string }[] }): Promise<void>;
  /**
   * The container runs. May be repeated. `ended`: its process has ended, as one that is short may before its rules stand;
   * the engine may yet have to notice. Rejects if the network cannot give a running process its rules.
   */
  attach(task: RunningTask): Promise<'attached' | 'ended'>;
  /** The container has stopped. No error if it was not attached. */
  detach(taskId: string): Promise<void>;
  /** How many connections this task serves, other than with itself. Rejects if the process has ended. */
  connections(pid: number): Promise<number>;
  /** The engine was away and is back. */
  engineRestarted(): void;
  /** What does not work in full on this node, in words. */
  degraded(): string[];
}

/**
 * What a node asks of the managers for its single containers in overlays. Rejects with their refusal, or with why none could
 * be asked: an error with the name `SessionLost`.
 */
export interface AttachmentRegistry {
  /** An address in the network that `network` (name, id or its beginning) means. May be repeated with the same id. */
  attach(request: {
    id: string;
    environment: string;
    network: string;
    wantedAddress?: string;
    aliases: string[];
  }): Promise<{ networkId: string; address: string }>;
  /** What became of containers, by the id of their attachment. */
  seen(containers: { id: string; container: AttachedContainer }[]): Promise<void>;
  /** Gives addresses back. No error for what is gone already. */
  release(ids: string[]): Promise<void>;
}

/** Resolves when a manager has stored the reports, or later ones of the same tasks; rejects if its session ends first. */
export type ReportStatus = (reports: readonly TaskStatusReport[]) => Promise<void>;

/** What the agent knows of its host; the daemon adds addresses, routes and certificates. */
export type HostDescription = Pick<NodeDescription, 'hostname' | 'platform' | 'resources' | 'engine' | 'degraded'>;

/** `unknown`: no manager has spoken since our start, but it is too early to call them away. */
export type Managers = 'unknown' | 'there' | 'away';
