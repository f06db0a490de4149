/**
 * The objects a cluster is made of, as the store keeps them: plain, frozen, replaced and never changed in place.
 * Each field names its one writer (decisions-and-traps.md 4): [api], [replicated/global] and the other loops of
 * `control/`, [allocator], [scheduler], [dispatch], [agent].
 */
import type { RebalanceState } from './rebalance.ts';
import type { TaskState } from './states.ts';
import type {
  EndpointSpec,
  GenericResource,
  Labels,
  NetworkSpec,
  NodeSpec,
  PayloadSpec,
  Platform,
  Protocol,
  ServiceSpec,
  SwarmSpec,
} from './specs.ts';

/** The one environment until environments come (decisions-and-traps.md 13). */
export const DEFAULT_ENVIRONMENT = 'default';

/** The id of the only row of the `clusters` table. */
export const CLUSTER_ROW = 'default';

export interface Meta {
  /** What users send back as `?version=`: moves only when the *spec* moves (moby#39891). */
  version: number;
  /** RFC 3339. */
  createdAt: string;
  updatedAt: string;
}

/** The cluster's authority. PEM; the keys stay in the journal of the managers. [api], but that [ca-rotation] ends a rotation. */
export interface ClusterRootCa {
  /** The root that every node trusts. */
  certificate: string;
  key: string;
  /** What certificates by this root say of who issued them. Absent until a rotation was first asked for. */
  issuer?: CertificateIssuer;
  /** This root as the one before it signed it: who has yet to hear of this one trusts it by that. Absent: it is the first. */
  crossSigned?: string;
  /** The root that is to take its place; absent when none is. */
  rotation?: RootRotation;
  /**
   * Roots of rotations that were given up: what they issued counts until no node has it any more, though nothing is issued
   * by them now. Absent when there are none.
   */
  givenUp?: readonly string[];
}

/** From when a root is chosen until every node has a certificate that it issued; only then is it trusted by itself. */
export interface RootRotation {
  certificate: string;
  key: string;
  /** It as the present root signed it: goes with every certificate that it issues. */
  crossSigned: string;
  issuer: CertificateIssuer;
  /** Those of the new root, in force from its end on. */
  joinTokens: { worker: string; manager: string };
}

/** Who issued a certificate, as Docker shows it: raw subject and public key, in base64. */
export interface CertificateIssuer {
  subject: string;
  publicKey: string;
}

export interface Cluster {
  /** CLUSTER_ROW. */
  id: string;
  /** The identifier people see, and the O of every certificate. */
  clusterId: string;
  meta: Meta;
  spec: SwarmSpec;
  rootCa: ClusterRootCa;
  /** Full `SWMTKN-…` strings. */
  joinTokens: { worker: string; manager: string };
  /** `SWMKEY-…`, which every manager's key file is locked with. Absent unless managers lock themselves (AutoLockManagers). */
  unlockKey?: string;
  /** CIDRs overlays are cut from. */
  defaultAddressPool: string[];
  /** Prefix length of an overlay whose subnet the user did not give. */
  subnetSize: number;
  /** UDP port of the VXLAN devices. */
  dataPathPort: number;
  /** [api] When a rebalance was last asked for (RFC 3339), and in which transaction. */
  rebalanceAsked?: { id: number; at: string };
  /** [rebalance] absent until there was one. */
  rebalance?: RebalanceState;
}

export interface NodeResources {
  nanoCpus: number;
  memoryBytes: number;
  /** What the engine was given with `--node-generic-resource`. */
  generic?: readonly GenericResource[];
}

/** What an agent says of its host. [agent], stored by [dispatch]. */
export interface NodeDescription {
  hostname: string;
  platform: Required<Platform>;
  resources: NodeResources;
  engine: { version: string; labels: Labels; plugins: { type: string; name: string }[] };
  /** PEM of the root the node trusts, and the issuer's raw subject and public key in base64, as Docker shows them. */
  tls: { trustRoot: string; certIssuerSubject: string; certIssuerPublicKey: string };
  /** Subnets the host has routes or addresses in, CIDR; no overlay may overlap one (decision 6). */
  routes: string[];
  /** Address other nodes send VXLAN packets to. */
  dataPathAddress: string;
  /** What this host cannot do in full, in words; empty when all is well. */
  degraded: string[];
}

export interface Node {
  id: string;
  meta: Meta;
  /** [api] */
  spec: NodeSpec;
  /** [dispatch] undefined until the agent's first session. */
  description?: NodeDescription;
  /** [dispatch] */
  status: { state: 'unknown' | 'down' | 'ready' | 'disconnected'; message: string; address: string; since: string };
  /** [daemon] only on managers; `address` is host:port of its 2377. */
  manager?: { address: string; leader: boolean; reachability: 'reachable' | 'unreachable' | 'unknown' };
  /** [allocator] network id → this node's gateway address in that overlay. */
  gateways: Record<string, string>;
}

export interface EndpointPort {
  name?: string;
  protocol: Protocol;
  targetPort: number;
  publishedPort: number;
  publishMode: 'ingress' | 'host';
}

