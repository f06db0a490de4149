/**
 * The Docker Engine API as `droverd` serves it: what belongs to a cluster is answered here, everything else goes to the
 * host's engine. This file puts the parts together: paths, versions, headers, errors (docker-api.md 1.1, 1.2).
 */
import fastify, { type FastifyInstance } from 'fastify';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { compareVersions } from '../docker/client.ts';
import { DEFAULT_ENVIRONMENT } from '../model/objects.ts';
import { BODY_LIMIT_BYTES, BODY_WITHIN_MS } from './body.ts';
import { ClusterEvents } from './cluster-events.ts';
import { ApiContext, type ApiDeps } from './context.ts';
import { EngineFacts, MINIMUM_API } from './engine-facts.ts';
import { EngineNetworks } from './engine-networks.ts';
import { answerFor, badRequest, notFound, type ApiError } from './errors.ts';
import { dialEngine, forwardUpgrade, plainError } from './hijack.ts';
import { Listeners, type Endpoint } from './listen.ts';
import { engineAway, hasBody, INDEX_HEADER, sendError, UNBEGUN_HEADER } from './proxy.ts';
import { isOwnRoute } from './request-target.ts';
import { backupRoutes } from './routes/backup.ts';
import { containerRoutes } from './routes/containers.ts';
import { eventRoutes } from './routes/events.ts';
import { logRoutes } from './routes/logs.ts';
import { networkRoutes } from './routes/networks.ts';
import { nodeRoutes } from './routes/nodes.ts';
import { payloadRoutes } from './routes/payloads.ts';
import { rebalanceRoutes } from './routes/rebalance.ts';
import { EXEC_ROUTE, execUpgrade, isExec, remoteRoutes } from './routes/remote.ts';
import { rolloutRoutes } from './routes/rollouts.ts';
import { serviceRoutes } from './routes/services.ts';
import { stackRoutes } from './routes/stacks.ts';
import { swarmRoutes } from './routes/swarm.ts';
import { systemRoutes } from './routes/system.ts';
import { taskRoutes } from './routes/tasks.ts';

export type { ApiDeps } from './context.ts';
export type { Endpoint, TlsFiles } from './listen.ts';

export interface Api {
  /** Serves one more endpoint; resolves with its real address. Rejects if it cannot be had. */
  listen(endpoint: Endpoint): Promise<Endpoint>;
  /** Serves another manager, which relays what it is asked over this stream, while this one leads. */
  serveTunnel(stream: Duplex): void;
  /** Ends in order: no new calls, two seconds for those under way. */
  close(): Promise<void>;
  /** For tests: requests that need no connection. */
  readonly app: FastifyInstance;
  /** What is not the engine's to answer: every route as it is declared, such as `GET /nodes/:id`. */
  readonly routes: readonly string[];
}

/** Builds the API; nothing listens yet. Asks the engine once what it speaks, and does not mind if it is away. */
export async function createApi(deps: ApiDeps): Promise<Api> {
  const { client } = deps.engine;
  const api = new ApiContext(deps, {
    facts: new EngineFacts(client, deps.version, deps.log),
    networks: new EngineNetworks(client),
    events: new ClusterEvents(deps.clock),
    serve: (stream) => listeners.serve(stream),
  });
  api.events.follow(deps.store());
  const routes: string[] = [];
  const app = application(api, routes);
  await Promise.all([app.ready(), api.facts.refresh()]);
  const listeners = new Listeners(
    {
      request: (request, response) => app.routing(request, response),
      shouldUpgrade: (request) => {
        const { route } = api.target(request);
        return !isOwnRoute(route) || isExec(request.method, route);
      },
      upgrade: (request, socket, head) => upgrade(api, request, socket, head),
    },
    deps.clock,
    deps.log,
  );
  return {
    app,
    routes,
    listen: (endpoint) => listeners.listen(endpoint),
    serveTunnel: (stream) => api.leader.serveTunnel(stream),
    async close() {
      api.events.end();
      await listeners.close();
      api.events.follow(undefined);
      await app.close();
    },
  };
}

