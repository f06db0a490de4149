/**
 * Making, changing, rotating and removing secrets and configs: each is one transaction. What one holds never changes; a
 * rotation makes a new one, which takes over the name, and the one before it is kept as `NAME.v1`, `NAME.v2` … for the
 * tasks that still use it and for a rollback.
 */
import { timingSafeEqual } from 'node:crypto';
import type { Payload, Service } from '../model/objects.ts';
import { PAYLOAD_TABLES, withPayload, type PayloadKind } from '../model/payloads.ts';
import type { PayloadSpec } from '../model/specs.ts';
import { isTerminal } from '../model/states.ts';
import { nameKey } from '../store/schema.ts';
import type { Transaction, View } from '../store/store.ts';
import { ApiError, badRequest, conflict } from './errors.ts';
import { resolvePayload } from './references.ts';
import { moveService } from './service-writes.ts';
import type { PayloadBody } from './validate/payload-shape.ts';

/** What every write of one kind in one environment needs. */
export interface PayloadPlace {
  kind: PayloadKind;
  environment: string;
  /** RFC 3339. */
  at: string;
}

/** @throws ApiError 409 if the name is taken */
export function createPayload(tx: Transaction, place: PayloadPlace, id: string, spec: PayloadSpec): void {
  const { kind, environment, at } = place;
  const payloads = tx[PAYLOAD_TABLES[kind]];
  if (payloads.countBy('name', nameKey(environment, spec.Name)) > 0)
    throw conflict(`${kind} ${spec.Name} already exists`);
  payloads.create({ id, environment, meta: { version: tx.index, createdAt: at, updatedAt: at }, spec });
}

/** Gives it other labels. @throws ApiError 404, 500 if the version is stale, 400 to change anything else */
export function relabelPayload(
  tx: Transaction,
  place: PayloadPlace,
  update: { reference: string; version: number; body: PayloadBody },
): void {
  const { kind, environment, at } = place;
  const payload = resolvePayload(tx, kind, environment, update.reference);
  const { Name, Labels, Data } = update.body;
  if (payload.meta.version !== update.version) throw new ApiError(500, 'update out of sequence');
  if (Name !== payload.spec.Name || (Data !== undefined && !sameData(Data, payload.spec.Data)))
    throw badRequest('only updates to Labels are allowed');
  tx[PAYLOAD_TABLES[kind]].update({
    ...payload,
    meta: { ...payload.meta, version: tx.index, updatedAt: at },
    spec: { ...payload.spec, Labels },
  });
}

/** @throws ApiError 404, 400 while a service uses it */
export function removePayload(tx: Transaction, place: PayloadPlace, reference: string): void {
  const { kind, environment } = place;
  const payload = resolvePayload(tx, kind, environment, reference);
  const services = tx.services.by(kind, payload.id).map(({ spec }) => spec.Name);
  if (services.length > 0) {
    const word = services.length === 1 ? 'service' : 'services';
    throw badRequest(`${kind} '${payload.spec.Name}' is in use by the following ${word}: ${services.join(', ')}`);
  }
  tx[PAYLOAD_TABLES[kind]].remove(payload.id);
}

export interface Rotation {
  /** Of the version that has the name now. */
  id: string;
  name: string;
  /** The version before, and what it is called from now on. */
  previous: { id: string; name: string };
  /** Those that used the name, whichever version: an update of each has begun. */
  services: { id: string; name: string }[];
}

/**
 * Makes a new version, which takes the name, and gives it to every service that uses the name: their files keep their
 * paths, owners and modes, and their own update policies decide how they roll.
 * @throws ApiError 404, 400 if it holds these bytes already or is itself an earlier version
 */
export function rotatePayload(
  tx: Transaction,
  place: PayloadPlace,
  rotation: { reference: string; id: string; data: string },
): Rotation {
  const { kind, environment, at } = place;
  const payloads = tx[PAYLOAD_TABLES[kind]];
  const present = resolvePayload(tx, kind, environment, rotation.reference);
  const { Name: name } = present.spec;
  if (present.formerName !== undefined)
    throw badRequest(`${kind} '${name}' is an earlier version of '${present.formerName}': rotate that one`);
  if (sameData(rotation.data, present.spec.Data)) throw badRequest(`${kind} '${name}' holds this value already`);
  const earlier = payloads.by('formerName', nameKey(environment, name));
  const previous = { id: present.id, name: freeVersionName(tx, place, name) };
  payloads.update({
    ...present,
    formerName: name,
    meta: { ...present.meta, version: tx.index, updatedAt: at },
    spec: { ...present.spec, Name: previous.name },
  });
  const { id } = rotation;
  createPayload(tx, place, id, { ...present.spec, Data: rotation.data });
  const versions = new Set([present, ...earlier].map((version) => version.id));
  const services = [...new Set([...versions].flatMap((version) => tx.services.by(kind, version)))];
  for (const service of services) moveService(tx, service, withPayload(service.spec, kind, versions, { id, name }), at);
  return { id, name, previous, services: services.map((each) => ({ id: each.id, name: each.spec.Name })) };
}

/** `NAME.v1`, or the first number after it that nothing has. */
function freeVersionName(view: View, { kind, environment }: PayloadPlace, name: string): string {
  for (let version = 1; ; version++) {
    const candidate = `${name}.v${version}`;
    if (view[PAYLOAD_TABLES[kind]].countBy('name', nameKey(environment, candidate)) === 0) return candidate;
  }
}

/** Removes every earlier version that nothing uses and no rollback would need. Returns their names. */
export function prunePayloads(tx: Transaction, { kind, environment }: PayloadPlace): string[] {
  const payloads = tx[PAYLOAD_TABLES[kind]];
  const remembered = new Set([...tx.stackRevisions.all()].flatMap(({ services }) => Object.values(services)));
  const earlier = [...payloads.all()].filter(
    (payload) =>
      payload.environment === environment && payload.formerName !== undefined && !isUsed(tx, kind, payload, remembered),
  );
  for (const { id } of earlier) payloads.remove(id);
  return earlier.map(({ spec }) => spec.Name).toSorted();
}

/** By what a service declares now or did before, what a stack may go back to, or a task that has not ended. */
function isUsed(view: View, kind: PayloadKind, { id }: Payload, remembered: ReadonlySet<string>): boolean {
  return view.serviceSpecs.by(kind, id).some((version) => {
    if (remembered.has(version.id)) return true;
    const service = view.services.get(version.serviceId);
    if (service !== undefined && isDeclared(service, version.version)) return true;
    return view.tasks.by('spec', version.id).some((task) => !isTerminal(task.status.state));
  });
}

function isDeclared(service: Service, version: number): boolean {
  return service.specVersion === version || service.previousSpecVersion === version;
}

/** Takes as long whatever differs. */
function sameData(a: string, b: string): boolean {
  const [one, other] = [Buffer.from(a, 'base64'), Buffer.from(b, 'base64')];
  return one.length === other.length && timingSafeEqual(one, other);
}
