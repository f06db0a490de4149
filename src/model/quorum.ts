/**
 * How many managers must remain for the swarm to take writes: more than half of those that take part. Pure; counts what the
 * nodes' rows say of reachability.
 */
import type { Node } from './objects.ts';

/** What is looked at of a node: it takes part as a manager if it has a `manager` status. */
export type ManagerRow = Pick<Node, 'id' | 'spec' | 'manager'>;

export interface ManagerCount {
  reachable: number;
  unreachable: number;
}

/** The fewest of `managers` that make a majority. */
export function quorumOf(managers: number): number {
  return Math.floor(managers / 2) + 1;
}

/** Those that take part now; of whom nothing is known yet counts as neither. */
export function countManagers(nodes: Iterable<ManagerRow>): ManagerCount {
  const count = { reachable: 0, unreachable: 0 };
  for (const { manager } of nodes) {
    if (manager?.reachability === 'reachable') count.reachable += 1;
    else if (manager?.reachability === 'unreachable') count.unreachable += 1;
  }
  return count;
}

/**
 * Whether the managers that are to remain without `nodeId` have a majority in reach. Those that are demoted already are not
 * counted: they are on their way out.
 */
export function quorumWithout(nodes: Iterable<ManagerRow>, nodeId: string): boolean {
  let remaining = 0;
  let reachable = 0;
  for (const { id, spec, manager } of nodes) {
    if (manager === undefined || spec.Role !== 'manager' || id === nodeId) continue;
    remaining += 1;
    if (manager.reachability === 'reachable') reachable += 1;
  }
  return reachable >= quorumOf(remaining);
}
