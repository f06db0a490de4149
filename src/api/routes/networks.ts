/**
 * `/networks`: the cluster's overlays and the engine's networks in one view. Overlays are answered here; what concerns
 * one of the engine's goes there, by its full id; Drover's own bridges are never seen nor touched (decision 8).
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { timestamp } from '../../model/clock.ts';
import { newId } from '../../model/ids.ts';
import type { Network } from '../../model/objects.ts';
import { nameKey } from '../../store/schema.ts';
import type { Store, View } from '../../store/store.ts';
import { checked, isTrue, parseJson } from '../body.ts';
import type { ApiContext } from '../context.ts';
import { networkJson, verboseNetworkJson } from '../convert/network.ts';
import { findNetwork, NETWORK_LABEL, PREDEFINED, type FoundNetwork } from '../engine-networks.ts';
import { connectShape, disconnectShape } from '../container-plan.ts';
import { ApiError, conflict, notBuilt, unavailable } from '../errors.ts';
import type { NodeAttachments } from '../node-attachments.ts';
import { connectContainer, disconnectContainer } from '../overlay-containers.ts';
import { overlaysOf } from '../overlays.ts';
import { parseFilters } from '../filters.ts';
import {
  checkOneIngress,
  checkSubnetsAreFree,
  networkMatches,
  prunable,
  removeNetwork,
  withFilter,
} from '../network-rules.ts';
import { resolveNetwork, visibleNetworks } from '../references.ts';
import { networkShape, overlaySpec } from '../validate/network-shape.ts';

interface ById {
  Params: { id: string };
}

/** The engine's own time for removing many networks. */
const PRUNE_TIMEOUT_MS = 60_000;
const INSPECT_TIMEOUT_MS = 5_000;

const prunedShape = z.object({ NetworksDeleted: z.array(z.string()).nullable() });

export function networkRoutes(app: FastifyInstance, api: ApiContext): void {
  app.get<{ Querystring: { filters?: string } }>('/networks', (request) => list(api, request, request.query.filters));
  app.get<ById & { Querystring: { verbose?: string; scope?: string } }>('/networks/:id', async (request, reply) => {
    const { verbose, scope = '' } = request.query;
    const predefined = PREDEFINED.get(request.params.id);
    if (scope === 'swarm' && predefined !== undefined) return predefinedJson(request.params.id, predefined.Driver);
    const found =
      scope === 'swarm' ? { overlay: overlayOf(api, request) } : await find(api, request, scope === 'local');
    if ('local' in found) return passTo(api, request, reply, found.local.Id);
    const store = api.deps.store();
    const json = store?.view((view) => inspected(view, found.overlay, isTrue(verbose))) ?? networkJson(found.overlay);
    return { ...json, Containers: await containersOn(api, found.overlay.id) };
  });
  app.post('/networks/create', (request, reply) => create(api, request, reply));
  app.delete<ById>('/networks/:id', async (request, reply) => {
    const found = await find(api, request);
    if ('local' in found) return passTo(api, request, reply, found.local.Id);
    if (api.leader.isElsewhere) return api.passToLeader(request, reply, { route: `/networks/${found.overlay.id}` });
    await api.store().update((tx) => removeNetwork(tx, found.overlay.id));
    return reply.code(204).send();
  });
  app.post<ById>('/networks/:id/connect', (request, reply) => connect(api, request, reply));
  app.post<ById>('/networks/:id/disconnect', async (request, reply) => {
    const found = await find(api, request);
    if ('local' in found) return passTo(api, request, reply, found.local.Id, '/disconnect');
    const { id, spec } = found.overlay;
    const body = checked(disconnectShape, parseJson(request));
    await disconnectContainer(api, attachmentsOf(api), { id, name: spec.Name }, body);
    return reply.code(200).send();
  });
  app.post<{ Querystring: { filters?: string } }>('/networks/prune', (request) =>
    prune(api, request, request.query.filters),
  );
}

