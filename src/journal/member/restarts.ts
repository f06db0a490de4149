/**
 * Starts this node's etcd again when it runs with what holds no more: it reads the root certificate only when it starts, and
 * an upgraded droverd may run it with other flags. The managers take turns (turns.ts), etcd's leader last; meanwhile the journal
 * of this one goes by way of another's member, so that no write has to wait for the start.
 */
import type { Clock, Log, Timer } from '../../model/clock.ts';
import type { EtcdApi } from '../etcd/api.ts';
import { only } from '../etcd/keys.ts';
import type { Connect } from './api.ts';
import type { EtcdMember } from './member.ts';
import { askAt, statusesOf } from './statuses.ts';
import { nextStep, standIns, told, turnsIn, type Situation, type Turns } from './turns.ts';

const ROUND_MS = 5_000;
/** While there is something to do. */
const BUSY_MS = 500;
const READY_MS = 20_000;
const READY_POLL_MS = 50;
/** A member of which this manager has heard nothing for so long is of no use to it: perhaps it knows its certificate no more. */
const SILENT_MS = 60_000;
/** What takes longer is said. */
const LONG_MS = 60_000;
const OUTDATED =
  "this manager's etcd runs as it did before the root CA was rotated, or droverd upgraded: it is started again as soon as the other managers' etcd can do without it";

export interface RestartsDeps {
  member: Pick<EtcdMember, 'name' | 'endpoint' | 'upToDate' | 'rootDigest' | 'restart'>;
  connect: Connect;
  /** etcd's keys at these members (host:port). The caller closes it. */
  open: (endpoints: readonly string[]) => Promise<EtcdApi>;
  /** Has the journal ask these members (host:port) from now on, the first of them as long as it answers. */
  divert: (endpoints: readonly string[]) => void;
  /** By which the members agree on turns. */
  key: string;
  clock: Clock;
  log: Log;
}

/** What was seen, and the text that the turns were read from. */
interface Seen extends Situation {
  text: string | null;
}

export class Restarts {
  readonly #deps: RestartsDeps;
  /** host:port of the members that answered last, this node's own apart. */
  #others: string[] = [];
  /** The root that the turns say this member runs with. */
  #told = '';
  #text: string | null = null;
  #textSinceMs = 0;
  #staleSinceMs: number | undefined;
  #silentSinceMs: number | undefined;
  #timer: Timer | undefined;
  #looking = false;
  #stopped = true;

  constructor(deps: RestartsDeps) {
    this.#deps = deps;
  }

  start(): void {
    this.#stopped = false;
    this.look();
  }

