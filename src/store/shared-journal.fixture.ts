/**
 * A shared journal in memory, for the tests of what stands on one: a keeper with a client for each manager, and the faults that
 * the contract (journal/shared.ts) speaks of, when a test asks for them. Its time is the test's clock.
 */
import { JournalUnavailable, type Change, type Journal } from '../journal/journal.ts';
import {
  NotLeading,
  type FollowListener,
  type Following,
  type Leader,
  type Leadership,
  type SharedJournal,
} from '../journal/shared.ts';
import type { Clock } from '../model/clock.ts';

type Written = readonly { key: string; value: string | null }[];

/** What becomes of a commit: applied, nothing of it, or unknown with the first `applied` transactions made, now or later. */
export type Fate = 'taken' | 'refused' | { applied: number; afterMs?: number };

/** From `over` until somebody else may lead. */
export const LEASE_MS = 500;

interface Term {
  readonly client: KeeperClient;
  readonly self: Leader;
  readonly over: PromiseWithResolvers<string>;
  ended: boolean;
}

interface Campaign {
  readonly client: KeeperClient;
  readonly self: Leader;
  readonly elected: PromiseWithResolvers<Leadership>;
}

export class Keeper {
  readonly clock: Clock;
  readonly rows = new Map<string, string>();
  /** Each transaction that was applied; the revision is their number. */
  readonly transactions: Written[] = [];
  readonly #clients = new Set<KeeperClient>();
  readonly #campaigns = new Set<Campaign>();
  /** Whose key stands. */
  #term: Term | undefined;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  client(): KeeperClient {
    const client = new KeeperClient(this);
    this.#clients.add(client);
    return client;
  }

  get revision(): number {
    return this.transactions.length;
  }

  get leader(): Leader | undefined {
    return this.#term?.self;
  }

  isCurrent(term: Term): boolean {
    return this.#term === term;
  }

  apply(changes: Written): void {
    for (const { key, value } of changes) {
      if (value === null) this.rows.delete(key);
      else this.rows.set(key, value);
    }
    this.transactions.push(changes);
    for (const client of this.#clients) client.pump();
  }

  campaign(client: KeeperClient, self: Leader, signal: AbortSignal): Promise<Leadership> {
    const campaign = { client, self, elected: Promise.withResolvers<Leadership>() };
    this.#campaigns.add(campaign);
    const abort = () => {
      this.#campaigns.delete(campaign);
      campaign.elected.reject(signal.reason);
    };
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    this.elect();
    return campaign.elected.promise;
  }

  /** Gives the key, if it is free, to whoever has waited longest and can be reached. */
  elect(): void {
    if (this.#term !== undefined) return;
    for (const campaign of this.#campaigns) {
      if (campaign.client.cut) continue;
      this.#campaigns.delete(campaign);
      const { client, self } = campaign;
      this.#term = { client, self, over: Promise.withResolvers(), ended: false };
      campaign.elected.resolve(client.leadership(this.#term, this.revision));
      break;
    }
    this.#announce();
  }

  /** The key goes. */
  vacate(term: Term): void {
    if (this.#term !== term) return;
    this.#term = undefined;
    this.elect();
  }

  /** The leadership of this client, if any, runs out unseen. */
  expire(client: KeeperClient): void {
    if (this.#term?.client === client) this.endTerm(this.#term, 'its lease ran out');
  }

  endTerm(term: Term, why: string): void {
    if (term.ended) return;
    term.ended = true;
    term.over.resolve(why);
    this.clock.after(LEASE_MS, () => this.vacate(term));
  }

  #announce(): void {
    for (const client of this.#clients) client.announce();
  }
}

interface Told {
  readonly listener: FollowListener;
  revision: number;
  compacted: boolean;
  behind: Map<number, PromiseWithResolvers<void>[]>;
}

export class KeeperClient implements SharedJournal {
  readonly #keeper: Keeper;
  readonly #following = new Set<Told>();
  readonly #observers = new Set<(leader: Leader | undefined) => void>();
  /** What becomes of the next commits, in order; then: taken. */
  readonly fates: Fate[] = [];
  /** Commits wait for it before they reach the keeper. */
  gate: Promise<void> = Promise.resolve();
  #cut = false;
  #lags = false;

  constructor(keeper: Keeper) {
    this.#keeper = keeper;
  }

  /** How many follow by this client. */
  get followings(): number {
    return this.#following.size;
  }

  /** While true nothing of the keeper reaches this client. */
  get cut(): boolean {
    return this.#cut;
  }

  set cut(cut: boolean) {
    this.#cut = cut;
    if (cut) this.#keeper.expire(this);
    this.pump();
    this.announce();
    this.#keeper.elect();
  }

  /** While true it follows nothing, although it can be elected and write. */
  set lags(lags: boolean) {
    this.#lags = lags;
    this.pump();
  }

  /** Its leadership runs out, as when the process was paused for too long. */
  expire(): void {
    this.#keeper.expire(this);
  }

  /** What happened since it was last told is told as a whole, as after a compaction. */
  compact(): void {
    for (const told of this.#following) {
      if (told.revision === this.#keeper.revision) continue;
      told.compacted = true;
    }
    this.pump();
  }

  /** Its followers are told that what comes next cannot be read. */
  damage(error: Error): void {
    const told = [...this.#following];
    this.#following.clear();
    for (const { listener } of told) listener.damaged?.(error);
  }

  pump(): void {
    if (this.#cut || this.#lags) return;
    const { transactions, rows } = this.#keeper;
    for (const told of this.#following) {
      if (told.compacted) {
        told.compacted = false;
        told.revision = this.#keeper.revision;
        told.listener.replace(new Map(rows), told.revision);
      }
      while (told.revision < transactions.length) {
        told.revision += 1;
        told.listener.apply(transactions[told.revision - 1]!, told.revision);
      }
      for (const [revision, waiting] of told.behind) {
        if (revision > told.revision) continue;
        told.behind.delete(revision);
        for (const { resolve } of waiting) resolve();
      }
    }
  }

  announce(): void {
    for (const observer of this.#observers) observer(this.#cut ? undefined : this.#keeper.leader);
  }

  async follow(listener: FollowListener): Promise<Following> {
    await Promise.resolve();
    if (this.#cut) throw new JournalUnavailable('the keeper does not answer');
    const told: Told = { listener, revision: -1, compacted: false, behind: new Map() };
    this.#following.add(told);
    told.revision = this.#keeper.revision;
    listener.replace(new Map(this.#keeper.rows), told.revision);
    return {
      get revision() {
        return told.revision;
      },
      reached: (revision) => {
        if (told.revision >= revision) return Promise.resolve();
        const waiting = Promise.withResolvers<void>();
        told.behind.set(revision, [...(told.behind.get(revision) ?? []), waiting]);
        return waiting.promise;
      },
      stop: async () => {
        this.#following.delete(told);
      },
    };
  }

  campaign(self: Leader, signal: AbortSignal): Promise<Leadership> {
    return this.#keeper.campaign(this, self, signal);
  }

  leadership(term: Term, revision: number): Leadership {
    return {
      journal: new FencedJournal(this.#keeper, this, term),
      revision,
      over: term.over.promise,
      resign: async () => {
        this.#keeper.endTerm(term, 'resigned');
        if (!this.#cut) this.#keeper.vacate(term);
      },
    };
  }

  observe(listener: (leader: Leader | undefined) => void): () => void {
    this.#observers.add(listener);
    listener(this.#cut ? undefined : this.#keeper.leader);
    return () => this.#observers.delete(listener);
  }

  async hasQuorum(): Promise<boolean> {
    return !this.#cut;
  }

  async close(): Promise<void> {}
}

class FencedJournal implements Journal {
  readonly #keeper: Keeper;
  readonly #client: KeeperClient;
  readonly #term: Term;

  constructor(keeper: Keeper, client: KeeperClient, term: Term) {
    this.#keeper = keeper;
    this.#client = client;
    this.#term = term;
  }

  async load(): Promise<Map<string, string>> {
    return new Map(this.#keeper.rows);
  }

  async commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    const written = transactions.map((changes) => changes.map(({ key, value }) => ({ key, value })));
    await this.#client.gate;
    if (this.#term.ended || !this.#keeper.isCurrent(this.#term)) throw new NotLeading('the fence stands');
    const fate = this.#client.cut ? { applied: 0 } : (this.#client.fates.shift() ?? 'taken');
    if (fate === 'refused') throw new JournalUnavailable('no quorum');
    if (fate === 'taken') {
      for (const changes of written) this.#keeper.apply(changes);
      return;
    }
    this.#keeper.endTerm(this.#term, 'a write is in doubt');
    for (const changes of written.slice(0, fate.applied)) {
      if (fate.afterMs === undefined) this.#keeper.apply(changes);
      else
        this.#keeper.clock.after(fate.afterMs, () => {
          // As the keeper does: it looks at the fence when it applies.
          if (this.#keeper.isCurrent(this.#term)) this.#keeper.apply(changes);
        });
    }
    throw new Error('no answer in time');
  }

  async close(): Promise<void> {}
}
