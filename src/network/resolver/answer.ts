/**
 * What the answer to a question is: a pure function of what is known and of who asks. Names are visible only inside
 * networks that the asker shares, and within one environment.
 */
import { parseIPv4, parseSubnet, subnetContains } from '../../model/addresses.ts';
import type { Subnet } from '../../model/addresses.ts';
import type { Askers, NamedEndpoint, NetworkNames } from './names.ts';

export interface Question {
  name: string;
  /** `A`, `AAAA`, `PTR` and so on. */
  type: string;
}

export type Answer =
  /** Ours; no addresses: the name exists, but has nothing of that type. */
  | { kind: 'addresses'; addresses: string[] }
  | { kind: 'pointer'; name: string }
  /** An address of ours that nobody has. */
  | { kind: 'none' }
  /** Not ours: ask the name servers of the host. */
  | { kind: 'forward' }
  /** The asker's rules do not stand yet: ask again when something has changed. */
  | { kind: 'hold' };

/** One network, its names ready to be looked up. Names are kept in lower case. */
export class NameTable {
  readonly network: NetworkNames;
  readonly subnet: Subnet | undefined;
  readonly #names = new Map<string, Set<string>>();
  readonly #pointers = new Map<string, string>();

  constructor(network: NetworkNames) {
    this.network = network;
    this.subnet = parseSubnet(network.subnet);
    if (network.ingress) return;
    const endpoints = Map.groupBy(network.endpoints, (endpoint) => endpoint.serviceId);
    for (const service of network.services) {
      const tasks = endpoints.get(service.id) ?? [];
      const serving = tasks.filter((task) => task.serving).map((task) => task.address);
      const addresses = service.vip === undefined ? serving : [service.vip];
      for (const name of [service.name, ...service.aliases]) this.#add(name, addresses);
      this.#add(`tasks.${service.name}`, serving);
      for (const [slot, inSlot] of Map.groupBy(tasks, slotName)) {
        // While one task replaces another, the one that serves has the slot's name.
        const best = inSlot.some((task) => task.serving) ? inSlot.filter((task) => task.serving) : inSlot;
        this.#add(
          `${service.name}.${slot}`,
          best.map((task) => task.address),
        );
      }
      for (const task of tasks) {
        const full = `${service.name}.${slotName(task)}.${task.taskId}`;
        this.#add(full, [task.address]);
        this.#pointers.set(task.address, `${full}.${network.name}`);
        if (task.serving)
          for (const alias of task.aliases) if (!service.aliases.includes(alias)) this.#add(alias, [task.address]);
      }
      if (service.vip !== undefined) this.#pointers.set(service.vip, `${service.name}.${network.name}`);
    }
    // Containers that are no tasks: the first alias is the name.
    for (const { address, serving, aliases } of endpoints.get('') ?? []) {
      if (!serving) continue;
      for (const alias of aliases) this.#add(alias, [address]);
      if (aliases[0] !== undefined) this.#pointers.set(address, `${aliases[0]}.${network.name}`);
    }
  }

  /** Addresses of a name, with or without the network's name behind it; undefined if there is no such name. */
  addresses(name: string): ReadonlySet<string> | undefined {
    const suffix = `.${this.network.name.toLowerCase()}`;
    const bare = name.endsWith(suffix) ? this.#names.get(name.slice(0, -suffix.length)) : undefined;
    return this.#names.get(name) ?? bare;
  }

  pointer(address: string): string | undefined {
    return this.#pointers.get(address);
  }

  has(address: string): boolean {
    const value = parseIPv4(address);
    return value !== undefined && this.subnet !== undefined && subnetContains(this.subnet, value);
  }

  #add(name: string, addresses: readonly string[]): void {
    const key = name.toLowerCase();
    this.#names.set(key, new Set([...(this.#names.get(key) ?? []), ...addresses]));
  }
}

/** Everything known: the networks by id, and who may ask. */
export interface Knowledge {
  networks: ReadonlyMap<string, NameTable>;
  askers: Askers;
}

/** `overdue`: the asker has waited long enough, and is now answered as any address of its network. */
export function answer(knowledge: Knowledge, asker: string, question: Question, overdue = false): Answer {
  const tables = visible(knowledge, asker, overdue);
  if (tables === 'hold') return { kind: 'hold' };
  const name = question.name.toLowerCase().replace(/\.$/, '');
  const reverse = reverseAddress(name);
  if (reverse !== undefined) return pointerAnswer(knowledge, tables, reverse, question.type);
  for (const table of tables) {
    const addresses = table.addresses(name);
    if (addresses !== undefined) return { kind: 'addresses', addresses: question.type === 'A' ? [...addresses] : [] };
  }
  return { kind: 'forward' };
}

/** The networks whose names this address may see. */
function visible({ networks, askers }: Knowledge, asker: string, overdue: boolean): NameTable[] | 'hold' {
  const known = askers[asker];
  if (known !== undefined) {
    return known.networks.map((id) => networks.get(id)).filter((table) => table !== undefined);
  }
  for (const table of networks.values()) {
    if (!table.has(asker)) continue;
    // The node itself asks from its gateway address; anybody else there is a task whose rules are being made.
    return overdue || asker === table.network.gateway ? [table] : 'hold';
  }
  return [];
}

function pointerAnswer(knowledge: Knowledge, tables: NameTable[], address: string, type: string): Answer {
  for (const table of tables) {
    const name = table.pointer(address);
    if (name !== undefined) return type === 'PTR' ? { kind: 'pointer', name } : { kind: 'addresses', addresses: [] };
  }
  return [...knowledge.networks.values()].some((table) => table.has(address)) ? { kind: 'none' } : { kind: 'forward' };
}

function reverseAddress(name: string): string | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(name);
  return match === null ? undefined : match.slice(1).reverse().join('.');
}

/** A global service has no slots: its tasks go by their node. */
function slotName(task: NamedEndpoint): string {
  return task.slot === 0 ? task.nodeId : String(task.slot);
}
