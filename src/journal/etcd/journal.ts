/**
 * The journal that several managers share, kept by etcd. Where its rows lie says keys.ts; who may write, term.ts and
 * fenced-journal.ts. Works the same over any EtcdApi and under any clock, so that it runs in the simulator as it is.
 */
import type { Clock, Log, Random } from '../../model/clock.ts';
import type { FollowListener, Following, Leader, Leadership, SharedJournal } from '../shared.ts';
import { EtcdError, type EtcdApi } from './api.ts';
import type { Limits } from './batch.ts';
import { campaign } from './election.ts';
import { EtcdFollowing } from './following.ts';
import { Keys, only } from './keys.ts';
import { LeaderWatch } from './leader-watch.ts';
import { TOO_BUSY } from './term.ts';

export interface EtcdJournalOptions {
  /** Closed with the journal. */
  api: EtcdApi;
  /** Several clusters may use one etcd. */
  clusterId: string;
  /** Below which all keys lie, with `/` at both ends (default `/drover/`). */
  prefix?: string;
  /**
   * Somebody else's etcd: nobody leads unless it names this cluster as the one that has the prefix (outside.ts). So no manager
   * takes an etcd that is another one, or was emptied, for a cluster without any state.
   */
  claimed?: boolean;
  clock: Clock;
  random: Random;
  log: Log;
  /**
   * How long nobody else leads after a leader has fallen silent. A leader whose writes are not confirmed for almost as long (its
   * process has no time, etcd has no leader or a slow disk) steps down. If it was the process, and nothing
   * was confirmed later than `STEADY_TTL` times this after its election, it takes `BUSY_TTL` times the time at the next one: else
   * one who is busy after each election would never get to lead. Nothing else makes it longer: when that leader is lost, all wait
   * so long for the next.
   */
  ttlMs?: number;
  /** The operations that etcd takes in a transaction (`--max-txn-ops`). */
  maxOps?: number;
  /** Bytes of keys and values in a transaction: well below etcd's `--max-request-bytes`. */
  maxBytes?: number;
}

const TTL_MS = 2_000;
const BUSY_TTL = 2;
const STEADY_TTL = 2;
/** etcd's own defaults: 128 operations, 1.5 MiB. */
const MAX_OPS = 128;
const MAX_BYTES = 1024 * 1024;

export class EtcdJournal implements SharedJournal {
  readonly #options: EtcdJournalOptions;
  readonly #keys: Keys;
  readonly #watch: LeaderWatch;
  readonly #limits: Limits;
  readonly #closed = new AbortController();
  readonly #followings = new Set<Following>();
  /** What the next leadership's time is multiplied by. */
  #patience = 1;
  #closing: Promise<void> | undefined;

  constructor(options: EtcdJournalOptions) {
    const { api, clock, clusterId, prefix, maxOps = MAX_OPS, maxBytes = MAX_BYTES } = options;
    this.#options = options;
    this.#keys = new Keys(clusterId, prefix);
    this.#watch = new LeaderWatch({ api, clock, keys: this.#keys });
    // One operation of each transaction sets the round.
    this.#limits = { rows: maxOps - 1, bytes: maxBytes };
  }

  async follow(listener: FollowListener): Promise<Following> {
    const { api, clock } = this.#options;
    const following = await EtcdFollowing.start({ api, clock, keys: this.#keys }, listener, this.#closed.signal);
    this.#followings.add(following);
    void following.ended.then(() => this.#followings.delete(following));
    return following;
  }

  async campaign(self: Leader, signal: AbortSignal): Promise<Leadership> {
    const { ttlMs = TTL_MS, clock, ...deps } = this.#options;
    const [keys, watch, limits, closed] = [this.#keys, this.#watch, this.#limits, this.#closed.signal];
    const ownTtlMs = ttlMs * this.#patience;
    const leadership = await campaign({ ...deps, clock, ttlMs: ownTtlMs, keys, watch, limits, closed }, self, signal);
    const sinceMs = clock.monotonic();
    void leadership.over.then((why) => {
      const short = why === TOO_BUSY && leadership.term.confirmedMs - sinceMs < STEADY_TTL * ownTtlMs;
      this.#patience = short ? BUSY_TTL : 1;
    });
    return leadership;
  }

  observe(listener: (leader: Leader | undefined) => void): () => void {
    let told: Leader | undefined;
    const tell = () => {
      const { leader } = this.#watch;
      if (leader?.nodeId === told?.nodeId && leader?.address === told?.address) return;
      told = leader;
      listener(leader);
    };
    told = this.#watch.leader;
    listener(told);
    return this.#watch.watch(tell);
  }

  async hasQuorum(): Promise<boolean> {
    try {
      await this.#options.api.range(only(this.#keys.leader));
      return true;
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      return false;
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed.abort(new Error('the journal is closed'));
    const stopping = [this.#watch, ...this.#followings].map((part) => part.stop());
    this.#options.api.close();
    await Promise.all(stopping);
  }
}
