/**
 * What the resolver knows, and the files it is told by. One file for each network and one for the askers, each
 * replaced atomically by its writer, so that a change costs the network it is in. These files outlive `droverd`.
 */

/** File `network-<id>.json`: the names within one overlay. */
export interface NetworkNames {
  id: string;
  name: string;
  environment: string;
  /** CIDR. */
  subnet: string;
  /** Where the resolver listens for this network. */
  gateway: string;
  /** The ingress network has no names. */
  ingress: boolean;
  services: { id: string; name: string; aliases: string[]; vip?: string }[];
  endpoints: NamedEndpoint[];
}

export interface NamedEndpoint {
  taskId: string;
  /** '' for a container that is no task. */
  serviceId: string;
  nodeId: string;
  slot: number;
  address: string;
  serving: boolean;
  aliases: string[];
}

/** File `askers.json`: address of a task whose rules stand → the networks it is in. */
export type Askers = Record<string, { taskId: string; networks: string[] }>;

/** File `settings.json`. */
export interface Settings {
  /** `address` or `address:port` of the name servers for all other names; absent: those of `resolvConf`. */
  upstreams?: string[];
  resolvConf: string;
}

export const ASKERS_FILE = 'askers.json';
export const SETTINGS_FILE = 'settings.json';
/** Written by the resolver, as `Status`. */
export const STATUS_FILE = 'status.json';
/** Which process listens where; an address has the reason why it cannot be listened on, or null. */
export interface Status {
  pid: number;
  addresses: Record<string, string | null>;
}

const NETWORK_FILE = /^network-(.+)\.json$/;

export function networkFile(networkId: string): string {
  return `network-${networkId}.json`;
}

/** The network a file is about, or undefined if it is about something else. */
export function networkOfFile(file: string): string | undefined {
  return NETWORK_FILE.exec(file)?.[1];
}
