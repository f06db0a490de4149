/**
 * Creating, updating and rolling back a service: each is one transaction that looks at the newest state, writes the
 * service and, when the spec moved, its version for the tasks to refer to (docker-api.md 1.9).
 */
import { isDeepStrictEqual } from 'node:util';
import { dependenciesOf } from '../model/depends-on.ts';
import { isTaskDirty } from '../model/dirty.ts';
import { isJob, serviceSpecId, type Service } from '../model/objects.ts';
import type { NetworkAttachmentConfig, ServiceSpec } from '../model/specs.ts';
import { nameKey } from '../store/schema.ts';
import type { Transaction, View } from '../store/store.ts';
import { PREDEFINED } from './engine-networks.ts';
import { ApiError, badRequest, conflict, notBuilt, notFound } from './errors.ts';
import { ingressOf, publishesInMesh } from './network-rules.ts';
import { resolveService } from './references.ts';
import { checkStartOrder } from './stacks/start-order.ts';
import { checkPayloadsExist } from './validate/payload-references.ts';
import { checkOwnPortsAreKept, checkPortsAreFree } from './validate/service-ports.ts';

export interface NewService {
  environment: string;
  id: string;
  spec: ServiceSpec;
  /** `X-Registry-Auth`, as it came. */
  auth: string | undefined;
  /** RFC 3339. */
  at: string;
}

/** @throws ApiError 409 if the name is taken, 400 if a port is, 404 if a network has gone meanwhile */
export function createService(tx: Transaction, wanted: NewService): string {
  const { environment, id, at } = wanted;
  checkNameIsFree(tx, environment, wanted.spec.Name);
  checkAgainstCluster(tx, wanted.spec, id);
  checkPayloadsExist(tx, environment, wanted.spec.TaskTemplate);
  checkStartOrder(tx, environment, wanted.spec);
  const spec = withAuth(wanted.spec, wanted.auth);
  const meta = { version: tx.index, createdAt: at, updatedAt: at };
  const order = dependenciesOf(spec).length > 0 ? { startsInOrder: true as const } : {};
  const run = isJob({ spec }) ? { jobStatus: { iteration: 0, lastExecution: at } } : {};
  tx.services.create({ id, environment, meta, spec, specVersion: tx.index, ...run, ...order });
  writeVersion(tx, id, spec);
  return id;
}

interface ServiceWrite {
  environment: string;
  reference: string;
  /** The `Version.Index` that the client saw. */
  version: number;
  at: string;
}

export interface ServiceUpdate extends ServiceWrite {
  spec: ServiceSpec;
  auth: string | undefined;
  /** Where credentials come from if none were sent. */
  authFrom: string;
}

/**
 * Gives a service a new spec; a job runs anew with it. The same spec again makes no new version, so that no task is
 * replaced and no job run again; it only lets an update go on that was paused.
 * @throws ApiError 404, 500 if the version is stale, 501 to rename or change the mode, 400
 */
export function updateService(tx: Transaction, update: ServiceUpdate): void {
  const service = current(tx, update);
  if (update.spec.Name !== service.spec.Name) throw notBuilt('renaming services is not supported');
  const mode = (spec: ServiceSpec): string => Object.keys(spec.Mode).join();
  if (mode(update.spec) !== mode(service.spec)) throw notBuilt('service mode change is not allowed');
  checkAgainstCluster(tx, update.spec, service.id);
  checkPayloadsExist(tx, service.environment, update.spec.TaskTemplate);
  checkStartOrder(tx, service.environment, update.spec);
  const source = update.authFrom === 'previous-spec' ? service.previousSpec : service.spec;
  if (update.authFrom === 'previous-spec' && source === undefined)
    throw badRequest(`service ${service.id} does not have a previous spec`);
  const spec = withAuth(update.spec, update.auth ?? source?.TaskTemplate.ContainerSpec?.PullOptions?.RegistryAuth);
  const { updateStatus, ...rest } = service;
  if (!isDeepStrictEqual(spec, service.spec)) {
    tx.services.update({ ...rest, ...moved(tx, service, spec, update.at), ...keptInRollout(tx, service, spec) });
    writeVersion(tx, service.id, spec);
  } else if (
    updateStatus !== undefined &&
    !['completed', 'updating', 'rollback_started'].includes(updateStatus.state)
  ) {
    tx.services.update(rest);
  }
}

/**
 * A spec that moves ends a rollout under way and begins another. But a change that no task feels, such as a scaling, is no
 * new version: the rollout goes on, and what it may go back to stays the version before it.
 */