function application(api: ApiContext, routes: string[]): FastifyInstance {
  const app = fastify({
    logger: false,
    bodyLimit: BODY_LIMIT_BYTES,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 4096, querystringParser: firstValues },
    rewriteUrl: (request) => api.target(request).route,
    // A path with broken escapes comes no further than to the router: no hook sees it.
    frameworkErrors: (error, _request, reply) => {
      const { status, message } = answerFor(error);
      sendError(reply.hijack().raw, status, message, api.facts.negotiation());
    },
  });
  app.addHook('onRoute', ({ method, url }) => {
    for (const each of [method].flat()) routes.push(`${each} ${url}`);
  });
  app.removeAllContentTypeParsers();
  // Raw bytes for every route: what is JSON is said by the route that reads it, and may go on to the engine as it came.
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));

  app.addHook('onRequest', async (request, reply) => {
    void reply.headers(api.facts.negotiation());
    const refused = refusal(api, request.raw);
    if (refused !== undefined) throw refused;
    api.events.follow(api.deps.store());
    // Before its body is touched: it streams to the engine, or to the leader.
    if (request.is404) return api.passOn(request, reply);
    if (api.leader.answers(request.raw, request.routeOptions.url ?? '')) return api.passToLeader(request, reply);
    const warning = api.leader.warning();
    if (warning !== '') void reply.header('Warning', warning);
    return undefined;
  });
  // A body that is read here is held whole until then, so it does not come for ever; what streams to the engine may.
  app.addHook('preParsing', async (request) => {
    if (!hasBody(request.raw)) return;
    const deadline = api.deps.clock.after(BODY_WITHIN_MS, () => request.raw.destroy());
    for (const event of ['end', 'close']) request.raw.once(event, () => deadline.cancel());
  });
  app.addHook('onSend', async (request, reply, payload) => {
    if (api.leader.isRelayed(request.raw)) void reply.header(INDEX_HEADER, api.deps.store()?.index ?? 0);
    // Docker's client reads an error only if there is no `; charset` behind.
    if (String(reply.getHeader('content-type')).startsWith('application/json'))
      void reply.header('content-type', 'application/json');
    return payload;
  });
  app.setErrorHandler(async (error, request, reply) => {
    if (api.leader.takesOver(error, request.raw, request.routeOptions.url ?? ''))
      return api.passToLeader(request, reply);
    if (api.leader.isRelayed(request.raw) && (error as Error).name === 'NotLeading')
      void reply.header(UNBEGUN_HEADER, '1');
    const { status, message, unexpected } = answerFor(api.leader.doubting(error));
    if (unexpected)
      api.deps.log.error({ err: error, method: request.method, url: request.url }, 'a request failed unexpectedly');
    return reply.code(status).header('content-type', 'application/json').send(JSON.stringify({ message }));
  });

  for (const routes of [
    backupRoutes,
    containerRoutes,
    eventRoutes,
    logRoutes,
    networkRoutes,
    nodeRoutes,
    payloadRoutes,
    rebalanceRoutes,
    remoteRoutes,
    rolloutRoutes,
    serviceRoutes,
    stackRoutes,
    swarmRoutes,
    systemRoutes,
    taskRoutes,
  ]) {
    routes(app, api);
  }
  return app;
}

/** A query as Docker reads it: of a name that comes several times, the first value counts. */
function firstValues(query: string): Record<string, string> {
  const values = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(query)) if (!values.has(name)) values.set(name, value);
  return Object.fromEntries(values);
}

/** Why a request is not to be looked at further, or undefined. */
function refusal(api: ApiContext, request: IncomingMessage): ApiError | undefined {
  const { environment = DEFAULT_ENVIRONMENT, version } = api.target(request);
  if (environment !== DEFAULT_ENVIRONMENT) return notFound('environment', environment);
  // The client of another manager has agreed on a version with that one.
  if (version === undefined || api.leader.isRelayed(request)) return undefined;
  const newest = api.facts.apiVersion;
  if (compareVersions(version, newest) > 0) {
    return badRequest(`client version ${version} is too new. Maximum supported API version is ${newest}`);
  }
  if (compareVersions(version, MINIMUM_API) < 0) {
    return badRequest(
      `client version ${version} is too old. Minimum supported API version is ${MINIMUM_API}, please upgrade your client to a newer version`,
    );
  }
  return undefined;
}

function upgrade(api: ApiContext, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const target = api.target(request);
  const refused = refusal(api, request);
  const answerHeaders = api.facts.negotiation();
  const { log } = api.deps;
  if (refused !== undefined) {
    socket.on('error', (error) => log.debug({ err: error }, 'a client broke off'));
    socket.end(plainError(refused.status, refused.message, answerHeaders));
    return;
  }
  if (isExec(request.method, target.route)) {
    if (api.leader.answers(request, EXEC_ROUTE))
      void api.leader.relayUpgrade(request, socket, head, { target, answerHeaders });
    else void execUpgrade(api, request, socket, head);
    return;
  }
  const { address } = api.deps.engine.client;
  forwardUpgrade(request, socket, head, {
    upstream: dialEngine(address),
    away: (error) => engineAway(address, error),
    url: target.engineUrl,
    answerHeaders,
    log,
  });
}
