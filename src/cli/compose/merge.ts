/**
 * One compose tree laid over another: mappings are merged key by key, lists are joined, everything else is replaced.
 * Commands are replaced whole; ports, mounts, secrets and configs that mean the same place replace each other. `!reset`
 * takes a key away, `!override` replaces what was there. Both trees are in long form (canonical.ts). Pure.
 */
import { listNode, scalarValue, type ListNode, type MapNode, type Node } from './node.ts';

/** Lists that are one value. */
const WHOLE = new Set(['command', 'entrypoint', 'test']);

/** What tells the items of a list apart, by the list's key: a later item replaces the one it equals. */
const SAME_PLACE: Record<string, readonly string[]> = {
  ports: ['target', 'published', 'protocol', 'host_ip'],
  volumes: ['target'],
  secrets: ['target', 'source'],
  configs: ['target', 'source'],
};

export function merged(base: MapNode, over: MapNode): MapNode {
  const entries = new Map(base.entries);
  for (const [key, value] of over.entries) {
    const old = entries.get(key);
    if (value.tag === '!reset') entries.delete(key);
    else entries.set(key, old === undefined ? withoutTags(value) : mergedValue(key, old, value));
  }
  return { ...over, entries };
}

function mergedValue(key: string, base: Node, over: Node): Node {
  if (over.tag === '!override') return withoutTags(over);
  if (base.kind === 'map' && over.kind === 'map') return merged(base, over);
  if (base.kind === 'list' && over.kind === 'list' && !WHOLE.has(key)) return joined(key, base, over);
  // `web:` with nothing below it takes nothing away.
  return base.kind !== 'scalar' && over.kind === 'scalar' && scalarValue(over) === null ? base : withoutTags(over);
}

function joined(key: string, base: ListNode, over: ListNode): ListNode {
  const items = new Map<string, Node>();
  const fields = SAME_PLACE[key];
  for (const item of [...base.items, ...over.items.map(withoutTags)]) {
    const place = fields !== undefined && item.kind === 'map' ? placeOf(item, fields) : written(item);
    // The later one counts, at the place of the earlier.
    items.set(place, item);
  }
  return listNode(over.at, [...items.values()]);
}

function placeOf(item: MapNode, fields: readonly string[]): string {
  const values = fields
    .map((field) => item.entries.get(field))
    .map((node) => (node === undefined ? '' : written(node)));
  // A secret without a target lies under its own name.
  if (fields.includes('source')) return values[0] === '' ? (values[1] ?? '') : (values[0] ?? '');
  return values.join(' ');
}

function written(node: Node): string {
  if (node.kind === 'scalar') return node.text;
  if (node.kind === 'list') return `[${node.items.map(written).join()}]`;
  return `{${[...node.entries].map(([key, value]) => `${key}:${written(value)}`).join()}}`;
}

/** What stands in no other's way needs no tags; what is reset there is not there. */
export function withoutTags(node: Node): Node {
  const { tag, ...rest } = node;
  const kept: Node = tag === '!reset' || tag === '!override' ? rest : node;
  if (kept.kind === 'list') return { ...kept, items: kept.items.map(withoutTags) };
  if (kept.kind === 'scalar') return kept;
  const entries = [...kept.entries].filter(([, value]) => value.tag !== '!reset');
  return { ...kept, entries: new Map(entries.map(([key, value]) => [key, withoutTags(value)])) };
}
