/**
 * The objects a cluster is made of, as the store keeps them: plain, frozen, replaced and never changed in place.
 * Each field names its one writer (decisions-and-traps.md 4): [api], [replicated/global] and the other loops of
 * `control/`, [allocator], [scheduler], [dispatch], [agent].
 */
import type { TaskState } from './states.ts';
import type {
  EndpointSpec,
  GenericResource,
  Labels,
  NetworkSpec,
  NodeSpec,
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

export interface Cluster {
  /** CLUSTER_ROW. */
  id: string;
  /** The identifier people see, and the O of every certificate. */
  clusterId: string;
  meta: Meta;
  spec: SwarmSpec;
  /** [pki] PEM; the key stays in the journal of the managers. */
  rootCa: { certificate: string; key: string };
  /** Full `SWMTKN-…` strings. */
  joinTokens: { worker: string; manager: string };
  /** CIDRs overlays are cut from. */
  defaultAddressPool: string[];
  /** Prefix length of an overlay whose subnet the user did not give. */
  subnetSize: number;
  /** UDP port of the VXLAN devices. */
  dataPathPort: number;
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

export interface Service {
  id: string;
  environment: string;
  meta: Meta;
  /** [api] */
  spec: ServiceSpec;
  /** [api] `meta.version` at which `spec` was set; names the ServiceSpecVersion its new tasks refer to. */
  specVersion: number;
  previousSpec?: ServiceSpec;
  previousSpecVersion?: number;
  /** [allocator] undefined until allocated. */
  endpoint?: ServiceEndpoint;
  /** [allocator] why the endpoint cannot be allocated, in words; absent when it can. */
  endpointError?: string;
  /** [update] */
  updateStatus?: UpdateStatus;
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
  /** Host-mode ports the engine bound. */
  ports?: EndpointPort[];
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
  /** 1… for replicated; 0 for global, where the node is the slot. */
  slot: number;
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

/** A task's name as people and containers see it: `web.1.<id>`, or `web.<node>.<id>` for a global service. */
export function taskName(task: Pick<Task, 'id' | 'serviceName' | 'slot' | 'nodeId'>): string {
  return `${task.serviceName}.${task.slot === 0 ? task.nodeId : task.slot}.${task.id}`;
}
