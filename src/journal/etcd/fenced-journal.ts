/**
 * The journal of one leadership. Every write is one transaction of etcd that is applied only if this leadership's key stands
 * and the round is the one that the write before it has left. So nobody who was deposed writes, order holds, and a write
 * whose outcome is not known can be tried again: it happens once, and a further try finds that it has.
 *
 * - Commits that wait become one write, each of them whole; one that is larger is cut between its transactions.
 * - A transaction larger than a write is made by way of `redo/` (redo.ts).
 * - While there is nothing to write, empty writes show that the leader lives, and tell it that it leads.
 */
import type { Clock, Log } from '../../model/clock.ts';
import { JournalUnavailable, type Change, type Journal } from '../journal.ts';
import { NotLeading } from '../shared.ts';
import { EtcdError, type EtcdApi, type Operation, type Row } from './api.ts';
import { Batch, type Limits } from './batch.ts';
import { readAll } from './following.ts';
import { only, type Keys } from './keys.ts';
import { pause } from './pause.ts';
import { changesOf, partsOf, Reader } from './redo.ts';
import type { Term } from './term.ts';

const RETRY_MS = 50;
/** How long it is tried to give the leadership up, before it is left to run out. */
const RESIGN_MS = 2_000;

export interface FencedJournalDeps {
  api: EtcdApi;
  keys: Keys;
  clock: Clock;
  log: Log;
  term: Term;
  /** What the leader's key holds. */
  leader: string;
  limits: Limits;
}

interface Job {
  transactions: Change[][];
  done: PromiseWithResolvers<void>;
}

/** The round that is set by the write of this number. */
export function roundText(term: string, write: number): string {
  return `${term}.${write}`;
}

export class FencedJournal implements Journal {
  readonly #deps: FencedJournalDeps;
  readonly #queue: Job[] = [];
  /** How many writes of this leadership were applied. */
  #round = 0;
  /** Parts of a large transaction may lie about that did not become valid. */
  #litter = false;
  #writing: Promise<void> | undefined;
  #resigned: Promise<void> | undefined;
  #closed = false;

  constructor(deps: FencedJournalDeps) {
    this.#deps = deps;
  }

  async load(): Promise<Map<string, string>> {
    const { api, keys } = this.#deps;
    try {
      const { rows } = await readAll(api, keys);
      return new Reader(keys).rows(rows);
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      throw new JournalUnavailable(`the cluster's state cannot be read: ${error.message}`, { cause: error });
    }
  }

  async commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    if (this.#closed) throw new Error('the journal is closed');
    if (!this.#deps.term.isLive()) throw notLeading();
    // Values are made when they are read: all of them now, before anything is written.
    const written = transactions.map((changes) => changes.map(({ key, value }) => ({ key, value })));
    const job: Job = { transactions: written.filter((changes) => changes.length > 0), done: Promise.withResolvers() };
    if (job.transactions.length > 0) await this.#enqueue(job);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
  }

  /**
   * To be called first, once the leader's key is taken: finishes, or removes, what an earlier leader left of a large
   * transaction, and keeps the leadership alive from then on. Rejects as `commit` does, or with EtcdError.
   */
  async begin(): Promise<void> {
    const { api, keys } = this.#deps;
    const { rows } = await api.range(keys.redo);
    const changes = changesOf(rows.map(({ value }) => value));
    if (changes !== undefined) await this.#finish(changes);
    else if (rows.length > 0) await this.#write([{ removeRange: keys.redo }]);
    void this.#beat();
  }

  /** Ends the leadership, so that another may begin at once. Never rejects. */
  resign(): Promise<void> {
    this.#deps.term.end('it was given up');
    this.#resigned ??= this.#giveUp();
    return this.#resigned;
  }

  async #giveUp(): Promise<void> {
    const { api, keys, clock, leader } = this.#deps;
    const untilMs = clock.monotonic() + RESIGN_MS;
    while (clock.monotonic() < untilMs) {
      try {
        await api.txn({
          when: [{ key: keys.leader, value: leader }],
          write: [{ remove: keys.leader }],
          otherwise: [],
        });
        return;
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
      }
      await pause(clock, RETRY_MS);
    }
  }

