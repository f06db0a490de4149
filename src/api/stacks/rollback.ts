/**
 * All services of a stack back to what they were after one of its deploys, in one transaction: either all go, or none.
 * What is the same stays untouched, and no task of it is replaced.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Service, StackRevision } from '../../model/objects.ts';
import type { ServiceSpec } from '../../model/specs.ts';
import type { Transaction, View } from '../../store/store.ts';
import { ApiError, badRequest, notFound } from '../errors.ts';
import { createService, updateService } from '../service-writes.ts';
import { recordRollback, revisionsOf, servicesOf, type Writer } from './history.ts';

export interface StackRollback {
  environment: string;
  stack: string;
  /** The revision to go back to; undefined: the one before the last. */
  revision: number | undefined;
  writer: Writer;
  newId: () => string;
}

export interface RolledBack {
  /** The number of the revision that the rollback made; undefined if all was as it is to be. */
  number: number | undefined;
  /** The revision it went back to. */
  to: number;
  changes: ServiceChange[];
}

export interface ServiceChange {
  service: string;
  kind: 'added' | 'changed' | 'removed';
}

/**
 * @throws ApiError 404 if there is no such stack or revision, 400 if there is none before; and what the writing of a
 * service is refused with, with the service's name before it
 */
export function rollBackStack(tx: Transaction, rollback: StackRollback): RolledBack {
  const { environment, stack, writer } = rollback;
  const target = targetOf(tx, rollback);
  const wanted = specsOf(tx, target);
  const changes: ServiceChange[] = [];
  const writes: { name: string; write: () => void }[] = [];
  for (const service of servicesOf(tx, rollback)) {
    const { Name: name } = service.spec;
    const spec = wanted.get(name);
    if (spec !== undefined && isDeepStrictEqual(spec, service.spec)) wanted.delete(name);
    else if (spec === undefined || modeOf(spec) !== modeOf(service.spec)) tx.services.remove(service.id);
    else {
      wanted.delete(name);
      writes.push({ name, write: () => update(tx, service, spec, writer.at) });
      changes.push({ service: name, kind: 'changed' });
    }
    if (spec === undefined) changes.push({ service: name, kind: 'removed' });
  }
  for (const [name, spec] of wanted) {
    const id = rollback.newId();
    writes.push({
      name,
      write: () => void createService(tx, { environment, id, spec, auth: authOf(spec), at: writer.at }),
    });
    changes.push({ service: name, kind: 'added' });
  }
  writeAll(writes);
  if (changes.length === 0) return { number: undefined, to: target.number, changes };
  return { number: recordRollback(tx, environment, stack, target.number, writer), to: target.number, changes };
}

function targetOf(view: View, { environment, stack, revision }: StackRollback): StackRevision {
  const revisions = revisionsOf(view, environment, stack);
  if (revisions.length === 0) throw notFound('stack', stack);
  const numbers = revisions.map(({ number }) => number);
  if (revision === undefined) {
    const before = revisions.at(-2);
    if (before === undefined) throw badRequest(`stack ${stack} has no revision before ${numbers.join()}`);
    return before;
  }
  const named = revisions.find(({ number }) => number === revision);
  if (named === undefined)
    throw new ApiError(404, `stack ${stack} has no revision ${revision}: there are ${numbers.join(', ')}`);
  return named;
}

/** Service name → spec after that deploy, registry credentials included. */
export function specsOf(view: View, revision: StackRevision): Map<string, ServiceSpec> {
  return new Map(
    Object.entries(revision.services).map(([name, id]) => {
      const version = view.serviceSpecs.get(id);
      if (version === undefined) throw new Error(`revision ${revision.id} refers to ${id}, which is not there`);
      return [name, version.spec];
    }),
  );
}

function update(tx: Transaction, service: Service, spec: ServiceSpec, at: string): void {
  const { environment, id, meta } = service;
  const target = { environment, reference: id, version: meta.version, at };
  updateService(tx, { ...target, spec, auth: authOf(spec), authFrom: 'spec' });
}

/** A service may need a port that another one is about to give up: it is tried again after the others. */
function writeAll(writes: readonly { name: string; write: () => void }[]): void {
  let waiting = writes;
  while (waiting.length > 0) {
    const refused: { name: string; write: () => void; error: ApiError }[] = [];
    for (const { name, write } of waiting) {
      try {
        write();
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        refused.push({ name, write, error });
      }
    }
    const [first] = refused;
    if (first !== undefined && refused.length === waiting.length)
      throw new ApiError(first.error.status, `service ${first.name}: ${first.error.message}`);
    waiting = refused;
  }
}

function modeOf({ Mode }: ServiceSpec): string {
  return Object.keys(Mode).join();
}

function authOf({ TaskTemplate }: ServiceSpec): string | undefined {
  return TaskTemplate.ContainerSpec?.PullOptions?.RegistryAuth;
}
