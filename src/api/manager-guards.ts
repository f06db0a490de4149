/** What keeps a swarm from losing its managers by mistake: Docker's rules and words for demoting one and for leaving as one. Pure. */
import type { Node } from '../model/objects.ts';
import { countManagers, quorumWithout } from '../model/quorum.ts';
import { badRequest } from './errors.ts';

const LEAVING = 'You are attempting to leave the swarm on a node that is participating as a manager. ';
const LAST = 'Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.';
const DEMOTE = 'Demote it first with `docker node demote`, or use `--force` to suppress this message.';
const RESTORE =
  'The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message.';

/** `outsideEtcd`: managers keep the state in an etcd that stands elsewhere, so one of them that can be reached is enough. */
export interface Agreement {
  outsideEtcd?: true | undefined;
}

/** @throws ApiError 400 if the swarm would have no manager, or no quorum, without this one */
export function assertDemotable(node: Node, nodes: readonly Node[], { outsideEtcd }: Agreement = {}): void {
  if (nodes.filter(({ spec }) => spec.Role === 'manager').length === 1)
    throw badRequest('attempting to demote the last manager of the swarm');
  if (outsideEtcd) {
    if (!nodes.some((other) => other.id !== node.id && canLead(other)))
      throw badRequest('attempting to demote the last manager of the swarm that can be reached');
    return;
  }
  // One that is only just joining takes no part yet.
  if (node.manager !== undefined && !quorumWithout(nodes, node.id))
    throw badRequest("can't remove member from the raft: this would result in a loss of quorum");
}

function canLead({ spec, manager }: Node): boolean {
  return spec.Role === 'manager' && manager?.reachability === 'reachable';
}

/** Why a manager does not leave unless forced; `nodes` undefined: what they are now is not known. */
export function leaveRefusal(
  nodeId: string,
  nodes: readonly Node[] | undefined,
  { outsideEtcd }: Agreement = {},
): string {
  if (outsideEtcd) {
    const last = nodes !== undefined && !nodes.some((other) => other.id !== nodeId && other.manager !== undefined);
    return LEAVING + (last ? LAST : DEMOTE);
  }
  const { reachable, unreachable } = countManagers(nodes ?? []);
  const itself = nodes?.find(({ id }) => id === nodeId);
  // Docker's rule: without it, fewer would be left than what keeps a quorum when one more is lost.
  if (itself?.manager?.reachability !== 'reachable' || reachable - 2 > unreachable) return LEAVING + RESTORE;
  if (reachable === 1 && unreachable === 0) return LEAVING + LAST;
  const left = `Removing this node leaves ${reachable - 1} managers out of ${reachable + unreachable}. `;
  return `${LEAVING}${left}Without a Raft quorum your swarm will be inaccessible. ${RESTORE}`;
}
