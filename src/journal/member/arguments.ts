/** The command line of a member. Pure: everything that a member is run with stands here, with why. */
import { join } from 'node:path';
import { urlOf } from './api.ts';

/** Where a member is and how it is run; the same for all its lives. */
export interface MemberSettings {
  nodeId: string;
  /** Separates clusters: members of two never talk to each other by mistake. */
  clusterId: string;
  /** droverd's own; etcd's is `etcd` below it. */
  dataDir: string;
  /** IP address by which the other managers reach this one. It must stand in the node's certificate. */
  advertiseAddress: string;
  /** What etcd listens on, if not the advertise address. */
  listenAddress?: string;
  clientPort: number;
  peerPort: number;
  /** Plain HTTP on 127.0.0.1; none: no metrics. */
  metricsPort?: number;
  timing?: Timing;
  /** The database may grow to this; past it etcd takes no writes. */
  quotaBytes?: number;
}

export interface Timing {
  heartbeatMs: number;
  /** A follower that hears nothing for one to two times this long stands for election. */
  electionMs: number;
}

/**
 * A leader's death is noticed after 0.6–1.2 s. Half of etcd's own timing is as low as two busy cores bear without elections
 * for nothing; the vote before the vote (`--pre-vote`) keeps a member that was paused from deposing a leader that works.
 */
export const TIMING: Timing = { heartbeatMs: 60, electionMs: 600 };
export const QUOTA_BYTES = 8 * 1024 ** 3;
/** A transaction of the store is one of etcd's: 128 operations, etcd's own limit, are too few for a big one. */
export const MAX_TXN_OPS = 4_096;
export const MAX_REQUEST_BYTES = 16 * 1024 ** 2;

/** Name and peer URL of one that takes part at the start. */
export interface Peer {
  name: string;
  peerUrl: string;
}

export interface Launch {
  name: string;
  /** Where etcd keeps its data. */
  folder: string;
  /** A file with the root certificate; etcd reads it once, so it is one file a root. */
  rootFile: string;
  /** Who takes part when the member starts for the first time; after that etcd knows by itself. */
  peers: readonly Peer[];
  /** `new` makes a cluster if there is no data; `existing` never does. */
  state: 'new' | 'existing';
  /** Throws all other members out. Clients are not served but on loopback while this lasts. */
  forceNewCluster?: boolean;
}

export function peerUrlOf(settings: MemberSettings): string {
  return urlOf(settings.advertiseAddress, settings.peerPort);
}

export function clientUrlOf(settings: MemberSettings): string {
  return urlOf(settings.advertiseAddress, settings.clientPort);
}

/** The flags of `etcd`. */
export function etcdArguments(settings: MemberSettings, launch: Launch): string[] {
  const { heartbeatMs, electionMs } = settings.timing ?? TIMING;
  const flags: Record<string, string | number | boolean> = {
    name: launch.name,
    'data-dir': launch.folder,
    ...addressFlags(settings, launch),
    ...tlsFlags(settings, launch),
    'initial-cluster': launch.peers.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(','),
    'initial-cluster-state': launch.state,
    'initial-cluster-token': settings.clusterId,
    'heartbeat-interval': heartbeatMs,
    'election-timeout': electionMs,
    'pre-vote': true,
    'snapshot-count': 10_000,
    'max-txn-ops': MAX_TXN_OPS,
    'max-request-bytes': MAX_REQUEST_BYTES,
    'quota-backend-bytes': settings.quotaBytes ?? QUOTA_BYTES,
    'auto-compaction-retention': 0,
    // etcd's own check wants every member in touch for 5 s; Membership guards the quorum by what it sees.
    'strict-reconfig-check': false,
    logger: 'zap',
    'log-level': 'info',
    'log-outputs': 'stderr',
  };
  if (launch.forceNewCluster) flags['force-new-cluster'] = true;
  return Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
}

function addressFlags(settings: MemberSettings, { forceNewCluster }: Launch): Record<string, string> {
  const { advertiseAddress, listenAddress = advertiseAddress, clientPort, peerPort, metricsPort } = settings;
  const listen = forceNewCluster ? '127.0.0.1' : listenAddress;
  const metrics = metricsPort === undefined ? undefined : { 'listen-metrics-urls': `http://127.0.0.1:${metricsPort}` };
  return {
    'listen-peer-urls': urlOf(listen, peerPort),
    'listen-client-urls': urlOf(listen, clientPort),
    'initial-advertise-peer-urls': peerUrlOf(settings),
    'advertise-client-urls': clientUrlOf(settings),
    ...metrics,
  };
}

function tlsFlags({ dataDir }: MemberSettings, { rootFile }: Launch): Record<string, string | boolean> {
  const [certificate, key] = [
    join(dataDir, 'certificates/swarm-node.crt'),
    join(dataDir, 'certificates/swarm-node.key'),
  ];
  return {
    'cert-file': certificate,
    'key-file': key,
    'trusted-ca-file': rootFile,
    'client-cert-auth': true,
    // Every node has a certificate by the root; only those of managers bear this name.
    'client-cert-allowed-hostname': 'swarm-manager',
    'peer-cert-file': certificate,
    'peer-key-file': key,
    'peer-trusted-ca-file': rootFile,
    'peer-client-cert-auth': true,
    'peer-cert-allowed-hostname': 'swarm-manager',
    // A manager with several addresses may call from another than it is called at.
    'experimental-peer-skip-client-san-verification': true,
    // It would call etcd by the loopback's name, which no certificate bears.
    'enable-grpc-gateway': false,
  };
}

/** Whether two command lines run the same member in the same way, whatever its first start was told. */
export function runsAlike(a: readonly string[], b: readonly string[]): boolean {
  const lasting = (flags: readonly string[]) =>
    flags.filter((flag) => !/^--initial-cluster(-state)?=/.test(flag)).sort();
  return lasting(a).join('\0') === lasting(b).join('\0');
}
