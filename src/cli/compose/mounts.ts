/** Mounts and published ports of a service, as Docker's API takes them. */
import type { EndpointSpec, Mount, PortConfig } from '../../model/specs.ts';
import type { Field } from './field.ts';
import { checkKeys, MOUNT, MOUNT_BIND, MOUNT_TMPFS, MOUNT_VOLUME, PORT } from './keys.ts';
import { declared, isExternal, realName, type Conversion } from './objects.ts';
import { said } from './project.ts';
import { range } from './short-forms.ts';

const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;

export function mountsOf(service: Field, conversion: Conversion): Mount[] {
  const volumes = (service.get('volumes')?.items() ?? []).map((field) => mount(field, conversion));
  const tmpfs = (service.get('tmpfs')?.items() ?? []).map(tmpfsMount);
  return [...volumes, ...tmpfs];
}

function mount(field: Field, conversion: Conversion): Mount {
  const { warn } = conversion;
  checkKeys(field, MOUNT, warn);
  const type = field.get('type')?.oneOf('volume', 'bind', 'tmpfs', 'npipe', 'cluster') ?? 'volume';
  const options = { bind: field.get('bind'), volume: field.get('volume'), tmpfs: field.get('tmpfs') };
  const allowed = type === 'npipe' ? 'bind' : type;
  for (const [key, given] of Object.entries(options))
    if (key !== allowed) given?.fail(`these are options of type ${key}, and this is of type ${type}`);
  const source = field.get('source')?.text() ?? '';
  if (type === 'bind' && source === '') field.fail('a bind mount needs a source: a path on the nodes');
  if (type === 'tmpfs' && source !== '') field.fail('a tmpfs mount has no source');
  const target = field.get('target')?.text() ?? field.fail('a target is needed: a path in the container');
  return {
    Type: type,
    ...said({ Source: source }),
    Target: target,
    ...said({ ReadOnly: field.get('read_only')?.boolean(), Consistency: field.get('consistency')?.text() }),
    ...bindOptions(options.bind, warn),
    ...(type === 'volume' && source !== '' ? volumeOf(field, options.volume, source, conversion) : {}),
    ...tmpfsOptions(options.tmpfs, warn),
  };
}

function bindOptions(field: Field | undefined, warn: (text: string) => void): Pick<Mount, 'BindOptions'> {
  if (field === undefined) return {};
  checkKeys(field, MOUNT_BIND, warn);
  const recursive = field.get('recursive')?.oneOf('enabled', 'disabled', 'writable', 'readonly');
  return {
    BindOptions: said({
      Propagation: field.get('propagation')?.text(),
      CreateMountpoint: field.get('create_host_path')?.boolean(),
      NonRecursive: recursive === 'disabled',
      ReadOnlyNonRecursive: recursive === 'writable',
      ReadOnlyForceRecursive: recursive === 'readonly',
    }),
  };
}

/** A named volume is declared at the top level, and every node makes it as is said there. */
function volumeOf(
  mountField: Field,
  options: Field | undefined,
  source: string,
  { root, namespace, warn }: Conversion,
): Pick<Mount, 'Source' | 'VolumeOptions'> {
  const volume = declared(root, 'volumes', source);
  if (volume === undefined)
    mountField.fail(`there is no volume "${source}": declare it under "volumes" at the top level`);
  if (options !== undefined) checkKeys(options, MOUNT_VOLUME, warn);
  const own = said({ NoCopy: options?.get('nocopy')?.boolean(), Subpath: options?.get('subpath')?.text() });
  const Source = realName(volume, source, namespace);
  if (isExternal(volume)) return { Source, VolumeOptions: own };
  const field = volume.isNull ? undefined : volume;
  const driver = field?.get('driver')?.text();
  const driverOptions = field?.get('driver_opts')?.labels();
  return {
    Source,
    VolumeOptions: {
      ...own,
      Labels: namespace.labels(field?.get('labels')?.labels()),
      ...(driver === undefined && driverOptions === undefined
        ? {}
        : {
            DriverConfig: {
              ...said({ Name: driver ?? '' }),
              ...(driverOptions === undefined ? {} : { Options: driverOptions }),
            },
          }),
    },
  };
}

function tmpfsOptions(field: Field | undefined, warn: (text: string) => void): Pick<Mount, 'TmpfsOptions'> {
  if (field === undefined) return {};
  checkKeys(field, MOUNT_TMPFS, warn);
  return { TmpfsOptions: said({ SizeBytes: field.get('size')?.bytes(), Mode: field.get('mode')?.integer() }) };
}

/** `/path` or `/path:size=64m,mode=1777`. */
function tmpfsMount(field: Field): Mount {
  const [target = '', options = ''] = field.text().split(/:(.*)/s);
  let SizeBytes: number | undefined;
  let Mode: number | undefined;
  for (const option of options === '' ? [] : options.split(',')) {
    const [, size] = /^size=(\d+)([kmg]?)$/i.exec(option) ?? [];
    if (size !== undefined)
      SizeBytes =
        Number(size) * 1024 ** ['', 'k', 'm', 'g'].indexOf(option.at(-1)?.match(/[kmg]/i)?.[0].toLowerCase() ?? '');
    else if (/^mode=[0-7]{3,4}$/.test(option)) Mode = Number.parseInt(option.slice(5), 8);
    else field.fail(`"${option}" is not supported: size=64m and mode=1777 are`);
  }
  const given = said({ SizeBytes, Mode });
  return { Type: 'tmpfs', Target: target, ...(Object.keys(given).length === 0 ? {} : { TmpfsOptions: given }) };
}

export function endpointOf(service: Field, warn: (text: string) => void): EndpointSpec {
  const modes = { vip: 'vip', dnsrr: 'dnsrr' } as const;
  const mode = service.get('deploy')?.get('endpoint_mode');
  const name = mode?.text().toLowerCase();
  if (name !== undefined && name !== 'vip' && name !== 'dnsrr') mode?.fail(`"${name}" is none of vip, dnsrr`);
  const ports = (service.get('ports')?.items() ?? []).flatMap((field) => portsOf(field, warn));
  return {
    ...(name === 'vip' || name === 'dnsrr' ? { Mode: modes[name] } : {}),
    ...(ports.length === 0 ? {} : { Ports: ports.sort((a, b) => (a.PublishedPort ?? 0) - (b.PublishedPort ?? 0)) }),
  };
}

/** One port, or as many as its published range has. */
function portsOf(field: Field, warn: (text: string) => void): PortConfig[] {
  checkKeys(field, PORT, warn);
  const TargetPort = field.get('target')?.integer(1) ?? field.fail('a target is needed: the port in the container');
  const published = field.get('published');
  const text = published?.text();
  const both =
    text === undefined
      ? undefined
      : (range(text) ?? (text === '0' ? [0, 0] : published?.fail(`"${text}" is no port and no range of ports`)));
  const [first = 0, last = 0] = both ?? [];
  const common = {
    ...said({ Protocol: field.get('protocol')?.oneOf(...PROTOCOLS) }),
    TargetPort,
  };
  const mode = said({ PublishMode: field.get('mode')?.oneOf('ingress', 'host') });
  return Array.from({ length: last - first + 1 }, (_, at) => ({
    ...common,
    ...said({ PublishedPort: first + at }),
    ...mode,
  }));
}
