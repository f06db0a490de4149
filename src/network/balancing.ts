/**
 * Balancing by nftables, as text. A table has one map from what a packet asks for (a VIP, or a published port) to a
 * chain of its own that chooses a backend. When backends change, their chain is replaced; when what is asked for changes,
 * elements of the map come and go; each in one transaction.
 *
 * A packet that is on its way through the rules just then finishes by the old ones, but looks into maps as they are *now*:
 * what a map loses with its rule or its table is lost for that packet as well (Linux 6.18: one connection in ten thousand was
 * refused while such a chain was replaced 250 times a second). So a table that stands is never deleted, what stays in its
 * map is not taken out, and a chain that chooses by a map has a last rule without one.
 */
import { chainName } from './names.ts';

/** One thing that is balanced. */
export interface Balanced {
  /** Map element: `10.0.1.2`, or `tcp . 8080`. */
  key: string;
  /** In the order in which they take turns: `10.0.1.5`, or `10.0.1.5 . 80` together with `protocol`. */
  backends: readonly string[];
  /** Only for published ports: nft wants it said before it accepts a port as a target. */
  protocol?: string;
}

/** What a table balances, by the service it belongs to; a service without entries has gone. */
export type Balance = ReadonlyMap<string, readonly Balanced[]>;

/**
 * How the tables of one kind look around their chains. If a hook or the map's type becomes another, so must the name: what
 * stands is added to, and can change neither.
 */
export interface TableShape {
  name: string;
  /** nft type of the map's key. */
  keyType: string;
  /** The base chains, which look up `@targets`; `@idle` has the keys that have no backend. */
  chains: string;
}

/** One table in the kernel: what it balances, as far as that is known, and the transactions that change it. */
export class BalancingTable {
  #shape: TableShape | undefined;
  /** Undefined when that is not known: nothing was made yet, or the last transaction failed. */
  #standing: Balance | undefined;
  /** Some key is that of two services: what becomes of the one may not be for the other's chain. */
  #isContested = false;
  /** All chains that may stand, those too that nothing leads to any more. */
  readonly #chains = new Set<string>();

  /** False until `make` has gone well, and after anything has gone wrong. */
  get isKnown(): boolean {
    return this.#standing !== undefined;
  }

  /** Makes it balance this and nothing else, whatever stands. `run` puts a transaction in force, or rejects. */
  async make(shape: TableShape, balance: Balance, run: (rules: string) => Promise<unknown>): Promise<void> {
    const keyed = byKey(balance.values());
    this.#shape = shape;
    this.#isContested = isContested(balance, keyed);
    await this.#commit(balance, keyed, () => run(renderTable(shape, keyed)));
  }

  /**
   * Makes the `touched` services what is given for them. `run` gets the transaction, and the addresses that clients without
   * connections may still be pinned to; it is not called if nothing changes. Throws unless what stands is known.
   */
  async change(touched: Balance, run: (rules: string, gone: string[]) => Promise<unknown>): Promise<void> {
    const [shape, before] = [this.#shape, this.#standing];
    if (shape === undefined || before === undefined) throw new Error('what the table balances is not known');
    const after = mergeBalance(before, touched);
    // Otherwise only what is touched is looked at.
    const keysMove = [...touched].some(([service, now]) => keysOf(before.get(service) ?? []) !== keysOf(now));
    const whole = keysMove || this.#isContested;
    const was = byKey(whole ? before.values() : [...touched.keys()].map((service) => before.get(service) ?? []));
    const is = byKey(whole ? after.values() : touched.values());
    if (whole) this.#isContested = isContested(after, is);
    const changes = renderChange(shape, was, is);
    if (changes.length === 0) {
      this.#standing = after;
      return;
    }
    const unused = whole ? this.#unused([...was.keys(), ...is.keys()]) : [];
    const lines = [...unused.flatMap((chain) => removeChain(shape, chain)), ...changes];
    await this.#commit(after, is, () => run(`${lines.join('\n')}\n`, removedBackends(before, touched)));
    for (const chain of unused) this.#chains.delete(chain);
  }

  async #commit(balance: Balance, keyed: Keyed, run: () => Promise<unknown>): Promise<void> {
    this.#standing = undefined;
    for (const key of keyed.keys()) this.#chains.add(chainName(key));
    await run();
    this.#standing = balance;
  }

  /** Not those of `keys` that go just now: some kernels cannot delete a chain in the transaction that takes its last use away. */
  #unused(keys: readonly string[]): string[] {
    const used = new Set(keys.map(chainName));
    return [...this.#chains].filter((chain) => !used.has(chain));
  }
}

/** By key: while a port or a VIP changes hands, the later of its two services has it. */
type Keyed = ReadonlyMap<string, Balanced>;

function byKey(entries: Iterable<readonly Balanced[]>): Keyed {
  return new Map([...entries].flat().map((each) => [each.key, each]));
}

function isContested(balance: Balance, keyed: Keyed): boolean {
  return [...balance.values()].reduce((sum, entries) => sum + entries.length, 0) > keyed.size;
}

