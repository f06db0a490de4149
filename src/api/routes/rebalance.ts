/** `/drover/rebalance`: evening out services over nodes, or what that would do, and how far it is. */
import type { FastifyInstance } from 'fastify';
import { timestamp } from '../../model/clock.ts';
import type { Move } from '../../model/rebalance.ts';
import type { View } from '../../store/store.ts';
import { isTrue } from '../body.ts';
import { clusterOf, type ApiContext } from '../context.ts';

export function rebalanceRoutes(app: FastifyInstance, api: ApiContext): void {
  app.get('/drover/rebalance', async (request) => {
    const environment = api.environment(request);
    return api.store().view((view) => {
      const { rebalanceAsked, rebalance: state } = clusterOf(view);
      const { asked = 0, finished = true, moved = [], move, skipped = {} } = state ?? {};
      const isTaken = (rebalanceAsked?.id ?? 0) === asked;
      const reasons = Object.entries(skipped).map(([serviceId, reason]) => ({ serviceId, reason }));
      return {
        Asked: rebalanceAsked?.id ?? 0,
        Running: !isTaken || !finished || move !== undefined,
        Moves: isTaken ? movesJson(view, environment, moved) : [],
        ...(move === undefined ? {} : { Move: movesJson(view, environment, [move])[0] }),
        Skipped: isTaken ? skippedJson(view, environment, reasons) : [],
      };
    });
  });
  app.post<{ Querystring: { dryRun?: string } }>('/drover/rebalance', async (request) => {
    const store = api.store();
    const environment = api.environment(request);
    const { Moves, Skipped } = store.view((view) => {
      const { moves, skipped } = api.deps.rebalancePlan(view);
      return { Moves: movesJson(view, environment, moves), Skipped: skippedJson(view, environment, skipped) };
    });
    if (isTrue(request.query.dryRun) || Moves.length === 0) return { Moves, Skipped };
    const Asked = await store.update((tx) => {
      const rebalanceAsked = { id: tx.index, at: timestamp(api.deps.clock.now()) };
      tx.clusters.update({ ...clusterOf(tx), rebalanceAsked });
      return rebalanceAsked.id;
    });
    return { Asked, Moves, Skipped };
  });
}

function movesJson(view: View, environment: string, moves: readonly Move[]): object[] {
  return moves.flatMap(({ serviceId, slot, taskId, from, to }) => {
    const service = view.services.get(serviceId);
    if (service?.environment !== environment) return [];
    const [From, To] = [from, to].map((id) => ({ ID: id, Hostname: view.nodes.get(id)?.description?.hostname ?? id }));
    return [{ ServiceID: serviceId, Service: service.spec.Name, Slot: slot, Task: taskId, From, To }];
  });
}

function skippedJson(
  view: View,
  environment: string,
  skipped: readonly { serviceId: string; reason: string }[],
): object[] {
  return skipped.flatMap(({ serviceId, reason }) => {
    const service = view.services.get(serviceId);
    return service?.environment === environment
      ? [{ ServiceID: serviceId, Service: service.spec.Name, Reason: reason }]
      : [];
  });
}
