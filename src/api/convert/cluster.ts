/** The cluster as `GET /swarm` and the Swarm section of `/info` show it. Pure. */
import type { Cluster, Node } from '../../model/objects.ts';
import { tlsInfo } from '../../pki/authority.ts';
import type { ClusterState } from '../cluster-control.ts';
import { tlsJson } from './node.ts';

/** Without the join tokens: what `/info` shows to everybody who may ask. */
export function clusterJson(cluster: Cluster): object {
  const { rootCa } = cluster;
  return {
    ID: cluster.clusterId,
    Version: { Index: cluster.meta.version },
    CreatedAt: cluster.meta.createdAt,
    UpdatedAt: cluster.meta.updatedAt,
    Spec: cluster.spec,
    TLSInfo: tlsJson(tlsInfo(rootCa.certificate, rootCa.rotation?.certificate)),
    RootRotationInProgress: rootCa.rotation !== undefined,
    DefaultAddrPool: cluster.defaultAddressPool,
    SubnetSize: cluster.subnetSize,
    DataPathPort: cluster.dataPathPort,
  };
}

/** `GET /swarm`. */
export function swarmJson(cluster: Cluster): object {
  const { worker, manager } = cluster.joinTokens;
  return { ...clusterJson(cluster), JoinTokens: { Worker: worker, Manager: manager } };
}

/** The Swarm section of `/info`; `cluster` and `nodes` only on managers. */
export function swarmInfoJson(state: ClusterState, cluster: Cluster | undefined, nodes: readonly Node[]): object {
  return {
    NodeID: state.nodeId,
    NodeAddr: state.nodeAddress,
    LocalNodeState: state.localNodeState,
    ControlAvailable: state.manager,
    Error: state.error,
    RemoteManagers: state.remoteManagers.length === 0 ? null : state.remoteManagers,
    ...(cluster === undefined
      ? {}
      : {
          Nodes: nodes.length,
          Managers: nodes.filter((node) => node.manager !== undefined).length,
          Cluster: clusterJson(cluster),
        }),
  };
}
