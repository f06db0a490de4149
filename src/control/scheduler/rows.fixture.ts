/** Rows for the tests of the allocator and the scheduler: small, whole, changed by what a test gives. */
import {
  CLUSTER_ROW,
  DEFAULT_ENVIRONMENT,
  serviceSpecId,
  type Cluster,
  type ContainerAttachment,
  type Network,
  type Node,
  type NodeDescription,
  type Service,
  type ServiceSpecVersion,
  type Task,
} from '../../model/objects.ts';
import type { NetworkSpec, ServiceSpec } from '../../model/specs.ts';
import { TaskState } from '../../model/states.ts';

const meta = { version: 1, createdAt: '', updatedAt: '' };

export function clusterRow(changes: Partial<Cluster> = {}): Cluster {
  return {
    id: CLUSTER_ROW,
    clusterId: 'c',
    meta,
    defaultAddressPool: ['10.0.0.0/8'],
    subnetSize: 20,
    dataPathPort: 4789,
    ...changes,
  } as Cluster;
}

export function nodeRow(
  id: string,
  changes: {
    spec?: Partial<Node['spec']>;
    status?: Partial<Node['status']>;
    description?: Partial<NodeDescription>;
  } = {},
): Node {
  return {
    id,
    meta,
    spec: { Labels: {}, Role: 'worker', Availability: 'active', ...changes.spec },
    description: {
      hostname: `host-${id}`,
      platform: { Architecture: 'x86_64', OS: 'linux' },
      resources: { nanoCpus: 4e9, memoryBytes: 8e9 },
      engine: { version: '20.10.24', labels: {}, plugins: [] },
      tls: { trustRoot: '', certIssuerSubject: '', certIssuerPublicKey: '' },
      routes: [],
      dataPathAddress: '',
      degraded: [],
      ...changes.description,
    },
    status: { state: 'ready', message: '', address: '192.0.2.1', since: '', ...changes.status },
    gateways: {},
  };
}

export function serviceSpec(name: string, changes: Partial<ServiceSpec> = {}): ServiceSpec {
  return {
    Name: name,
    Labels: {},
    TaskTemplate: { ContainerSpec: { Image: 'busybox' } },
    Mode: { Replicated: {} },
    ...changes,
  };
}

export function serviceRow(id: string, spec: ServiceSpec, version = 1): Service {
  return { id, environment: DEFAULT_ENVIRONMENT, meta: { ...meta, version }, spec, specVersion: version };
}

export function specRow(service: Service): ServiceSpecVersion {
  const { id, specVersion: version, spec } = service;
  return { id: serviceSpecId(id, version), serviceId: id, version, spec };
}

export function taskRow(
  id: string,
  service: Service,
  changes: Partial<Omit<Task, 'status'>> & { state?: TaskState } = {},
): Task {
  const { state = TaskState.NEW, ...rest } = changes;
  return {
    id,
    environment: DEFAULT_ENVIRONMENT,
    meta,
    serviceId: service.id,
    serviceName: service.spec.Name,
    specVersion: service.specVersion,
    slot: 1,
    nodeId: '',
    desiredState: TaskState.RUNNING,
    status: { timestamp: '', state, message: '' },
    networks: [],
    ...rest,
  };
}

export function attachmentRow(
  id: string,
  networkId: string,
  nodeId: string,
  changes: Partial<ContainerAttachment> = {},
): ContainerAttachment {
  return { id, environment: DEFAULT_ENVIRONMENT, networkId, nodeId, createdAt: '', aliases: [], ...changes };
}

export function networkRow(id: string, changes: Partial<NetworkSpec> = {}): Network {
  return {
    id,
    environment: DEFAULT_ENVIRONMENT,
    meta,
    spec: {
      Name: id,
      Labels: {},
      Driver: 'overlay',
      Internal: false,
      Attachable: false,
      Ingress: false,
      EnableIPv6: false,
      Options: {},
      IPAM: { Driver: 'default', Config: [] },
      ...changes,
    },
  };
}

/** IPAM of a network with this subnet. */
export function ipam(Subnet: string, rest: { IPRange?: string; Gateway?: string } = {}): NetworkSpec['IPAM'] {
  return { Driver: 'default', Config: [{ Subnet, ...rest }] };
}
