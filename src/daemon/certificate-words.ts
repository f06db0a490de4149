/** What `docker info` says of a node whose certificate does not hold now: which times disagree, and the way out. Pure. */
import { CertificateNotCurrent, type Life } from '../pki/identity.ts';
import type { Membership } from './membership.ts';

/** '' while the certificate holds. */
export function certificateError(
  life: Life,
  nowMs: number,
  { nodeId, role }: Pick<Membership, 'nodeId' | 'role'>,
): string {
  if (nowMs >= life.fromMs && nowMs <= life.untilMs) return '';
  const what = `this node cannot take part in its swarm: ${new CertificateNotCurrent(life, nowMs).message}.`;
  if (nowMs < life.fromMs) return `${what} Set the clock; the node then goes on by itself.`;
  if (role === 'manager')
    return `${what} As a manager it renews it by itself; if this stays, the log of droverd says why.`;
  return (
    `${what} If the clock is wrong, set it; the node then goes on by itself. If it is right, run "docker swarm leave" here, ` +
    `"docker node rm --force ${nodeId}" on a manager, and join again.`
  );
}
