/**
 * The assigned facts of the network, indexed as this room asks for them. Taking a change in costs what the change
 * is; what it touches is told, so that nothing else is looked at.
 */
import type {
  AssignmentChange,
  EndpointAssignment,
  NetworkAssignment,
  PeerAssignment,
  ServiceAssignment,
} from '../model/assignments.ts';

/** What one change concerns. */
export type Touch =
  /** The network itself came, went or changed. */
  | { kind: 'network'; networkId: string }
  /** Where an address is to be found. */
  | { kind: 'address'; networkId: string; address: string }
  /** A service's VIP, ports, names or tasks; its key as in `services`. */
  | { kind: 'service'; networkId: string; serviceKey: string };

/** What is known within one network; may precede the network's own fact, or outlive it. */
export interface NetworkFacts {
  readonly network: NetworkAssignment | undefined;
  readonly endpoints: ReadonlyMap<string, EndpointAssignment>;
  /** By `networkId/serviceId`. */
  readonly services: ReadonlyMap<string, ServiceAssignment>;
  /** Address → address of the node behind which it is; only what is on other nodes. */
  readonly remotes: ReadonlyMap<string, string>;
}

class MutableNetwork implements NetworkFacts {
  network: NetworkAssignment | undefined;
  readonly peers = new Map<string, PeerAssignment>();
  readonly endpoints = new Map<string, EndpointAssignment>();
  readonly services = new Map<string, ServiceAssignment>();
  readonly serving = new Map<string, Map<string, EndpointAssignment>>();
  readonly remotes = new Map<string, string>();
  /** Whose fact put an address into `remotes`: a late farewell of its former owner must not take it out. */
  readonly owners = new Map<string, string>();

  get empty(): boolean {
    return this.network === undefined && this.peers.size + this.endpoints.size + this.services.size === 0;
  }
}

export class Facts {
  readonly #nodeId: string;
  readonly #networks = new Map<string, MutableNetwork>();

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
  }

  network(networkId: string): NetworkFacts | undefined {
    return this.#networks.get(networkId);
  }

  networks(): Iterable<[string, NetworkFacts]> {
    return this.#networks;
  }

  /** The ingress network, if this node has an address in it. */
  ingress(): NetworkAssignment | undefined {
    for (const { network } of this.#networks.values()) if (network?.ingress === true) return network;
    return undefined;
  }

  /** Addresses that are to get connections of a service, in the order of their numbers as text: stable. */
  serving(networkId: string, serviceId: string): string[] {
    const endpoints = this.#networks.get(networkId)?.serving.get(serviceId);
    return endpoints === undefined ? [] : [...new Set([...endpoints.values()].map((each) => each.address))].sort();
  }

  /** Takes a change in and says what it touches; the kinds that are not of the network touch nothing. */
  apply(change: AssignmentChange): Touch[] {
    if (change.kind === 'network') return this.#network(change.key, change.value);
    if (change.kind === 'peer') return this.#peer(change.key, change.value);
    if (change.kind === 'endpoint') return this.#endpoint(change.key, change.value);
    if (change.kind === 'service') return this.#service(change.key, change.value);
    return [];
  }

  /** The changes that make what is known equal to `all`: everything given, and a farewell to what is not in it. */
  difference(all: readonly AssignmentChange[]): AssignmentChange[] {
    const kept = new Set(all.filter((change) => change.value !== null).map((change) => `${change.kind} ${change.key}`));
    const gone: AssignmentChange[] = [];
    const forget = (kind: 'network' | 'peer' | 'endpoint' | 'service', keys: Iterable<string>): void => {
      for (const key of keys) if (!kept.has(`${kind} ${key}`)) gone.push({ kind, key, value: null });
    };
    for (const [id, facts] of this.#networks) {
      if (facts.network !== undefined) forget('network', [id]);
      forget('peer', facts.peers.keys());
      forget('endpoint', facts.endpoints.keys());
      forget('service', facts.services.keys());
    }
    return [...gone, ...all];
  }

  #network(id: string, value: NetworkAssignment | null): Touch[] {
    this.#of(id, (facts) => (facts.network = value ?? undefined));
    return [{ kind: 'network', networkId: id }];
  }

  #peer(key: string, value: PeerAssignment | null): Touch[] {
    const networkId = networkOfKey(key);
    return this.#of(networkId, (facts) => {
      const before = facts.peers.get(key);
      set(facts.peers, key, value);
      if (value?.nodeId === this.#nodeId) return [];
      return this.#place(facts, networkId, key, before?.gateway, value?.gateway, value?.dataPathAddress);
    });
  }

  #endpoint(key: string, value: EndpointAssignment | null): Touch[] {
    const networkId = networkOfKey(key);
    return this.#of(networkId, (facts) => {
      const before = facts.endpoints.get(key);
      set(facts.endpoints, key, value);
      for (const each of [before, value])
        if (each) setServing(facts.serving, key, each, each === value && each.serving);
      const remote = value !== null && value.nodeId !== this.#nodeId ? value.dataPathAddress : undefined;
      const touched = this.#place(facts, networkId, key, before?.address, value?.address, remote);
      const services = new Set([before?.serviceId, value?.serviceId].filter((id) => id !== undefined));
      return [
        ...touched,
        ...[...services].map((id) => ({ kind: 'service', networkId, serviceKey: `${networkId}/${id}` }) as const),
      ];
    });
  }

  #service(key: string, value: ServiceAssignment | null): Touch[] {
    const networkId = networkOfKey(key);
    return this.#of(networkId, (facts) => {
      set(facts.services, key, value);
      return [{ kind: 'service', networkId, serviceKey: key }];
    });
  }

  #place(
    facts: MutableNetwork,
    networkId: string,
    key: string,
    before: string | undefined,
    after: string | undefined,
    remote: string | undefined,
  ): Touch[] {
    if (before !== undefined && facts.owners.get(before) === key) {
      facts.owners.delete(before);
      facts.remotes.delete(before);
    }
    if (after !== undefined) {
      facts.owners.set(after, key);
      if (remote === undefined) facts.remotes.delete(after);
      else facts.remotes.set(after, remote);
    }
    const addresses = new Set([before, after].filter((address) => address !== undefined));
    return [...addresses].map((address) => ({ kind: 'address', networkId, address }) as const);
  }

  #of<R>(networkId: string, change: (facts: MutableNetwork) => R): R {
    const facts = this.#networks.get(networkId) ?? new MutableNetwork();
    this.#networks.set(networkId, facts);
    const result = change(facts);
    if (facts.empty) this.#networks.delete(networkId);
    return result;
  }
}

function setServing(
  serving: Map<string, Map<string, EndpointAssignment>>,
  key: string,
  endpoint: EndpointAssignment,
  present: boolean,
): void {
  const endpoints = serving.get(endpoint.serviceId) ?? new Map<string, EndpointAssignment>();
  set(endpoints, key, present ? endpoint : null);
  if (endpoints.size > 0) serving.set(endpoint.serviceId, endpoints);
  else serving.delete(endpoint.serviceId);
}

function set<V>(map: Map<string, V>, key: string, value: V | null): void {
  if (value === null) map.delete(key);
  else map.set(key, value);
}

function networkOfKey(key: string): string {
  return key.slice(0, key.indexOf('/'));
}
