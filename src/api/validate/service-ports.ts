/**
 * Published ports across the cluster: a port published through the mesh belongs to one service, and no other may
 * publish it, by itself or on its hosts; nor may any take the ports that the cluster itself lives on. Pure. Rules and
 * sentences of docker-api.md 1.2.
 */
import { badRequest } from '../errors.ts';
import { portKey } from '../../store/schema.ts';
import { CLUSTER_ROW } from '../../model/objects.ts';
import type { ServiceSpec } from '../../model/specs.ts';
import type { View } from '../../store/store.ts';

const SSH_PORT = 22;

/** @throws ApiError 400 if a port of `spec` would take the place of one that the cluster's own traffic comes in by */
export function checkOwnPortsAreKept(view: View, spec: ServiceSpec): void {
  const ports = spec.EndpointSpec?.Ports ?? [];
  if (ports.length === 0) return;
  const dataPathPort = view.clusters.get(CLUSTER_ROW)?.dataPathPort;
  for (const { PublishedPort: number = 0, Protocol: protocol = 'tcp', PublishMode: mode = 'ingress' } of ports) {
    // On its hosts only, a task finds the port of a manager taken, and harms nobody.
    if (protocol === 'tcp' && mode === 'ingress' && view.nodes.countBy('managerPort', String(number)) > 0)
      throw badRequest(`port '${number}/tcp' cannot be published: nodes reach their managers by it`);
    if (protocol === 'udp' && number === dataPathPort)
      throw badRequest(`port '${number}/udp' cannot be published: it carries the overlay networks between the nodes`);
  }
}

/** What whoever publishes these ports should hear although they may. */
export function portWarnings(spec: ServiceSpec): string[] {
  const takesSsh = (spec.EndpointSpec?.Ports ?? []).some(
    ({ PublishedPort, Protocol = 'tcp', PublishMode = 'ingress' }) =>
      PublishedPort === SSH_PORT && Protocol === 'tcp' && PublishMode === 'ingress',
  );
  return takesSsh
    ? ["port 22/tcp is published on every node: new SSH connections to any node's own address reach this service"]
    : [];
}

/** @throws ApiError 400 if a port of `spec`, that of the service `serviceId`, is in use by another service */
export function checkPortsAreFree(view: View, spec: ServiceSpec, serviceId: string): void {
  for (const port of spec.EndpointSpec?.Ports ?? []) {
    const { PublishedPort: number = 0, Protocol: protocol = 'tcp', PublishMode: mode = 'ingress' } = port;
    if (number === 0) continue;
    for (const other of view.services.by('port', portKey(protocol, number))) {
      if (other.id === serviceId) continue;
      const theirs = publishModeOf(other, protocol, number);
      // Tasks of several services may share a port number on different hosts: the scheduler sees to that.
      if (mode === 'host' && theirs === 'host') continue;
      const how = theirs === 'host' ? 'a host-published port' : 'an ingress port';
      throw badRequest(`port '${number}' is already in use by service '${other.spec.Name}' (${other.id}) as ${how}`);
    }
  }
}

function publishModeOf(
  service: ReturnType<View['services']['by']>[number],
  protocol: string,
  number: number,
): 'ingress' | 'host' {
  const declared = service.spec.EndpointSpec?.Ports?.find(
    (port) => port.PublishedPort === number && (port.Protocol ?? 'tcp') === protocol,
  );
  return declared?.PublishMode ?? 'ingress';
}
