/**
 * The engine's own networks as users may see them: without the bridges Drover made for its overlays (decision 8), which
 * carry a label. Also which network a reference means where the engine's and the cluster's stand side by side.
 */
import type { Network } from '../model/objects.ts';
import type { Labels } from '../model/specs.ts';
import type { EngineClient } from './engine-facts.ts';
import { badRequest, notFound } from './errors.ts';

/** Marks the engine's networks that belong to Drover; its value is the overlay's id. */
export const NETWORK_LABEL = 'io.drover.network.id';

const TIMEOUT_MS = 10_000;

/** One entry of the engine's list; what else it says is passed on. */
export interface EngineNetwork {
  Id: string;
  Name: string;
  Driver: string;
  Labels?: Labels | null;
}

export class EngineNetworks {
  readonly #client: EngineClient;

  constructor(client: EngineClient) {
    this.#client = client;
  }

  /** The engine's answer to `url` (a list of networks) without Drover's. @throws EngineUnreachable, DockerError */
  async visible(url = '/networks'): Promise<EngineNetwork[]> {
    return (await this.all(url)).filter((network) => !isOurs(network));
  }

  /** With Drover's. @throws EngineUnreachable, DockerError */
  all(url = '/networks'): Promise<EngineNetwork[]> {
    return this.#client.request<EngineNetwork[]>('GET', url, { unversioned: true, timeoutMs: TIMEOUT_MS });
  }
}

export function isOurs(network: Pick<EngineNetwork, 'Labels'>): boolean {
  return network.Labels?.[NETWORK_LABEL] !== undefined;
}

export type FoundNetwork = { local: EngineNetwork } | { overlay: Network };

/**
 * The network that `reference` means: full id (the engine's first), exact name, then a prefix of an id.
 * @throws ApiError 404 if there is none, 400 if it could be several
 */
export function findNetwork(
  reference: string,
  locals: readonly EngineNetwork[],
  overlays: readonly Network[],
): FoundNetwork {
  const candidates = [
    ...locals.map((local) => ({ id: local.Id, name: local.Name, found: { local } })),
    ...overlays.map((overlay) => ({ id: overlay.id, name: overlay.spec.Name, found: { overlay } })),
  ];
  const exact = candidates.find(({ id }) => id === reference);
  if (exact !== undefined) return exact.found;
  const named = candidates.filter(({ name }) => name === reference);
  const matches =
    named.length > 0 ? named : candidates.filter(({ id }) => reference !== '' && id.startsWith(reference));
  if (matches.length > 1) {
    throw badRequest(
      `network ${reference} is ambiguous (${matches.length} matches found ${named.length > 0 ? 'on name' : 'based on ID prefix'})`,
    );
  }
  const [match] = matches;
  if (match === undefined) throw notFound('network', reference);
  return match.found;
}

/** Networks every engine has, which services may name; as they are shown in the scope of the cluster. */
export const PREDEFINED: ReadonlyMap<string, { Driver: string }> = new Map([
  ['host', { Driver: 'host' }],
  ['none', { Driver: 'null' }],
  ['bridge', { Driver: 'bridge' }],
]);
