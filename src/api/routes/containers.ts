/**
 * The routes of containers that are looked at on their way to the engine: creating one, because it may name an overlay;
 * showing them, because they are to show the overlays' names instead of the engine's own.
 */
import type { FastifyInstance } from 'fastify';
import { checked, parseJson } from '../body.ts';
import { containerShape } from '../container-plan.ts';
import type { ApiContext } from '../context.ts';
import { createContainer } from '../overlay-containers.ts';
import { withEngineNetworks, withOverlayNames } from '../overlay-names.ts';

export function containerRoutes(app: FastifyInstance, api: ApiContext): void {
  const overlays = () => api.deps.attachments()?.overlays() ?? [];
  /** Nothing, where there are no overlays: then an answer streams through. */
  const renamed = () =>
    overlays().length === 0 ? {} : { rewrite: (text: string) => withOverlayNames(text, overlays()) };
  app.post('/containers/create', (request, reply) =>
    createContainer(api, request, reply, checked(containerShape, parseJson(request))),
  );
  app.get('/containers/:id/json', (request, reply) => api.passOn(request, reply, renamed()));
  app.get<{ Querystring: { filters?: string } }>('/containers/json', (request, reply) => {
    const { filters } = request.query;
    const { engineUrl } = api.target(request.raw);
    if (filters === undefined) return api.passOn(request, reply, renamed());
    const at = engineUrl.indexOf('?');
    const parameters = new URLSearchParams(engineUrl.slice(at));
    parameters.set('filters', withEngineNetworks(filters, overlays()));
    return api.passOn(request, reply, { url: `${engineUrl.slice(0, at)}?${parameters.toString()}`, ...renamed() });
  });
}
