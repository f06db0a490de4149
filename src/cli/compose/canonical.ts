/**
 * A compose file in long form, so that files can be merged and read in one way only: lists of `KEY=value` become mappings,
 * single texts lists, and short ports, mounts, secrets, networks, dependencies what they are short for. Paths of the
 * client are made absolute, from the folder of the file that names them. Pure.
 */
import { isAbsolute, join } from 'node:path';
import { ComposeError, isNull, listNode, mapNode, textNode, type MapNode, type Node, type Place } from './node.ts';
import { parseMount, parsePorts, ShortFormError } from './short-forms.ts';

export interface Surroundings {
  /** Paths are relative to it. */
  directory: string;
  home: string | undefined;
}

type Rewrite = (node: Node, path: string, around: Surroundings) => Node;

const SERVICE: Record<string, Rewrite> = {
  environment: (node, path) => mapping(node, path, 'null'),
  labels: (node, path) => mapping(node, path, ''),
  sysctls: (node, path) => mapping(node, path, ''),
  annotations: (node, path) => mapping(node, path, ''),
  deploy: (node, path) => members(node, path, { labels: (labels, below) => mapping(labels, below, '') }),
  extra_hosts: (node, path) => hosts(node, path),
  depends_on: (node, path) => named(node, path, (at) => mapNode(at, [['condition', textNode(at, 'service_started')]])),
  networks: (node, path) => named(node, path, nothing),
  dns: single,
  dns_opt: single,
  dns_search: single,
  tmpfs: single,
  env_file: (node, path, { directory }) =>
    each(single(node), path, (item) =>
      inDirectory(item.kind === 'map' ? item : mapNode(item.at, [['path', item]]), 'path', directory),
    ),
  ports: (node, path) => flat(node, path, ports),
  volumes: (node, path, around) => each(node, path, (item, below) => bindPath(longMount(item, below), around)),
  secrets: (node, path) => each(node, path, source),
  configs: (node, path) => each(node, path, source),
};

const FILE_OBJECTS: Rewrite = (node, path, { directory }) =>
  members(labelled(node, path), path, {}, (object) => inDirectory(object, 'file', directory));

const ROOT: Record<string, Rewrite> = {
  services: (node, path, around) =>
    members(node, path, {}, (service, below) => canonicalService(service, below, around)),
  networks: labelled,
  volumes: labelled,
  secrets: FILE_OBJECTS,
  configs: FILE_OBJECTS,
};

export function canonicalFile(root: MapNode, around: Surroundings): MapNode {
  return rewritten(root, '', ROOT, around);
}

function canonicalService(service: Node, path: string, around: Surroundings): Node {
  if (service.kind === 'map') return rewritten(service, path, SERVICE, around);
  if (service.tag === '!reset') return service;
  throw new ComposeError(service.at, `${path}: a mapping (key: value) is needed`);
}

function rewritten(map: MapNode, path: string, rules: Record<string, Rewrite>, around: Surroundings): MapNode {
  const entries = [...map.entries].map(([key, node]): [string, Node] => {
    const rule = Object.hasOwn(rules, key) ? rules[key] : undefined;
    const below = path === '' ? key : `${path}.${key}`;
    return [key, rule === undefined || isNull(node) ? node : tagged(rule(node, below, around), node.tag)];
  });
  return { ...map, entries: new Map(entries) };
}

function tagged(node: Node, tag: string | undefined): Node {
  return tag === undefined ? node : { ...node, tag };
}

/** A mapping with some of its members rewritten, or all. */
function members(
  node: Node,
  path: string,
  rules: Record<string, (node: Node, path: string) => Node>,
  all?: (node: Node, path: string) => Node,
): Node {
  if (node.kind !== 'map') return node;
  const entries = [...node.entries].map(([key, value]): [string, Node] => {
    const rule = all ?? (Object.hasOwn(rules, key) ? rules[key] : undefined);
    return [key, rule === undefined || isNull(value) ? value : tagged(rule(value, `${path}.${key}`), value.tag)];
  });
  return { ...node, entries: new Map(entries) };
}

function each(node: Node, path: string, rule: (item: Node, path: string) => Node): Node {
  return flat(node, path, (item, below) => [rule(item, below)]);
}

function flat(node: Node, path: string, rule: (item: Node, path: string) => Node[]): Node {
  if (node.kind !== 'list') return node;
  const items = node.items.flatMap((item, at) => {
    const below = `${path}[${at}]`;
    try {
      return rule(item, below);
    } catch (error) {
      if (error instanceof ShortFormError) throw new ComposeError(item.at, `${below}: ${error.message}`);
      throw error;
    }
  });
  return { ...node, items };
}

function nothing(at: Place): Node {
  return { kind: 'scalar', at, text: '', plain: true };
}

function single(node: Node): Node {
  return node.kind === 'scalar' ? listNode(node.at, [node]) : node;
}