function keptInRollout(tx: Transaction, service: Service, spec: ServiceSpec): Partial<Service> {
  const { updateStatus, previousSpec, previousSpecVersion, specVersion, promoted } = service;
  const underWay = updateStatus?.state === 'updating' || updateStatus?.state === 'rollback_started';
  if (!underWay || isTaskDirty(service, service.spec, { spec, specVersion: tx.index })) return {};
  return {
    updateStatus,
    ...(promoted === specVersion ? { promoted: tx.index } : {}),
    ...(previousSpec === undefined || previousSpecVersion === undefined
      ? {}
      : { previousSpec: { ...previousSpec, Mode: spec.Mode }, previousSpecVersion }),
  };
}

/**
 * Puts a service back to its previous spec; the one it had becomes the previous, so that a second rollback returns.
 * @throws ApiError 404, 500 if the version is stale, 400 if there is no previous spec or what it needs is gone
 */
export function rollBackService(tx: Transaction, rollback: ServiceWrite): void {
  goBack(tx, current(tx, rollback), rollback.at, 'manually requested rollback');
}

/** @throws ApiError as `rollBackService` */
export function goBack(tx: Transaction, service: Service, at: string, message: string): void {
  const { previousSpec: spec } = service;
  if (spec === undefined) throw badRequest(`service ${service.id} does not have a previous spec`);
  checkAgainstCluster(tx, spec, service.id);
  checkPayloadsExist(tx, service.environment, spec.TaskTemplate);
  checkStartOrder(tx, service.environment, spec);
  tx.services.update({
    ...service,
    ...moved(tx, service, spec, at),
    // A job is not rolled back task by task: it runs anew, as it was before.
    ...(isJob(service)
      ? {}
      : {
          updateStatus: { state: 'rollback_started', startedAt: at, message },
        }),
  });
  writeVersion(tx, service.id, spec);
}

/** Gives a service a spec that is known to keep all rules, as an update would; but a job does not run anew for it. */
export function moveService(tx: Transaction, service: Service, spec: ServiceSpec, at: string): void {
  const { updateStatus: _, ...rest } = service;
  const { jobStatus } = service;
  tx.services.update({ ...rest, ...moved(tx, service, spec, at), ...(jobStatus === undefined ? {} : { jobStatus }) });
  writeVersion(tx, service.id, spec);
}

/** What changes on a service whose spec moves. */
function moved(
  tx: Transaction,
  service: Service,
  spec: ServiceSpec,
  at: string,
): Partial<Service> & Pick<Service, 'spec'> {
  return {
    spec,
    specVersion: tx.index,
    previousSpec: service.spec,
    previousSpecVersion: service.specVersion,
    meta: { ...service.meta, version: tx.index, updatedAt: at },
    ...(service.jobStatus === undefined
      ? {}
      : { jobStatus: { iteration: service.jobStatus.iteration + 1, lastExecution: at } }),
  };
}

function current(tx: Transaction, write: ServiceWrite): Service {
  const service = resolveService(tx, write.environment, write.reference);
  if (service.meta.version !== write.version) throw new ApiError(500, 'update out of sequence');
  return service;
}

function writeVersion(tx: Transaction, serviceId: string, spec: ServiceSpec): void {
  tx.serviceSpecs.create({ id: serviceSpecId(serviceId, tx.index), serviceId, version: tx.index, spec });
}

/** Credentials never come in a body; they travel in a header and stay with the spec they came for. */
function withAuth(spec: ServiceSpec, auth: string | undefined): ServiceSpec {
  const container = spec.TaskTemplate.ContainerSpec;
  if (container === undefined) return spec;
  const { PullOptions: _, ...rest } = container;
  const ContainerSpec = auth === undefined ? rest : { ...rest, PullOptions: { RegistryAuth: auth } };
  return { ...spec, TaskTemplate: { ...spec.TaskTemplate, ContainerSpec } };
}

function checkNameIsFree(view: View, environment: string, name: string): void {
  if (view.services.countBy('name', nameKey(environment, name)) > 0) {
    throw conflict(`name conflicts with an existing object: service ${name} already exists`);
  }
}

/** What can only be said with the newest state in hand. */
function checkAgainstCluster(view: View, spec: ServiceSpec, serviceId: string): void {
  checkOwnPortsAreKept(view, spec);
  checkPortsAreFree(view, spec, serviceId);
  if (publishesInMesh(spec) && ingressOf(view) === undefined)
    throw badRequest('service needs ingress network, but no ingress network is present');
  const attachments: NetworkAttachmentConfig[] = [...(spec.Networks ?? []), ...(spec.TaskTemplate.Networks ?? [])];
  for (const { Target: id } of attachments) {
    const network = view.networks.get(id);
    if (!PREDEFINED.has(id) && (network === undefined || network.removing === true)) throw notFound('network', id);
  }
}