/** The transaction that makes the whole table, whatever stands under its name. */
function renderTable(shape: TableShape, keyed: Keyed): string {
  const all = [...keyed.values()];
  const [targets, idle] = [`ip ${shape.name} targets`, `ip ${shape.name} idle`];
  const lines = [
    `add table ip ${shape.name}`,
    `flush table ip ${shape.name}`,
    `table ip ${shape.name} {`,
    ...all.flatMap((each) => [`chain ${chainName(each.key)} {`, ...chooser(each), '}']),
    `map targets {\ntype ${shape.keyType} : verdict\n}`,
    `set idle {\ntype ${shape.keyType}\n}`,
    shape.chains,
    '}',
    `flush map ${targets}`,
    ...all.map((each) => `add element ${targets} { ${target(each)} }`),
    `flush set ${idle}`,
    ...all.filter(isIdle).map((each) => `add element ${idle} { ${each.key} }`),
  ];
  return `${lines.join('\n')}\n`;
}

/** The lines of the transaction that makes the one the other; none when there is nothing to do. */
function renderChange(shape: TableShape, was: Keyed, is: Keyed): string[] {
  const [targets, idle] = [`ip ${shape.name} targets`, `ip ${shape.name} idle`];
  const lines: string[] = [];
  for (const [key, before] of was) {
    if (is.has(key)) continue;
    lines.push(`delete element ${targets} { ${key} }`, `flush chain ip ${shape.name} ${chainName(key)}`);
    if (isIdle(before)) lines.push(`delete element ${idle} { ${key} }`);
  }
  for (const [key, after] of is) {
    const before = was.get(key);
    if (before?.backends.join(' ') === after.backends.join(' ')) continue;
    const chain = `ip ${shape.name} ${chainName(key)}`;
    if (before === undefined) lines.push(`add chain ${chain}`);
    lines.push(`flush chain ${chain}`, ...chooser(after).map((rule) => `add rule ${chain} ${rule}`));
    if (before === undefined) lines.push(`add element ${targets} { ${target(after)} }`);
    const wasIdle = before !== undefined && isIdle(before);
    if (wasIdle !== isIdle(after)) lines.push(`${wasIdle ? 'delete' : 'add'} element ${idle} { ${key} }`);
  }
  return lines;
}

/** Takes a table away, whether it stands or not. */
export function removeTable(name: string): string {
  return `add table ip ${name}\ndelete table ip ${name}`;
}

/** What stands after `touched` services have become what is given for them. */
export function mergeBalance(before: Balance, touched: Balance): Map<string, readonly Balanced[]> {
  const merged = new Map(before);
  for (const [service, entries] of touched) {
    if (entries.length === 0) merged.delete(service);
    else merged.set(service, entries);
  }
  return merged;
}

/**
 * Addresses of backends of the touched services that serve no more, and that conntrack may still pin clients to:
 * connections end by themselves, only datagrams need their flows forgotten (trap 6).
 */
export function removedBackends(before: Balance, touched: Balance): string[] {
  const removed = new Set<string>();
  for (const [service, now] of touched) {
    for (const address of addressesOf(before.get(service) ?? [])) removed.add(address);
    for (const address of addressesOf(now)) removed.delete(address);
  }
  return [...removed];
}

function addressesOf(entries: readonly Balanced[]): string[] {
  const datagrams = entries.filter(({ protocol }) => protocol !== 'tcp' && protocol !== 'sctp');
  return datagrams.flatMap(({ backends }) => backends.map((backend) => backend.split(' ')[0] ?? backend));
}

/** Backends rotated by a number drawn from `seed`, so that a thousand clients do not all begin with the first. */
export function rotated(backends: readonly string[], seed: string): string[] {
  let hash = 0;
  for (let i = 0; i < seed.length; i++) hash = (Math.imul(hash, 31) + seed.charCodeAt(i)) >>> 0;
  const start = backends.length === 0 ? 0 : hash % backends.length;
  return [...backends.slice(start), ...backends.slice(0, start)];
}

function keysOf(entries: readonly Balanced[]): string {
  return entries.map((each) => each.key).join(' ');
}

function isIdle(each: Balanced): boolean {
  return each.backends.length === 0;
}

/** The element of the map that leads to its chain. */
function target({ key }: Balanced): string {
  return `${key} : goto ${chainName(key)}`;
}

/** Whether it stands or not; it must not be in use. */
function removeChain(shape: TableShape, chain: string): string[] {
  return [`add chain ip ${shape.name} ${chain}`, `delete chain ip ${shape.name} ${chain}`];
}

/** In turns; the last rule is for a packet that the map of the first has failed. */
function chooser({ backends, protocol }: Balanced): string[] {
  const [first] = backends;
  if (first === undefined) return [];
  const [ported, plain] =
    protocol === undefined ? ['dnat', 'dnat'] : [`meta l4proto ${protocol} dnat ip`, `meta l4proto ${protocol} dnat`];
  const constant = `${plain} to ${first.replace(' . ', ':')}`;
  if (backends.length === 1) return [constant];
  const choices = backends.map((each, i) => `${i} : ${each}`).join(', ');
  return [`${ported} to numgen inc mod ${backends.length} map { ${choices} }`, constant];
}
