/** `/swarm`: making, joining, leaving, showing and changing the cluster. */
import type { FastifyInstance } from 'fastify';
import { randomBytes } from 'node:crypto';
import { timestamp } from '../../model/clock.ts';
import type { Cluster } from '../../model/objects.ts';
import type { SwarmSpec } from '../../model/specs.ts';
import { createJoinToken } from '../../pki/token.ts';
import { isTrue, parseBody, versionQuery } from '../body.ts';
import { clusterOf, type ApiContext } from '../context.ts';
import { updateWithRoot } from '../root-ca.ts';
import { swarmJson } from '../convert/cluster.ts';
import { ApiError, unavailable } from '../errors.ts';
import { leaveRefusal } from '../manager-guards.ts';
import { lockedLeaveRefusal, lockFailure, nextUnlockKey, notLocked, unlockKeyBytes } from '../manager-lock.ts';
import {
  initRequest,
  initShape,
  joinRequest,
  joinShape,
  rootRequest,
  swarmSpec,
  swarmSpecShape,
  unlockShape,
} from '../validate/swarm-requests.ts';

const ALREADY_IN =
  'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.';

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
    const goesOnAlone = wanted.forceNewCluster && cluster.state().localNodeState !== 'inactive';
    if (!goesOnAlone) mustBeOut();
    const nodeId = goesOnAlone ? await cluster.forceNewCluster() : await cluster.init(wanted);
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
    const state = cluster.state();
    const { localNodeState, manager, nodeId } = state;
    if (localNodeState === 'inactive') throw unavailable('This node is not part of a swarm');
    if (manager && !force) {
      const store = api.leader.isMissing ? undefined : api.deps.store();
      const nodes = store?.view((view) => [...view.nodes.all()]);
      throw unavailable(leaveRefusal(nodeId, nodes, state));
    }
    if (localNodeState === 'locked' && !force) throw lockedLeaveRefusal();
    await cluster.leave();
    return reply.send();
  });
  app.get('/swarm', async () => api.store().view((view) => swarmJson(clusterOf(view))));
  app.post<{ Querystring: UpdateQuery }>('/swarm/update', async (request, reply) => {
    await updateCluster(api, request.query, parseBody(request, swarmSpecShape));
    return reply.send();
  });
  app.get('/swarm/unlockkey', async () => ({
    UnlockKey: api.store().view((view) => clusterOf(view).unlockKey ?? ''),
  }));
  app.post('/swarm/unlock', async (request, reply) => {
    const { UnlockKey } = parseBody(request, unlockShape);
    if (cluster.state().localNodeState !== 'locked') {
      api.store();
      throw notLocked();
    }
    await cluster.unlock(unlockKeyBytes(UnlockKey));
    api.events.follow(api.deps.store());
    return reply.send();
  });
}

async function updateCluster(
  api: ApiContext,
  query: UpdateQuery,
  body: Parameters<typeof swarmSpec>[0],
): Promise<void> {
  const store = api.store();
  const version = versionQuery('swarm', query.version);
  const lock = { rotate: isTrue(query.rotateManagerUnlockKey), randomBytes };
  const { clock } = api.deps;
  const specOf = (old: Cluster): SwarmSpec => {
    if (old.meta.version !== version) throw new ApiError(500, 'update out of sequence');
    return swarmSpec(body, old.spec);
  };
  // Said before a root is made: what else is wrong with the request.
  store.view((view) => specOf(clusterOf(view)));
  await updateWithRoot({ store, clock }, rootRequest(body), (tx, old, rootCa) => {
    const token = (rotate: string | undefined, kept: string): string =>
      isTrue(rotate) ? createJoinToken(rootCa.certificate, randomBytes) : kept;
    const spec = specOf(old);
    const { unlockKey: _, ...unlocked } = old;
    const unlockKey = nextUnlockKey(old, spec, lock);
    tx.clusters.update({
      ...unlocked,
      ...(unlockKey === undefined ? {} : { unlockKey }),
      spec,
      rootCa,
      joinTokens: {
        worker: token(query.rotateWorkerToken, old.joinTokens.worker),
        manager: token(query.rotateManagerToken, old.joinTokens.manager),
      },
      meta: { ...old.meta, version: tx.index, updatedAt: timestamp(api.deps.clock.now()) },
    });
  });
  const failure = lockFailure(api.deps.cluster.lockTrouble());
  if (failure !== undefined) throw failure;
}
