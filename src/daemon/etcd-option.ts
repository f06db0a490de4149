/** The settings of an etcd that stands elsewhere: `--etcd-endpoints` and what goes with it. */
import { readFileSync } from 'node:fs';
import { DEFAULT_PREFIX } from '../journal/etcd/keys.ts';
import type { OutsideEtcdSettings } from '../journal/etcd/outside.ts';
import { UsageError } from './usage-error.ts';

export interface EtcdOption {
  /** host:port each, all of them with TLS or none. */
  endpoints: string[];
  tls: boolean;
  /** Begins and ends with `/`. */
  prefix: string;
  caFile?: string;
  certFile?: string;
  keyFile?: string;
}

export const ETCD_SETTINGS = ['etcd-endpoints', 'etcd-prefix', 'etcd-cacert', 'etcd-cert', 'etcd-key'] as const;
type EtcdSetting = (typeof ETCD_SETTINGS)[number];

/** What flags and file say of them; `said`: how the user wrote the name of one. */
interface Settings {
  text(name: EtcdSetting): string | undefined;
  said(name: string): string;
}

const PREFIX = /^(\/[A-Za-z0-9._-]+)+\/$/;
const DEFAULT_PORT = 2379;

/** Undefined without `etcd-endpoints`. @throws UsageError */
export function parseEtcdOption(settings: Settings): EtcdOption | undefined {
  const endpoints = settings.text('etcd-endpoints');
  if (endpoints === undefined) {
    const other = ETCD_SETTINGS.find((name) => settings.text(name) !== undefined);
    if (other === undefined) return undefined;
    throw new UsageError(`${settings.said(other)} is of no use without --etcd-endpoints`);
  }
  const urls = endpoints.split(',').map((text) => parseEndpoint(settings.said('etcd-endpoints'), text.trim()));
  const tls = urls[0]!.tls;
  if (urls.some((url) => url.tls !== tls))
    throw new UsageError(`${settings.said('etcd-endpoints')} ${endpoints}: all of them https, or all http`);
  const prefix = settings.text('etcd-prefix') ?? DEFAULT_PREFIX;
  if (!PREFIX.test(prefix))
    throw new UsageError(
      `${settings.said('etcd-prefix')} ${prefix}: expected letters, digits, ".", "_", "-" between slashes, as in /drover/prod/`,
    );
  return { endpoints: urls.map(({ endpoint }) => endpoint), tls, prefix, ...tlsFiles(settings, tls) };
}

function parseEndpoint(said: string, text: string): { endpoint: string; tls: boolean } {
  const match = /^(https?):\/\/(\[[0-9a-fA-F:.]+\]|[^:/?#@[\]\s]+)(?::(\d{1,5}))?\/?$/.exec(text);
  const port = Number(match?.[3] ?? DEFAULT_PORT);
  if (match === null || port < 1 || port > 65_535)
    throw new UsageError(`${said} ${text}: expected https://host:port, several of them with commas between`);
  return { endpoint: `${match[2]}:${port}`, tls: match[1] === 'https' };
}

function tlsFiles(settings: Settings, tls: boolean): Pick<EtcdOption, 'caFile' | 'certFile' | 'keyFile'> {
  const [caFile, certFile, keyFile] = (['etcd-cacert', 'etcd-cert', 'etcd-key'] as const).map((name) =>
    settings.text(name),
  );
  if ((certFile === undefined) !== (keyFile === undefined))
    throw new UsageError('--etcd-cert and --etcd-key go together: give both');
  if (!tls && (caFile ?? certFile) !== undefined)
    throw new UsageError('--etcd-cacert, --etcd-cert and --etcd-key need --etcd-endpoints with https');
  return { ...(caFile && { caFile }), ...(certFile && { certFile }), ...(keyFile && { keyFile }) };
}

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost):/;

/** Whether what goes to that etcd and back can be read, and changed, on its way. */
export function isExposed({ endpoints, tls }: EtcdOption): boolean {
  return !tls && !endpoints.every((endpoint) => LOOPBACK.test(endpoint));
}

/** As the journal takes them, with what the files hold now. @throws Error that names a file which cannot be read */
export function readEtcdSettings({ endpoints, tls, prefix, ...files }: EtcdOption): OutsideEtcdSettings {
  if (!tls) return { endpoints, prefix };
  const caCertificate = readPem('--etcd-cacert', files.caFile);
  const certificate = readPem('--etcd-cert', files.certFile);
  const key = readPem('--etcd-key', files.keyFile);
  return {
    endpoints,
    prefix,
    tls: {
      ...(caCertificate !== undefined && { caCertificate }),
      ...(certificate !== undefined && { certificate }),
      ...(key !== undefined && { key }),
    },
  };
}

function readPem(flag: string, path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error(`${flag} ${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}
