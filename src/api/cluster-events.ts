/**
 * The cluster's part of `/events`: store events turned into Docker's messages (scope `swarm`), kept for a while so that
 * `--since` finds them, and passed to whoever listens. Follows whichever store the daemon has now.
 */
import type { Clock } from '../model/clock.ts';
import type { Node, Service } from '../model/objects.ts';
import type { Event, Store } from '../store/store.ts';
import { hasLabels, some, type Filters } from './filters.ts';

export interface EventMessage {
  Type: 'service' | 'node' | 'network' | 'secret' | 'config';
  Action: 'create' | 'update' | 'remove';
  Actor: { ID: string; Attributes: Record<string, string> };
  scope: 'swarm';
  /** Seconds since the epoch. */
  time: number;
  timeNano: number;
}

export interface Listener {
  tell(message: EventMessage): void;
  ended(): void;
}

/** How many past messages are kept, as Docker does. */
const KEPT = 256;

export class ClusterEvents {
  readonly #clock: Clock;
  readonly #listeners = new Set<Listener>();
  #kept: EventMessage[] = [];
  #store: Store | undefined;
  #stop = (): void => {};

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** From now on tells of this store's changes; cheap if it is the one already followed. */
  follow(store: Store | undefined): void {
    if (store === this.#store) return;
    this.#stop();
    this.#store = store;
    this.#stop = store === undefined ? () => {} : store.watch((events) => events.forEach((event) => this.#tell(event)));
  }

  /** The kept messages of that span (ms since the epoch, both ends included). */
  between(sinceMs: number, untilMs: number): EventMessage[] {
    return this.#kept.filter(({ timeNano }) => timeNano >= sinceMs * 1e6 && timeNano <= untilMs * 1e6);
  }

  /** Calls `tell` with every message from now on, `ended` when the daemon stops. Returns what ends it earlier. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tells every listener that no more will come. */
  end(): void {
    for (const listener of this.#listeners) listener.ended();
  }

  #tell(event: Event): void {
    const message = messageOf(event, this.#clock.now());
    if (message === undefined) return;
    this.#kept = [...this.#kept.slice(1 - KEPT), message];
    for (const listener of this.#listeners) listener.tell(message);
  }
}

/** The message for a store event, or undefined if it says nothing that Docker's events tell of. Pure. */
export function messageOf(event: Event, nowMs: number): EventMessage | undefined {
  const message = (
    Type: EventMessage['Type'],
    Action: EventMessage['Action'],
    ID: string,
    Attributes: Record<string, string>,
  ): EventMessage => ({
    Type,
    Action,
    Actor: { ID, Attributes },
    scope: 'swarm',
    time: Math.floor(nowMs / 1000),
    timeNano: nowMs * 1e6,
  });
  const action = event.before === undefined ? 'create' : event.after === undefined ? 'remove' : 'update';
  switch (event.table) {
    case 'services': {
      const service = (event.after ?? event.before)!;
      const changes = event.before && event.after ? serviceChanges(event.before, event.after) : {};
      return changes && message('service', action, service.id, { name: service.spec.Name, ...changes });
    }
    case 'nodes': {
      const node = (event.after ?? event.before)!;
      const changes = event.before && event.after ? nodeChanges(event.before, event.after) : {};
      return changes && message('node', action, node.id, { name: node.description?.hostname ?? '', ...changes });
    }
    case 'networks': {
      const network = (event.after ?? event.before)!;
      const Attributes = { name: network.spec.Name };
      // For users it is gone when its removal begins.
      if (event.after === undefined)
        return event.before?.removing === true ? undefined : message('network', 'remove', network.id, Attributes);
      if (event.before === undefined) return message('network', 'create', network.id, Attributes);
      if (event.after.removing === true && event.before.removing !== true)
        return message('network', 'remove', network.id, Attributes);
      return event.before.meta.version === event.after.meta.version
        ? undefined
        : message('network', 'update', network.id, Attributes);
    }
    case 'secrets':
    case 'configs': {
      const payload = (event.after ?? event.before)!;
      const kind = event.table === 'secrets' ? 'secret' : 'config';
      return message(kind, action, payload.id, { name: payload.spec.Name });
    }
    default:
      return undefined;
  }
}

/** True if a message passes the `filters` of an `/events` request. Pure. */
export function passes(message: EventMessage, filters: Filters): boolean {
  const { ID, Attributes } = message.Actor;
  const about = (key: string): boolean =>
    some(filters, key, (value) => ID.startsWith(value) || (Attributes.name ?? '').startsWith(value));
  return (
    some(filters, 'type', (value) => value === message.Type) &&
    some(filters, 'event', (value) => value === message.Action) &&
    some(filters, 'scope', (value) => value === message.scope) &&
    hasLabels(filters, 'label', Attributes) &&
    ['container', 'image', 'plugin', 'volume', 'network', 'node', 'service', 'secret', 'config'].every(about)
  );
}

/** `name.old` and `name.new` of what differs. */
function difference(values: Record<string, [before: string, after: string]>): Record<string, string> | undefined {
  const changed = Object.entries(values).filter(([, [before, after]]) => before !== after);
  if (changed.length === 0) return undefined;
  return Object.fromEntries(
    changed.flatMap(([name, [before, after]]) => [
      [`${name}.old`, before],
      [`${name}.new`, after],
    ]),
  );
}

function serviceChanges(before: Service, after: Service): Record<string, string> | undefined {
  const image = (service: Service): string => service.spec.TaskTemplate.ContainerSpec?.Image ?? '';
  const replicas = (service: Service): string => String(service.spec.Mode.Replicated?.Replicas ?? '');
  const changes = difference({
    image: [image(before), image(after)],
    replicas: [replicas(before), replicas(after)],
    updatestate: [before.updateStatus?.state ?? '', after.updateStatus?.state ?? ''],
  });
  return changes ?? (before.meta.version === after.meta.version ? undefined : {});
}

function nodeChanges(before: Node, after: Node): Record<string, string> | undefined {
  const changes = difference({
    availability: [before.spec.Availability, after.spec.Availability],
    role: [before.spec.Role, after.spec.Role],
    state: [before.status.state, after.status.state],
    leader: [String(before.manager?.leader ?? false), String(after.manager?.leader ?? false)],
    reachability: [before.manager?.reachability ?? '', after.manager?.reachability ?? ''],
  });
  return changes ?? (before.meta.version === after.meta.version ? undefined : {});
}
