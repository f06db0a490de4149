/**
 * The shared journal of the simulator: the real one (journal/etcd) on an etcd in memory, reached over a way that can be slow,
 * lose things and be cut. The time of the keeper and of its clients, and all chance, come from outside: the same seed, the
 * same run. Passes the same compliance suite as the journal on a real etcd.
 *
 * What it keeps of the real one: a request that was sent may arrive late, also after the one who sent it has given up or died;
 * without a majority nothing is answered, and what was asked then is done afterwards, or never.
 */
import { EtcdError, type EtcdApi, type Range, type RowEvent, type Rows } from '../journal/etcd/api.ts';
import type { Txn, TxnOutcome, WatchListener } from '../journal/etcd/api.ts';
import { EtcdJournal } from '../journal/etcd/journal.ts';
import { Keys } from '../journal/etcd/keys.ts';
import { holds, MemoryEtcd } from '../journal/etcd/memory-etcd.ts';
import { Reader } from '../journal/etcd/redo.ts';
import type { SharedJournal } from '../journal/shared.ts';
import { silentLog, type Clock, type Log, type Random } from '../model/clock.ts';

/** A client's process, as a simulated one is: its clock, and the edge that all from outside comes over. */
export interface Edge {
  clock: Clock;
  take(fn: () => void): void;
}

/** What becomes of a client's requests and of their answers; probabilities from 0 to 1. */
export interface Faults {
  /** Milliseconds of one way. */
  leastMs: number;
  mostMs: number;
  requestLost: number;
  answerLost: number;
}

export interface ClusterDeps {
  /** The keeper's own time. */
  clock: Pick<Clock, 'after'>;
  random: Random;
  log?: Log;
  ttlMs?: number;
  maxOps?: number;
  maxBytes?: number;
}

const FAULTLESS: Faults = { leastMs: 0.2, mostMs: 2, requestLost: 0, answerLost: 0 };
const CLUSTER = 'simulated';
/** As the client of a real etcd: how long a call may take, and after how long of silence a watch is given up. */
const TRY_MS = 1_500;
const SILENT_MS = 1_500;
/** A member that finds no leader for so long breaks off its watches. */
const NO_LEADER_MS = 1_000;

/** The keeper, and the hooks that the simulator and tests have on it. */
export class Cluster {
  readonly etcd: MemoryEtcd;
  readonly #deps: ClusterDeps;
  readonly #keys = new Keys(CLUSTER);
  readonly #clients = new Set<ClusterClient>();
  /** What was asked while there was no majority. */
  #held: (() => void)[] = [];
  #quorum = true;

  constructor(deps: ClusterDeps) {
    this.#deps = deps;
    this.etcd = new MemoryEtcd(deps.maxOps);
  }

  /** The way of one process to the keeper; a process that starts anew has a new one. */
  client(edge: Edge): ClusterClient {
    const { ttlMs, maxOps, maxBytes, random, log = silentLog } = this.#deps;
    const client = new ClusterClient(this, edge, (api) => {
      const options = { api, clusterId: CLUSTER, clock: edge.clock, random, log };
      return new EtcdJournal({
        ...options,
        ...(ttlMs && { ttlMs }),
        ...(maxOps && { maxOps }),
        ...(maxBytes && { maxBytes }),
      });
    });
    this.#clients.add(client);
    return client;
  }