/** What the allocator gave a service. */
export interface ServiceEndpoint {
  /** The spec this endpoint was made for. */
  spec: EndpointSpec;
  ports: EndpointPort[];
  /** Empty with `dnsrr`. `address` is a plain IPv4. The ingress network has one when a port is published there. */
  virtualIps: { networkId: string; address: string }[];
}

export interface UpdateStatus {
  state: 'updating' | 'paused' | 'completed' | 'rollback_started' | 'rollback_paused' | 'rollback_completed';
  startedAt: string;
  completedAt?: string;
  message: string;
}

/** An update or a rollback that replaces tasks. */
export interface Rollout {
  /** Index of the transaction in which it began: the tasks that it puts in their slots name it. */
  id: number;
  /** The service's `meta.version` that it is for: a spec that moves makes another rollout. */
  version: number;
  /** Slots it had to replace when it began: what failures are a ratio of. */
  slots: number;
  /** RFC 3339: when it began; a rollback keeps the `startedAt` of its update in the status, as in Docker. */
  startedAt: string;
  /** The word it waits for, with nothing left to do until that comes. */
  waitsFor?: 'promote' | 'confirm';
  /** It goes back from an update that waited to be confirmed: the old tasks and their images are still there. */
  toKept?: true;
}

export interface Service {
  id: string;
  environment: string;
  meta: Meta;
  /** [api; update, when it rolls back by itself: so for all of the spec and its versions] */
  spec: ServiceSpec;
  /** [api] `meta.version` at which `spec` was set; names the ServiceSpecVersion its new tasks refer to. */
  specVersion: number;
  previousSpec?: ServiceSpec;
  previousSpecVersion?: number;
  /** [allocator] undefined until allocated. */
  endpoint?: ServiceEndpoint;
  /** [allocator] why the endpoint cannot be allocated, in words; absent when it can. */
  endpointError?: string;
  /** [update] But that [api] clears it when the spec moves, and writes the first one of a rollback that a user asks for. */
  updateStatus?: UpdateStatus;
  /** [update] What the status does not say of the rollout under way, or of the last one. */
  rollout?: Rollout;
  /** [api] The spec version of which a user let the slots behind the canaries go (`drover service promote`). */
  promoted?: number;
  /** [api] The spec version of which a user let the old tasks go (`drover service confirm`). */
  confirmed?: number;
  /** [api] It was created with dependencies (label `drover.depends-on`): its first tasks wait for them. */
  startsInOrder?: true;
  /** [start-order] What the first tasks wait for, in words; or since when all that has come, and then it stays so. */
  startOrder?: { waitsFor: string; metAt?: never } | { metAt: string; waitsFor?: never };
  /** [api] Of a job: which run of it is the present one, and since when. Absent for services that are no jobs. */
  jobStatus?: { iteration: number; /** RFC 3339. */ lastExecution: string };
}

/** A service's spec, stored once per version and shared by its tasks (decision 11). [api] writes, [reaper] removes. */
export interface ServiceSpecVersion {
  /** `serviceSpecId(serviceId, version)` */
  id: string;
  serviceId: string;
  version: number;
  spec: ServiceSpec;
}

export function serviceSpecId(serviceId: string, version: number): string {
  return `${serviceId}@${version}`;
}

export interface TaskStatus {
  /** RFC 3339: when this state was reached. */
  timestamp: string;
  state: TaskState;
  message: string;
  /** Why it waits or failed, in words a user can act on; absent when all is well. */
  error?: string;
  container?: { id: string; pid: number; exitCode?: number };
  /** RFC 3339: when its container last began to run (with a health check: to be healthy); absent if it never did. */
  runningSince?: string;
  /** Host-mode ports the engine bound. */
  ports?: EndpointPort[];
  /** False while it runs but its readiness probe has not passed: it gets no connections, and no rollout counts it as arrived. */
  ready?: boolean;
}

export interface TaskNetwork {
  networkId: string;
  /** Plain IPv4. */
  address: string;
  /** Names besides the service's, from the attachment. */
  aliases: string[];
}

export interface Task {
  id: string;
  environment: string;
  meta: Meta;
  serviceId: string;
  /** Name of the service when the task was made: containers keep it. */
  serviceName: string;
  /** The spec is `serviceSpecs.get(serviceSpecId(serviceId, specVersion))`. */
  specVersion: number;
  /** 1… for replicated services and jobs (shown from 0 for a job: `shownSlot`); 0 for global ones, where the node is the slot. */
  slot: number;
  /** Of a job: the run it belongs to, as in its service's `jobStatus` when the task was made. */
  jobIteration?: number;
  /** [scheduler], or [global] which makes tasks for their node; '' until then. */
  nodeId: string;
  /** [scheduler] What of the node's generic resources is the task's own; absent when it reserves none. */
  genericResources?: readonly GenericResource[];
  /** [orchestrators, update, restart] */
  desiredState: TaskState;
  /** Below ASSIGNED and the two exceptions: manager. Else: [agent]. */
  status: TaskStatus;
  /** [allocator] one per network of the spec, plus the ingress network when a port is published there. */
  networks: TaskNetwork[];
  /** [restart, update] While desiredState is READY: do not start before this time (RFC 3339). */
  startAfter?: string;
  /** [restart, update] While desiredState is READY: do not start before this task has stopped. */
  startAfterTask?: string;
  /** [restart] How many tasks of the slot failed quickly, one after the other, right before this one. */
  quickFailures?: number;
  /** [update, restart] Start-first: the task of the same slot that stays until this one has arrived, and goes then. */
  replaces?: string;
  /** [handover] Of one that `replaces` another and has to run for a moment first: since when (RFC 3339, the manager's clock) it was seen to. */
  settlesSince?: string;
  /**
   * [update] Of a task that a rollout put in its slot: that rollout's id, and when (RFC 3339, the manager's clock) it was
   * seen to have arrived, or to have failed. A task that has to leave before either hands the id on to the next.
   */
  rollout?: { id: number; arrivedAt?: string; failedAt?: string };
}

