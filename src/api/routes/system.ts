/** Ping, version, info and the look-up of images in registries: the engine's answers with the cluster's part in them. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { hostname } from 'node:os';
import type { ApiContext } from '../context.ts';
import { clusterOf } from '../context.ts';
import { swarmInfoJson } from '../convert/cluster.ts';
import { degradedOf } from '../convert/node.ts';
import { MINIMUM_API } from '../engine-facts.ts';
import { NO_LEADER, unavailable } from '../errors.ts';
import { rotationWaitsFor } from '../root-ca.ts';
import { compareVersions, EngineUnreachable } from '../../docker/client.ts';

const ENGINE_TIMEOUT_MS = 5_000;
/** How many troubles of other nodes `docker info` shows: what troubles all of a large cluster must not flood it. */
const MAX_DEGRADED = 10;
/** decisions-and-traps.md 12: clients warn and go on without a digest. */
const DISTRIBUTION_TIMEOUT_MS = 3_000;

export function systemRoutes(app: FastifyInstance, api: ApiContext): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/_ping',
    handler: async (_request, reply) => {
      await api.facts.refresh();
      return reply
        .headers({
          ...api.facts.negotiation(),
          ...api.facts.pingHeaders(),
          Swarm: swarmHeader(api),
          'Cache-Control': 'no-cache, no-store, must-revalidate',
          Pragma: 'no-cache',
          'Content-Type': 'text/plain; charset=utf-8',
        })
        .send('OK');
    },
  });
  app.get('/version', (request) => version(api, request));
  app.get('/info', (request) => info(api, request));
  app.get<{ Params: { '*': string } }>('/distribution/*', async (request, reply) => {
    const { client } = api.deps.engine;
    const auth = request.headers['x-registry-auth'];
    try {
      const answer = await client.request<object>('GET', api.target(request.raw).engineUrl, {
        unversioned: true,
        timeoutMs: DISTRIBUTION_TIMEOUT_MS,
        ...(auth === undefined ? {} : { headers: { 'X-Registry-Auth': auth } }),
      });
      return await reply.send(answer);
    } catch (error) {
      const image = request.params['*'].replace(/\/json$/, '');
      if (error instanceof EngineUnreachable)
        throw unavailable(`cannot look up ${image} in its registry: ${error.message}`);
      throw error;
    }
  });
}

/** The `Swarm` header of a ping, such as `active/manager`. */
function swarmHeader(api: ApiContext): string {
  const { localNodeState, manager } = api.deps.cluster.state();
  return localNodeState === 'active' ? `active/${manager ? 'manager' : 'worker'}` : localNodeState;
}

async function version(api: ApiContext, request: FastifyRequest): Promise<object> {
  const url = api.engineUrl(request, '/version');
  const { answer = { Version: api.deps.version, Os: 'linux' } } = await api.facts.ask(
    'version',
    url,
    ENGINE_TIMEOUT_MS,
  );
  const components = Array.isArray(answer.Components) ? answer.Components : [];
  const ApiVersion = api.facts.apiVersion;
  const MinAPIVersion = minimumApi(answer.MinAPIVersion);
  return {
    ...answer,
    ApiVersion,
    MinAPIVersion,
    Components: [
      ...components.map((component) => withApiVersions(component, { ApiVersion, MinAPIVersion })),
      { Name: 'Drover', Version: api.deps.version, Details: { ApiVersion } },
    ],
  };
}

/** What is enforced: older than MINIMUM_API is refused here, older than the engine's own minimum by the engine. */
function minimumApi(engines: unknown): string {
  return typeof engines === 'string' && compareVersions(engines, MINIMUM_API) > 0 ? engines : MINIMUM_API;
}

/** The engine's component with the versions that are offered here: clients show these. */
function withApiVersions(component: unknown, versions: { ApiVersion: string; MinAPIVersion: string }): unknown {
  if (typeof component !== 'object' || component === null || !('Name' in component) || component.Name !== 'Engine')
    return component;
  const details = 'Details' in component && typeof component.Details === 'object' ? component.Details : {};
  return { ...component, Details: { ...details, ...versions } };
}

async function info(api: ApiContext, request: FastifyRequest): Promise<object> {
  const { answer, error } = await api.facts.ask('info', api.engineUrl(request, '/info'), ENGINE_TIMEOUT_MS);
  const known = answer ?? {
    Name: hostname(),
    ServerVersion: '',
    OSType: 'linux',
    Containers: 0,
    Images: 0,
    NCPU: 0,
    MemTotal: 0,
  };
  const engines = Array.isArray(known.Warnings) ? known.Warnings : [];
  const away = answer === undefined ? 'nothing is known of it' : 'what it said last is shown';
  const warnings = [
    ...(error === undefined ? [] : [`WARNING: the Docker Engine does not answer, ${away}: ${error.message}`]),
    ...degradedWarnings(api),
    ...rotationWarnings(api),
  ];
  return {
    ...known,
    Swarm: swarmInfo(api),
    Warnings: warnings.length === 0 ? known.Warnings : [...engines, ...warnings],
  };
}

function rotationWarnings(api: ApiContext): string[] {
  const words = api.deps.store()?.view(rotationWaitsFor);
  return words === undefined ? [] : [`WARNING: ${words}`];
}

/** What this host cannot do in full and, on a manager, what the other nodes that are ready cannot. */
function degradedWarnings(api: ApiContext): string[] {
  const { nodeId, degraded } = api.deps.cluster.state();
  const here = degraded.map((words) => `WARNING: ${words}`);
  const others = api.deps
    .store()
    ?.view((view) =>
      [...view.nodes.all()]
        .filter((node) => node.id !== nodeId)
        .flatMap((node) => degradedOf(node).map((words) => ({ node: node.description?.hostname ?? node.id, words }))),
    );
  if (others === undefined) return here;
  const shown = others.slice(0, MAX_DEGRADED).map(({ node, words }) => `WARNING: node ${node}: ${words}`);
  const more = others.length - shown.length;
  return [...here, ...shown, ...(more === 0 ? [] : [`WARNING: ${more} more of this kind (docker node inspect NODE)`])];
}

function swarmInfo(api: ApiContext): object {
  const state = api.deps.cluster.state();
  const store = api.deps.store();
  if (store === undefined) return swarmInfoJson(state, undefined, []);
  const known = state.error === '' && api.leader.isMissing ? { ...state, error: NO_LEADER } : state;
  return store.view((view) => swarmInfoJson(known, clusterOf(view), [...view.nodes.all()]));
}
