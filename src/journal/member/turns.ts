/**
 * Whose turn it is to have its etcd started again: one member at a time, and only while the others do without it. They agree by
 * one key of etcd's, which is changed only as it was read. Pure.
 */
import { z } from 'zod';
import type { Member } from './api.ts';
import type { Asked } from './statuses.ts';

/** What the members have said of themselves. */
export interface Turns {
  /** Id of a member → digest of the root certificate that it runs with. */
  roots: Record<string, string>;
  /** Id of the member that is being started again. */
  turn?: string | undefined;
}

/** A turn that has stood for this long is nobody's: who took it has died, or its host has. */
const TURN_MS = 60_000;
/** How long etcd's leader waits for the others to go before it: somebody's droverd may not run. */
const LAST_MS = 120_000;
/** So far behind the newest entry a member has caught up. */
const LAG = 1_000;

/** What one member knows of all. */
export interface Situation {
  selfId: string;
  /** Digest of the root certificate that holds now. */
  root: string;
  upToDate: boolean;
  /** How long it has not been. */
  staleMs: number;
  turns: Turns;
  /** How long the turns have stood as they are. */
  standMs: number;
  members: readonly Member[];
  /** Of those that answer. */
  statuses: readonly Asked[];
}

/** `tell`: the turns are to say what this member runs with, and that its turn is over. */
export type Step = 'restart' | 'tell' | 'wait' | 'nothing';

const shape = z.object({ roots: z.record(z.string(), z.string()), turn: z.string().optional() });

/** What the key holds; without it nobody has said anything yet. Throws if it is not understood. */
export function turnsIn(text: string | undefined): Turns {
  return text === undefined ? { roots: {} } : shape.parse(JSON.parse(text));
}

/** What this member is to do now. */
export function nextStep(seen: Situation): Step {
  const { selfId, root, turns } = seen;
  const self = seen.statuses.find(({ memberId }) => memberId === selfId);
  if (seen.upToDate) {
    if (turns.turn !== selfId && turns.roots[selfId] === root) return 'nothing';
    return self !== undefined && self.leaderId !== '0' ? 'tell' : 'wait';
  }
  if (isAnothers(seen) || standIns(seen) === undefined) return 'wait';
  return self?.leaderId === selfId && !isLast(seen) ? 'wait' : 'restart';
}

/** The turns once this member is up to date; what was said of members that are no more is forgotten. */
export function told({ selfId, root, turns, members }: Situation): Turns {
  const there = new Set(members.map(({ id }) => id));
  const roots = Object.entries(turns.roots).filter(([id]) => there.has(id));
  const turn = turns.turn === selfId ? undefined : turns.turn;
  return { roots: { ...Object.fromEntries(roots), [selfId]: root }, turn };
}

/**
 * The others that go on while this member is away, etcd's leader first; undefined if they are too few now. Of one or two members
 * none can be spared: they are started again while all answer, and writes wait.
 */
export function standIns({ selfId, members, statuses }: Situation): Asked[] | undefined {
  const voters = new Set(members.filter(({ learner }) => !learner).map(({ id }) => id));
  const newest = Math.max(0, ...statuses.map(({ raftIndex }) => raftIndex));
  const others = statuses.filter(({ memberId }) => memberId !== selfId && voters.has(memberId));
  const leaders = new Set(others.map(({ leaderId }) => leaderId));
  const well = others.filter(({ raftAppliedIndex }) => raftAppliedIndex >= newest - LAG);
  const needed = voters.size <= 2 ? voters.size - 1 : Math.floor(voters.size / 2) + 1;
  if (well.length < needed || leaders.size > 1 || leaders.has('0')) return undefined;
  return well.toSorted((a, b) => Number(b.memberId === b.leaderId) - Number(a.memberId === a.leaderId));
}

function isAnothers({ selfId, turns: { turn }, standMs, members }: Situation): boolean {
  return turn !== undefined && turn !== selfId && standMs < TURN_MS && members.some(({ id }) => id === turn);
}

/** Whether all others that answer run with the root that holds now. */
function isLast({ selfId, root, staleMs, turns, statuses }: Situation): boolean {
  const others = statuses.filter(({ memberId }) => memberId !== selfId);
  return staleMs >= LAST_MS || others.every(({ memberId }) => turns.roots[memberId] === root);
}
