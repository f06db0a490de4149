/**
 * One manager's part in a shared journal: its store follows what the leader writes, it stands for election, and while it leads
 * the store writes and what only a leader runs is running.
 *
 * - It leads only after its store has followed up to all that any leader before it wrote, and follows anew afterwards: the
 *   store is told all rows, because what it wrote last may be in doubt. So nothing acknowledged is lost, nothing applied twice.
 * - What only a leader runs is stopped first when a leadership ends, and it ends (`over`) before anybody else can lead.
 *   Stopping is given `STOP_MS`; what hangs longer changes nothing, because the store takes its writes no more, and the journal
 *   is fenced besides. It never runs twice here: until it has really ended, this manager stands for no election.
 * - Whatever fails is said in `state()`, logged, and tried again with growing pauses.
 */
import { isDeepStrictEqual } from 'node:util';
import { NotLeading, type Leader, type Leadership, type SharedJournal } from '../journal/shared.ts';
import type { Clock, Log } from '../model/clock.ts';
import { Feed } from './feed.ts';
import type { Store } from './store.ts';
import { inTime, orAborted, pause } from './waiting.ts';

export interface LeaderElectorDeps {
  journal: SharedJournal;
  /** A replica, or a store that leads already (`start`). */
  store: Store;
  /** This manager as others shall find it while it leads. */
  self: Leader;
  clock: Clock;
  log: Log;
  /**
   * Starts what only a leader runs, and returns what ends it: that must resolve once nothing of it writes any more. If it
   * rejects, nothing of it runs. `over` is aborted when the leadership ends, also while it is still being started.
   */
  onLead(over: AbortSignal): Promise<() => Promise<void>>;
}

/** A leadership that is under way: see `start`. */
export interface HeldLeadership {
  leadership: Leadership;
  /** What `onLead` would have returned. */
  stop: () => Promise<void>;
}

export interface ElectionState {
  role: 'leader' | 'follower';
  /** Who leads, this manager included; absent: nobody, or nobody knows. */
  leader?: Leader;
  /** Why this manager cannot follow, or cannot stand for election, in words. */
  trouble?: string;
}

/** How long what only a leader runs, and a commit under way, are given to end. */
export const STOP_MS = 5_000;
/** How long the winner of an election is given to follow up to it. */
export const CATCH_UP_MS = 10_000;
/** Between two tries, doubling; a try that went well for `steady` begins anew. */
export const RETRY_MS = { first: 100, most: 2_000, steady: 10_000 };

export class LeaderElector {
  readonly #deps: LeaderElectorDeps;
  readonly #quit = new AbortController();
  readonly #followed = Promise.withResolvers<void>();
  readonly #listeners = new Set<(state: ElectionState) => void>();
  #unobserve: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #resign = true;
  /** Who leads, as the journal says. */
  #seen: Leader | undefined;
  #trouble: string | undefined;
  /** Why this manager does not stand for election although it follows. */
  #stuck: string | undefined;
  /** Resolves when the last leadership was given up. */
  #resigned: Promise<void> = Promise.resolve();
  /** Resolves when what the last leadership ran has ended, too. */
  #cleared: Promise<unknown> = Promise.resolve();
  #told: ElectionState = { role: 'follower' };

  constructor(deps: LeaderElectorDeps) {
    this.#deps = deps;
  }

  /**
   * Begins to follow and to stand for election. `held`: the store leads already on the journal of this leadership (it was moved
   * there), and what only a leader runs is running.
   */
  start(held?: HeldLeadership): void {
    const { journal, store } = this.#deps;
    if (this.#running !== undefined) throw new Error('started already');
    this.#unobserve = journal.observe((leader) => {
      this.#seen = leader;
      this.#tell();
    });
    void store.lost.then((error) => this.#quit.abort(error));
    this.#running = this.#run(held);
    this.#tell();
  }

