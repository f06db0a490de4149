/**
 * From what a user wrote to the one object meant: full id, then exact name, then a prefix of an id, if it is the only
 * one (docker-api.md 1.3). Pure: reads a view, throws ApiErrors with Docker's sentences.
 */
import { taskName, type Network, type Node, type Payload, type Service, type Task } from '../model/objects.ts';
import { PAYLOAD_TABLES, type PayloadKind } from '../model/payloads.ts';
import { nameKey } from '../store/schema.ts';
import type { View } from '../store/store.ts';
import { badRequest, notFound } from './errors.ts';

interface Lookup<T> {
  kind: string;
  byId(id: string): T | undefined;
  byName(name: string): readonly T[];
  all(): Iterable<T>;
}

/** The object of `reference`. @throws ApiError 404 if there is none, 400 if it could be several */
function resolve<T extends { id: string }>(lookup: Lookup<T>, reference: string): T {
  const exact = reference === '' ? undefined : lookup.byId(reference);
  if (exact !== undefined) return exact;
  const named = lookup.byName(reference);
  const found = named.length > 0 ? named : withIdPrefix(lookup.all(), reference);
  if (found.length > 1) throw badRequest(`${lookup.kind} ${reference} is ambiguous (${found.length} matches found)`);
  const [object] = found;
  if (object === undefined) throw notFound(lookup.kind, reference);
  return object;
}

function withIdPrefix<T extends { id: string }>(objects: Iterable<T>, prefix: string): T[] {
  return prefix === '' ? [] : [...objects].filter((object) => object.id.startsWith(prefix));
}

function* inEnvironment<T extends { environment: string }>(objects: Iterable<T>, environment: string): Iterable<T> {
  for (const object of objects) if (object.environment === environment) yield object;
}

function ofEnvironment<T extends { environment: string }>(object: T | undefined, environment: string): T | undefined {
  return object?.environment === environment ? object : undefined;
}

export function resolveService(view: View, environment: string, reference: string): Service {
  return resolve(
    {
      kind: 'service',
      byId: (id) => ofEnvironment(view.services.get(id), environment),
      byName: (name) => view.services.by('name', nameKey(environment, name)),
      all: () => inEnvironment(view.services.all(), environment),
    },
    reference,
  );
}

/** By id, hostname or id prefix; nodes belong to the whole cluster. */
export function resolveNode(view: View, reference: string): Node {
  return resolve(
    {
      kind: 'node',
      byId: (id) => view.nodes.get(id),
      byName: (name) => view.nodes.by('hostname', name),
      all: () => view.nodes.all(),
    },
    reference,
  );
}

/** By id, `service.slot.id` or id prefix. */
export function resolveTask(view: View, environment: string, reference: string): Task {
  const byName = (name: string): Task[] => {
    const task = ofEnvironment(view.tasks.get(name.slice(name.lastIndexOf('.') + 1)), environment);
    return task !== undefined && taskName(task) === name ? [task] : [];
  };
  return resolve(
    {
      kind: 'task',
      byId: (id) => ofEnvironment(view.tasks.get(id), environment),
      byName,
      all: () => inEnvironment(view.tasks.all(), environment),
    },
    reference,
  );
}

/** Overlays of this environment that users see: those being removed are gone for them. */
export function visibleNetworks(view: View, environment: string): Network[] {
  return [...inEnvironment(view.networks.all(), environment)].filter((network) => network.removing !== true);
}

export function resolveNetwork(view: View, environment: string, reference: string): Network {
  const networks = visibleNetworks(view, environment);
  return resolve(
    {
      kind: 'network',
      byId: (id) => networks.find((network) => network.id === id),
      byName: (name) => view.networks.by('name', nameKey(environment, name)),
      all: () => networks,
    },
    reference,
  );
}

export function resolvePayload(view: View, kind: PayloadKind, environment: string, reference: string): Payload {
  const payloads = view[PAYLOAD_TABLES[kind]];
  return resolve(
    {
      kind,
      byId: (id) => ofEnvironment(payloads.get(id), environment),
      byName: (name) => payloads.by('name', nameKey(environment, name)),
      all: () => inEnvironment(payloads.all(), environment),
    },
    reference,
  );
}
