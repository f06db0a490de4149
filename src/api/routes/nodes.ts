/** `/nodes`: listing, inspecting, updating and removing nodes, with Docker's guards. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { timestamp } from '../../model/clock.ts';
import type { Node } from '../../model/objects.ts';
import type { NodeSpec } from '../../model/specs.ts';
import { isTerminal, TaskState } from '../../model/states.ts';
import type { Transaction } from '../../store/store.ts';
import { isTrue, parseBody, struct, versionQuery } from '../body.ts';
import type { ApiContext } from '../context.ts';
import { nodeJson } from '../convert/node.ts';
import { ApiError, badRequest } from '../errors.ts';
import { hasLabels, parseFilters, some, startsWith, type Filters } from '../filters.ts';
import { assertDemotable, type Agreement } from '../manager-guards.ts';
import { resolveNode } from '../references.ts';

const FILTERS = ['name', 'id', 'label', 'role', 'membership', 'node.label'];

const role = z.string().transform((value): NodeSpec['Role'] => {
  if (value === 'worker' || value === 'manager') return value;
  throw badRequest(`invalid Role: "${value}"`);
});
const availability = z.string().transform((value): NodeSpec['Availability'] => {
  if (value === 'active' || value === 'pause' || value === 'drain') return value;
  throw badRequest(`invalid Availability: "${value}"`);
});
const shape = struct({
  Name: z.string().optional(),
  Labels: z.record(z.string(), z.string()).default({}),
  Role: role,
  Availability: availability,
});

export function nodeRoutes(app: FastifyInstance, api: ApiContext): void {
  app.get<{ Querystring: { filters?: string } }>('/nodes', async (request) => {
    const store = api.store();
    const filters = parseFilters(request.query.filters, FILTERS);
    const asked = api.asked();
    return store.view((view) =>
      [...view.nodes.all()].filter((node) => matches(node, filters)).map((node) => nodeJson(node, asked)),
    );
  });
  app.get<{ Params: { id: string } }>('/nodes/:id', async (request) =>
    api.store().view((view) => nodeJson(resolveNode(view, request.params.id), api.asked())),
  );
  app.post<{ Params: { id: string }; Querystring: { version?: string } }>(
    '/nodes/:id/update',
    async (request, reply) => {
      const store = api.store();
      const version = versionQuery('node', request.query.version);
      const spec = parseBody(request, shape);
      await store.update((tx) =>
        updateNode(tx, request.params.id, {
          version,
          spec,
          at: timestamp(api.deps.clock.now()),
          agreement: api.deps.cluster.state(),
        }),
      );
      return reply.send();
    },
  );
  app.delete<{ Params: { id: string }; Querystring: { force?: string } }>('/nodes/:id', async (request, reply) => {
    const force = isTrue(request.query.force);
    await api.store().update((tx) => removeNode(tx, request.params.id, force, timestamp(api.deps.clock.now())));
    return reply.send();
  });
}

/** Pure. */
export function matches(node: Node, filters: Filters): boolean {
  return (
    startsWith(filters, 'id', node.id) &&
    startsWith(filters, 'name', node.description?.hostname ?? '') &&
    hasLabels(filters, 'label', node.description?.engine.labels ?? {}) &&
    hasLabels(filters, 'node.label', node.spec.Labels) &&
    some(filters, 'role', (value) => value === node.spec.Role) &&
    some(filters, 'membership', (value) => value === 'accepted')
  );
}

interface NodeUpdate {
  version: number;
  spec: NodeSpec;
  /** RFC 3339. */
  at: string;
  agreement: Agreement;
}

/** @throws ApiError 404, 500 (stale version), 400 (a manager that is needed) */
function updateNode(tx: Transaction, reference: string, { version, spec, at, agreement }: NodeUpdate): void {
  const node = resolveNode(tx, reference);
  if (node.meta.version !== version) throw new ApiError(500, 'update out of sequence');
  if (spec.Role === 'worker' && node.spec.Role === 'manager') assertDemotable(node, [...tx.nodes.all()], agreement);
  tx.nodes.update({ ...node, spec, meta: { ...node.meta, version: tx.index, updatedAt: at } });
}

/**
 * Takes a node out of the cluster; its tasks are ORPHANED in the same transaction, so that their slots are filled anew.
 * @throws ApiError 404, or 400 if it is a manager, or up and not `force`
 */
function removeNode(tx: Transaction, reference: string, force: boolean, at: string): void {
  const node = resolveNode(tx, reference);
  // As in Swarm: what was demoted may go at once, also when it is dead and cannot give up its part by itself.
  if (node.manager !== undefined && node.spec.Role === 'manager') {
    throw badRequest(
      `node ${node.id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal`,
    );
  }
  if (!force && node.status.state === 'ready') throw badRequest(`node ${node.id} is not down and can't be removed`);
  tx.nodes.remove(node.id);
  for (const task of tx.tasks.by('node', node.id)) {
    if (isTerminal(task.status.state)) continue;
    const status = {
      ...task.status,
      timestamp: at,
      state: TaskState.ORPHANED,
      message: 'Task was orphaned: its node was removed',
    };
    tx.tasks.update({ ...task, status });
  }
}
