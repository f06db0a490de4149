/** Whether the members could still agree after a change of who takes part, and who of them can be reached. Pure. */
import type { Member } from './api.ts';

/** One change at a time, as etcd makes them. */
export type MembershipChange = { addLearner: string } | { promote: string } | { remove: string };

export interface Quorum {
  voters: number;
  /** How many of the voters must agree. */
  needed: number;
  /** How many of the voters can be reached. */
  reachable: number;
  holds: boolean;
}

type Voter = Pick<Member, 'id' | 'learner'>;

/** The quorum of `members` once `change` is made; `reachable` has the ids of those that answer. Without voters none holds. */
export function quorumAfter(
  members: Iterable<Voter>,
  reachable: ReadonlySet<string>,
  change?: MembershipChange,
): Quorum {
  const voters = [...members].filter((member) => votesAfter(member, change));
  const needed = Math.floor(voters.length / 2) + 1;
  const count = voters.filter(({ id }) => reachable.has(id)).length;
  return { voters: voters.length, needed, reachable: count, holds: count >= needed };
}

function votesAfter({ id, learner }: Voter, change: MembershipChange | undefined): boolean {
  if (change !== undefined && 'remove' in change && change.remove === id) return false;
  return !learner || (change !== undefined && 'promote' in change && change.promote === id);
}

/** What is known of how a member answers. Times are of one monotonic clock, in milliseconds. */
export interface Probes {
  /** When the last one that was answered was sent. */
  answeredMs?: number;
  /** How many since then, or ever, were not answered. */
  failures: number;
}

/** So many questions without an answer are silence; one may be bad luck. */
const SILENT_AFTER = 2;

/** Whether a member can be reached; undefined: not known yet. */
export function isReachable({ answeredMs, failures }: Probes): boolean | undefined {
  if (failures >= SILENT_AFTER) return false;
  return answeredMs === undefined ? undefined : true;
}

/** What is known after one more probe, sent at `sentMs`. */
export function afterProbe(probes: Probes, sentMs: number, answered: boolean): Probes {
  return answered ? { answeredMs: sentMs, failures: 0 } : { ...probes, failures: probes.failures + 1 };
}

/** How far a learner has come. Times are of one monotonic clock, in milliseconds. */
export interface Progress {
  appliedIndex: number;
  /** When it was first seen to be this far. */
  sinceMs: number;
}

/** What is known after a look at `nowMs`; `appliedIndex` is undefined if it did not answer. */
export function afterLook(before: Progress | undefined, appliedIndex: number | undefined, nowMs: number): Progress {
  if (before === undefined) return { appliedIndex: appliedIndex ?? -1, sinceMs: nowMs };
  if (appliedIndex === undefined || appliedIndex <= before.appliedIndex) return before;
  return { appliedIndex, sinceMs: nowMs };
}

/** Whether a learner has got nowhere for `stallMs`: while it is there, nobody else can join. */
export function isStalled({ sinceMs }: Progress, nowMs: number, stallMs: number): boolean {
  return nowMs - sinceMs >= stallMs;
}
