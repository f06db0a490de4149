/**
 * The tables of the cluster's state and the indexes that the loops need. One line an index: its name, the fields it
 * reads, and the keys under which it finds an object. A write that keeps those fields costs the index nothing.
 */
import { payloadIds } from '../model/payloads.ts';
import { dependenciesOf, isHeldBack, serviceNames, STACK_LABEL } from '../model/depends-on.ts';
import type { Protocol } from '../model/specs.ts';
import {
  serviceSpecId,
  type Cluster,
  type ContainerAttachment,
  type Network,
  type Node,
  type Payload,
  type Service,
  type ServiceSpecVersion,
  type StackDeploy,
  type StackRevision,
  type Task,
} from '../model/objects.ts';

/** Object type of each table. Every object has an `id`, unique in its table. */
export interface Objects {
  clusters: Cluster;
  nodes: Node;
  services: Service;
  serviceSpecs: ServiceSpecVersion;
  stackDeploys: StackDeploy;
  stackRevisions: StackRevision;
  tasks: Task;
  networks: Network;
  attachments: ContainerAttachment;
  secrets: Payload;
  configs: Payload;
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

const PAYLOAD_INDEXES = {
  name: index<Payload, 'environment' | 'spec'>(['environment', 'spec'], (payload) =>
    nameKey(payload.environment, payload.spec.Name),
  ),
  /** The earlier versions of a name. */
  formerName: index<Payload, 'environment' | 'formerName'>(['environment', 'formerName'], (payload) =>
    payload.formerName === undefined ? undefined : nameKey(payload.environment, payload.formerName),
  ),
};

export const INDEXES = {
  clusters: {},
  nodes: {
    hostname: index<Node, 'description'>(['description'], ({ description }) => description?.hostname),
    /** The overlays in which the node has a gateway address. */
    network: index<Node, 'gateways'>(['gateways'], ({ gateways }) => Object.keys(gateways)),
    /** The port by which other nodes reach the manager on it. */
    managerPort: index<Node, 'manager'>(['manager'], ({ manager }) => manager?.address.replace(/^.*:/, '')),
  },
  services: {
    name: index<Service, 'environment' | 'spec'>(['environment', 'spec'], (service) =>
      nameKey(service.environment, service.spec.Name),
    ),
    network: index<Service, 'spec'>(['spec'], networkTargets),
    secret: index<Service, 'spec'>(['spec'], ({ spec }) => payloadIds(spec.TaskTemplate, 'secret')),
    config: index<Service, 'spec'>(['spec'], ({ spec }) => payloadIds(spec.TaskTemplate, 'config')),
    /** The overlays in which the service has a VIP: the ingress network too, if it publishes ports there. */
    vip: index<Service, 'endpoint'>(['endpoint'], ({ endpoint }) => endpoint?.virtualIps.map((vip) => vip.networkId)),
    /** `portKey` of every port it publishes, declared or given by the allocator. */
    port: index<Service, 'spec' | 'endpoint'>(['spec', 'endpoint'], publishedPorts),
    /** `Replicated`, `Global` …: a node event concerns global services only. */
    mode: index<Service, 'spec'>(['spec'], ({ spec }) => Object.keys(spec.Mode)),
    /** `nameKey` of the stack it belongs to. */
    stack: index<Service, 'environment' | 'spec'>(['environment', 'spec'], stackOf),
    /** While its first tasks wait: `nameKey` of every service that may be one it waits for. */
    waitsFor: index<Service, 'environment' | 'spec' | 'startsInOrder' | 'startOrder'>(
      ['environment', 'spec', 'startsInOrder', 'startOrder'],
      waitedFor,
    ),
  },
  serviceSpecs: {
    service: index<ServiceSpecVersion, 'serviceId'>(['serviceId'], ({ serviceId }) => serviceId),
    secret: index<ServiceSpecVersion, 'spec'>(['spec'], ({ spec }) => payloadIds(spec.TaskTemplate, 'secret')),
    config: index<ServiceSpecVersion, 'spec'>(['spec'], ({ spec }) => payloadIds(spec.TaskTemplate, 'config')),
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
  stackDeploys: {},
  stackRevisions: {
    stack: index<StackRevision, 'environment' | 'stack'>(['environment', 'stack'], ({ environment, stack }) =>
      nameKey(environment, stack),
    ),
    /** The spec versions it refers to. */
    spec: index<StackRevision, 'services'>(['services'], ({ services }) => Object.values(services)),
  },
  networks: {
    /** A network being removed has given its name back. */
    name: index<Network, 'removing' | 'environment' | 'spec'>(['removing', 'environment', 'spec'], (network) =>
      network.removing ? undefined : nameKey(network.environment, network.spec.Name),
    ),
  },
  attachments: {
    network: index<ContainerAttachment, 'networkId'>(['networkId'], ({ networkId }) => networkId),
    node: index<ContainerAttachment, 'nodeId'>(['nodeId'], ({ nodeId }) => nodeId),
  },
  secrets: PAYLOAD_INDEXES,
  configs: PAYLOAD_INDEXES,
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

function stackOf({ environment, spec }: Pick<Service, 'environment' | 'spec'>): string | undefined {
  const stack = spec.Labels[STACK_LABEL] ?? '';
  return stack === '' ? undefined : nameKey(environment, stack);
}

function waitedFor(
  service: Pick<Service, 'environment' | 'spec' | 'startsInOrder' | 'startOrder'>,
): string[] | undefined {
  if (!isHeldBack(service)) return undefined;
  const names = dependenciesOf(service.spec).flatMap(({ name }) => serviceNames(service.spec, name));
  return [...new Set(names)].map((name) => nameKey(service.environment, name));
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