async function list(api: ApiContext, request: FastifyRequest, filterText: string | undefined): Promise<object[]> {
  const filters = parseFilters(filterText, ['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type']);
  const store = api.deps.store();
  const all = overlaysOf(api, api.environment(request));
  const matching = (view?: View) => all?.filter((network) => networkMatches(view, network, filters)).map(networkJson);
  const overlays = store === undefined ? matching() : store.view(matching);
  try {
    return [...(await api.networks.visible(api.target(request.raw).engineUrl)), ...(overlays ?? [])];
  } catch (error) {
    return withoutEngine(api, overlays, error);
  }
}

/** What a manager goes on with while its engine is away. @throws `error` on any other node */
function withoutEngine<T>(api: ApiContext, overlays: T | undefined, error: unknown): T {
  if (overlays === undefined || error instanceof ApiError) throw error;
  api.deps.log.debug({ err: error }, 'networks without those of the engine: it does not answer');
  return overlays;
}

/** The network that the path names, among those a user may see. @throws ApiError 404, 400 */
async function find(api: ApiContext, request: FastifyRequest<ById>, localOnly = false): Promise<FoundNetwork> {
  const overlays = localOnly ? undefined : overlaysOf(api, api.environment(request));
  const locals = await api.networks.visible().catch((error: unknown) => {
    const found = overlays?.some(({ id, spec }) => id === request.params.id || spec.Name === request.params.id);
    return withoutEngine(api, found === true ? [] : undefined, error);
  });
  return findNetwork(request.params.id, locals, overlays ?? []);
}

/** Connects a container to the network of the path; one that a worker has never heard of, the managers may know. */
async function connect(api: ApiContext, request: FastifyRequest<ById>, reply: FastifyReply): Promise<FastifyReply> {
  const reference = request.params.id;
  let id: string | undefined;
  try {
    const found = await find(api, request);
    if ('local' in found) return passTo(api, request, reply, found.local.Id, '/connect');
    id = found.overlay.id;
  } catch (error) {
    const elsewhere = api.deps.store() === undefined && api.deps.attachments() !== undefined;
    if (!elsewhere || !(error instanceof ApiError) || error.status !== 404) throw error;
  }
  const body = checked(connectShape, parseJson(request));
  await connectContainer(api, request, attachmentsOf(api), { reference, ...(id === undefined ? {} : { id }) }, body);
  return reply.code(200).send();
}

/** @throws ApiError 503 where this node takes no part in overlays */
function attachmentsOf(api: ApiContext): NodeAttachments {
  const attachments = api.deps.attachments();
  if (attachments === undefined) throw unavailable('This node takes no part in the overlays of its swarm now.');
  return attachments;
}

/** The containers of this host in an overlay, tasks included, as the engine shows them; null if there are none. */
async function containersOn(api: ApiContext, id: string): Promise<object | null> {
  const here = api.deps
    .attachments()
    ?.overlays()
    .find((overlay) => overlay.id === id);
  if (here === undefined) return null;
  try {
    const { Containers = null } = await api.deps.engine.client.request<{ Containers?: object | null }>(
      'GET',
      `/networks/${here.engineNetwork}`,
      { timeoutMs: INSPECT_TIMEOUT_MS },
    );
    return Containers === null || Object.keys(Containers).length === 0 ? null : Containers;
  } catch (error) {
    api.deps.log.debug({ err: error, network: id }, 'an overlay without its containers: the engine does not show them');
    return null;
  }
}

function overlayOf(api: ApiContext, request: FastifyRequest<ById>): Network {
  return api.store().view((view) => resolveNetwork(view, api.environment(request), request.params.id));
}

function passTo(api: ApiContext, request: FastifyRequest, reply: FastifyReply, id: string, rest = ''): FastifyReply {
  const { route } = api.target(request.raw);
  const at = route.indexOf('?');
  return api.passOn(request, reply, {
    url: api.engineUrl(request, `/networks/${id}${rest}${at < 0 ? '' : route.slice(at)}`),
  });
}

function inspected(view: View, network: Network, verbose: boolean): object {
  if (!verbose) return networkJson(network);
  const tasks = view.tasks.by('network', network.id);
  const services = [...new Set(tasks.map((task) => task.serviceId))].flatMap((id) => view.services.get(id) ?? []);
  const attachments = view.attachments.by('network', network.id);
  return verboseNetworkJson(network, { nodes: [...view.nodes.all()], services, tasks, attachments });
}