  /**
   * Ends it: what only a leader runs is stopped, the store follows and is told no more, and last the leadership, if any, is
   * given up; without `resign` it is left to run out. Idempotent.
   */
  async stop({ resign = true } = {}): Promise<void> {
    if (!this.#quit.signal.aborted) this.#resign = resign;
    this.#quit.abort(new Error('this manager takes part in no election any more'));
    await this.#running;
    this.#unobserve?.();
    this.#unobserve = undefined;
    this.#listeners.clear();
  }

  /** Resolves once the store first shows what the journal holds; never, if `stop` comes first. */
  get followed(): Promise<void> {
    return this.#followed.promise;
  }

  state(): ElectionState {
    const { store, self } = this.#deps;
    // What the journal says of this manager is late at both ends of its leading.
    const leader = store.leading ? self : this.#seen?.nodeId === self.nodeId ? undefined : this.#seen;
    const trouble = this.#trouble ?? this.#stuck;
    return {
      role: store.leading ? 'leader' : 'follower',
      ...(leader !== undefined && { leader }),
      ...(trouble !== undefined && { trouble }),
    };
  }

  /** Calls `listener` with the state, now and whenever it changes, until `stop`. Returns the end of it. */
  observe(listener: (state: ElectionState) => void): () => void {
    this.#listeners.add(listener);
    listener(this.state());
    return () => this.#listeners.delete(listener);
  }

  async #run(held: HeldLeadership | undefined): Promise<void> {
    const { clock } = this.#deps;
    if (held !== undefined) {
      this.#followed.resolve();
      await this.#lead(held.leadership, held.stop);
    }
    // Who led until now follows at once, and is a little late at the next election; who could not follow tries a little later.
    let standAfterMs = held === undefined ? 0 : RETRY_MS.first;
    let pauseMs = standAfterMs;
    while (!this.#quit.signal.aborted) {
      const sinceMs = clock.monotonic();
      const error = await this.#round(standAfterMs);
      const steady = clock.monotonic() - sinceMs >= RETRY_MS.steady;
      pauseMs = steady ? RETRY_MS.first : Math.min(Math.max(pauseMs * 2, RETRY_MS.first), RETRY_MS.most);
      standAfterMs = error === undefined ? pauseMs : 0;
      if (error !== undefined) await this.#wait(error, pauseMs);
    }
    await this.#resigned;
  }

