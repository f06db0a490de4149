/**
 * Published ports across the cluster: a port published through the mesh belongs to one service, and no other may
 * publish it, by itself or on its hosts. Pure. Rules and sentences of docker-api.md 1.2.
 */
import { badRequest } from '../errors.ts';
import { portKey } from '../../store/schema.ts';
import type { ServiceSpec } from '../../model/specs.ts';
import type { View } from '../../store/store.ts';

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
