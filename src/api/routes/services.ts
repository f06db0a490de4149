/** `/services`: the API's side of a service's life; what becomes of it is for the loops of `control/`. */
import type { FastifyInstance } from 'fastify';
import { timestamp } from '../../model/clock.ts';
import { newId } from '../../model/ids.ts';
import type { Service } from '../../model/objects.ts';
import { newServiceName } from '../../model/service-names.ts';
import { nameKey } from '../../store/schema.ts';
import type { Store, Transaction, View } from '../../store/store.ts';
import { isTrue, parseBody, versionQuery } from '../body.ts';
import type { ApiContext } from '../context.ts';
import { serviceJson } from '../convert/service.ts';
import { badRequest } from '../errors.ts';
import { hasLabels, parseFilters, some, startsWith, type Filters } from '../filters.ts';
import { resolveService } from '../references.ts';
import { attachedSpec } from '../service-networks.ts';
import { createService, rollBackService, updateService } from '../service-writes.ts';
import { recordWrite, writerOf, type Writer } from '../stacks/history.ts';
import { newerKeyWarnings } from '../validate/newer-keys.ts';
import { portWarnings } from '../validate/service-ports.ts';
import { checkServiceSpec } from '../validate/service-rules.ts';
import { serviceSpecShape } from '../validate/service-shape.ts';
import type { ServiceSpec } from '../../model/specs.ts';

const FILTERS = ['name', 'id', 'label', 'mode', 'runtime'];
const MODES = {
  Replicated: 'replicated',
  Global: 'global',
  ReplicatedJob: 'replicated-job',
  GlobalJob: 'global-job',
} as const;

interface UpdateQuery {
  version?: string;
  registryAuthFrom?: string;
  rollback?: string;
}

export function serviceRoutes(app: FastifyInstance, api: ApiContext): void {
  app.get<{ Querystring: { filters?: string; status?: string } }>('/services', async (request) => {
    const store = api.store();
    const filters = parseFilters(request.query.filters, FILTERS);
    const status = isTrue(request.query.status);
    return store.view((view) => {
      const services = [...view.services.all()].filter(
        (service) => service.environment === api.environment(request) && matches(service, filters),
      );
      return services.map((service) =>
        shown(view, service, status ? { tasks: view.tasks.by('service', service.id) } : {}),
      );
    });
  });
  app.get<{ Params: { id: string }; Querystring: { insertDefaults?: string } }>('/services/:id', async (request) => {
    const defaults = isTrue(request.query.insertDefaults);
    const environment = api.environment(request);
    return api.store().view((view) => shown(view, resolveService(view, environment, request.params.id), { defaults }));
  });
  app.post('/services/create', async (request, reply) => {
    const store = api.store();
    const environment = api.environment(request);
    const given = named(api, store, environment, parseBody(request, serviceSpecShape));
    const spec = await specOf(api, store, environment, given);
    const writer = writerOf(request.headers, now(api));
    const id = await store.update((tx) => {
      const auth = authOf(request.headers);
      const made = createService(tx, { environment, id: newId(api.deps.random), spec, auth, at: now(api) });
      recordWrite(tx, undefined, tx.services.get(made), writer);
      return made;
    });
    const warnings = warningsOf(api, spec);
    return reply.code(201).send({ ID: id, ...(warnings.length === 0 ? {} : { Warnings: warnings }) });
  });
  app.post<{ Params: { id: string }; Querystring: UpdateQuery }>('/services/:id/update', async (request, reply) => {
    const store = api.store();
    const environment = api.environment(request);
    const { registryAuthFrom = 'spec', rollback = '' } = request.query;
    const write = {
      environment,
      reference: request.params.id,
      version: versionQuery('service', request.query.version),
      at: now(api),
    };
    if (rollback !== '' && rollback !== 'previous') throw badRequest(`unrecognized rollback option ${rollback}`);
    if (!['', 'spec', 'previous-spec'].includes(registryAuthFrom))
      throw badRequest(`unsupported registryAuthFrom value ${registryAuthFrom}`);
    const writer = writerOf(request.headers, write.at);
    // The body of a rollback is what the client last saw; only what came before counts.
    const given = parseBody(request, serviceSpecShape);
    if (rollback === 'previous') {
      await store.update((tx) => recorded(tx, write, writer, () => rollBackService(tx, write)));
      return reply.send({ Warnings: null });
    }
    const spec = await specOf(api, store, environment, given);
    const auth = authOf(request.headers);
    await store.update((tx) =>
      recorded(tx, write, writer, () => updateService(tx, { ...write, spec, auth, authFrom: registryAuthFrom })),
    );
    const warnings = warningsOf(api, spec);
    return reply.send({ Warnings: warnings.length === 0 ? null : warnings });
  });
  app.delete<{ Params: { id: string } }>('/services/:id', async (request, reply) => {
    const environment = api.environment(request);
    const writer = writerOf(request.headers, now(api));
    const write = { environment, reference: request.params.id };
    await api
      .store()
      .update((tx) =>
        recorded(tx, write, writer, () => tx.services.remove(resolveService(tx, environment, write.reference).id)),
      );
    return reply.send();
  });
}

/** Writes an existing service, and takes it down in the history of its stack. */
function recorded(
  tx: Transaction,
  { environment, reference }: { environment: string; reference: string },
  writer: Writer,
  write: () => void,
): void {
  const before = resolveService(tx, environment, reference);
  write();
  recordWrite(tx, before, tx.services.get(before.id), writer);
}

/** What is accepted, and not what its user may think. */
function warningsOf(api: ApiContext, spec: ServiceSpec): string[] {
  return [...newerKeyWarnings(spec, api.facts.apiVersion), ...portWarnings(spec)];
}

/** A spec that keeps all rules, its networks resolved. */
/** A service that its user did not name gets a name, as in Docker. */
function named(api: ApiContext, store: Store, environment: string, spec: ServiceSpec): ServiceSpec {
  if (spec.Name !== '') return spec;
  const Name = store.view((view) =>
    newServiceName(api.deps.random, (name) => view.services.countBy('name', nameKey(environment, name)) > 0),
  );
  return { ...spec, Name };
}

async function specOf(api: ApiContext, store: Store, environment: string, given: ServiceSpec): Promise<ServiceSpec> {
  checkServiceSpec(given);
  return attachedSpec(given, store, environment, () => api.networks.visible());
}

/** Pure. */
export function matches(service: Service, filters: Filters): boolean {
  const { spec } = service;
  const modes = Object.entries(MODES).flatMap(([key, name]) => (key in spec.Mode ? [name as string] : []));
  return (
    startsWith(filters, 'id', service.id) &&
    startsWith(filters, 'name', spec.Name) &&
    hasLabels(filters, 'label', spec.Labels) &&
    some(filters, 'mode', (mode) => modes.includes(mode)) &&
    some(filters, 'runtime', (runtime) => runtime === 'container')
  );
}

function shown(view: View, service: Service, options: Parameters<typeof serviceJson>[2]): object {
  return serviceJson(service, (id) => view.networks.get(id), options);
}

function authOf(headers: Record<string, string | string[] | undefined>): string | undefined {
  const auth = headers['x-registry-auth'];
  return typeof auth === 'string' && auth !== '' ? auth : undefined;
}

function now(api: ApiContext): string {
  return timestamp(api.deps.clock.now());
}
