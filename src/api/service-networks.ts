/** The networks a service is attached to: names become ids when the spec is written; only overlays and Docker's predefined. */
import type { NetworkAttachmentConfig, ServiceSpec } from '../model/specs.ts';
import type { Store } from '../store/store.ts';
import { PREDEFINED, type EngineNetwork } from './engine-networks.ts';
import { ApiError, badRequest, notFound } from './errors.ts';
import { resolveNetwork } from './references.ts';

/**
 * `spec` with the ids of its networks. `locals` lists the engine's networks: asked only to tell what is not an overlay
 * from what is not there.
 * @throws ApiError 404 for a network that is missing, 400 for one services cannot use
 */
export async function attachedSpec(
  spec: ServiceSpec,
  store: Store,
  environment: string,
  locals: () => Promise<EngineNetwork[]>,
): Promise<ServiceSpec> {
  const resolved = async (attachments: NetworkAttachmentConfig[]): Promise<NetworkAttachmentConfig[]> => {
    const all: NetworkAttachmentConfig[] = [];
    for (const attachment of attachments) {
      all.push({ ...attachment, Target: await targetOf(attachment.Target, store, environment, locals) });
    }
    if (new Set(all.map(({ Target }) => Target)).size < all.length)
      throw badRequest('a service can be attached to a network only once');
    return all;
  };
  const { Networks: older, TaskTemplate: task } = spec;
  return {
    ...spec,
    ...(older === undefined ? {} : { Networks: await resolved(older) }),
    ...(task.Networks === undefined ? {} : { TaskTemplate: { ...task, Networks: await resolved(task.Networks) } }),
  };
}

async function targetOf(
  reference: string,
  store: Store,
  environment: string,
  locals: () => Promise<EngineNetwork[]>,
): Promise<string> {
  if (PREDEFINED.has(reference)) return reference;
  try {
    const network = store.view((view) => resolveNetwork(view, environment, reference));
    if (network.spec.Ingress)
      throw badRequest(`Service cannot be explicitly attached to the ingress network "${network.spec.Name}"`);
    return network.id;
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
  }
  const local = (await locals()).find(({ Id, Name }) => Id === reference || Name === reference);
  if (local === undefined) throw notFound('network', reference);
  throw badRequest(
    `network ${local.Name} cannot be used with services. Only networks scoped to the swarm can be used, such as those created with the overlay driver.`,
  );
}