  /** Begins nothing any more. A start under way is the member's to finish, or to break off. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** Looks at once: something has changed. */
  look(): void {
    if (this.#stopped || this.#looking) return;
    this.#timer?.cancel();
    void this.#round();
  }

  /**
   * Whether every member runs with the root that holds here, by its own word; false while that cannot be asked. Until then nobody may
   * show them a certificate by a root after the next: etcd follows one link to the root that it knows, and no second one.
   */
  async isEverywhere(): Promise<boolean> {
    const { member, open, log } = this.#deps;
    try {
      const root = await member.rootDigest();
      const etcd = await open([member.endpoint, ...this.#others]);
      const { members, turns } = await this.#read(etcd).finally(() => etcd.close());
      return members.every(({ id, learner }) => learner || turns.roots[id] === root);
    } catch (error) {
      log.debug({ err: error }, 'with which root the managers’ etcd run is asked again later');
      return false;
    }
  }

  /** What waits, in words. */
  degraded(): string[] {
    return this.#staleMs() >= LONG_MS ? [OUTDATED] : [];
  }

  /** Never rejects. */
  async #round(): Promise<void> {
    this.#looking = true;
    let pauseMs = BUSY_MS;
    try {
      if (await this.#advance()) pauseMs = ROUND_MS;
    } catch (error) {
      this.#deps.log.debug({ err: error }, 'whether this manager’s etcd has to be started again is looked at later');
    }
    this.#looking = false;
    if (!this.#stopped) this.#timer = this.#deps.clock.after(pauseMs, () => void this.#round());
  }

  /** One step. Resolves with true if nothing is left to do. */
  async #advance(): Promise<boolean> {
    const { member, clock } = this.#deps;
    const [upToDate, root] = [await member.upToDate(), await member.rootDigest()];
    if (upToDate) this.#staleSinceMs = undefined;
    else this.#staleSinceMs ??= clock.monotonic();
    if (upToDate && this.#told === root) return true;
    if (!upToDate && (await this.#isLost())) {
      this.#deps.log.warn({}, 'etcd has long not answered this manager, and is started again with what holds now');
      await this.#restart([]);
      return false;
    }
    return this.#takeStep({ upToDate, root });
  }

  async #takeStep(self: Pick<Situation, 'upToDate' | 'root'>): Promise<boolean> {
    const etcd = await this.#deps.open([this.#deps.member.endpoint, ...this.#others]);
    let seen: Seen;
    try {
      seen = await this.#see(etcd, self);
      const step = nextStep(seen);
      if (step === 'wait') return false;
      if (step === 'nothing') this.#told = self.root;
      if (step === 'tell' && (await this.#change(etcd, seen, told(seen)))) this.#told = self.root;
      if (step !== 'restart') return true;
      if (!(await this.#change(etcd, seen, { ...seen.turns, turn: seen.selfId }))) return false;
    } finally {
      etcd.close();
    }
    const goOn = standIns(seen) ?? [];
    // Two members cannot write without each other: there is nobody else to ask.
    await this.#restart(goOn.length < 2 ? [] : goOn.map(({ endpoint }) => endpoint));
    return false;
  }

  /** The turns are read first: whoever takes one later finds them changed. */
  async #see(etcd: EtcdApi, self: Pick<Situation, 'upToDate' | 'root'>): Promise<Seen> {
    const { member, connect, clock } = this.#deps;
    const { text, turns, members } = await this.#read(etcd);
    if (text !== this.#text) this.#textSinceMs = clock.monotonic();
    this.#text = text;
    const selfId = members.find(({ name }) => name === member.name)?.id;
    if (selfId === undefined) throw new Error('this node’s etcd is none of the members');
    const statuses = await statusesOf(connect, members);
    this.#others = statuses.filter(({ memberId }) => memberId !== selfId).map(({ endpoint }) => endpoint);
    const standMs = clock.monotonic() - this.#textSinceMs;
    return { ...self, selfId, staleMs: this.#staleMs(), turns, standMs, members, statuses, text };
  }

  async #read(etcd: EtcdApi): Promise<Pick<Seen, 'text' | 'turns' | 'members'>> {
    const { member, connect, key } = this.#deps;
    const { rows } = await etcd.range(only(key));
    const text = rows[0]?.value ?? null;
    const api = connect([member.endpoint, ...this.#others]);
    const members = await api.members().finally(() => api.close());
    return { text, turns: turnsIn(text ?? undefined), members };
  }

  /** False if somebody else was first. */
  async #change(etcd: EtcdApi, { text }: Seen, turns: Turns): Promise<boolean> {
    const { key } = this.#deps;
    const value = JSON.stringify(turns);
    const { applied } = await etcd.txn({ when: [{ key, value: text }], write: [{ put: key, value }], otherwise: [] });
    return applied;
  }

  /** Whether this node's member has been silent for long, other members or none. */
  async #isLost(): Promise<boolean> {
    const { member, connect, clock } = this.#deps;
    const answers = await askAt(connect, member.endpoint, (api) => api.status()).catch(() => undefined);
    if (answers !== undefined) this.#silentSinceMs = undefined;
    else this.#silentSinceMs ??= clock.monotonic();
    return this.#silentSinceMs !== undefined && clock.monotonic() - this.#silentSinceMs >= SILENT_MS;
  }

  async #restart(by: readonly string[]): Promise<void> {
    // Nobody would look after it, once the member is let go.
    if (this.#stopped) return;
    const { member, divert, clock, log } = this.#deps;
    const beganMs = clock.monotonic();
    log.info({ by }, 'this manager’s etcd is started again, with what holds now');
    if (by.length > 0) divert(by);
    try {
      await member.restart();
      await this.#untilServing();
      log.info({ tookMs: Math.round(clock.monotonic() - beganMs) }, 'this manager’s etcd takes part again');
    } finally {
      if (by.length > 0) divert([member.endpoint]);
      this.#silentSinceMs = undefined;
    }
  }

  /** Until the member here answers what a majority agrees on. Rejects with why not, after READY_MS. */
  async #untilServing(): Promise<void> {
    const { member, connect, clock } = this.#deps;
    const untilMs = clock.monotonic() + READY_MS;
    const api = connect([member.endpoint]);
    try {
      for (;;) {
        const error = await api.agreedRevision().then(
          () => undefined,
          (error: unknown) => error,
        );
        if (error === undefined) return;
        if (this.#stopped || clock.monotonic() >= untilMs) throw error;
        await new Promise<void>((resolve) => clock.after(READY_POLL_MS, resolve));
      }
    } finally {
      api.close();
    }
  }

  #staleMs(): number {
    return this.#staleSinceMs === undefined ? 0 : this.#deps.clock.monotonic() - this.#staleSinceMs;
  }
}
