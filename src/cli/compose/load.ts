/**
 * From compose files to one tree: each is read, its variables are replaced, what it extends is put under it, and then the
 * files are laid over each other in the order they were named. Reading files goes through `read`.
 */
import { dirname, resolve } from 'node:path';
import { canonicalFile, type Surroundings } from './canonical.ts';
import { Field } from './field.ts';
import { interpolated, type Lookup } from './interpolate.ts';
import { merged } from './merge.ts';
import { ComposeError, isNull, mapNode, type MapNode, type Node } from './node.ts';
import { parseYaml } from './yaml.ts';

export interface LoadOptions {
  /** Compose files, in order; `-` is what `read` makes of it. */
  files: readonly string[];
  /** What relative paths of the files named here start from. */
  directory: string;
  /** The values of variables. */
  lookup: Lookup;
  /** The text of a file. Throws if there is none. */
  read: (path: string) => string;
  warn: (text: string) => void;
}

/** The files as one tree in long form, without tags, variables and `extends`. @throws ComposeError */
export function loadCompose(options: LoadOptions): MapNode {
  const loader = new Loader(options);
  const trees = options.files.map((file) => loader.file(file, options.directory));
  return trees.reduce((base, over) => merged(base, over), mapNode({ file: options.files[0] ?? '', line: 1 }));
}

class Loader {
  readonly #options: LoadOptions;
  readonly #unset = new Set<string>();
  /** Files that services extend services of, by path. */
  readonly #extended = new Map<string, MapNode>();

  constructor(options: LoadOptions) {
    this.#options = options;
  }

  file(file: string, directory: string): MapNode {
    const tree = this.#tree(file, directory);
    const services = tree.entries.get('services');
    if (services?.kind !== 'map') return tree;
    const whole = [...services.entries].map(([name, service]): [string, Node] => [
      name,
      service.kind === 'map' ? this.#extend(service, `services.${name}`, services, file, directory, []) : service,
    ]);
    return { ...tree, entries: new Map([...tree.entries, ['services', { ...services, entries: new Map(whole) }]]) };
  }

  #tree(file: string, directory: string): MapNode {
    const { lookup, read, warn } = this.#options;
    const root = parseYaml(read(file), file);
    if (isNull(root)) return mapNode(root.at);
    if (root.kind !== 'map')
      throw new ComposeError(root.at, 'a compose file is a mapping that begins with "services:"');
    const include = root.entries.get('include');
    if (include !== undefined)
      throw new ComposeError(include.at, 'include is not supported: name all the files, each with -c');
    const full = interpolated(root, lookup, (name) => {
      if (!this.#unset.has(name)) warn(`the variable ${name} is not set: an empty text stands in its place`);
      this.#unset.add(name);
    });
    const around: Surroundings = { directory, home: lookup('HOME') };
    return canonicalFile(full.kind === 'map' ? full : root, around);
  }

  /** A service with what it extends under it. `chain` names what led here, so that a circle is seen. */
  #extend(
    service: MapNode,
    path: string,
    siblings: MapNode,
    file: string,
    directory: string,
    chain: readonly string[],
  ): Node {
    const node = service.entries.get('extends');
    if (node === undefined) return service;
    const { entries } = service;
    const own: MapNode = { ...service, entries: new Map([...entries].filter(([key]) => key !== 'extends')) };
    const { name, from } = target(new Field(node, `${path}.extends`));
    const whole = from === undefined ? file : resolve(directory, from);
    const step = `${name} in ${whole}`;
    if (chain.includes(step))
      throw new ComposeError(node.at, `${path}.extends: a circle: ${[...chain, step].join(', which extends ')}`);
    const pool = from === undefined ? siblings : this.#servicesOf(whole, node);
    const base = pool.entries.get(name);
    if (base?.kind !== 'map')
      throw new ComposeError(node.at, `${path}.extends: there is no service "${name}" in ${whole}`);
    const below = from === undefined ? directory : dirname(whole);
    const extended = this.#extend(base, `services.${name}`, pool, whole, below, [...chain, step]);
    return extended.kind === 'map' ? merged(extended, own) : own;
  }

  #servicesOf(file: string, by: Node): MapNode {
    let tree = this.#extended.get(file);
    if (tree === undefined) this.#extended.set(file, (tree = this.#tree(file, dirname(file))));
    const services = tree.entries.get('services');
    if (services?.kind !== 'map') throw new ComposeError(by.at, `there are no services in ${file}`);
    return services;
  }
}

function target(field: Field): { name: string; from: string | undefined } {
  if (!field.isMap) return { name: field.text(), from: undefined };
  for (const [key, member] of field.members())
    if (!['service', 'file'].includes(key)) member.fail('there is no such key; known are file, service');
  const service = field.get('service') ?? field.fail('the key "service" is missing');
  return { name: service.text(), from: field.get('file')?.text() };
}
