/** What a node says of its part in a cluster (`docker info`). Pure: made of what its parts say now. */
import type { ClusterState } from '../api/cluster-control.ts';
import { REMOVED } from './cluster-words.ts';
import { unusedEtcd } from './keeper.ts';
import { managersOf, type Manager } from './manager.ts';
import type { Membership } from './membership.ts';
import type { NodeParts } from './node-parts.ts';

export interface LocalParts {
  membership: Membership | undefined;
  manager: Manager | undefined;
  node: NodeParts | undefined;
  /** Why a part does not run; '' if all do. */
  error: string;
  changing: boolean;
  locked: boolean;
  /** Address → node id of the managers, as the last session told. */
  managerIds: ReadonlyMap<string, string>;
  /** Whether droverd was started with an etcd that stands elsewhere. */
  outside: boolean;
}

export function localState(parts: LocalParts): ClusterState {
  const { membership, manager, node, error } = parts;
  if (membership === undefined) return outOfCluster(error);
  const session = node?.session();
  const broken = error || (session?.phase === 'removed' ? REMOVED : (node?.certificateError() ?? ''));
  const unused = unusedEtcd(membership, parts.outside);
  return {
    localNodeState: broken !== '' ? 'error' : parts.changing ? 'pending' : parts.locked ? 'locked' : 'active',
    nodeId: membership.nodeId,
    nodeAddress: membership.advertiseAddress,
    manager: manager !== undefined,
    error: broken || session?.error || (node?.warning() ?? ''),
    degraded: [...(unused === '' ? [] : [unused]), ...(manager?.degraded() ?? []), ...(node?.degraded() ?? [])],
    ...(membership.keeper === 'outside-etcd' && { outsideEtcd: true as const }),
    remoteManagers:
      manager === undefined
        ? membership.managers.map((address) => ({ NodeID: parts.managerIds.get(address) ?? '', Addr: address }))
        : managersOf(manager.store).map(({ nodeId, address }) => ({ NodeID: nodeId, Addr: address })),
  };
}

function outOfCluster(error: string): ClusterState {
  return {
    localNodeState: error === '' ? 'inactive' : 'error',
    nodeId: '',
    nodeAddress: '',
    manager: false,
    error,
    degraded: [],
    remoteManagers: [],
  };
}