  async #wait(error: Error, pauseMs: number): Promise<void> {
    const { clock, log } = this.#deps;
    if (this.#quit.signal.aborted) return;
    this.#trouble = error.message;
    log.warn({ err: error, pauseMs }, 'this manager does not take part in the swarm; trying again');
    this.#tell();
    await pause(clock, pauseMs, this.#quit.signal);
  }

  /** Follows, is elected, leads until that is over. Returns why it did not come to that. */
  async #round(standAfterMs: number): Promise<Error | undefined> {
    try {
      const leadership = await this.#followUntilElected(standAfterMs);
      await this.#lead(leadership);
      return undefined;
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  /** Resolves once this manager is elected and its store leads. */
  async #followUntilElected(standAfterMs: number): Promise<Leadership> {
    const { journal, store } = this.#deps;
    const feed = await Feed.open(journal, store, this.#quit.signal);
    this.#trouble = undefined;
    this.#followed.resolve();
    this.#tell();
    let leadership: Leadership | undefined;
    try {
      leadership = await this.#stand(feed, standAfterMs);
      await feed.close();
      store.lead(leadership.journal);
      return leadership;
    } catch (error) {
      await feed.close();
      await leadership?.resign();
      throw error;
    }
  }

  /** Resolves once this manager is elected and its store shows all that was written before. */
  async #stand(feed: Feed, afterMs: number): Promise<Leadership> {
    const { journal, self, clock } = this.#deps;
    const signal = AbortSignal.any([this.#quit.signal, feed.broken]);
    await orAborted(this.#cleared, signal);
    await pause(clock, afterMs, signal);
    signal.throwIfAborted();
    const leadership = await journal.campaign(self, signal);
    try {
      const over = leadership.over.then((why) => Promise.reject(new NotLeading(`elected, but no more: ${why}`)));
      const current = Promise.race([feed.reached(leadership.revision), over]);
      await inTime(clock, CATCH_UP_MS, orAborted(current, signal), 'elected, but what was written before did not come');
      return leadership;
    } catch (error) {
      await leadership.resign();
      throw error;
    }
  }

  /** Leads until the leadership is over, the store steps down, what only a leader runs cannot be started, or `stop`. */
  async #lead(leadership: Leadership, running?: () => Promise<void>): Promise<void> {
    const { store, log } = this.#deps;
    const over = new AbortController();
    let stop = running;
    const start = async () => {
      stop ??= await this.#deps.onLead(over.signal);
    };
    log.info({ revision: leadership.revision }, 'this manager leads the swarm');
    this.#tell();
    const started = start();
    const failed = Promise.withResolvers<string>();
    started.catch((error: unknown) => failed.resolve(`what only a leader runs could not be started: ${String(error)}`));
    const steppedDown = store.steppedDown.then(({ message }) => message);
    const why = await orAborted(Promise.race([leadership.over, steppedDown, failed.promise]), this.#quit.signal).catch(
      (error: Error) => error.message,
    );
    log.info({ why }, 'this manager leads the swarm no more');
    over.abort(new NotLeading(why));
    await this.#endLeading(leadership, async () => {
      if (stop === undefined) await started.catch(() => {});
      await stop?.();
    });
  }

  async #endLeading(leadership: Leadership, stop: () => Promise<void>): Promise<void> {
    const { store, clock } = this.#deps;
    const leaving = this.#quit.signal.aborted;
    const limit = new AbortController();
    const timer = clock.after(STOP_MS, () => limit.abort(new Error(`not done in ${STOP_MS} ms`)));
    const stopped = this.#stopped(stop(), limit.signal);
    // Who leaves by himself lets what is being written come to its end. Else nothing can be written, and nobody waits for it.
    if (leaving) await stopped.inTime;
    await store.follow(limit.signal);
    this.#tell();
    await stopped.inTime;
    timer.cancel();
    if (!leaving || this.#resign) this.#resigned = leadership.resign();
    this.#cleared = Promise.all([stopped.really, this.#resigned]);
  }

  /** `really` resolves only if it has stopped: whoever led with it running would have it twice. */
  #stopped(stopping: Promise<void>, limit: AbortSignal): { inTime: Promise<void>; really: Promise<void> } {
    const { log } = this.#deps;
    const again = 'this manager does not stand for election';
    let ended = false;
    limit.addEventListener('abort', () => {
      if (ended) return;
      log.error({}, `what only a leader runs does not end; until it does, ${again}`);
      this.#setStuck(`what only a leader ran here has not ended; until it has, ${again}`);
    });
    const really = stopping.then(
      () => {
        ended = true;
        this.#setStuck(undefined);
      },
      (error: unknown) => {
        ended = true;
        log.error({ err: error }, `what only a leader runs could not be ended; until droverd starts again, ${again}`);
        this.#setStuck(`what only a leader ran here could not be ended; until droverd starts again, ${again}`);
        return new Promise<never>(() => {});
      },
    );
    const settled = stopping.catch(() => {});
    return { inTime: orAborted(settled, limit).catch(() => {}), really };
  }

  #setStuck(why: string | undefined): void {
    this.#stuck = why;
    this.#tell();
  }

  #tell(): void {
    const state = this.state();
    if (isDeepStrictEqual(state, this.#told)) return;
    this.#told = state;
    for (const listener of this.#listeners) {
      try {
        listener(state);
      } catch (error) {
        // What follows and leads must not break off because somebody cannot hear of it.
        this.#deps.log.error({ err: error }, 'who observes the election failed');
      }
    }
  }
}
