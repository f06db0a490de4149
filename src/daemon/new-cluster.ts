/** The first rows of a new cluster: itself, its first node, the ingress network. Pure. */
import {
  DEFAULT_ENVIRONMENT,
  CLUSTER_ROW,
  type Cluster,
  type Meta,
  type Network,
  type Node,
} from '../model/objects.ts';
import type { NodeSpec, SwarmSpec } from '../model/specs.ts';
import type { Transaction } from '../store/store.ts';

export interface NewCluster {
  clusterId: string;
  nodeId: string;
  ingressId: string;
  /** Whole: the API has put in what its user left open. */
  spec: SwarmSpec;
  rootCa: Cluster['rootCa'];
  joinTokens: Cluster['joinTokens'];
  /** If its managers lock themselves. */
  unlockKey?: string;
  availability: NodeSpec['Availability'];
  /** host:port other nodes reach this manager by. */
  managerAddress: string;
  defaultAddressPool: string[];
  subnetSize: number;
  dataPathPort: number;
  /** RFC 3339. */
  now: string;
}

/** Writes the rows into an empty state. */
export function createCluster(tx: Transaction, request: NewCluster): void {
  const meta: Meta = { version: tx.index, createdAt: request.now, updatedAt: request.now };
  tx.clusters.create({
    id: CLUSTER_ROW,
    clusterId: request.clusterId,
    meta,
    spec: request.spec,
    rootCa: request.rootCa,
    joinTokens: request.joinTokens,
    ...(request.unlockKey === undefined ? {} : { unlockKey: request.unlockKey }),
    defaultAddressPool: request.defaultAddressPool,
    subnetSize: request.subnetSize,
    dataPathPort: request.dataPathPort,
  });
  tx.nodes.create(firstNode(request, meta));
  tx.networks.create(ingressNetwork(request.ingressId, meta));
}

function firstNode(request: NewCluster, meta: Meta): Node {
  return {
    id: request.nodeId,
    meta,
    spec: { Labels: {}, Role: 'manager', Availability: request.availability },
    status: { state: 'unknown', message: '', address: hostOf(request.managerAddress), since: request.now },
    manager: { address: request.managerAddress, leader: true, reachability: 'reachable' },
    gateways: {},
  };
}

function ingressNetwork(id: string, meta: Meta): Network {
  return {
    id,
    environment: DEFAULT_ENVIRONMENT,
    meta,
    spec: {
      Name: 'ingress',
      Labels: {},
      Driver: 'overlay',
      Internal: false,
      Attachable: false,
      Ingress: true,
      EnableIPv6: false,
      Options: {},
      IPAM: { Driver: 'default', Options: null, Config: [] },
    },
  };
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'));
}
