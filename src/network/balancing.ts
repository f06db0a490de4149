/**
 * Balancing by nftables, as text. A table has one map from what a packet asks for (a VIP, or a published port) to a
 * chain of its own that chooses a backend. When backends change, only their chain is replaced; when what is asked for changes,
 * the whole table is, in one transaction either way: no packet ever meets half of it.
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

/** How the tables of one kind look around their chains. */
export interface TableShape {
  name: string;
  /** nft type of the map's key. */
  keyType: string;
  /** The base chains, which look up `@targets`; `@idle` has the keys that have no backend. */
  chains: string;
}

/** The whole table, replacing whatever stood under its name. */
export function renderTable(shape: TableShape, balance: Balance): string {
  // By key: while a port or a VIP changes hands, the later of its two services has it.
  const all = [...new Map([...balance.values()].flat().map((each) => [each.key, each])).values()];
  const idle = all.filter((each) => each.backends.length === 0);
  const lines = [
    removeTable(shape.name),
    `table ip ${shape.name} {`,
    ...all.flatMap((each) => [`chain ${chainName(each.key)} {`, ...chooser(each), '}']),
    'map targets {',
    `type ${shape.keyType} : verdict`,
    ...elements(all.map((each) => `${each.key} : goto ${chainName(each.key)}`)),
    '}',
    'set idle {',
    `type ${shape.keyType}`,
    ...elements(idle.map((each) => each.key)),
    '}',
    shape.chains,
    '}',
  ];
  return `${lines.join('\n')}\n`;
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

/** The transaction that makes the `touched` services what is given for them; empty when there is nothing to do. */
export function renderChange(shape: TableShape, before: Balance, touched: Balance): string {
  const lines: string[] = [];
  for (const [service, now] of touched) {
    const old = before.get(service) ?? [];
    // Keys came or went: nft cannot delete a chain in the transaction that takes its last use away on all kernels.
    if (keysOf(old) !== keysOf(now)) return renderTable(shape, mergeBalance(before, touched));
    now.forEach((after, i) => lines.push(...replaceBackends(shape, old[i] ?? after, after)));
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

/** Backends of the touched services that serve no more: conntrack may still pin clients to them. */
export function removedBackends(before: Balance, touched: Balance): string[] {
  const removed = new Set<string>();
  for (const [service, now] of touched) {
    for (const { backends } of before.get(service) ?? []) for (const backend of backends) removed.add(backend);
    for (const { backends } of now) for (const backend of backends) removed.delete(backend);
  }
  return [...removed];
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

function replaceBackends(shape: TableShape, before: Balanced, after: Balanced): string[] {
  if (before.backends.join(' ') === after.backends.join(' ')) return [];
  const chain = `ip ${shape.name} ${chainName(after.key)}`;
  const lines = [`flush chain ${chain}`, ...chooser(after).map((rule) => `add rule ${chain} ${rule}`)];
  const wasIdle = before.backends.length === 0;
  const isIdle = after.backends.length === 0;
  if (wasIdle !== isIdle) lines.push(`${isIdle ? 'add' : 'delete'} element ip ${shape.name} idle { ${after.key} }`);
  return lines;
}

function chooser({ backends, protocol }: Balanced): string[] {
  if (backends.length === 0) return [];
  const target = `numgen inc mod ${backends.length} map { ${backends.map((each, i) => `${i} : ${each}`).join(', ')} }`;
  return [protocol === undefined ? `dnat to ${target}` : `meta l4proto ${protocol} dnat ip to ${target}`];
}

function elements(all: string[]): string[] {
  return all.length === 0 ? [] : [`elements = { ${all.join(', ')} }`];
}
