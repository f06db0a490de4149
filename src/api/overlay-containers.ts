/**
 * Single containers in overlays, on any node: making one, connecting and disconnecting one. The managers give the
 * address, this host's engine does the rest; what fails half-way leaves neither a container nor an address behind.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { DockerError } from '../docker/errors.ts';
import { RequestError } from '../dispatch/http.ts';
import { attachedEndpoint, checkMac, containerPlan, endpointOf, namedNetworks } from './container-plan.ts';
import type { ContainerShape, EndpointShape } from './container-plan.ts';
import type { ApiContext } from './context.ts';
import { findNetwork, isOurs, type EngineNetwork } from './engine-networks.ts';
import { ApiError, badRequest } from './errors.ts';
import type { Reservation } from '../model/attachments.ts';
import { attachError, type NodeAttachments } from './node-attachments.ts';
import { inUserWords } from './overlay-names.ts';
import { overlaysOf } from './overlays.ts';

const ENGINE_TIMEOUT_MS = 120_000;
const CONTAINER_REFERENCE = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const TASK_LABEL = 'com.docker.swarm.task.id';

interface Container {
  Id: string;
  Name: string;
  Config: { Labels: Record<string, string> | null };
  NetworkSettings: { Networks: Record<string, unknown> | null };
}

/** Makes a container; one that names no overlay goes to the engine as it came. */
export async function createContainer(
  api: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  body: ContainerShape,
): Promise<FastifyReply> {
  const attachments = api.deps.attachments();
  const wanted = await overlaysWanted(api, request, namedNetworks(body));
  if (attachments === undefined || wanted.size === 0) return api.passOn(request, reply);
  const reservations = await reserveAll(api.environment(request), attachments, body, wanted);
  if (reservations.size === 0) return api.passOn(request, reply);
  let made: { Id: string; Warnings?: string[] | null } | undefined;
  try {
    made = await make(api, request, body, reservations);
  } catch (error) {
    throw wordsForUsers(error, attachments);
  } finally {
    await attachments.settled([...reservations.values()], made?.Id);
  }
  return reply.code(201).send({ ...made, Warnings: made.Warnings ?? [] });
}

