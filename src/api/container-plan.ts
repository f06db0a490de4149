/**
 * How a container that its user wants in overlays is made on this engine: on the engine's own networks for them, at the
 * addresses the managers gave, with our resolver first. Pure: from the client's body to the engine's calls.
 */
import { z } from 'zod';
import { compareVersions } from '../docker/client.ts';
import { macOf } from '../model/addresses.ts';
import { struct } from './body.ts';
import { badRequest } from './errors.ts';
import type { Reservation } from '../model/attachments.ts';

export const endpointShape = struct({
  IPAMConfig: struct({ IPv4Address: z.string().optional() }).optional(),
  Aliases: z.array(z.string()).optional(),
  MacAddress: z.string().optional(),
});
export type EndpointShape = z.output<typeof endpointShape>;

export const containerShape = struct({
  MacAddress: z.string().optional(),
  HostConfig: struct({ NetworkMode: z.string().optional(), Dns: z.array(z.string()).optional() }).optional(),
  NetworkingConfig: struct({ EndpointsConfig: z.record(z.string(), endpointShape).optional() }).optional(),
});
export type ContainerShape = z.output<typeof containerShape>;

/** Bodies of `POST /networks/{id}/connect` and `…/disconnect`. */
export const connectShape = struct({ Container: z.string().default(''), EndpointConfig: endpointShape.optional() });
export const disconnectShape = struct({ Container: z.string().default(''), Force: z.boolean().optional() });

/** Network modes with which a container has no networks of its own. */
const WITHOUT_NETWORKS = /^(host|none|container:.*)$/;
/** What a network mode may say that names no network. */
const DEFAULT_MODE = /^(|default|bridge)$/;
/** From here on an engine takes several networks in one call, and a MAC for each. */
const API_WITH_ENDPOINTS = '1.44';

/** The networks a body names, besides the engine's default ones, the one of its network mode first. */
export function namedNetworks({ HostConfig, NetworkingConfig }: ContainerShape): string[] {
  const mode = HostConfig?.NetworkMode ?? '';
  if (WITHOUT_NETWORKS.test(mode)) return [];
  const names = new Set([mode, ...Object.keys(NetworkingConfig?.EndpointsConfig ?? {})]);
  return [...names].filter((name) => !DEFAULT_MODE.test(name));
}

/** What a body says of one of its networks. */
export function endpointOf({ NetworkingConfig }: ContainerShape, network: string): EndpointShape {
  return NetworkingConfig?.EndpointsConfig?.[network] ?? {};
}

export interface ContainerPlan {
  body: object;
  /** Networks to connect after the create, in this order, by the engine's names. */
  connects: { engineNetwork: string; endpoint: object }[];
}

/** The calls for a body whose overlays got these addresses; by the names the body calls them. @throws ApiError 400 */
export function containerPlan(
  body: ContainerShape,
  reservations: ReadonlyMap<string, Reservation>,
  apiVersion: string,
): ContainerPlan {
  const { HostConfig: host = {}, NetworkingConfig: networking = {}, MacAddress: _, ...rest } = body;
  const mode = host.NetworkMode ?? '';
  const said = Object.keys(networking.EndpointsConfig ?? {});
  // Without a word on endpoints the mode is the network; else it only says which of them comes first.
  const names =
    said.length === 0 ? [mode] : said.includes(mode) ? [mode, ...said.filter((each) => each !== mode)] : said;
  const together = compareVersions(apiVersion, API_WITH_ENDPOINTS) >= 0;
  const endpoints = names.map((name) => {
    const reservation = reservations.get(name);
    const endpoint = endpointOf(body, name);
    if (reservation === undefined) return { engineNetwork: name, endpoint };
    checkMac(name, endpoint.MacAddress || (name === names[0] ? body.MacAddress : undefined));
    return { engineNetwork: reservation.engineNetwork, endpoint: attachedEndpoint(endpoint, reservation, apiVersion) };
  });
  const first = together ? endpoints : endpoints.slice(0, 1);
  const primary = reservations.get(names[0] ?? '');
  // Older engines make the MAC of the first network from this, and those of the others from their addresses.
  const mac = together ? body.MacAddress : primary === undefined ? body.MacAddress : macOf(primary.address);
  const gateways = [...reservations.values()].slice(0, 1).map(({ gateway }) => gateway);
  return {
    body: {
      ...rest,
      ...(mac ? { MacAddress: mac } : {}),
      HostConfig: {
        ...host,
        NetworkMode: reservations.get(mode)?.engineNetwork ?? mode,
        // Our resolver stands first, because only it knows the cluster's names; the user's servers come after it.
        Dns: [...gateways, ...(host.Dns ?? [])],
      },
      NetworkingConfig: {
        ...networking,
        EndpointsConfig: Object.fromEntries(first.map(({ engineNetwork, endpoint }) => [engineNetwork, endpoint])),
      },
    },
    connects: together ? [] : endpoints.slice(1),
  };
}

/** What the engine is told of a container's place in an overlay. */
export function attachedEndpoint(endpoint: EndpointShape, { address }: Reservation, apiVersion: string): object {
  const { MacAddress: _, IPAMConfig, ...rest } = endpoint;
  return {
    ...rest,
    IPAMConfig: { ...IPAMConfig, IPv4Address: address },
    ...(compareVersions(apiVersion, API_WITH_ENDPOINTS) >= 0 ? { MacAddress: macOf(address) } : {}),
  };
}

/** @throws ApiError 400 if the user chose one: where an address is to be found follows from the address. */
export function checkMac(network: string, mac: string | undefined): void {
  if (mac)
    throw badRequest(`a MAC address cannot be chosen in network ${network}: in an overlay it follows from the address`);
}
