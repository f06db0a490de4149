/** Ping, version, info and the look-up of images in registries: the engine's answers with the cluster's part in them. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { hostname } from 'node:os';
import type { ApiContext } from '../context.ts';
import { clusterOf } from '../context.ts';
import { swarmInfoJson } from '../convert/cluster.ts';
import { MINIMUM_API } from '../engine-facts.ts';
import { unavailable } from '../errors.ts';
import { EngineUnreachable } from '../../docker/client.ts';

const ENGINE_TIMEOUT_MS = 5_000;
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
  return {
    ...answer,
    ApiVersion,
    MinAPIVersion: answer.MinAPIVersion ?? MINIMUM_API,
    Components: [
      ...components.map((component) => withApiVersion(component, ApiVersion)),
      { Name: 'Drover', Version: api.deps.version, Details: { ApiVersion } },
    ],
  };
}

/** The engine's component with the version that is offered here: clients show this one. */
function withApiVersion(component: unknown, ApiVersion: string): unknown {
  if (typeof component !== 'object' || component === null || !('Name' in component) || component.Name !== 'Engine')
    return component;
  const details = 'Details' in component && typeof component.Details === 'object' ? component.Details : {};
  return { ...component, Details: { ...details, ApiVersion } };
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
  const warnings = Array.isArray(known.Warnings) ? known.Warnings : [];
  const away = answer === undefined ? 'nothing is known of it' : 'what it said last is shown';
  return {
    ...known,
    Swarm: swarmInfo(api),
    Warnings:
      error === undefined
        ? known.Warnings
        : [...warnings, `WARNING: the Docker Engine does not answer, ${away}: ${error.message}`],
  };
}

function swarmInfo(api: ApiContext): object {
  const state = api.deps.cluster.state();
  const store = api.deps.store();
  if (store === undefined) return swarmInfoJson(state, undefined, []);
  return store.view((view) => swarmInfoJson(state, clusterOf(view), [...view.nodes.all()]));
}
