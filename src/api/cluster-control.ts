/**
 * What the API asks of the daemon to make, join and leave a cluster. The daemon implements it; requests have been
 * validated by the API (validate/swarm-requests.ts). Failures are ApiErrors with Docker's sentence.
 */
import type { NodeSpec, SwarmSpec } from '../model/specs.ts';

/** An address as users give it: an IP or the name of a network interface, and a port if they named one. */
export interface HostPort {
  host: string;
  port?: number;
}

export interface InitRequest {
  /** Where to listen for nodes; the port is always set (default 2377). Undefined: what the daemon was started with. */
  listenAddr: Required<HostPort> | undefined;
  /** Undefined: the daemon chooses, or says which addresses there are to choose from. */
  advertiseAddr: HostPort | undefined;
  /** IP or interface for VXLAN packets; undefined: as advertised. */
  dataPathAddr: string | undefined;
  /** UDP port of the VXLAN devices. */
  dataPathPort: number;
  /** CIDRs, none overlapping another. */
  defaultAddressPool: string[];
  /** Prefix length of an overlay without a subnet of its own. */
  subnetSize: number;
  availability: NodeSpec['Availability'];
  spec: SwarmSpec;
  /** On a manager: it goes on alone with all the state it has, and the others are managers no more. */
  forceNewCluster: boolean;
}

export interface JoinRequest {
  listenAddr: Required<HostPort> | undefined;
  advertiseAddr: HostPort | undefined;
  dataPathAddr: string | undefined;
  /** At least one; ports are set. */
  remoteAddrs: Required<HostPort>[];
  /** `SWMTKN-1-…`, of the right shape; whether it is right is for the manager to say. */
  joinToken: string;
  availability: NodeSpec['Availability'];
}

export interface ClusterState {
  localNodeState: 'inactive' | 'pending' | 'active' | 'error' | 'locked';
  /** '' outside of a cluster, as the address. */
  nodeId: string;
  nodeAddress: string;
  manager: boolean;
  /** Why the state is `error` or `pending`, in words; else ''. */
  error: string;
  /** What this host cannot do in full, in words. */
  degraded: readonly string[];
  /** Set where managers keep the state in an etcd that stands elsewhere: then no majority of them is needed. */
  outsideEtcd?: true;
  remoteManagers: { NodeID: string; Addr: string }[];
}

/** How a machine that takes over a cluster from a backup is reached; undefined: as the manager of the backup was, if it can be. */
export type RestoreRequest = Pick<JoinRequest, 'listenAddr' | 'advertiseAddr' | 'dataPathAddr'>;

export interface Restored {
  clusterId: string;
  nodeId: string;
  /** When the backup was taken, RFC 3339. */
  at: string;
  /** Its managers must be unlocked before anything else. */
  locked: boolean;
  /** host:port of this manager in the backup, and now. */
  addresses: { before: string; now: string };
  /** Managers of the backup that are workers now. */
  formerManagers: { nodeId: string; hostname: string; address: string }[];
}

export interface ClusterControl {
  state(): ClusterState;
  /** Makes a cluster of one manager; resolves with the node's id once the store is there. */
  init(request: InitRequest): Promise<string>;
  /**
   * After the loss of the majority: this manager goes on alone with all the state it has, and the other managers become workers.
   * Resolves with its node id once it takes writes. May be repeated. 503 if this node is no manager.
   */
  forceNewCluster(): Promise<string>;
  join(request: JoinRequest): Promise<void>;
  /** Also as the last manager, whose cluster is then gone. */
  leave(): Promise<void>;
  /** Opens a locked manager with 32 bytes of an unlock key. 401 with Docker's sentence if it is another. */
  unlock(unlockKey: Buffer): Promise<void>;
  /** Why this manager's disk is not locked as the cluster says, in words; '' if it is. Up to date when an update resolves. */
  lockTrouble(): string;
  /** The lines of a backup of the cluster as it is now; on managers only. */
  backup(): Promise<Iterable<string>>;
  /** Makes this node the one manager of the cluster in a backup. 400, and nothing changed, if it is none or damaged. */
  restore(backup: AsyncIterable<Buffer>, request: RestoreRequest): Promise<Restored>;
}