function predefinedJson(name: string, Driver: string): object {
  return {
    Name: name,
    Id: name,
    Scope: 'swarm',
    Driver,
    IPAM: { Driver: 'default', Config: [] },
    Options: {},
    Labels: {},
  };
}

async function create(api: ApiContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const body = checked(networkShape, parseJson(request));
  const environment = api.environment(request);
  if (body.Driver !== 'overlay') {
    if (body.Scope === 'swarm')
      throw notBuilt(
        `networks of driver ${body.Driver || 'bridge'} in the scope of the swarm are not supported yet: use the overlay driver`,
      );
    const store = api.deps.store();
    if (store !== undefined) store.view((view) => checkNameIsFree(view, environment, body.Name));
    return api.passOn(request, reply);
  }
  const store = api.store();
  if (body.Scope === 'local') throw notBuilt('overlay networks exist in the scope of the swarm only');
  const spec = overlaySpec(body);
  if (!api.leader.isRelayed(request.raw)) await checkEngineHasNone(api, spec.Name);
  if (api.leader.isElsewhere) return api.passToLeader(request, reply);
  const at = timestamp(api.deps.clock.now());
  const id = newId(api.deps.random);
  await store.update((tx) => {
    checkNameIsFree(tx, environment, spec.Name);
    checkOneIngress(tx, spec);
    checkSubnetsAreFree(tx, spec);
    tx.networks.create({ id, environment, meta: { version: tx.index, createdAt: at, updatedAt: at }, spec });
  });
  return reply.code(201).send({ Id: id, Warning: '' });
}

function checkNameIsFree(view: View, environment: string, name: string): void {
  if (view.networks.countBy('name', nameKey(environment, name)) > 0 || PREDEFINED.has(name)) {
    throw conflict(`network with name ${name} already exists`);
  }
}

/** An engine that is away is no reason not to make an overlay: two of one name are then told apart by their ids. */
async function checkEngineHasNone(api: ApiContext, name: string): Promise<void> {
  const locals = await api.networks.visible().catch((error: unknown) => withoutEngine(api, [], error));
  if (locals.some((local) => local.Name === name)) throw conflict(`network with name ${name} already exists`);
}

async function prune(api: ApiContext, request: FastifyRequest, filterText: string | undefined): Promise<object> {
  const filters = parseFilters(filterText, ['label', 'label!', 'until']);
  // Each manager prunes its own engine, the leader the overlays of all.
  if (api.leader.isElsewhere) await api.leader.reachable(request.raw);
  const names = api.leader.isRelayed(request.raw)
    ? []
    : await pruneEngine(api, request, withFilter(filters, 'label!', NETWORK_LABEL));
  if (api.leader.isElsewhere) {
    const { NetworksDeleted } = prunedShape.parse(await api.leader.ask(request.raw, api.target(request.raw).url));
    names.push(...(NetworksDeleted ?? []));
  } else {
    const store = api.deps.store();
    if (store !== undefined)
      names.push(...(await pruneOverlays(store, api.environment(request), filters, api.deps.clock.now())));
  }
  return { NetworksDeleted: names.length === 0 ? null : names };
}

/** The engine prunes by itself, but for the networks that carry our label. */
async function pruneEngine(api: ApiContext, request: FastifyRequest, filters: string): Promise<string[]> {
  const answer = await api.deps.engine.client.request<{ NetworksDeleted: string[] | null }>(
    'POST',
    api.engineUrl(request, '/networks/prune'),
    { unversioned: true, timeoutMs: PRUNE_TIMEOUT_MS, query: { filters } },
  );
  return answer.NetworksDeleted ?? [];
}

function pruneOverlays(
  store: Store,
  environment: string,
  filters: ReturnType<typeof parseFilters>,
  nowMs: number,
): Promise<string[]> {
  return store.update((tx) => {
    const unused = visibleNetworks(tx, environment).filter((network) => prunable(tx, network, filters, nowMs));
    for (const network of unused) removeNetwork(tx, network.id);
    return unused.map((network) => network.spec.Name);
  });
}
