/** Where a manager's settings have it keep the cluster's state, and what to say where its cluster has it otherwise. */
import { readEtcdSettings, type EtcdOption } from './etcd-option.ts';
import type { Membership } from './membership.ts';

/** A manager that joins others has its part in what they share; a worker keeps no state. `outside`: an etcd is named for it. */
export function inRole(role: Membership['role'], outside: boolean): Pick<Membership, 'role' | 'keeper'> {
  return role === 'manager' ? { role, keeper: sharedKeeper(outside) } : { role };
}

function sharedKeeper(outside: boolean): Membership['keeper'] {
  return outside ? 'outside-etcd' : 'etcd';
}

/**
 * The membership with which this node begins. Who was not let in by the other managers yet (`placed`) goes by what it is
 * started with now, so that a wrong start can be mended by another.
 */
export function withKeeper(
  membership: Membership,
  { outside, placed }: { outside: boolean; placed: boolean },
): Membership {
  if (membership.keeper === undefined || placed) return membership;
  const keeper = sharedKeeper(outside);
  return membership.keeper === keeper ? membership : { ...membership, keeper };
}

/** Why this manager cannot take part as it was started; '' if it can. Looks at the files that are named. */
export function keeperTrouble({ keeper }: Pick<Membership, 'keeper'>, etcd: EtcdOption | undefined): string {
  if (keeper !== 'outside-etcd') return '';
  if (etcd !== undefined) return filesTrouble(etcd);
  return 'This swarm keeps its state in an etcd that stands elsewhere: start droverd on this manager with the --etcd-endpoints of the other managers. What the swarm runs here goes on.';
}

function filesTrouble(etcd: EtcdOption): string {
  try {
    readEtcdSettings(etcd);
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

/** That the etcd which was named is of no use to this manager's cluster; '' if it is, or none was named. */
export function unusedEtcd({ role, keeper }: Pick<Membership, 'role' | 'keeper'>, outside: boolean): string {
  if (!outside || role !== 'manager' || keeper === 'outside-etcd') return '';
  const where = keeper === 'etcd' ? 'in an etcd of its managers’ own' : 'in a database of this manager';
  return `--etcd-endpoints is not used: this swarm keeps its state ${where}, as it was made, and is not moved`;
}
