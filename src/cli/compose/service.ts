/** A service of a compose tree as a ServiceSpec: the very one that `docker stack deploy` makes of what that knows. */
import { dependsOnLabel, DEPENDENCY_CONDITIONS, DEPENDS_ON_LABEL, type Dependency } from '../../model/depends-on.ts';
import type { ContainerSpec, HealthConfig, NetworkAttachmentConfig, ServiceSpec } from '../../model/specs.ts';
import { deployOf } from './deploy-section.ts';
import { EnvFileError, parseEnvFile } from './env-files.ts';
import type { Field } from './field.ts';
import {
  checkKeys,
  CREDENTIAL_SPEC,
  DEPENDS_ON,
  ENV_FILE,
  FILE_REFERENCE,
  HEALTHCHECK,
  LOGGING,
  SERVICE,
  SERVICE_NETWORK,
  ULIMIT,
} from './keys.ts';
import { endpointOf, mountsOf } from './mounts.ts';
import { declared, realName, type Conversion } from './objects.ts';
import { IMAGE_LABEL, said } from './project.ts';
import { shellWords, ShortFormError } from './short-forms.ts';

export const DEFAULT_NETWORK = 'default';
/** Networks of the nodes, on which tasks have no names. */
const NO_ALIASES = new Set(['bridge', 'host', 'none', 'default']);

export function serviceSpec(key: string, service: Field, conversion: Conversion): ServiceSpec {
  const { namespace, warn } = conversion;
  checkKeys(service, SERVICE, warn);
  const image = service.get('image')?.text() ?? service.fail('an image is needed: images are not built here');
  const { template, ...deploy } = deployOf(service, warn);
  const logging = service.get('logging');
  if (logging !== undefined) checkKeys(logging, LOGGING, warn);
  const options = logging?.get('options')?.labels();
  return {
    Name: namespace.scope(key),
    Labels: {
      ...dependsOn(service, conversion),
      ...namespace.labels(service.get('deploy')?.get('labels')?.labels()),
      [IMAGE_LABEL]: image,
    },
    TaskTemplate: {
      ContainerSpec: containerSpec(image, service, conversion),
      ...template,
      Networks: attachments(key, service, conversion),
      ...(logging === undefined
        ? {}
        : {
            LogDriver: {
              ...said({ Name: logging.get('driver')?.text() ?? '' }),
              ...(options === undefined ? {} : { Options: options }),
            },
          }),
      ForceUpdate: 0,
    },
    ...deploy,
    EndpointSpec: endpointOf(service, warn),
  };
}

function containerSpec(image: string, service: Field, conversion: Conversion): ContainerSpec {
  const { namespace, warn } = conversion;
  const init = service.get('init')?.boolean();
  const grace = service.get('stop_grace_period')?.durationNs();
  const health = healthcheck(service.get('healthcheck'), warn);
  const dns = said({
    Nameservers: service.get('dns')?.texts(),
    Search: service.get('dns_search')?.texts(),
    Options: service.get('dns_opt')?.texts(),
  });
  const { add, drop } = capabilities(service);
  return {
    Image: image,
    Labels: namespace.labels(service.get('labels')?.labels()),
    ...said({
      Command: words(service.get('entrypoint')),
      Args: words(service.get('command')),
      Hostname: service.get('hostname')?.text(),
      Env: environment(service, conversion),
      Dir: service.get('working_dir')?.text(),
      User: service.get('user')?.text(),
      Groups: service.get('group_add')?.texts(),
    }),
    Privileges: privileges(service, warn),
    ...(init === undefined ? {} : { Init: init }),
    ...said({
      StopSignal: service.get('stop_signal')?.text(),
      TTY: service.get('tty')?.boolean(),
      OpenStdin: service.get('stdin_open')?.boolean(),
      ReadOnly: service.get('read_only')?.boolean(),
      Mounts: mountsOf(service, conversion),
    }),
    ...(grace === undefined ? {} : { StopGracePeriod: grace }),
    ...(health === undefined ? {} : { Healthcheck: health }),
    ...said({ Hosts: service.get('extra_hosts')?.texts().map(hostLine) }),
    ...(Object.keys(dns).length === 0 ? {} : { DNSConfig: dns }),
    ...said({
      Secrets: references(service, 'secrets', conversion).map(({ name, File }) => ({
        File,
        SecretID: '',
        SecretName: name,
      })),
      Configs: [
        ...references(service, 'configs', conversion).map(({ name, File }) => ({
          File,
          ConfigID: '',
          ConfigName: name,
        })),
        ...runtimeConfigs(service, conversion),
      ].sort((a, b) => byText(a.ConfigName, b.ConfigName)),
      Isolation: service.get('isolation')?.text(),
    }),
    ...(service.get('sysctls') === undefined ? {} : { Sysctls: service.get('sysctls')?.labels() ?? {} }),
    ...said({ CapabilityAdd: add, CapabilityDrop: drop, Ulimits: ulimits(service.get('ulimits'), warn) }),
    ...said({ OomScoreAdj: service.get('oom_score_adj')?.integer(-1000) }),
  };
}

