/** Which overlays a spec attaches to, and whether it needs the ingress network. Pure. */
import type { Network } from '../../model/objects.ts';
import type { EndpointSpec, ServiceSpec } from '../../model/specs.ts';

export interface Attachment {
  network: Network;
  aliases: string[];
}

/**
 * The overlays of a spec, each once with the aliases of all its mentions. A target that is no network of the cluster
 * (`host`, `none`, `bridge`: the node's own) has nothing to allocate and is left out.
 */
export function attachments(spec: ServiceSpec, networks: { get(id: string): Network | undefined }): Attachment[] {
  const found = new Map<string, Attachment>();
  for (const { Target, Aliases } of spec.TaskTemplate.Networks ?? spec.Networks ?? []) {
    const network = networks.get(Target);
    if (network === undefined) continue;
    const known = found.get(Target)?.aliases ?? [];
    found.set(Target, { network, aliases: [...new Set([...known, ...(Aliases ?? [])])] });
  }
  return [...found.values()];
}

/** True if a port of the spec is published in the routing mesh: on every node, through the ingress network. */
export function usesIngress(spec: EndpointSpec | undefined): boolean {
  return (spec?.Ports ?? []).some((port) => (port.PublishMode ?? 'ingress') === 'ingress');
}
