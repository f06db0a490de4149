/** The settings of `droverd`: its flags, its config file, defaults, and the errors a person gets. */
import { parseArgs } from 'node:util';
import { ETCD_SETTINGS, parseEtcdOption, type EtcdOption } from './etcd-option.ts';
import { UsageError } from './usage-error.ts';

export { UsageError } from './usage-error.ts';

export interface Options {
  hosts: HostOption[];
  /** Where the host's own Docker Engine listens. */
  engine: string;
  dataDir: string;
  /** Defaults for `swarm init` and `join` requests that name none. */
  listenAddr: string;
  advertiseAddr: string;
  dataPathAddr: string;
  logLevel: LogLevel;
  logFormat: 'text' | 'json';
  tls?: { certFile: string; keyFile: string; caFile: string };
  /** Where managers keep the cluster's state, if not by themselves. */
  etcd?: EtcdOption;
}

export type HostOption = { kind: 'unix'; path: string } | { kind: 'tcp'; host: string; port: number };

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Read if it is there, unless `--config` names another. */
export const CONFIG_FILE = '/etc/drover/droverd.json';

/** Longer paths do not fit into a socket address. */
const MAX_SOCKET_PATH_BYTES = 107;

export const HELP = `Usage:  droverd [OPTIONS]

Runs beside a Docker Engine, serves the Docker Engine API, and makes many hosts one cluster.

Options:
      --config FILE             Settings as JSON, with the names of these flags (hosts: a list); flags win over it
                                (default ${CONFIG_FILE} if it is there; "" for none)
      --host ADDRESS            Where to serve the API; may be given several times: unix:///path or tcp://host:port
                                (default unix:///run/drover/drover.sock)
      --engine ADDRESS          The Docker Engine of this host (default unix:///var/run/docker.sock)
      --data-dir DIR            Where this node keeps what must last (default /var/lib/drover)
      --listen-addr ADDRESS     Where managers listen for nodes, unless swarm init or join says it (default 0.0.0.0:2377)
      --advertise-addr ADDRESS  Address or interface other nodes reach this one by, unless swarm init or join says it
      --data-path-addr ADDRESS  Address or interface for traffic between containers (default: the advertised address)
      --etcd-endpoints URLS     Managers keep the swarm's state in an etcd that stands elsewhere (3.4 or newer), the same for
                                all managers, from swarm init on: https://host:port,…
      --etcd-prefix PREFIX      Where in it; one swarm each (default /drover/)
      --etcd-cacert FILE        Who signs its certificates (default: the CAs that this host's Node trusts)
      --etcd-cert FILE          Certificate and key that it is shown
      --etcd-key FILE
      --log-level LEVEL         debug, info, warn or error (default info)
      --log-format FORMAT       text or json (default text)
      --tlscert FILE            Certificate, key and client CA for tcp:// hosts
      --tlskey FILE
      --tlscacert FILE
      --insecure-api            Serve tcp:// hosts without TLS: whoever reaches the port owns this machine
      --validate                Check flags and config file, and exit
      --version                 Print the version and exit
      --help                    Print this and exit
`;

export type Command = { run: 'daemon'; options: Options } | { run: 'help' } | { run: 'validate' } | { run: 'version' };

/** The text of a file, or undefined if there is none; throws if it cannot be read. */
export type ReadText = (path: string) => string | undefined;

/** What flags and file say, the flags first. `name` of a setting is said as the user wrote it, for errors. */
interface Settings {
  text(name: TextSetting): string | undefined;
  isSet(name: 'insecure-api'): boolean;
  hosts(): string[] | undefined;
  said(name: string): string;
}

/** Throws UsageError. Flags win over the file; each setting comes from one of the two as a whole. */
export function parseOptions(args: string[], readText: ReadText): Command {
  const flags = parseFlags(args);
  if (flags.help) return { run: 'help' };
  if (flags.version) return { run: 'version' };
  const settings = merge(flags, readConfig(flags.config, readText));
  const hosts = (settings.hosts() ?? ['unix:///run/drover/drover.sock']).map((host) =>
    parseHost(settings.said('host'), host),
  );
  const tls = tlsFiles(settings);
  if (tls === undefined && !settings.isSet('insecure-api') && hosts.some((host) => host.kind === 'tcp')) {
    throw new UsageError(
      `${settings.said('host')} tcp://… needs --tlscert, --tlskey and --tlscacert (or --insecure-api, which lets everybody in)`,
    );
  }
  const options: Options = {
    hosts,
    engine: settings.text('engine') ?? 'unix:///var/run/docker.sock',
    dataDir: settings.text('data-dir') ?? '/var/lib/drover',
    listenAddr: settings.text('listen-addr') ?? '0.0.0.0:2377',
    advertiseAddr: settings.text('advertise-addr') ?? '',
    dataPathAddr: settings.text('data-path-addr') ?? '',
    logLevel: oneOf(settings, 'log-level', 'info', LOG_LEVELS),
    logFormat: oneOf(settings, 'log-format', 'text', ['text', 'json'] as const),
    tls,
    etcd: parseEtcdOption(settings),
  };
  return flags.validate ? { run: 'validate' } : { run: 'daemon', options };
}