  /** All rows, as whoever reads them now would see them. */
  get rows(): Map<string, string> {
    return new Reader(this.#keys).rows(this.etcd.range(this.#keys.all).rows);
  }

  /** The node that has the leader's key. */
  get leader(): string | undefined {
    const row = this.etcd.get(this.#keys.leader);
    return row && (JSON.parse(row.value) as { nodeId: string }).nodeId;
  }

  /** Too few members are left: nothing is answered until `regainQuorum`. */
  loseQuorum(): void {
    if (!this.#quorum) return;
    this.#quorum = false;
    for (const client of this.#clients) client.breakOff(NO_LEADER_MS);
  }

  /** What was asked meanwhile is done now, in order, each with an even chance. */
  regainQuorum(): void {
    if (this.#quorum) return;
    this.#quorum = true;
    for (const run of this.#held.splice(0)) if (this.#deps.random() < 0.5) run();
  }

  /** Forgets the history up to now: who is behind has to read all rows. */
  compact(): void {
    this.etcd.compact();
  }

  /** Milliseconds of one way with these faults. */
  delayMs({ leastMs, mostMs }: Faults): number {
    return leastMs + this.#deps.random() * (mostMs - leastMs);
  }

  happens(probability: number): boolean {
    return probability > 0 && this.#deps.random() < probability;
  }

  after(delayMs: number, fn: () => void): void {
    this.#deps.clock.after(delayMs, fn);
  }

  /** Does it when there is a majority. */
  arrive(run: () => void): void {
    if (this.#quorum) run();
    else this.#held.push(run);
  }

  forget(client: ClusterClient): void {
    this.#clients.delete(client);
  }
}

interface Watch {
  listener: WatchListener;
  /** In the keeper: nothing more comes from there. */
  unwatch: () => void;
  /** What is on the way is lost, and all that comes after it. */
  broken: boolean;
  /** The listener hears nothing more. */
  over: boolean;
}

/** One process' journal, and what can befall its way to the keeper. */
export class ClusterClient implements EtcdApi {
  readonly journal: SharedJournal;
  faults: Faults = FAULTLESS;
  readonly #cluster: Cluster;
  readonly #edge: Edge;
  readonly #watches = new Set<Watch>();
  readonly #underWay = new Set<(error: EtcdError) => void>();
  #cut = false;
  #deaf = false;
  #closed = false;
  #dead = false;

  constructor(cluster: Cluster, edge: Edge, journalOf: (api: EtcdApi) => SharedJournal) {
    this.#cluster = cluster;
    this.#edge = edge;
    this.journal = journalOf(this);
  }

  /** Nothing gets through, either way, until `mend`. */
  cut(): void {
    this.#cut = true;
    this.breakOff(SILENT_MS);
  }

  /** Requests get through, and nothing comes back, until `mend`: outcomes stay unknown. */
  loseAnswers(): void {
    this.#deaf = true;
    this.breakOff(SILENT_MS);
  }

  mend(): void {
    this.#cut = this.#dead;
    this.#deaf = false;
  }

  /** The process is gone: it hears nothing any more. What it has sent may still arrive. */
  crash(): void {
    this.#dead = true;
    this.#cut = true;
    for (const watch of this.#watches) watch.unwatch();
    this.#watches.clear();
    this.#cluster.forget(this);
  }

  /** Watches get nothing more, and hear of that after `silentMs`. */
  breakOff(silentMs: number): void {
    for (const watch of this.#watches) {
      watch.broken = true;
      watch.unwatch();
      this.#edge.clock.after(silentMs, () => this.#end(watch, new EtcdError('unknown', 'etcd keeps silent')));
    }
  }

  range(range: Range, options?: { limit?: number; revision?: number }): Promise<Rows> {
    return this.#ask(() => this.#cluster.etcd.range(range, options));
  }

  txn(txn: Txn, tryMs?: number): Promise<TxnOutcome> {
    return this.#ask(() => this.#cluster.etcd.txn(txn), tryMs);
  }

  watch(range: Range, fromRevision: number, listener: WatchListener): { stop(): void } {
    const watch: Watch = { listener, unwatch: () => {}, broken: false, over: false };
    this.#watches.add(watch);
    void this.#begin(watch, range, fromRevision);
    return {
      stop: () => {
        watch.over = true;
        watch.unwatch();
        this.#watches.delete(watch);
      },
    };
  }

  close(): void {
    this.#closed = true;
    for (const giveUp of this.#underWay) giveUp(new EtcdError('unknown', 'the client of etcd is closed'));
    for (const watch of this.#watches) watch.unwatch();
    this.#watches.clear();
    this.#cluster.forget(this);
  }

  async #begin(watch: Watch, range: Range, fromRevision: number): Promise<void> {
    try {
      await this.#ask(() => {
        const { etcd } = this.#cluster;
        const past = etcd.since(fromRevision).filter(({ key }) => holds(range, key));
        if (watch.over || watch.broken || this.#deaf) return;
        const send = this.#pipe(watch);
        if (past.length > 0) send(past);
        watch.unwatch = etcd.watch((events) => {
          const meant = events.filter(({ key }) => holds(range, key));
          if (meant.length > 0) send(meant);
        });
      });
    } catch (error) {
      this.#end(watch, error as EtcdError);
    }
  }

  /** What is sent to a watch comes late, but in order. */
  #pipe(watch: Watch): (events: readonly RowEvent[]) => void {
    const queue: (readonly RowEvent[])[] = [];
    const deliver = () => {
      const events = queue.shift()!;
      if (queue.length > 0) this.#cluster.after(this.#cluster.delayMs(this.faults), deliver);
      if (watch.broken) return;
      this.#edge.take(() => {
        if (!watch.over && !this.#closed) watch.listener.events(events);
      });
    };
    return (events) => {
      queue.push(events);
      if (queue.length === 1) this.#cluster.after(this.#cluster.delayMs(this.faults), deliver);
    };
  }

  #end(watch: Watch, error: EtcdError): void {
    if (watch.over || this.#closed) return;
    watch.over = true;
    watch.unwatch();
    this.#watches.delete(watch);
    watch.listener.ended(error);
  }

  #ask<T>(run: () => T, tryMs = TRY_MS): Promise<T> {
    if (this.#closed) return Promise.reject(new EtcdError('unsent', 'the client of etcd is closed'));
    const answer = Promise.withResolvers<T>();
    const timer = this.#edge.clock.after(tryMs, () => answer.reject(new EtcdError('unknown', 'no answer in time')));
    this.#underWay.add(answer.reject);
    const done = () => {
      timer.cancel();
      this.#underWay.delete(answer.reject);
    };
    answer.promise.then(done, done);
    const settle = (fn: () => void) => {
      if (this.#deaf || this.#cluster.happens(this.faults.answerLost)) return;
      this.#cluster.after(this.#cluster.delayMs(this.faults), () => {
        if (this.#cut || this.#deaf) return;
        this.#edge.take(fn);
      });
    };
    const arrive = () => {
      try {
        const result = run();
        settle(() => answer.resolve(result));
      } catch (error) {
        settle(() => answer.reject(error));
      }
    };
    if (this.#cut || this.#cluster.happens(this.faults.requestLost)) return answer.promise;
    this.#cluster.after(this.#cluster.delayMs(this.faults), () => this.#cluster.arrive(arrive));
    return answer.promise;
  }
}
