/**
 * The tables of the cluster's state and the indexes that the loops need. One line an index: its name, the fields it
 * reads, and the keys under which it finds an object. A write that keeps those fields costs the index nothing.
 */
import type { Protocol } from '../model/specs.ts';
import {
  serviceSpecId,
  type Cluster,
  type Network,
  type Node,
  type Service,
  type ServiceSpecVersion,
  type Task,
} from '../model/objects.ts';

/** Object type of each table. Every object has an `id`, unique in its table. */
export interface Objects {
  clusters: Cluster;
  nodes: Node;
  services: Service;
  serviceSpecs: ServiceSpecVersion;
  tasks: Task;
  networks: Network;
}

export type TableName = keyof Objects;

/** The keys under which an index finds an object; `undefined` leaves the object out of it. */
type Keys = string | readonly string[] | undefined;

export interface Index<T> {
  /** All that `keys` reads: as long as these are the same, so are the keys. */
  readonly fields: readonly (keyof T)[];
  readonly keys: (object: T) => Keys;
}

/** An index whose `keys` can read nothing but the `fields` it names. */
function index<T, F extends keyof T>(fields: readonly F[], keys: (object: Pick<T, F>) => Keys): Index<T> {
  return { fields, keys };
}

/** The key of a name within its environment: names are unique there (decisions-and-traps.md 13). */
export function nameKey(environment: string, name: string): string {
  return `${environment}/${name}`;
}

export const INDEXES = {
  clusters: {},
  nodes: {
    hostname: index<Node, 'description'>(['description'], ({ description }) => description?.hostname),
    /** The overlays in which the node has a gateway address. */
    network: index<Node, 'gateways'>(['gateways'], ({ gateways }) => Object.keys(gateways)),
  },
  services: {
    name: index<Service, 'environment' | 'spec'>(['environment', 'spec'], (service) =>
      nameKey(service.environment, service.spec.Name),
    ),
    network: index<Service, 'spec'>(['spec'], networkTargets),
    /** The overlays in which the service has a VIP: the ingress network too, if it publishes ports there. */
    vip: index<Service, 'endpoint'>(['endpoint'], ({ endpoint }) => endpoint?.virtualIps.map((vip) => vip.networkId)),
    /** `portKey` of every port it publishes, declared or given by the allocator. */
    port: index<Service, 'spec' | 'endpoint'>(['spec', 'endpoint'], publishedPorts),
    /** `Replicated`, `Global` …: a node event concerns global services only. */
    mode: index<Service, 'spec'>(['spec'], ({ spec }) => Object.keys(spec.Mode)),
  },
  serviceSpecs: {
    service: index<ServiceSpecVersion, 'serviceId'>(['serviceId'], ({ serviceId }) => serviceId),
  },
  tasks: {
    service: index<Task, 'serviceId'>(['serviceId'], ({ serviceId }) => serviceId),
    node: index<Task, 'nodeId'>(['nodeId'], ({ nodeId }) => nodeId || undefined),
    /** `serviceId/slot`, or `serviceId/nodeId` for a global service. */
    slot: index<Task, 'serviceId' | 'slot' | 'nodeId'>(['serviceId', 'slot', 'nodeId'], slotKey),
    network: index<Task, 'networks'>(['networks'], ({ networks }) => networks.map(({ networkId }) => networkId)),
    spec: index<Task, 'serviceId' | 'specVersion'>(['serviceId', 'specVersion'], (task) =>
      serviceSpecId(task.serviceId, task.specVersion),
    ),
  },
  networks: {
    /** A network being removed has given its name back. */
    name: index<Network, 'removing' | 'environment' | 'spec'>(['removing', 'environment', 'spec'], (network) =>
      network.removing ? undefined : nameKey(network.environment, network.spec.Name),
    ),
  },
} satisfies { [T in TableName]: Record<string, Index<Objects[T]>> };

export type IndexName<T extends TableName> = keyof (typeof INDEXES)[T] & string;

export const TABLES = Object.keys(INDEXES) as TableName[];

export function slotKey(task: Pick<Task, 'serviceId' | 'slot' | 'nodeId'>): string {
  return `${task.serviceId}/${task.slot === 0 ? task.nodeId : task.slot}`;
}

function networkTargets(service: Pick<Service, 'spec'>): string[] {
  const attachments = service.spec.TaskTemplate.Networks ?? service.spec.Networks ?? [];
  return attachments.map((attachment) => attachment.Target);
}

/** The key of a published port. */
export function portKey(protocol: Protocol, publishedPort: number): string {
  return `${protocol}/${publishedPort}`;
}

function publishedPorts(service: Pick<Service, 'spec' | 'endpoint'>): string[] {
  const declared = (service.spec.EndpointSpec?.Ports ?? []).map((port) =>
    portKey(port.Protocol ?? 'tcp', port.PublishedPort ?? 0),
  );
  const given = (service.endpoint?.ports ?? []).map((port) => portKey(port.protocol, port.publishedPort));
  return [...new Set([...declared, ...given])].filter((key) => !key.endsWith('/0'));
}
