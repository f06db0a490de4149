/** From a compose tree to what a deploy of the stack is to make. */
import { Field } from './field.ts';
import { mapNode, type MapNode } from './node.ts';
import { checkKeys, ROOT } from './keys.ts';
import { checkVolumes, networks, payloads, type Conversion } from './objects.ts';
import { Namespace, type StackPlan } from './project.ts';
import { dependencies, networkKeys, serviceSpec } from './service.ts';

export interface PlanOptions extends Pick<Conversion, 'lookup' | 'readBytes' | 'warn'> {
  /** The name of the stack. */
  stack: string;
  /** Services with other profiles only are left out. */
  profiles: ReadonlySet<string>;
}

/** @throws ComposeError at the first thing that cannot be meant */
export function planStack(tree: MapNode, options: PlanOptions): StackPlan {
  const { warn, stack, profiles } = options;
  checkKeys(new Field(tree, ''), ROOT, warn);
  const root = new Field(withServices(tree, profiles, warn), '');
  const conversion: Conversion = { ...options, root, namespace: new Namespace(stack) };
  const services = inOrder(root.get('services')?.members() ?? [], conversion);
  const used = new Set(services.flatMap(([, service]) => networkKeys(service)));
  checkVolumes(conversion);
  const specs = services.map(([key, service]) => ({ key, spec: serviceSpec(key, service, conversion) }));
  const { networks: made, external } = networks(conversion, used);
  return {
    name: stack,
    networks: made,
    externalNetworks: external,
    secrets: payloads(conversion, 'secrets'),
    configs: payloads(conversion, 'configs'),
    services: specs,
  };
}

/** The tree with the services that are on: those without profiles, and those with one of `profiles`. */
function withServices(tree: MapNode, profiles: ReadonlySet<string>, warn: (text: string) => void): MapNode {
  const services = new Field(tree, '').get('services');
  if (services === undefined) return new Field(tree, 'services').fail('there are no services');
  const on = services.members().filter(([, service]) => {
    const own = service.get('profiles')?.texts() ?? [];
    if (own.length === 0 || profiles.has('*') || own.some((profile) => profiles.has(profile))) return true;
    warn(`${service.path} is not deployed: it has the profile ${own.join(', ')}; --profile turns one on`);
    return false;
  });
  if (on.length === 0) services.fail('there is no service to deploy');
  const kept = mapNode(
    services.node.at,
    on.map(([key, { node }]) => [key, node]),
  );
  return { ...tree, entries: new Map([...tree.entries, ['services', kept]]) };
}

/** Services after those that they depend on; else in the order of the file. Throws where they depend on each other in a circle. */
function inOrder(services: [string, Field][], conversion: Conversion): [string, Field][] {
  const fields = new Map(services);
  const ordered: [string, Field][] = [];
  const placed = new Set<string>();
  const place = (key: string, path: readonly string[]): void => {
    const field = fields.get(key);
    if (field === undefined || placed.has(key)) return;
    if (path.includes(key)) {
      const circle = [...path.slice(path.indexOf(key)), key];
      (field.get('depends_on') ?? field).fail(`these would never start: ${circle.join(' waits for ')}`);
    }
    for (const { name } of dependencies(field, { ...conversion, warn: () => {} })) place(name, [...path, key]);
    placed.add(key);
    ordered.push([key, field]);
  };
  for (const [key] of services) place(key, []);
  return ordered;
}
