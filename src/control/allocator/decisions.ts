/** What the allocator decides for tasks and nodes, on what one transaction sees. Takes from the books what it gives. */
import {
  serviceSpecId,
  type ContainerAttachment,
  type Network,
  type Node,
  type Service,
  type ServiceSpecVersion,
  type Task,
  type TaskNetwork,
} from '../../model/objects.ts';
import { TaskState, isTerminal } from '../../model/states.ts';
import type { View } from '../../store/store.ts';
import { attachments, usesIngress, type Attachment } from './attachments.ts';
import { INGRESS, addressesOf, type Books } from './books.ts';
import type { Missing } from './endpoint.ts';

/** What a task whose service has no endpoint waits for. */
export const endpointOf = (serviceId: string): string => `endpoint/${serviceId}`;

interface Lookup {
  networks: { get(id: string): Network | undefined };
  services: { get(id: string): Service | undefined };
  serviceSpecs: { get(id: string): ServiceSpecVersion | undefined };
}

/** True while the task wants addresses: NEW, and not already unwanted. */
export function isUnallocated(task: Task): boolean {
  return task.status.state === TaskState.NEW && task.desiredState <= TaskState.COMPLETE;
}

/**
 * True if a task made of the service's present spec has no address to wait for: what `decideTaskNetworks` would say of it in the
 * next transaction, at the price of a further change for each task.
 */
export function needsNoAddress({ spec, endpoint, endpointError }: Service, networks: Lookup['networks']): boolean {
  const isSettled = endpoint !== undefined && endpointError === undefined;
  return isSettled && !usesIngress(spec.EndpointSpec) && attachments(spec, networks).length === 0;
}

/** Of a task that has its addresses, or needs none. */
export function pendingStatus(now: string): Task['status'] {
  return { timestamp: now, state: TaskState.PENDING, message: 'pending task scheduling' };
}

/** The addresses of an unallocated task, marked as taken; or what is missing, in words. Undefined: its service is gone. */
export function decideTaskNetworks(task: Task, state: Lookup, books: Books): TaskNetwork[] | Missing | undefined {
  const service = state.services.get(task.serviceId);
  const spec = state.serviceSpecs.get(serviceSpecId(task.serviceId, task.specVersion))?.spec;
  if (service === undefined || spec === undefined) return undefined;
  if (service.endpoint === undefined || service.endpointError !== undefined) {
    return {
      error: service.endpointError ?? 'waiting for the addresses of its service',
      thing: endpointOf(service.id),
    };
  }
  const wanted: Attachment[] = attachments(spec, state.networks);
  if (usesIngress(spec.EndpointSpec)) {
    const network = state.networks.get(books.ingress ?? '');
    if (network === undefined)
      return { error: 'a port is published on every node, but there is no ingress network', thing: INGRESS };
    if (!wanted.some((attachment) => attachment.network.id === network.id)) wanted.push({ network, aliases: [] });
  }
  for (const { network } of wanted) {
    if (!books.roomForTask(network.id)) return { error: books.whyNoAddress(network), thing: addressesOf(network.id) };
  }
  return wanted.map(({ network, aliases }) => {
    const address = books.takeAddress(network.id);
    if (address === undefined) throw new Error(`network ${network.id} had room and gave no address`);
    return { networkId: network.id, address, aliases };
  });
}

/**
 * The address of a container that has none yet, marked as taken; `error` if it gets none, in words. Undefined: its
 * network has no subnet yet, but will.
 */
export function decideAttachment(
  { networkId, nodeId, wantedAddress }: ContainerAttachment,
  state: { networks: Lookup['networks']; nodes: { get(id: string): Node | undefined } },
  books: Books,
): { address: string } | { error: string } | undefined {
  const network = state.networks.get(networkId);
  if (network === undefined) return { error: `network ${networkId} not found` };
  if (network.allocation === undefined && network.allocationError === undefined) return undefined;
  // Its node's gateway was decided before; without one the container could not be made there.
  if (state.nodes.get(nodeId)?.gateways[networkId] === undefined) return { error: books.whyNoAddress(network) };
  if (wantedAddress !== undefined) {
    const error = books.takeWanted(network, wantedAddress);
    return error === undefined ? { address: wantedAddress } : { error };
  }
  const address = books.room(networkId) > 0 ? books.takeAddress(networkId) : undefined;
  return address === undefined ? { error: books.whyNoAddress(network) } : { address };
}

/** True while the task's node needs a gateway address in the task's networks. */
export function needsGateways(task: Task): boolean {
  return task.nodeId !== '' && task.status.state >= TaskState.ASSIGNED && !isTerminal(task.status.state);
}

/**
 * The gateways a node is to have: one in the ingress network, and one in each network of its tasks and attached
 * containers. What it has and still needs stays. `missing`: networks that have no address for it.
 */
export function decideGateways(
  node: Node,
  users: { tasks: readonly Task[]; attachments: readonly ContainerAttachment[] },
  state: Pick<Lookup, 'networks'>,
  books: Books,
): { gateways: Record<string, string>; missing: Network[] } {
  const wanted = new Set([
    ...users.tasks.filter(needsGateways).flatMap((task) => task.networks.map((network) => network.networkId)),
    // One that was refused its address goes at once, and needs nothing.
    ...users.attachments.filter(({ error }) => error === undefined).map(({ networkId }) => networkId),
  ]);
  if (books.ingress !== undefined) wanted.add(books.ingress);
  const gateways: Record<string, string> = {};
  const missing: Network[] = [];
  for (const id of wanted) {
    const network = state.networks.get(id);
    if (network === undefined) continue;
    const address = node.gateways[id] ?? books.takeAddress(id);
    if (address === undefined) missing.push(network);
    else gateways[id] = address;
  }
  return { gateways, missing };
}

/**
 * The nodes that have not the gateways which `decideGateways` would give them. Found by what is in networks and not node by
 * node: a new manager asks this of all nodes, and nearly all are as they should be.
 */
export function* nodesAmiss(view: View, ingress: string | undefined): Iterable<string> {
  const wanted = new Map<string, Set<string>>();
  const want = (nodeId: string, networkId: string): void => {
    const networks = wanted.get(nodeId);
    if (networks === undefined) wanted.set(nodeId, new Set([networkId]));
    else networks.add(networkId);
  };
  for (const { id } of view.networks.all())
    for (const task of view.tasks.by('network', id)) if (needsGateways(task)) want(task.nodeId, id);
  for (const { nodeId, networkId, error } of view.attachments.all())
    if (error === undefined && view.networks.get(networkId) !== undefined) want(nodeId, networkId);
  for (const { id, gateways } of view.nodes.all()) {
    if (ingress !== undefined) want(id, ingress);
    const networks = wanted.get(id) ?? NO_NETWORKS;
    const has = Object.keys(gateways);
    if (has.length !== networks.size || !has.every((networkId) => networks.has(networkId))) yield id;
  }
}

const NO_NETWORKS: ReadonlySet<string> = new Set();

/** Whether two gateway maps say the same. */
export function sameGateways(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
