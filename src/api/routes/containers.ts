/**
 * The one route of containers that is looked at before it goes to the engine: creating one must not use a network that
 * is Drover's (decisions-and-traps.md 8).
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { checked, parseJson, struct } from '../body.ts';
import type { ApiContext } from '../context.ts';
import { isOurs, type EngineNetwork } from '../engine-networks.ts';
import { ApiError, badRequest, notBuilt } from '../errors.ts';
import { resolveNetwork } from '../references.ts';

const shape = struct({
  HostConfig: struct({ NetworkMode: z.string().optional() }).optional(),
  NetworkingConfig: struct({ EndpointsConfig: z.record(z.string(), z.unknown()).optional() }).optional(),
});

/** What a network mode may say that is no network of its own. */
const NO_NETWORK = /^(|default|bridge|host|none|container:.*)$/;

export function containerRoutes(app: FastifyInstance, api: ApiContext): void {
  app.post('/containers/create', async (request, reply) => {
    const body = checked(shape, parseJson(request));
    const mode = body.HostConfig?.NetworkMode ?? '';
    const wanted = new Set([mode, ...Object.keys(body.NetworkingConfig?.EndpointsConfig ?? {})]);
    for (const name of wanted) if (!NO_NETWORK.test(name)) await refuseOurs(api, api.environment(request), name);
    return api.passOn(request, reply);
  });
}

/** @throws ApiError if `reference` is an overlay of the cluster, or the engine's part of one */
async function refuseOurs(api: ApiContext, environment: string, reference: string): Promise<void> {
  if (isOverlay(api, environment, reference)) {
    throw notBuilt(
      `network ${reference} is an overlay of the cluster: attaching single containers to overlays is not supported yet. Run it as a service (docker service create --network ${reference} …)`,
    );
  }
  const { client } = api.deps.engine;
  const path = `/networks/${encodeURIComponent(reference)}`;
  let network: EngineNetwork;
  try {
    network = await client.request<EngineNetwork>('GET', path, { timeoutMs: 10_000 });
  } catch {
    // The engine does not know it or is away: creating the container will say so in the engine's words.
    return;
  }
  // Not 404: to the docker client that is a missing image, which it goes off to pull.
  if (isOurs(network)) throw badRequest(`network ${reference} not found`);
}

function isOverlay(api: ApiContext, environment: string, reference: string): boolean {
  const store = api.deps.store();
  if (store === undefined) return false;
  try {
    store.view((view) => resolveNetwork(view, environment, reference));
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error instanceof ApiError ? badRequest(error.message) : error;
  }
}
