/**
 * How a manager comes to lead: it takes the leader's key when nobody has it, or from a leader who has written nothing for the
 * time that was agreed with it. Then it makes whole what the leader before has left, and only then it leads.
 */
import type { Clock, Log, Random } from '../../model/clock.ts';
import { NotLeading, type Leader, type Leadership } from '../shared.ts';
import { EtcdError, type Condition, type EtcdApi } from './api.ts';
import type { Limits } from './batch.ts';
import { FencedJournal, roundText } from './fenced-journal.ts';
import type { Keys } from './keys.ts';
import { leaderText, type LeaderWatch } from './leader-watch.ts';
import { pause } from './pause.ts';
import { Term } from './term.ts';

const RETRY_MS = 50;

/** This etcd does not hold the cluster (any more): to stand for election in it is of no use. */
export class NotHeld extends Error {
  override readonly name = 'NotHeld';
}

export interface ElectionDeps {
  api: EtcdApi;
  keys: Keys;
  watch: LeaderWatch;
  clock: Clock;
  random: Random;
  log: Log;
  ttlMs: number;
  limits: Limits;
  /** Whether the key is taken only where the cluster's claim stands. */
  claimed?: boolean;
  /** Aborted when all of it ends. */
  closed: AbortSignal;
}

/** The key is this manager's, as of `revision`. */
interface Won {
  journal: FencedJournal;
  term: Term;
  revision: number;
}

/** A leadership that can say how far it came. */
export interface TimedLeadership extends Leadership {
  term: Pick<Term, 'confirmedMs'>;
}

/** As SharedJournal's `campaign`. Rejects with NotHeld too. */
export async function campaign(deps: ElectionDeps, self: Leader, signal: AbortSignal): Promise<TimedLeadership> {
  const quit = AbortSignal.any([signal, deps.closed]);
  for (;;) {
    const opening = await deps.watch.opening(quit);
    const leadership = await stand(deps, { self, opening, quit });
    if (leadership !== undefined && !quit.aborted) return leadership;
    await leadership?.resign();
    quit.throwIfAborted();
    await pause(deps.clock, RETRY_MS, quit);
  }
}

interface Candidacy {
  self: Leader;
  /** What must hold, so that the key may be taken. */
  opening: readonly Condition[];
  quit: AbortSignal;
}

/** One try. Undefined: another was first, or etcd does not take it. */
async function stand(deps: ElectionDeps, candidacy: Candidacy): Promise<TimedLeadership | undefined> {
  let won: Won | undefined;
  try {
    won = await takeKey(deps, candidacy);
    return won && (await lead(deps, won));
  } catch (error) {
    if (error instanceof NotHeld) throw error;
    deps.log.warn({ err: error }, 'this manager was not able to stand for election; trying again');
    await won?.journal.resign();
    return undefined;
  }
}

async function takeKey(deps: ElectionDeps, { self, opening, quit }: Candidacy): Promise<Won | undefined> {
  const { api, keys, watch, clock, log, random, limits, ttlMs } = deps;
  const claim = deps.claimed === true ? [keys.claim] : [];
  const id = Math.floor(random() * 2 ** 52).toString(36);
  const leader = leaderText({ leader: self, term: id, ttlMs });
  const round = roundText(id, 0);
  const txn = {
    when: [...opening, ...claim],
    write: [
      { put: keys.leader, value: leader },
      { put: keys.round, value: round },
    ],
    otherwise: [keys.leader, keys.round, ...claim.map(({ key }) => key)],
  };
  const askedAtMs = clock.monotonic();
  const term = new Term({ clock, id, ttlMs, askedAtMs });
  const journal = new FencedJournal({ api, keys, clock, log, term, leader, limits });
  let doubt = false;
  while (term.isLive() && !quit.aborted) {
    try {
      const { applied, revision, read } = await api.txn(txn, term.begin());
      const [row, rounds, claimant] = read.map((one) => one?.value ?? null);
      // An earlier try of this, whose answer was lost, may have taken it.
      if (applied || row === leader) return { journal, term, revision };
      watch.tell({ leader: row ?? null, round: rounds ?? null }, revision);
      term.end('another was first');
      if (claim.some(({ value }) => value !== claimant)) throw new NotHeld('this etcd does not hold the swarm');
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      doubt ||= error.failure === 'unknown';
      if (error.failure !== 'unknown' && error.failure !== 'unsent' && !doubt) {
        term.end('it was not taken');
        throw error;
      }
    }
    await pause(clock, RETRY_MS, term.ended);
  }
  if (doubt) await journal.resign();
  term.end('it was not taken');
  return undefined;
}

async function lead({ watch, closed }: ElectionDeps, { journal, term, revision }: Won): Promise<TimedLeadership> {
  const unwatch = watch.watch(() => {
    if (watch.hasEnded(term.id, revision)) term.end('its key in etcd is gone');
  });
  const end = () => term.end('the journal is closed');
  closed.addEventListener('abort', end);
  term.ended.addEventListener('abort', () => {
    unwatch();
    closed.removeEventListener('abort', end);
  });
  // What that makes whole counts as written before the election: followers were told of it then.
  await journal.begin();
  if (!term.isLive())
    throw new NotLeading('elected, but the time ran out before what was written before could be read');
  return { journal, revision, term, over: term.over, resign: () => journal.resign() };
}
