/** When an overlay matches a filter, may be removed, or is pruned. Pure: decisions on a view or within a transaction. */
import { parseSubnet, subnetsOverlap, type Subnet } from '../model/addresses.ts';
import type { Network } from '../model/objects.ts';
import type { NetworkSpec, ServiceSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import type { Transaction, View } from '../store/store.ts';
import { ApiError, badRequest, conflict } from './errors.ts';
import { booleanFilter, contains, hasLabels, lacksLabels, some, type Filters } from './filters.ts';
import { parseMoment } from './moments.ts';

/** True if the overlay passes the filters of `GET /networks`. Without a view, on a worker, it is one that is in use there. */
export function networkMatches(view: View | undefined, network: Network, filters: Filters): boolean {
  const { spec } = network;
  const dangling = booleanFilter(filters, 'dangling');
  return (
    some(filters, 'driver', (driver) => driver === spec.Driver) &&
    some(filters, 'scope', (scope) => scope === 'swarm') &&
    some(filters, 'type', (type) => type === (spec.Ingress ? 'builtin' : 'custom')) &&
    contains(filters, 'id', network.id) &&
    contains(filters, 'name', spec.Name) &&
    hasLabels(filters, 'label', spec.Labels) &&
    (dangling === undefined || (view !== undefined && isUnused(view, network.id)) === dangling)
  );
}

/** True if `docker network prune` takes the overlay: nothing uses it, and the filters name it. */
export function prunable(view: View, network: Network, filters: Filters, nowMs: number): boolean {
  const [until] = filters.get('until') ?? [];
  const before = until === undefined ? nowMs : parseMoment(until, nowMs);
  return (
    !network.spec.Ingress &&
    isUnused(view, network.id) &&
    Date.parse(network.meta.createdAt) <= before &&
    hasLabels(filters, 'label', network.spec.Labels) &&
    lacksLabels(filters, 'label!', network.spec.Labels)
  );
}

/**
 * Removes an overlay: at once if nothing is left on it, else it is marked and goes when the last stopping task has.
 * @throws ApiError 400 while a service uses it, a task is to run on it or a single container is attached to it
 */
export function removeNetwork(tx: Transaction, id: string): void {
  const network = tx.networks.get(id);
  if (network === undefined || network.removing === true) return;
  if (network.spec.Ingress) {
    const depending = [...tx.services.all()].find(({ spec }) => publishesInMesh(spec));
    if (depending !== undefined)
      throw badRequest(`ingress network cannot be removed because service ${depending.id} depends on it`);
  }
  const [service] = tx.services.by('network', id);
  if (service !== undefined) throw badRequest(`network ${id} is in use by service ${service.id}`);
  const tasks = tx.tasks.by('network', id);
  const wanted = tasks.find(
    (task) => task.desiredState <= TaskState.COMPLETE && tx.services.get(task.serviceId) !== undefined,
  );
  if (wanted !== undefined) throw badRequest(`network ${id} is in use by task ${wanted.id}`);
  // To Swarm's users an attached container is a task.
  const [attached] = tx.attachments.by('network', id);
  if (attached !== undefined) throw badRequest(`network ${id} is in use by task ${attached.id}`);
  if (tasks.length === 0) tx.networks.remove(id);
  else tx.networks.update({ ...network, removing: true });
}

/** `filters` with one more value, as the query of a request to the engine. */
export function withFilter(filters: Filters, key: string, value: string): string {
  const all = new Map([...filters, [key, [...(filters.get(key) ?? []), value]]]);
  const object = [...all].map(([name, values]) => [name, Object.fromEntries(values.map((each) => [each, true]))]);
  return JSON.stringify(Object.fromEntries(object));
}

/** The network of the routing mesh, if there is one; one being removed is none. */
export function ingressOf(view: View): Network | undefined {
  return [...view.networks.all()].find((network) => network.spec.Ingress && network.removing !== true);
}

/** @throws ApiError 409 if `network` is to be the routing mesh's and there is one already */
export function checkOneIngress(view: View, wanted: NetworkSpec): void {
  const present = wanted.Ingress ? ingressOf(view) : undefined;
  if (present !== undefined) throw conflict(`ingress network (${present.id}) is already present`);
}

/**
 * @throws ApiError 403 if the subnet that `wanted` names shares addresses with another overlay, the routing mesh's included.
 * One that is being removed counts no more: whoever makes its network anew waits for its last task.
 */
export function checkSubnetsAreFree(view: View, wanted: NetworkSpec): void {
  const subnets = declaredSubnets(wanted);
  if (subnets.length === 0) return;
  for (const { spec, allocation, removing } of view.networks.all()) {
    if (removing === true) continue;
    const allocated = allocation === undefined ? undefined : parseSubnet(allocation.subnet);
    const theirs = allocated === undefined ? declaredSubnets(spec) : [allocated];
    if (theirs.some((their) => subnets.some((subnet) => subnetsOverlap(subnet, their))))
      throw new ApiError(
        403,
        `invalid pool request: Pool overlaps with other one on this address space (network ${spec.Name})`,
      );
  }
}

function declaredSubnets({ IPAM }: NetworkSpec): Subnet[] {
  return (IPAM?.Config ?? []).flatMap(({ Subnet: cidr = '' }) => parseSubnet(cidr) ?? []);
}

/** True if every node is to publish a port of the service. */
export function publishesInMesh(spec: ServiceSpec): boolean {
  return (spec.EndpointSpec?.Ports ?? []).some((port) => (port.PublishMode ?? 'ingress') === 'ingress');
}

function isUnused(view: View, id: string): boolean {
  const users = [view.services, view.tasks, view.attachments] as const;
  return users.every((table) => table.countBy('network', id) === 0);
}
