/**
 * `/secrets` and `/configs`, and what Drover adds to them: `POST /drover/secrets/{id}/rotate` gives a name its next value and
 * rolls the services that use it, in one transaction; `POST /drover/secrets/prune` removes earlier versions that are not
 * needed any more. The same for configs. What a secret holds is in no answer.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { timestamp } from '../../model/clock.ts';
import { newId } from '../../model/ids.ts';
import type { Payload } from '../../model/objects.ts';
import { PAYLOAD_KINDS, PAYLOAD_TABLES, type PayloadKind } from '../../model/payloads.ts';
import { parseBody, versionQuery } from '../body.ts';
import type { ApiContext } from '../context.ts';
import { payloadJson } from '../convert/payload.ts';
import { hasLabels, parseFilters, some, startsWith, type Filters } from '../filters.ts';
import {
  createPayload,
  prunePayloads,
  relabelPayload,
  removePayload,
  rotatePayload,
  type PayloadPlace,
} from '../payload-writes.ts';
import { resolvePayload } from '../references.ts';
import { recordWrite, writerOf } from '../stacks/history.ts';
import { checkPayloadData, newPayloadSpec, payloadShape, rotationShape } from '../validate/payload-shape.ts';

/** Docker's. */
const FILTERS: Record<PayloadKind, readonly string[]> = {
  secret: ['id', 'label', 'name', 'names'],
  config: ['id', 'label', 'name'],
};

interface ById {
  Params: { id: string };
}

export function payloadRoutes(app: FastifyInstance, api: ApiContext): void {
  for (const kind of PAYLOAD_KINDS) routesOf(kind, app, api);
}

function routesOf(kind: PayloadKind, app: FastifyInstance, api: ApiContext): void {
  const path = `/${PAYLOAD_TABLES[kind]}`;
  const placeOf = (request: FastifyRequest): PayloadPlace => ({
    kind,
    environment: api.environment(request),
    at: timestamp(api.deps.clock.now()),
  });

  app.get<{ Querystring: { filters?: string } }>(path, async (request) => {
    const store = api.store();
    const filters = parseFilters(request.query.filters, FILTERS[kind]);
    const environment = api.environment(request);
    return store.view((view) =>
      [...view[PAYLOAD_TABLES[kind]].all()]
        .filter((payload) => payload.environment === environment && matches(payload, filters))
        .map((payload) => payloadJson(kind, payload)),
    );
  });
  app.get<ById>(`${path}/:id`, async (request) => {
    const environment = api.environment(request);
    return api.store().view((view) => payloadJson(kind, resolvePayload(view, kind, environment, request.params.id)));
  });
  app.post(`${path}/create`, async (request, reply) => {
    const store = api.store();
    const spec = newPayloadSpec(kind, parseBody(request, payloadShape));
    const id = newId(api.deps.random);
    await store.update((tx) => createPayload(tx, placeOf(request), id, spec));
    return reply.code(201).send({ ID: id });
  });
  app.post<ById & { Querystring: { version?: string } }>(`${path}/:id/update`, async (request, reply) => {
    const store = api.store();
    const version = versionQuery(kind, request.query.version);
    const body = parseBody(request, payloadShape);
    const update = { reference: request.params.id, version, body };
    await store.update((tx) => relabelPayload(tx, placeOf(request), update));
    return reply.send();
  });
  app.delete<ById>(`${path}/:id`, async (request, reply) => {
    await api.store().update((tx) => removePayload(tx, placeOf(request), request.params.id));
    return reply.code(204).send();
  });

  app.post<ById>(`/drover${path}/:id/rotate`, async (request) => {
    const store = api.store();
    const { Data: data } = parseBody(request, rotationShape);
    checkPayloadData(kind, data);
    const rotation = { reference: request.params.id, id: newId(api.deps.random), data };
    const place = placeOf(request);
    const writer = writerOf(request.headers, place.at);
    const done = await store.update((tx) => {
      const rotated = rotatePayload(tx, place, rotation);
      for (const { id } of rotated.services) recordWrite(tx, undefined, tx.services.get(id), writer);
      return rotated;
    });
    const named = (each: { id: string; name: string }): object => ({ ID: each.id, Name: each.name });
    return { ...named(done), Previous: named(done.previous), Services: done.services.map(named) };
  });
  app.post(`/drover${path}/prune`, async (request) => {
    const removed = await api.store().update((tx) => prunePayloads(tx, placeOf(request)));
    return { Removed: removed };
  });
}

/** Pure. */
function matches({ id, spec }: Payload, filters: Filters): boolean {
  return (
    startsWith(filters, 'id', id) &&
    startsWith(filters, 'name', spec.Name) &&
    some(filters, 'names', (name) => name === spec.Name) &&
    hasLabels(filters, 'label', spec.Labels)
  );
}