const TEXT_SETTINGS = [
  'engine',
  'data-dir',
  'listen-addr',
  'advertise-addr',
  'data-path-addr',
  'log-level',
  'log-format',
  'tlscert',
  'tlskey',
  'tlscacert',
  ...ETCD_SETTINGS,
] as const;
type TextSetting = (typeof TEXT_SETTINGS)[number];

type Flags = ReturnType<typeof parseFlags>;

function parseFlags(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: false,
      options: {
        config: { type: 'string' },
        host: { type: 'string', multiple: true },
        engine: { type: 'string' },
        'data-dir': { type: 'string' },
        'listen-addr': { type: 'string' },
        'advertise-addr': { type: 'string' },
        'data-path-addr': { type: 'string' },
        'log-level': { type: 'string' },
        'log-format': { type: 'string' },
        tlscert: { type: 'string' },
        tlskey: { type: 'string' },
        tlscacert: { type: 'string' },
        'etcd-endpoints': { type: 'string' },
        'etcd-prefix': { type: 'string' },
        'etcd-cacert': { type: 'string' },
        'etcd-cert': { type: 'string' },
        'etcd-key': { type: 'string' },
        'insecure-api': { type: 'boolean' },
        validate: { type: 'boolean', default: false },
        version: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

/** A config file as read: its path, and settings whose types are checked. */
interface Config {
  path: string;
  values: Readonly<Record<string, unknown>>;
}

/** A file that was named must be there; the default one may be missing, and '' means none. */
function readConfig(named: string | undefined, readText: ReadText): Config {
  const path = named ?? CONFIG_FILE;
  const none: Config = { path, values: {} };
  if (path === '') return none;
  const text = readText(path);
  if (text === undefined) {
    if (named === undefined) return none;
    throw new UsageError(`--config ${path}: there is no such file`);
  }
  return { path, values: checkConfig(path, text) };
}

/** What each setting of the file must be, in words, and whether it is. */
const KINDS = {
  text: { words: 'a text', fits: (value: unknown) => typeof value === 'string' },
  switch: { words: 'true or false', fits: (value: unknown) => typeof value === 'boolean' },
  texts: {
    words: 'a list of addresses, as in ["unix:///run/drover/drover.sock"]',
    fits: (value: unknown) =>
      Array.isArray(value) && value.length > 0 && value.every((entry) => typeof entry === 'string'),
  },
};

const CONFIG_KINDS = new Map<string, keyof typeof KINDS>([
  ['hosts', 'texts'],
  ...TEXT_SETTINGS.map((name) => [name, 'text'] as const),
  ['insecure-api', 'switch'],
]);

/** All that is wrong with the file at once, each fault by its key. */
function checkConfig(path: string, text: string): Readonly<Record<string, unknown>> {
  const values = parseJson(path, text);
  const faults = Object.entries(values).flatMap(([key, value]) => {
    const kind = CONFIG_KINDS.get(key);
    if (kind === undefined) return [`"${key}" is not a setting`];
    return KINDS[kind].fits(value) ? [] : [`"${key}" must be ${KINDS[kind].words}`];
  });
  if (faults.length === 0) return values;
  const known = faults.some((fault) => fault.endsWith('not a setting'))
    ? ` (settings: ${[...CONFIG_KINDS.keys()].join(', ')})`
    : '';
  throw new UsageError(`${path}: ${faults.join('; ')}${known}`);
}

function parseJson(path: string, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UsageError(`${path}: expected an object of settings, as in { "log-level": "debug" }`);
  }
  return { ...value };
}

function merge(flags: Flags, { path, values }: Config): Settings {
  return {
    text: (name) => flags[name] ?? (values[name] as string | undefined),
    isSet: (name) => flags[name] ?? values[name] === true,
    hosts: () => flags.host ?? (values['hosts'] as string[] | undefined),
    said: (name) => {
      const key = name === 'host' ? 'hosts' : name;
      return flags[name as keyof Flags] === undefined && key in values ? `${path}: ${key}` : `--${name}`;
    },
  };
}

function parseHost(said: string, text: string): HostOption {
  if (text.startsWith('unix://')) {
    const path = text.slice('unix://'.length);
    if (!path.startsWith('/'))
      throw new UsageError(`${said} ${text}: give an absolute path, as in unix:///run/drover.sock`);
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
      throw new UsageError(`${said} ${text}: a socket's path may have ${MAX_SOCKET_PATH_BYTES} bytes at most`);
    }
    return { kind: 'unix', path };
  }
  const match = /^tcp:\/\/(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port > 65_535) {
    throw new UsageError(`${said} ${text}: expected unix:///path or tcp://host:port`);
  }
  return { kind: 'tcp', host: match[1].replace(/^\[|\]$/g, ''), port };
}

function tlsFiles(settings: Settings): Options['tls'] {
  const [certFile, keyFile, caFile] = [settings.text('tlscert'), settings.text('tlskey'), settings.text('tlscacert')];
  if (certFile === undefined && keyFile === undefined && caFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined || caFile === undefined) {
    throw new UsageError('--tlscert, --tlskey and --tlscacert go together: give all three');
  }
  return { certFile, keyFile, caFile };
}

function oneOf<T extends string>(settings: Settings, name: TextSetting, otherwise: T, allowed: readonly T[]): T {
  const value = settings.text(name) ?? otherwise;
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined)
    throw new UsageError(`${settings.said(name)} ${value}: expected one of ${allowed.join(', ')}`);
  return found;
}