export interface Network {
  id: string;
  environment: string;
  meta: Meta;
  /** [api] Name, labels, IPAM as the user gave it. */
  spec: NetworkSpec;
  /** [allocator] undefined until allocated: CIDR, VXLAN id. */
  allocation?: { subnet: string; vni: number };
  /** [allocator] why it cannot be allocated, in words. */
  allocationError?: string;
  /** [api] Removed by the user while tasks of removed services still stop on it; hidden from names and lists. */
  removing?: boolean;
}

/** A secret or a config. */
export interface Payload {
  id: string;
  environment: string;
  meta: Meta;
  /** [api] What it holds never changes; its labels may, and its name does when a newer version takes it. */
  spec: PayloadSpec;
  /** [api] The name it had until a rotation gave that name to a newer version; absent on the one that has it. */
  formerName?: string;
}

/** What a deploy of a stack has written so far, so that its next write is known as its own. [api] */
export interface StackDeploy {
  /** `nameKey(environment, stack)` */
  id: string;
  environment: string;
  /** Name of the stack: what its services have in the label `com.docker.stack.namespace`. */
  stack: string;
  /** The client's own name of the deploy, if it gave one. */
  deployId?: string;
  /** RFC 3339: its last write. */
  lastWriteAt: string;
  /** Names of the services it has written or removed. */
  written: string[];
  /** The number of its revision; absent as long as it has changed nothing. */
  revision?: number;
  /** The highest number a revision of this stack has. */
  lastRevision: number;
}

/** What the services of a stack were after one deploy. [api] */
export interface StackRevision {
  /** `stackRevisionId(environment, stack, number)` */
  id: string;
  environment: string;
  stack: string;
  /** 1, 2, 3 … in the order of deploys. */
  number: number;
  /** RFC 3339. */
  createdAt: string;
  /** RFC 3339: its last change. */
  updatedAt: string;
  /** The `User-Agent` of whoever deployed. */
  client: string;
  /** The revision it went back to, if it is a rollback. */
  rollbackTo?: number;
  /** Service name → `serviceSpecId` of the spec it had after the deploy. */
  services: Record<string, string>;
}

export function stackRevisionId(environment: string, stack: string, number: number): string {
  return `${environment}/${stack}@${number}`;
}

/** What an engine says of a container in an overlay that is no task. */
export interface AttachedContainer {
  id: string;
  /** Without the engine's leading slash. */
  name: string;
  running: boolean;
}

/**
 * A single container's place in an overlay (`docker run --network`, `docker network connect`): one row for each overlay
 * it is in, from before it is made until it is removed or disconnected.
 */
export interface ContainerAttachment {
  /** Chosen by the agent that asks, so that it may ask twice. */
  id: string;
  environment: string;
  networkId: string;
  /** The node whose engine has the container. */
  nodeId: string;
  /** RFC 3339. */
  createdAt: string;
  /** The address its user wants, plain IPv4; absent: any. */
  wantedAddress?: string;
  /** Names its user gave it in this network, besides the container's own. */
  aliases: string[];
  /** [allocator] Plain IPv4; absent until allocated. */
  address?: string;
  /** [allocator] why it gets no address, in words. */
  error?: string;
  /** [agent], stored by [dispatch]; absent until it is made. */
  container?: AttachedContainer;
}

/** A task's name as people and containers see it: `web.1.<id>`, or `web.<node>.<id>` for a global service. */
export function taskName(task: Pick<Task, 'id' | 'serviceName' | 'slot' | 'nodeId' | 'jobIteration'>): string {
  return `${task.serviceName}.${task.slot === 0 ? task.nodeId : shownSlot(task)}.${task.id}`;
}

/** A slot's number as Docker counts: services from 1, jobs from 0. */
export function shownSlot(task: Pick<Task, 'slot' | 'jobIteration'>): number {
  return task.jobIteration === undefined ? task.slot : Math.max(0, task.slot - 1);
}

/** True for what runs to its end, in either mode. */
export function isJob({ spec: { Mode } }: Pick<Service, 'spec'>): boolean {
  return Mode.ReplicatedJob !== undefined || Mode.GlobalJob !== undefined;
}
