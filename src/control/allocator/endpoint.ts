/**
 * What a service gets: its ports and its virtual addresses. Promises: what it has and still asks for it keeps;
 * nothing is taken from the books unless everything it asks for is there.
 */
import type { EndpointPort, Network, Service, ServiceEndpoint } from '../../model/objects.ts';
import type { EndpointSpec, PortConfig } from '../../model/specs.ts';
import { attachments, usesIngress } from './attachments.ts';
import { INGRESS, PORTS, addressesOf, type Books } from './books.ts';

/** `thing` is what the service waits for, by its name in the books. */
export interface Missing {
  error: string;
  thing: string;
}

interface Lookup {
  networks: { get(id: string): Network | undefined };
  services: { get(id: string): Service | undefined };
}

/** The service's endpoint by its newest spec, marked as taken in the books; or what is missing, in words. */
export function decideEndpoint(service: Service, state: Lookup, books: Books): ServiceEndpoint | Missing {
  const spec: EndpointSpec = { Mode: 'vip', ...service.spec.EndpointSpec };
  const ports = decidePorts(service, spec.Ports ?? [], state, books);
  if ('error' in ports) return ports;
  const vips = decideVips(service, spec, state, books);
  if ('error' in vips) return vips;
  return { spec, ports, virtualIps: vips };
}

function decidePorts(
  service: Service,
  wanted: readonly PortConfig[],
  state: Lookup,
  books: Books,
): EndpointPort[] | Missing {
  const had = [...(service.endpoint?.ports ?? [])];
  const ports = wanted.map(endpointPort);
  const taken = new Set(ports.filter((port) => port.publishMode === 'ingress').map((port) => port.publishedPort));
  for (const port of ports) {
    if (port.publishMode !== 'ingress') continue;
    if (port.publishedPort === 0) {
      const before = takeMatch(had, port, taken);
      const chosen = before?.publishedPort ?? books.ports.nextDynamic(port.protocol, taken);
      if (chosen === undefined)
        return {
          error: `no ${port.protocol} port is free for '${port.targetPort}': all dynamic ports are in use`,
          thing: PORTS,
        };
      port.publishedPort = chosen;
      taken.add(chosen);
      continue;
    }
    const owner = books.ports.owner(port.protocol, port.publishedPort);
    if (owner === undefined || owner === service.id) continue;
    const name = state.services.get(owner)?.spec.Name ?? 'a removed one';
    return { error: `port '${port.publishedPort}' is already in use by service '${name}' (${owner})`, thing: PORTS };
  }
  return ports;
}

/** The port the service had for the same target, taken out of `had`, so that two of them do not get the same one. */
function takeMatch(had: EndpointPort[], wanted: EndpointPort, taken: ReadonlySet<number>): EndpointPort | undefined {
  const at = had.findIndex(
    (port) =>
      port.publishMode === 'ingress' &&
      port.protocol === wanted.protocol &&
      port.targetPort === wanted.targetPort &&
      !taken.has(port.publishedPort),
  );
  return at < 0 ? undefined : had.splice(at, 1)[0];
}

function endpointPort(port: PortConfig): EndpointPort {
  return {
    ...(port.Name ? { name: port.Name } : {}),
    protocol: port.Protocol ?? 'tcp',
    targetPort: port.TargetPort ?? 0,
    publishedPort: port.PublishedPort ?? 0,
    publishMode: port.PublishMode ?? 'ingress',
  };
}

function decideVips(
  service: Service,
  spec: EndpointSpec,
  state: Lookup,
  books: Books,
): ServiceEndpoint['virtualIps'] | Missing {
  const networks = attachments(service.spec, state.networks).map((attachment) => attachment.network);
  if (usesIngress(spec)) {
    const ingress = state.networks.get(books.ingress ?? '');
    if (ingress === undefined)
      return { error: 'a port is published on every node, but there is no ingress network', thing: INGRESS };
    if (!networks.includes(ingress)) networks.unshift(ingress);
  }
  if (spec.Mode === 'dnsrr') return [];
  const had = new Map((service.endpoint?.virtualIps ?? []).map((vip) => [vip.networkId, vip.address]));
  for (const network of networks) {
    if (!had.has(network.id) && books.room(network.id) === 0)
      return { error: books.whyNoAddress(network), thing: addressesOf(network.id) };
  }
  return networks.map(({ id }) => {
    const address = had.get(id) ?? books.takeAddress(id);
    if (address === undefined) throw new Error(`network ${id} had room and gave no address`);
    return { networkId: id, address };
  });
}
