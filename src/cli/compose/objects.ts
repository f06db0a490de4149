/** The networks, volumes, secrets and configs of a compose tree, as Docker's API takes them. */
import { Field } from './field.ts';
import { checkKeys, EXTERNAL, FILE_OBJECT, IPAM, IPAM_CONFIG, NETWORK, VOLUME } from './keys.ts';
import type { Lookup } from './interpolate.ts';
import { said, type Namespace, type NetworkPlan, type PayloadPlan } from './project.ts';

/** What all conversions work with. */
export interface Conversion {
  root: Field;
  namespace: Namespace;
  lookup: Lookup;
  /** The bytes of a file. Throws if there is none. */
  readBytes: (path: string) => Uint8Array;
  warn: (text: string) => void;
}

/** What is declared at the top level, by its key; also one that is null. Undefined if it is not there. */
export function declared(root: Field, section: string, key: string): Field | undefined {
  const members = root.get(section)?.members() ?? [];
  return members.find(([name]) => name === key)?.[1];
}

/** `external: true`, `external: {name: x}`. */
export function isExternal(field: Field | undefined): boolean {
  const external = field === undefined || field.isNull ? undefined : field.get('external');
  return external !== undefined && (external.isMap || external.boolean());
}

/** The name of something declared: its own, or that of its key in the stack; an external one is not of the stack. */
export function realName(field: Field | undefined, key: string, namespace: Namespace): string {
  if (field === undefined || field.isNull) return namespace.scope(key);
  const older = field.get('external');
  const name = field.get('name')?.text() ?? (older?.isMap === true ? older.get('name')?.text() : undefined);
  return name ?? (isExternal(field) ? key : namespace.scope(key));
}

function checkExternal(field: Field, keys: Parameters<typeof checkKeys>[1], warn: (text: string) => void): void {
  checkKeys(field, keys, warn);
  const older = field.get('external');
  if (older?.isMap === true) checkKeys(older, EXTERNAL, warn);
  if (!isExternal(field)) return;
  for (const key of ['driver', 'driver_opts', 'labels', 'file', 'content', 'environment', 'ipam'])
    field.get(key)?.fail('what is external is not made here: take this away, or "external"');
}

/** The networks that services use. `used`: their keys in the file. */
export function networks(
  { root, namespace, warn }: Conversion,
  used: ReadonlySet<string>,
): { networks: NetworkPlan[]; external: string[] } {
  for (const [, field] of root.get('networks')?.members() ?? []) if (!field.isNull) checkExternal(field, NETWORK, warn);
  const plans: NetworkPlan[] = [];
  const external: string[] = [];
  for (const key of used) {
    const field = declared(root, 'networks', key);
    const name = realName(field, key, namespace);
    if (isExternal(field)) external.push(name);
    else
      plans.push({
        name,
        body: networkBody(name, field === undefined || field.isNull ? undefined : field, namespace, warn),
      });
  }
  return { networks: plans, external };
}

function networkBody(
  name: string,
  field: Field | undefined,
  namespace: Namespace,
  warn: (text: string) => void,
): NetworkPlan['body'] {
  const ipam = field?.get('ipam');
  return {
    Name: name,
    CheckDuplicate: true,
    Driver: field?.get('driver')?.text() ?? 'overlay',
    Internal: field?.get('internal')?.boolean() ?? false,
    Attachable: field?.get('attachable')?.boolean() ?? false,
    Labels: namespace.labels(field?.get('labels')?.labels()),
    ...(field?.get('driver_opts') === undefined ? {} : { Options: field.get('driver_opts')?.labels() }),
    ...(ipam === undefined ? {} : { IPAM: ipamBody(ipam, warn) }),
  };
}

function ipamBody(field: Field, warn: (text: string) => void): object {
  checkKeys(field, IPAM, warn);
  return {
    ...said({ Driver: field.get('driver')?.text() }),
    ...(field.get('options') === undefined ? {} : { Options: field.get('options')?.labels() }),
    Config: (field.get('config')?.items() ?? []).map((pool) => {
      checkKeys(pool, IPAM_CONFIG, warn);
      return said({
        Subnet: pool.get('subnet')?.text(),
        IPRange: pool.get('ip_range')?.text(),
        Gateway: pool.get('gateway')?.text(),
      });
    }),
  };
}

/** Looks at all volumes, also those no service uses. */
export function checkVolumes({ root, warn }: Conversion): void {
  for (const [, field] of root.get('volumes')?.members() ?? []) if (!field.isNull) checkExternal(field, VOLUME, warn);
}

/** The secrets or configs that are to be made. */
export function payloads(conversion: Conversion, section: 'secrets' | 'configs'): PayloadPlan[] {
  const { root, namespace, warn } = conversion;
  return (root.get(section)?.members() ?? []).flatMap(([key, field]) => {
    if (field.isNull) field.fail('"file", "content", "environment" or "external: true" is needed');
    checkExternal(field, FILE_OBJECT, warn);
    if (isExternal(field)) return [];
    const driver = field.get('driver')?.text();
    const options = field.get('driver_opts')?.labels();
    const templating = field.get('template_driver')?.text();
    return [
      {
        name: realName(field, key, namespace),
        labels: namespace.labels(field.get('labels')?.labels()),
        data: driver === undefined ? contentOf(field, conversion) : new Uint8Array(),
        ...(driver === undefined
          ? {}
          : { driver: { Name: driver, ...(options === undefined ? {} : { Options: options }) } }),
        ...(templating === undefined ? {} : { templating: { Name: templating } }),
      },
    ];
  });
}

function contentOf(field: Field, { lookup, readBytes }: Conversion): Uint8Array {
  const sources = ['file', 'content', 'environment'].flatMap((key) => field.get(key) ?? []);
  const [source, second] = sources;
  if (source === undefined) return field.fail('"file", "content", "environment" or "external: true" is needed');
  if (second !== undefined) return second.fail('only one of file, content and environment can be given');
  const text = source.text();
  if (source.path.endsWith('.content')) return Buffer.from(text);
  if (source.path.endsWith('.environment'))
    return Buffer.from(lookup(text) ?? source.fail(`the variable ${text} is not set`));
  try {
    return readBytes(text);
  } catch (error) {
    return source.fail(`cannot read ${text}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