/** `host:IP` as the API has it: `IP host`. */
function hostLine(entry: string): string {
  const split = entry.indexOf(':');
  return `${entry.slice(split + 1)} ${entry.slice(0, split)}`;
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A command as a list, or as a line that is taken apart. */
function words(field: Field | undefined): string[] | undefined {
  if (field === undefined || field.isList) return field?.texts();
  try {
    return shellWords(field.text());
  } catch (error) {
    if (error instanceof ShortFormError) return field.fail(error.message);
    throw error;
  }
}

/** `NAME=value`, sorted. What has no value, or an empty one, gets that of the client's environment, if there is one. */
function environment(service: Field, { lookup, readBytes, warn }: Conversion): string[] {
  const values = new Map<string, string | undefined>();
  const set = (name: string, value: string | undefined): void => {
    values.set(name, value === undefined || value === '' ? (lookup(name) ?? value) : value);
  };
  for (const field of service.get('env_file')?.items() ?? []) {
    checkKeys(field, ENV_FILE, warn);
    const path = field.get('path') ?? field.fail('"path" is needed');
    const format = field.get('format');
    if (format !== undefined && format.text() !== 'raw') format.fail('"raw" is the only format');
    const required = field.get('required')?.boolean() ?? true;
    for (const [name, value] of envFile(path, required, { lookup, readBytes })) set(name, value);
  }
  for (const [name, field] of service.get('environment')?.members() ?? [])
    set(name, field.isNull ? undefined : field.text());
  return [...values].map(([name, value]) => (value === undefined ? name : `${name}=${value}`)).sort(byText);
}

function envFile(
  path: Field,
  required: boolean,
  { lookup, readBytes }: Pick<Conversion, 'lookup' | 'readBytes'>,
): [string, string][] {
  let bytes: Uint8Array;
  try {
    bytes = readBytes(path.text());
  } catch (error) {
    if (!required) return [];
    return path.fail(`cannot read ${path.text()}: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    return parseEnvFile(Buffer.from(bytes).toString('utf8'), path.text(), lookup);
  } catch (error) {
    if (error instanceof EnvFileError) return path.fail(error.message);
    throw error;
  }
}

function healthcheck(field: Field | undefined, warn: (text: string) => void): HealthConfig | undefined {
  if (field === undefined) return undefined;
  checkKeys(field, HEALTHCHECK, warn);
  const test = field.get('test');
  const list = test?.isList === true ? test.texts() : test === undefined ? [] : ['CMD-SHELL', test.text()];
  if (field.get('disable')?.boolean() === true) {
    if (list.length > 0) test?.fail('test and disable cannot be set at the same time');
    return { Test: ['NONE'] };
  }
  if (test?.isList === true && !['NONE', 'CMD', 'CMD-SHELL'].includes(list[0] ?? ''))
    test.fail('the first of the list must be CMD, CMD-SHELL or NONE');
  return said({
    Test: list,
    Interval: field.get('interval')?.durationNs(),
    Timeout: field.get('timeout')?.durationNs(),
    StartPeriod: field.get('start_period')?.durationNs(),
    StartInterval: field.get('start_interval')?.durationNs(),
    Retries: field.get('retries')?.integer(),
  });
}

/** Names in Docker's one spelling, sorted, each once; what is added is not dropped. */
function capabilities(service: Field): { add: string[]; drop: string[] } {
  const read = (key: string): string[] => {
    const names = (service.get(key)?.texts() ?? []).map((text) => {
      const name = text.trim().toUpperCase();
      return name === 'ALL' || name.startsWith('CAP_') ? name : `CAP_${name}`;
    });
    return names.includes('ALL') ? ['ALL'] : [...new Set(names)].sort(byText);
  };
  const add = read('cap_add');
  return { add, drop: read('cap_drop').filter((name) => name === 'ALL' || !add.includes(name)) };
}

function privileges(service: Field, warn: (text: string) => void): Record<string, unknown> {
  let noNewPrivileges = false;
  for (const option of service.get('security_opt')?.items() ?? []) {
    if (/^no-new-privileges([:=]true)?$/.test(option.text())) noNewPrivileges = true;
    else warn(`${option.path} is ignored: "${option.text()}" is not supported, no-new-privileges is`);
  }
  const credentials = service.get('credential_spec');
  if (credentials === undefined) return { NoNewPrivileges: noNewPrivileges };
  checkKeys(credentials, CREDENTIAL_SPEC, warn);
  if (credentials.members().length !== 1) credentials.fail('one of config, file and registry is needed');
  const of = (key: string): string => credentials.get(key)?.text() ?? '';
  return {
    CredentialSpec: { Config: of('config'), File: of('file'), Registry: of('registry') },
    NoNewPrivileges: noNewPrivileges,
  };
}

function ulimits(
  field: Field | undefined,
  warn: (text: string) => void,
): { Name: string; Soft: number; Hard: number }[] {
  const limits = (field?.members() ?? []).map(([Name, limit]) => {
    if (!limit.isMap) return { Name, Soft: limit.integer(-1), Hard: limit.integer(-1) };
    checkKeys(limit, ULIMIT, warn);
    const of = (key: string): number => limit.get(key)?.integer(-1) ?? limit.fail(`"${key}" is needed`);
    return { Name, Soft: of('soft'), Hard: of('hard') };
  });
  return limits.sort((a, b) => byText(a.Name, b.Name));
}

/** The keys of the networks that a service is on. */
export function networkKeys(service: Field): string[] {
  const keys =
    service
      .get('networks')
      ?.members()
      .map(([key]) => key) ?? [];
  return keys.length === 0 ? [DEFAULT_NETWORK] : keys;
}

function attachments(key: string, service: Field, { root, namespace, warn }: Conversion): NetworkAttachmentConfig[] {
  const own = new Map(service.get('networks')?.members());
  const all = networkKeys(service).map((network): NetworkAttachmentConfig => {
    const field = own.get(network);
    const said = field === undefined || field.isNull ? undefined : field;
    if (said !== undefined) checkKeys(said, SERVICE_NETWORK, warn);
    const atTop = declared(root, 'networks', network);
    if (atTop === undefined && network !== DEFAULT_NETWORK)
      (field ?? service).fail(`there is no network "${network}": declare it under "networks" at the top level`);
    const Target = realName(atTop, network, namespace);
    const aliases = [...(said?.get('aliases')?.texts() ?? []), ...(NO_ALIASES.has(Target) ? [] : [key])];
    const options = said?.get('driver_opts')?.labels();
    return {
      Target,
      ...(aliases.length === 0 ? {} : { Aliases: aliases }),
      ...(options === undefined ? {} : { DriverOpts: options }),
    };
  });
  return all.sort((a, b) => byText(a.Target, b.Target));
}

interface Reference {
  name: string;
  File: { Name: string; UID: string; GID: string; Mode: number };
}

/** The secrets or configs that a service gets as files. */
function references(
  service: Field,
  section: 'secrets' | 'configs',
  { root, namespace, warn }: Conversion,
): Reference[] {
  const all = (service.get(section)?.items() ?? []).map((field): Reference => {
    checkKeys(field, FILE_REFERENCE, warn);
    const source = field.get('source')?.text() ?? field.fail('"source" is needed');
    const object = declared(root, section, source);
    if (object === undefined)
      field.fail(`there is no ${section.slice(0, -1)} "${source}": declare it under "${section}" at the top level`);
    return {
      name: realName(object, source, namespace),
      File: {
        Name: field.get('target')?.text() ?? source,
        UID: field.get('uid')?.text() ?? '0',
        GID: field.get('gid')?.text() ?? '0',
        Mode: field.get('mode')?.integer() ?? 0o444,
      },
    };
  });
  return all.sort((a, b) => byText(a.name, b.name));
}

/** A config that is no file but holds the credential spec. */
function runtimeConfigs(service: Field, { root, namespace }: Conversion) {
  const field = service.get('credential_spec')?.get('config');
  if (field === undefined) return [];
  const object = declared(root, 'configs', field.text());
  if (object === undefined)
    field.fail(`there is no config "${field.text()}": declare it under "configs" at the top level`);
  return [{ Runtime: {}, ConfigID: '', ConfigName: realName(object, field.text(), namespace) }];
}

/** What a service waits for before it starts the first time. */
export function dependencies(service: Field, { root, warn }: Conversion): Dependency[] {
  return (service.get('depends_on')?.members() ?? []).flatMap(([name, field]) => {
    if (!field.isNull) checkKeys(field, DEPENDS_ON, warn);
    const given = field.isNull ? undefined : field.get('condition');
    const condition = given?.oneOf(...DEPENDENCY_CONDITIONS) ?? 'service_started';
    if (declared(root, 'services', name) !== undefined) return [{ name, condition }];
    if (!field.isNull && field.get('required')?.boolean() === false) return [];
    return field.fail(`there is no service "${name}"`);
  });
}

function dependsOn(service: Field, conversion: Conversion): Record<string, string> {
  const found = dependencies(service, conversion);
  return found.length === 0 ? {} : { [DEPENDS_ON_LABEL]: dependsOnLabel(found) };
}
