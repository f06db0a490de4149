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
  remoteManagers: { NodeID: string; Addr: string }[];
}

export interface ClusterControl {
  state(): ClusterState;
  /** Makes a cluster of one manager; resolves with the node's id once the store is there. */
  init(request: InitRequest): Promise<string>;
  join(request: JoinRequest): Promise<void>;
  /** `force`: also as the last manager, whose cluster is then gone. */
  leave(force: boolean): Promise<void>;
}