/** Puts a container, running or not, into an overlay. */
export async function connectContainer(
  api: ApiContext,
  request: FastifyRequest,
  attachments: NodeAttachments,
  network: { reference: string; id?: string },
  { Container: reference, EndpointConfig: endpoint = {} }: { Container: string; EndpointConfig?: EndpointShape },
): Promise<void> {
  const container = await inspect(api, reference);
  const name = container.Name.replace(/^\//, '');
  if (container.Config.Labels?.[TASK_LABEL] !== undefined) {
    throw new ApiError(
      403,
      `container ${name} is a task of a service: change the service's networks instead (docker service update --network-add)`,
    );
  }
  const here = attachments.overlays().find(({ id }) => id === network.id);
  if (here !== undefined && container.NetworkSettings.Networks?.[here.engineNetwork] !== undefined)
    throw new ApiError(403, `${name} is already attached to network ${here.name}`);
  checkMac(network.reference, endpoint.MacAddress);
  const reservation = await reserve(api.environment(request), attachments, network.reference, endpoint);
  try {
    await api.deps.engine.client.request('POST', `/networks/${reservation.engineNetwork}/connect`, {
      body: { Container: container.Id, EndpointConfig: attachedEndpoint(endpoint, reservation, api.facts.apiVersion) },
      timeoutMs: ENGINE_TIMEOUT_MS,
    });
  } catch (error) {
    await attachments.settled([reservation], undefined);
    throw wordsForUsers(error, attachments);
  }
  await attachments.settled([reservation], container.Id);
}

/** Takes a container out of an overlay. `Force`: also one that the engine does not know any more. */
export async function disconnectContainer(
  api: ApiContext,
  attachments: NodeAttachments,
  network: { id: string; name: string },
  { Container: reference, Force = false }: { Container: string; Force?: boolean },
): Promise<void> {
  const container = await inspect(api, reference).catch((error: unknown) => {
    if (!Force || !(error instanceof DockerError) || error.status !== 404) throw error;
    return undefined;
  });
  const here = attachments.overlays().find(({ id }) => id === network.id);
  if (here === undefined)
    throw new ApiError(404, `container ${container?.Id ?? reference} is not connected to network ${network.name}`);
  if (container?.Config.Labels?.[TASK_LABEL] !== undefined) {
    throw new ApiError(
      403,
      `container ${container.Name.replace(/^\//, '')} is a task of a service: change the service's networks instead (docker service update --network-rm)`,
    );
  }
  try {
    await api.deps.engine.client.request('POST', `/networks/${here.engineNetwork}/disconnect`, {
      body: { Container: container?.Id ?? reference, Force },
      timeoutMs: ENGINE_TIMEOUT_MS,
    });
  } catch (error) {
    throw wordsForUsers(error, attachments);
  }
  if (container === undefined) await attachments.settled([], undefined);
  else await attachments.look(container.Id);
}

/**
 * Which of these names mean overlays: name → id, undefined if only the managers can say. @throws ApiError 400 if a name
 * means several networks, or the engine's part of an overlay
 */
async function overlaysWanted(
  api: ApiContext,
  request: FastifyRequest,
  names: readonly string[],
): Promise<Map<string, string | undefined>> {
  const wanted = new Map<string, string | undefined>();
  if (names.length === 0) return wanted;
  const overlays = overlaysOf(api, api.environment(request)) ?? [];
  let engineNetworks: EngineNetwork[];
  try {
    engineNetworks = await api.networks.all();
  } catch {
    return wanted; // Making the container will say in the engine's words what is wrong with it.
  }
  const locals = engineNetworks.filter((network) => !isOurs(network));
  for (const name of names) {
    const found = await lookUp(() => findNetwork(name, locals, overlays));
    if (found !== undefined && 'overlay' in found) wanted.set(name, found.overlay.id);
    if (found !== undefined) continue;
    // Not 404: to the docker client that is a missing image, which it goes off to pull.
    if ((await lookUp(() => findNetwork(name, engineNetworks.filter(isOurs), []))) !== undefined)
      throw badRequest(`network ${name} not found`);
    // A worker knows only the overlays that stand on it.
    if (api.deps.store() === undefined && api.deps.attachments() !== undefined) wanted.set(name, undefined);
  }
  return wanted;
}

/** What `find` finds; undefined for its 404. @throws its other errors */
async function lookUp<T>(find: () => T): Promise<T | undefined> {
  try {
    return find();
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined;
    throw error;
  }
}

/** Addresses for all overlays of a container, or for none of them. A name the managers do not know is the engine's. */
async function reserveAll(
  environment: string,
  attachments: NodeAttachments,
  body: ContainerShape,
  wanted: ReadonlyMap<string, string | undefined>,
): Promise<Map<string, Reservation>> {
  const given = new Map<string, Reservation>();
  const tries = [...wanted].map(async ([reference, id]) => {
    try {
      given.set(reference, await reserve(environment, attachments, reference, endpointOf(body, reference)));
    } catch (error) {
      if (!(id === undefined && error instanceof ApiError && error.status === 404)) throw error;
    }
  });
  const failed = (await Promise.allSettled(tries)).find((result) => result.status === 'rejected');
  if (failed === undefined) return given;
  await attachments.settled([...given.values()], undefined);
  // To the docker client a 404 is a missing image, which it goes off to pull.
  const { reason } = failed as { reason: unknown };
  throw reason instanceof ApiError && reason.status === 404 ? badRequest(reason.message) : reason;
}

async function reserve(
  environment: string,
  attachments: NodeAttachments,
  reference: string,
  { IPAMConfig, Aliases = [] }: EndpointShape,
): Promise<Reservation> {
  const wantedAddress = IPAMConfig?.IPv4Address || undefined;
  try {
    return await attachments.reserve({
      environment,
      network: reference,
      aliases: Aliases,
      ...(wantedAddress === undefined ? {} : { wantedAddress }),
    });
  } catch (error) {
    if (error instanceof RequestError && error.status === 404) throw new ApiError(404, error.message);
    throw attachError(error, reference);
  }
}

/** Makes it with its first network and connects the others; what fails is taken away again. */
async function make(
  api: ApiContext,
  request: FastifyRequest,
  body: ContainerShape,
  reservations: ReadonlyMap<string, Reservation>,
): Promise<{ Id: string; Warnings?: string[] | null }> {
  const { client } = api.deps.engine;
  const plan = containerPlan(body, reservations, api.facts.apiVersion);
  const made = await client.request<{ Id: string; Warnings?: string[] | null }>(
    'POST',
    api.target(request.raw).engineUrl,
    { unversioned: true, body: plan.body, timeoutMs: ENGINE_TIMEOUT_MS },
  );
  try {
    for (const { engineNetwork, endpoint } of plan.connects) {
      await client.request('POST', `/networks/${encodeURIComponent(engineNetwork)}/connect`, {
        body: { Container: made.Id, EndpointConfig: endpoint },
        timeoutMs: ENGINE_TIMEOUT_MS,
      });
    }
  } catch (error) {
    await client.request('DELETE', `/containers/${made.Id}`, {
      query: { force: true, v: true },
      timeoutMs: ENGINE_TIMEOUT_MS,
    });
    throw error;
  }
  return made;
}

/** @throws DockerError 404 with the engine's `No such container` */
async function inspect(api: ApiContext, said: string): Promise<Container> {
  const reference = said.replace(/^\//, '');
  // Anything else would be another path at the engine.
  if (!CONTAINER_REFERENCE.test(reference)) throw new DockerError(404, `No such container: ${said}`);
  return api.deps.engine.client.request<Container>('GET', `/containers/${encodeURIComponent(reference)}/json`, {
    timeoutMs: ENGINE_TIMEOUT_MS,
  });
}

function wordsForUsers(error: unknown, attachments: NodeAttachments): unknown {
  if (!(error instanceof DockerError)) return error;
  return new DockerError(error.status, inUserWords(error.message, attachments.overlays()));
}