  async #beat(): Promise<void> {
    const { clock, log, term } = this.#deps;
    while (term.isLive()) {
      await pause(clock, Math.max(RETRY_MS, term.beatInMs), term.ended);
      if (this.#writing !== undefined) await this.#writing;
      if (term.beatInMs > 0 || !term.isLive()) continue;
      try {
        await this.#enqueue({ transactions: [], done: Promise.withResolvers() });
      } catch (error) {
        // What it means for the leadership, the term says.
        log.debug({ err: error }, 'the leader was not able to show that it lives');
      }
    }
  }

  async #enqueue(job: Job): Promise<void> {
    this.#queue.push(job);
    this.#writing ??= this.#drain();
    await job.done.promise;
  }

  async #drain(): Promise<void> {
    // One turn later: commits asked for in the same tick share the first write.
    await Promise.resolve();
    for (let job = this.#queue.shift(); job !== undefined; job = this.#queue.shift()) {
      const batch = new Batch(this.#deps.limits);
      if (batch.tryToAdd(job.transactions.flat())) {
        const jobs = [job, ...this.#takeWhatFits(batch)];
        await settle(jobs, this.#write(this.#puts(batch.changes)));
      } else {
        await settle([job], this.#writeInPieces(job.transactions));
      }
    }
    this.#writing = undefined;
  }

  /** Adds to `batch` the commits that wait, as long as each fits as a whole. */
  #takeWhatFits(batch: Batch): Job[] {
    let fitting = 0;
    while (this.#queue[fitting] !== undefined && batch.tryToAdd(this.#queue[fitting]!.transactions.flat())) fitting++;
    return this.#queue.splice(0, fitting);
  }

  async #writeInPieces(transactions: readonly Change[][]): Promise<void> {
    const { limits, term } = this.#deps;
    let begun = false;
    for (let i = 0; i < transactions.length;) {
      const batch = new Batch(limits);
      const from = i;
      while (i < transactions.length && batch.tryToAdd(transactions[i]!)) i++;
      if (i === from) batch.add(transactions[i++]!);
      try {
        if (batch.fits) await this.#write(this.#puts(batch.changes));
        else await this.#writeLarge(batch.changes);
      } catch (error) {
        if (!begun) throw error;
        term.end('a commit was broken off');
        throw new Error('a commit was broken off: some of it is written', { cause: error });
      }
      begun = true;
    }
  }

  async #writeLarge(changes: readonly Change[]): Promise<void> {
    const { keys, limits, term } = this.#deps;
    this.#checkRows(changes);
    if (this.#litter) await this.#write([{ removeRange: keys.redo }]);
    this.#litter = true;
    for (const [i, part] of partsOf(changes, limits.bytes).entries())
      await this.#write([{ put: keys.redoPart(i), value: part }]);
    this.#litter = false;
    // It is made. What comes now is done by the next leader if it cannot be done here.
    try {
      await this.#finish(changes);
    } catch (error) {
      term.end(`a large transaction could not be finished: ${(error as Error).message}`);
    }
  }

  /** A row that is larger than any write must be refused before there is a part of it. */
  #checkRows(changes: readonly Change[]): void {
    const { limits } = this.#deps;
    for (const change of changes) {
      const alone = new Batch(limits);
      alone.add([change]);
      if (alone.fits) continue;
      throw new JournalUnavailable(
        `a row of ${alone.bytes} bytes is more than the cluster's journal takes (${limits.bytes} bytes); nothing was changed`,
      );
    }
  }

  /** Writes the rows of a large transaction that is valid; the last write removes its parts. */
  async #finish(changes: readonly Change[]): Promise<void> {
    const { keys, limits } = this.#deps;
    // One operation of the last write removes the parts.
    const smaller = { ...limits, rows: limits.rows - 1 };
    let batch = new Batch(smaller);
    for (const change of changes) {
      if (batch.tryToAdd([change])) continue;
      await this.#write(this.#puts(batch.changes));
      batch = new Batch(smaller);
      batch.add([change]);
    }
    await this.#write([...this.#puts(batch.changes), { removeRange: keys.redo }]);
  }

  #puts(changes: readonly Change[]): Operation[] {
    const { keys } = this.#deps;
    return changes.map(({ key, value }) =>
      value === null ? { remove: keys.row(key) } : { put: keys.row(key), value },
    );
  }

  /** Makes one write. Rejects as `commit` does. */
  async #write(operations: readonly Operation[]): Promise<void> {
    const { api, keys, clock, term, leader } = this.#deps;
    const next = roundText(term.id, this.#round + 1);
    const txn = {
      when: [
        { key: keys.leader, value: leader },
        { key: keys.round, value: roundText(term.id, this.#round) },
      ],
      write: [...operations, { put: keys.round, value: next }],
      otherwise: [keys.round],
    };
    const askedAtMs = clock.monotonic();
    let doubt: EtcdError | undefined;
    while (term.isLive()) {
      try {
        const { applied, read } = await api.txn(txn, term.begin());
        if (!applied) this.#checkRound(read[0], next, doubt);
        this.#made(askedAtMs);
        return;
      } catch (error) {
        if (!(error instanceof EtcdError)) throw error;
        if (error.failure === 'unknown') doubt = error;
        else if (error.failure !== 'unsent' && doubt === undefined && (await this.#isMade(error, next))) {
          this.#made(askedAtMs);
          return;
        }
      }
      await pause(clock, RETRY_MS, term.ended);
    }
    if (doubt === undefined) throw notLeading();
    throw this.#inDoubt(doubt);
  }

  /** Others saw it after it was first asked for: from then on counts the time that they wait. */
  #made(askedAtMs: number): void {
    this.#round++;
    this.#deps.term.confirm(askedAtMs);
  }

  /** A condition did not hold: returns if an earlier try of this write is why. */
  #checkRound(round: Row | undefined, next: string, doubt: EtcdError | undefined): void {
    // Only this leadership writes these rounds, and only the next one overwrites the last of them.
    if (round?.value === next) return;
    this.#deps.term.end('another manager leads');
    if (doubt !== undefined) throw this.#inDoubt(doubt);
    throw notLeading();
  }

  /** etcd has refused it. Whether it is written nevertheless; rejects if it is surely not. False: ask again. */
  async #isMade(refusal: EtcdError, next: string): Promise<boolean> {
    const { api, keys } = this.#deps;
    let round: Row | undefined;
    try {
      round = (await api.range(only(keys.round))).rows[0];
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      return false;
    }
    if (round?.value !== next) throw new JournalUnavailable(refusalOf(refusal), { cause: refusal });
    return true;
  }

  #inDoubt(doubt: EtcdError): Error {
    this.#deps.term.end('a write is in doubt');
    return new Error(`whether etcd has made the write is not known (${doubt.message})`, { cause: doubt });
  }
}

async function settle(jobs: readonly Job[], outcome: Promise<unknown>): Promise<void> {
  try {
    await outcome;
    for (const { done } of jobs) done.resolve();
  } catch (error) {
    for (const { done } of jobs) done.reject(error);
  }
}

function refusalOf({ failure, message }: EtcdError): string {
  const reason = failure === 'full' ? 'the database of etcd is full (its quota is used up)' : message;
  return `the cluster's journal took nothing: ${reason}; nothing was changed, try again later`;
}

function notLeading(): NotLeading {
  return new NotLeading('this manager does not lead the swarm; nothing was changed');
}
