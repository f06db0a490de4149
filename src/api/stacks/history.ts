/**
 * The history of stacks: every deploy that changed something is a revision, which says what spec each service of the
 * stack had after it. Written in the transaction that writes the service, so that history and services never differ.
 * Specs are not copied: a revision refers to the versions that services have anyway, and the reaper keeps those.
 *
 * Docker's clients do not say where a deploy begins. It begins with the first write, with a write of a service that the
 * deploy before has written already, and with a write later than GROUP_MS after the last. `X-Drover-Deploy` says it
 * outright: writes that carry the same id are one deploy. The history of a stack ends with its last service.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { STACK_LABEL } from '../../model/depends-on.ts';
import {
  serviceSpecId,
  stackRevisionId,
  type Service,
  type StackDeploy,
  type StackRevision,
} from '../../model/objects.ts';
import { nameKey } from '../../store/schema.ts';
import type { Transaction, View } from '../../store/store.ts';
import { badRequest } from '../errors.ts';

/** The header of a client that says itself which writes are one deploy. */
const DEPLOY_HEADER = 'x-drover-deploy';
/** Writes without an id that follow each other within this time may be one deploy. */
export const GROUP_MS = 60_000;
/** Older revisions are forgotten. */
export const KEPT_REVISIONS = 10;

/** Who writes, and when. */
export interface Writer {
  /** `User-Agent` */
  client: string;
  deployId?: string;
  /** RFC 3339. */
  at: string;
}

/** What a request says of its deploy. @throws ApiError 400 if its id is none */
export function writerOf(headers: IncomingHttpHeaders, at: string): Writer {
  const client = headers['user-agent'] ?? '';
  const deployId = headers[DEPLOY_HEADER];
  if (deployId === undefined) return { client, at };
  if (typeof deployId !== 'string' || !/^[\w.-]{1,64}$/.test(deployId))
    throw badRequest(
      `invalid header ${DEPLOY_HEADER}: 1 to 64 letters, digits, dots, dashes or underscores are needed`,
    );
  return { client, at, deployId };
}

/** Takes down that a service was written: `before` undefined: created; `after` undefined: removed. */
export function recordWrite(
  tx: Transaction,
  before: Service | undefined,
  after: Service | undefined,
  writer: Writer,
): void {
  const { environment, spec } = (after ?? before)!;
  const was = stackOf(before);
  const is = stackOf(after);
  if (was !== undefined && was !== is) recordIn(tx, environment, was, spec.Name, true, writer);
  if (is !== undefined) recordIn(tx, environment, is, spec.Name, was !== is || before?.spec !== after?.spec, writer);
}

function stackOf(service: Service | undefined): string | undefined {
  return service?.spec.Labels[STACK_LABEL] || undefined;
}

function recordIn(
  tx: Transaction,
  environment: string,
  stack: string,
  service: string,
  changed: boolean,
  writer: Writer,
): void {
  const key = nameKey(environment, stack);
  if (tx.services.countBy('stack', key) === 0) return forget(tx, key);
  const last = tx.stackDeploys.get(key);
  const deploy = continues(last, service, writer) ? last : begun(environment, stack, last, writer);
  const written = deploy.written.includes(service) ? deploy.written : [...deploy.written, service];
  const next: StackDeploy = { ...deploy, written, lastWriteAt: writer.at };
  if (changed) {
    next.revision ??= deploy.lastRevision + 1;
    next.lastRevision = next.revision;
    writeRevision(tx, next, writer);
  }
  put(tx, last, next);
}

/** True if a write belongs to the last deploy of its stack. */
function continues(last: StackDeploy | undefined, service: string, writer: Writer): last is StackDeploy {
  if (last === undefined || last.deployId !== writer.deployId) return false;
  if (writer.deployId !== undefined) return true;
  return !last.written.includes(service) && Date.parse(writer.at) - Date.parse(last.lastWriteAt) <= GROUP_MS;
}

function begun(environment: string, stack: string, last: StackDeploy | undefined, writer: Writer): StackDeploy {
  return {
    id: nameKey(environment, stack),
    environment,
    stack,
    ...(writer.deployId === undefined ? {} : { deployId: writer.deployId }),
    lastWriteAt: writer.at,
    written: [],
    lastRevision: last?.lastRevision ?? 0,
  };
}

function put(tx: Transaction, last: StackDeploy | undefined, next: StackDeploy): void {
  if (last === undefined) tx.stackDeploys.create(next);
  else tx.stackDeploys.update(next);
}

/** The revision of a deploy as it is now: made, or brought up to date. */
function writeRevision(tx: Transaction, deploy: StackDeploy, writer: Writer, rollbackTo?: number): void {
  const { environment, stack, lastRevision: number } = deploy;
  const id = stackRevisionId(environment, stack, number);
  const made = tx.stackRevisions.get(id);
  const revision: StackRevision = {
    ...(made ?? { id, environment, stack, number, createdAt: writer.at, client: writer.client }),
    updatedAt: writer.at,
    ...(rollbackTo === undefined ? {} : { rollbackTo }),
    services: Object.fromEntries(
      servicesOf(tx, deploy).map((service) => [service.spec.Name, serviceSpecId(service.id, service.specVersion)]),
    ),
  };
  if (made !== undefined) return tx.stackRevisions.update(revision);
  tx.stackRevisions.create(revision);
  const oldest = stackRevisionId(environment, stack, number - KEPT_REVISIONS);
  if (tx.stackRevisions.get(oldest) !== undefined) tx.stackRevisions.remove(oldest);
}

/** Takes down a rollback, which changed services all at once, as a revision of its own: no later write belongs to it. */
export function recordRollback(
  tx: Transaction,
  environment: string,
  stack: string,
  rollbackTo: number,
  writer: Writer,
): number {
  const last = tx.stackDeploys.get(nameKey(environment, stack));
  const fresh = begun(environment, stack, last, writer);
  const number = fresh.lastRevision + 1;
  const written = servicesOf(tx, fresh).map(({ spec }) => spec.Name);
  const next: StackDeploy = {
    ...fresh,
    deployId: `rollback-${number}`,
    written,
    revision: number,
    lastRevision: number,
  };
  writeRevision(tx, next, writer, rollbackTo);
  put(tx, last, next);
  return number;
}

function forget(tx: Transaction, key: string): void {
  for (const { id } of tx.stackRevisions.by('stack', key)) tx.stackRevisions.remove(id);
  if (tx.stackDeploys.get(key) !== undefined) tx.stackDeploys.remove(key);
}

/** The services of a stack as they are. */
export function servicesOf(view: View, { environment, stack }: { environment: string; stack: string }): Service[] {
  return view.services.by('stack', nameKey(environment, stack)).sort((a, b) => (a.spec.Name < b.spec.Name ? -1 : 1));
}

/** The revisions of a stack that are kept, the oldest first. */
export function revisionsOf(view: View, environment: string, stack: string): StackRevision[] {
  return view.stackRevisions.by('stack', nameKey(environment, stack)).sort((a, b) => a.number - b.number);
}
