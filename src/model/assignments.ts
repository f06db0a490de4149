/**
 * What a manager tells an agent: small keyed facts. A session starts with all of them and goes on with the
 * differences, so that what an agent receives costs what changed. The agent keeps the same facts in its own file.
 */
import type { TaskState } from './states.ts';
import type { AttachedContainer, EndpointPort, TaskStatus } from './objects.ts';
import type { GenericResource, Labels, TaskSpec } from './specs.ts';

/** One task this node is to run (or to stop, by its desired state). Key: task id. */
export interface TaskAssignment {
  id: string;
  environment: string;
  serviceId: string;
  serviceName: string;
  serviceLabels: Labels;
  slot: number;
  /** Of a job's task: see Task. */
  jobIteration?: number;
  nodeId: string;
  desiredState: TaskState;
  /** Not wanted any more, but some node may still send it connections: the stop waits (dispatch/withdrawals.ts). */
  balanced?: true;
  /** How long its connections may take to end before it gets its stop signal. Absent: DEFAULT_DRAIN_MS. */
  drainMs?: number;
  spec: TaskSpec;
  /** What of the node's generic resources is the task's own; absent when it reserves none. */
  genericResources?: readonly GenericResource[];
  networks: { networkId: string; address: string; aliases: string[] }[];
  /** Ports published in `mode=host` on this node; publishedPort 0: the engine chooses. */
  hostPorts: EndpointPort[];
  /** What the manager last knew; an agent that lost its memory goes on from here. */
  status: TaskStatus;
}

/** An overlay with a gateway address on this node. Key: network id. */
export interface NetworkAssignment {
  id: string;
  name: string;
  environment: string;
  /** CIDR. */
  subnet: string;
  /** This node's own address in it, plain IPv4. */
  gateway: string;
  vni: number;
  /** UDP port of the VXLAN device. */
  dataPathPort: number;
  ingress: boolean;
  internal: boolean;
  /** Single containers may be attached by hand. */
  attachable?: boolean;
  labels: Labels;
  /** Driver options of the user, such as `com.docker.network.driver.mtu`. */
  options: Record<string, string>;
}

/** Another node with an address in one of our overlays. Key: `networkId/nodeId`. */
export interface PeerAssignment {
  networkId: string;
  nodeId: string;
  gateway: string;
  dataPathAddress: string;
}

/** A single container's place in an overlay, on this node. Key: attachment id. */
export interface AttachmentAssignment {
  id: string;
  networkId: string;
  /** Plain IPv4. */
  address: string;
  aliases: string[];
  /** What the manager last heard of it. */
  container?: AttachedContainer;
}

/** A task's endpoint in one of our overlays, ours or a peer's; or a single container's. Key: `networkId/taskId`. */
export interface EndpointAssignment {
  networkId: string;
  /** Or the attachment's id, for a container that is no task. */
  taskId: string;
  /** '' for a container that is no task: it is found by its aliases, the first of which is its name. */
  serviceId: string;
  slot: number;
  nodeId: string;
  /** Plain IPv4; its MAC is `macOf(address)`. */
  address: string;
  dataPathAddress: string;
  /** True while it is to get connections: RUNNING (and healthy and ready, if it has such checks) and wanted. */
  serving: boolean;
  /** Names besides the service's. */
  aliases: string[];
}

/** A service as seen in one of our overlays. Key: `networkId/serviceId`. */
export interface ServiceAssignment {
  networkId: string;
  serviceId: string;
  environment: string;
  name: string;
  /** All names of all attachments to this network. */
  aliases: string[];
  /** Plain IPv4; absent with `dnsrr`. */
  vip?: string;
  /** Only in the ingress network: what every node publishes. */
  ports: EndpointPort[];
}

/** A secret or config that a task here uses. Key: its id. A secret is never written to a disk of the node. */
export interface PayloadAssignment {
  id: string;
  /** Base64. */
  data: string;
  /** Each task gets it with its own values in the place of `{{…}}`. */
  templated: boolean;
}

export interface AssignmentKinds {
  secret: PayloadAssignment;
  config: PayloadAssignment;
  task: TaskAssignment;
  network: NetworkAssignment;
  peer: PeerAssignment;
  endpoint: EndpointAssignment;
  service: ServiceAssignment;
  attachment: AttachmentAssignment;
}

export type AssignmentKind = keyof AssignmentKinds;

/** `value: null` takes the fact away. */
export type AssignmentChange = {
  [K in AssignmentKind]: { kind: K; key: string; value: AssignmentKinds[K] | null };
}[AssignmentKind];

/** What agents send back, many at a time. */
export interface TaskStatusReport {
  taskId: string;
  status: TaskStatus;
}
