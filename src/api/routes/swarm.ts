/** `/swarm`: making, joining, leaving, showing and changing the cluster. */
import type { FastifyInstance } from 'fastify';
import { randomBytes } from 'node:crypto';
import { timestamp } from '../../model/clock.ts';
import { createJoinToken } from '../../pki/token.ts';
import { isTrue, parseBody, parseJson, versionQuery } from '../body.ts';
import { clusterOf, type ApiContext } from '../context.ts';
import { swarmJson } from '../convert/cluster.ts';
import { ApiError, conflict, notBuilt, unavailable } from '../errors.ts';
import {
  initRequest,
  initShape,
  joinRequest,
  joinShape,
  swarmSpec,
  swarmSpecShape,
} from '../validate/swarm-requests.ts';

const ALREADY_IN =
  'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.';
const LAST_MANAGER =
  'You are attempting to leave the swarm on a node that is participating as a manager. ' +
  'Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.';

interface UpdateQuery {
  version?: string;
  rotateWorkerToken?: string;
  rotateManagerToken?: string;
  rotateManagerUnlockKey?: string;
}

export function swarmRoutes(app: FastifyInstance, api: ApiContext): void {
  const { cluster } = api.deps;
  const mustBeOut = (): void => {
    if (cluster.state().localNodeState !== 'inactive') throw unavailable(ALREADY_IN);
  };

  app.post('/swarm/init', async (request, reply) => {
    const wanted = initRequest(parseBody(request, initShape));
    mustBeOut();
    const nodeId = await cluster.init(wanted);
    api.events.follow(api.deps.store());
    return reply.header('content-type', 'application/json').send(JSON.stringify(nodeId));
  });
  app.post('/swarm/join', async (request, reply) => {
    const wanted = joinRequest(parseBody(request, joinShape));
    mustBeOut();
    await cluster.join(wanted);
    return reply.send();
  });
  app.post<{ Querystring: { force?: string } }>('/swarm/leave', async (request, reply) => {
    const force = isTrue(request.query.force);
    const { localNodeState, manager } = cluster.state();
    if (localNodeState === 'inactive') throw unavailable('This node is not part of a swarm');
    if (manager && !force) throw unavailable(LAST_MANAGER);
    await cluster.leave(force);
    return reply.send();
  });
  app.get('/swarm', async () => api.store().view((view) => swarmJson(clusterOf(view))));
  app.post<{ Querystring: UpdateQuery }>('/swarm/update', async (request, reply) => {
    await updateCluster(api, request.query, parseBody(request, swarmSpecShape));
    return reply.send();
  });
  app.get('/swarm/unlockkey', async () => {
    api.store();
    return { UnlockKey: '' };
  });
  app.post('/swarm/unlock', async (request) => {
    parseJson(request);
    api.store();
    throw conflict('swarm is not locked');
  });
}

async function updateCluster(
  api: ApiContext,
  query: UpdateQuery,
  body: Parameters<typeof swarmSpec>[0],
): Promise<void> {
  const store = api.store();
  const version = versionQuery('swarm', query.version);
  if (isTrue(query.rotateManagerUnlockKey))
    throw notBuilt('autolock is not supported yet: there is no unlock key to rotate');
  await store.update((tx) => {
    const old = clusterOf(tx);
    if (old.meta.version !== version) throw new ApiError(500, 'update out of sequence');
    const token = (rotate: string | undefined, kept: string): string =>
      isTrue(rotate) ? createJoinToken(old.rootCa.certificate, randomBytes) : kept;
    tx.clusters.update({
      ...old,
      spec: swarmSpec(body, old.spec),
      joinTokens: {
        worker: token(query.rotateWorkerToken, old.joinTokens.worker),
        manager: token(query.rotateManagerToken, old.joinTokens.manager),
      },
      meta: { ...old.meta, version: tx.index, updatedAt: timestamp(api.deps.clock.now()) },
    });
  });
}
