/**
 * What later versions bring (decisions-and-traps.md 2): lists of it are empty, single ones are not found, making one is
 * refused with a sentence. Never a wrong answer.
 */
import type { FastifyInstance } from 'fastify';
import type { ApiContext } from '../context.ts';
import { notBuilt, notFound } from '../errors.ts';

export function unbuiltRoutes(app: FastifyInstance, api: ApiContext): void {
  for (const kind of ['secret', 'config']) {
    app.get(`/${kind}s`, async () => {
      api.store();
      return [];
    });
    app.post(`/${kind}s/create`, async () => {
      api.store();
      throw notBuilt(`${kind}s are not supported yet`);
    });
    app.route<{ Params: { id: string } }>({
      method: ['GET', 'DELETE'],
      url: `/${kind}s/:id`,
      handler: async (request) => missing(api, kind, request.params.id),
    });
    app.post<{ Params: { id: string } }>(`/${kind}s/:id/update`, async (request) =>
      missing(api, kind, request.params.id),
    );
  }
  for (const kind of ['services', 'tasks']) {
    app.get(`/${kind}/:id/logs`, async () => {
      api.store();
      throw notBuilt(
        'logs of services and tasks are not supported yet: use docker logs on the node that runs the task (docker service ps shows it)',
      );
    });
  }
}

function missing(api: ApiContext, kind: string, reference: string): never {
  api.store();
  throw notFound(kind, reference);
}
