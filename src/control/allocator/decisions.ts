/** What the allocator decides for tasks and nodes, on what one transaction sees. Takes from the books what it gives. */
import {
  serviceSpecId,
  type Network,
  type Node,
  type Service,
  type ServiceSpecVersion,
  type Task,
  type TaskNetwork,
} from '../../model/objects.ts';
import { TaskState, isTerminal } from '../../model/states.ts';
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

/** True while the task's node needs a gateway address in the task's networks. */
export function needsGateways(task: Task): boolean {
  return task.nodeId !== '' && task.status.state >= TaskState.ASSIGNED && !isTerminal(task.status.state);
}

/**
 * The gateways a node is to have: one in the ingress network, and one in each network of its tasks. What it has and
 * still needs stays. `missing`: networks that have no address for it.
 */
export function decideGateways(
  node: Node,
  tasks: readonly Task[],
  state: Pick<Lookup, 'networks'>,
  books: Books,
): { gateways: Record<string, string>; missing: Network[] } {
  const wanted = new Set(
    tasks.filter(needsGateways).flatMap((task) => task.networks.map((network) => network.networkId)),
  );
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

/** Whether two gateway maps say the same. */
export function sameGateways(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