/** `[A=1, B]` as `{A: "1", B: …}`; `bare` is what B is. */
function mapping(node: Node, path: string, bare: 'null' | ''): Node {
  if (node.kind !== 'list') return node;
  const entries = node.items.map((item, at): [string, Node] => {
    if (item.kind !== 'scalar') throw new ComposeError(item.at, `${path}[${at}]: NAME=value is needed`);
    const split = item.text.indexOf('=');
    if (split >= 0) return [item.text.slice(0, split), textNode(item.at, item.text.slice(split + 1))];
    return [item.text, bare === '' ? textNode(item.at, '') : nothing(item.at)];
  });
  return mapNode(node.at, entries);
}

/** `[a, b]` as `{a: …, b: …}`. */
function named(node: Node, path: string, make: (at: Place) => Node): Node {
  if (node.kind !== 'list') return node;
  const entries = node.items.map((item, at): [string, Node] => {
    if (item.kind !== 'scalar') throw new ComposeError(item.at, `${path}[${at}]: a name is needed`);
    return [item.text, make(item.at)];
  });
  return mapNode(node.at, entries);
}

/** `host:IP`, `host=IP` or a mapping, as a list of `host:IP`. */
function hosts(node: Node, path: string): Node {
  const pairs = (host: string, addresses: Node): Node[] => {
    const all = addresses.kind === 'list' ? addresses.items : [addresses];
    return all.map((address) => textNode(address.at, `${host}:${address.kind === 'scalar' ? address.text : ''}`));
  };
  if (node.kind === 'map')
    return listNode(
      node.at,
      [...node.entries].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([host, ip]) => pairs(host, ip)),
    );
  return each(node, path, (item) => {
    const [, host, ip = ''] = /^([^:=]+)[:=](.+)$/s.exec(item.kind === 'scalar' ? item.text : '') ?? [];
    if (host === undefined) throw new ShortFormError('HOST:IP is needed');
    return textNode(item.at, `${host}:${ip.replace(/^\[(.*)\]$/, '$1')}`);
  });
}

function ports(item: Node): Node[] {
  if (item.kind !== 'scalar') return [item];
  return parsePorts(item.text).map(({ target, published, protocol, hostIp }) =>
    mapNode(item.at, [
      ['mode', textNode(item.at, 'ingress')],
      ['target', textNode(item.at, String(target))],
      ...optional(item.at, 'published', published?.toString()),
      ['protocol', textNode(item.at, protocol)],
      ...optional(item.at, 'host_ip', hostIp),
    ]),
  );
}

function optional(at: Place, key: string, text: string | undefined): [string, Node][] {
  return text === undefined ? [] : [[key, textNode(at, text)]];
}

function longMount(item: Node, path: string): Node {
  if (item.kind !== 'scalar') return item;
  const { at } = item;
  const { type, source: from, target, readOnly, noCopy, propagation, ignored } = parseMount(item.text);
  if (ignored.length > 0)
    throw new ComposeError(
      at,
      `${path}: "${ignored.join()}" is no option of a mount: ro, rw, nocopy, or a propagation such as rslave`,
    );
  const flag = (key: string): [string, Node] => [key, { kind: 'scalar', at, text: 'true', plain: true }];
  return mapNode(at, [
    ['type', textNode(at, type)],
    ...optional(at, 'source', from),
    ['target', textNode(at, target)],
    ...(readOnly ? [flag('read_only')] : []),
    ...(noCopy ? [['volume', mapNode(at, [flag('nocopy')])] as [string, Node]] : []),
    ...(propagation === undefined
      ? []
      : [['bind', mapNode(at, [['propagation', textNode(at, propagation)]])] as [string, Node]]),
  ]);
}

/** A bind mount's source is a path of the node; one that is relative, or of a home, is meant to be the client's. */
function bindPath(mount: Node, { directory, home }: Surroundings): Node {
  const type = mount.kind === 'map' ? mount.entries.get('type') : undefined;
  if (mount.kind !== 'map' || type?.kind !== 'scalar' || type.text !== 'bind') return mount;
  const path = mount.entries.get('source');
  if (path?.kind !== 'scalar' || !path.text.startsWith('~') || home === undefined)
    return inDirectory(mount, 'source', directory);
  return withEntry(mount, 'source', textNode(path.at, home + path.text.slice(1)));
}

function inDirectory(node: Node, key: string, directory: string): Node {
  const path = node.kind === 'map' ? node.entries.get(key) : undefined;
  if (node.kind !== 'map' || path?.kind !== 'scalar' || path.text === '' || isAbsolute(path.text)) return node;
  return withEntry(node, key, textNode(path.at, join(directory, path.text)));
}

function withEntry(map: MapNode, key: string, value: Node): MapNode {
  return { ...map, entries: new Map([...map.entries, [key, value]]) };
}

function source(item: Node): Node {
  return item.kind === 'scalar' ? mapNode(item.at, [['source', item]]) : item;
}

/** Objects whose labels may be a list. */
function labelled(node: Node, path: string): Node {
  return members(node, path, {}, (object, below) =>
    members(object, below, { labels: (labels, deeper) => mapping(labels, deeper, '') }),
  );
}
