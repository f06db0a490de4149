/**
 * Keeps etcd's database small: forgets old history every minute, gives freed space back when much of the file is empty (one
 * member at a time, the leader last), and disarms etcd's alarm once there is space again. To be run on every manager that has a
 * member: it acts where etcd's own leader is, and so does not need a leader among the managers, who cannot elect one while
 * the alarm stands.
 */
import type { Clock, Log, Timer } from '../../model/clock.ts';
import { EtcdRefused, type Alarm, type Connect, type Member, type MemberApi, type MemberStatus } from './api.ts';
import { askAt, statusesOf, type Asked } from './statuses.ts';

const ROUND_MS = 5_000;
const COMPACT_MS = 60_000;
/** A watcher that was away for this long still finds its history. */
const KEEP_MS = 5 * 60_000;
const KEEP_REVISIONS = 1_000;
/** Below this, an empty half is not worth the pause. */
const WORTH_BYTES = 64 * 1024 ** 2;
const EMPTY_SHARE = 0.5;
const NEARLY_FULL = 0.8;
const ROOM_AGAIN = 0.9;

export interface UpkeepDeps {
  connect: Connect;
  /** host:port of this node's own member. */
  endpoint: string;
  quotaBytes: number;
  clock: Clock;
  log: Log;
}

/** The newest revision at some moment. Times are of one monotonic clock, in milliseconds. */
export interface Moment {
  atMs: number;
  revision: number;
}

/**
 * Up to which revision history can go: what is older than 5 minutes, but never the last 1,000; with `pressed` (the alarm stands)
 * all of it. Undefined: nothing yet. Pure.
 */
export function compactionPoint(history: readonly Moment[], nowMs: number, pressed = false): number | undefined {
  const newest = history.at(-1);
  if (pressed) return newest?.revision;
  const old = history.findLast(({ atMs }) => nowMs - atMs >= KEEP_MS);
  if (newest === undefined || old === undefined) return undefined;
  const point = Math.min(old.revision, newest.revision - KEEP_REVISIONS);
  return point > 0 ? point : undefined;
}

/**
 * Which member is to be defragmented next; undefined: none. Meanwhile it answers nobody, so all must be there, `leaderId` comes last,
 * and with `pressed` (there is little room) less is worth the pause. Pure.
 */
export function nextToDefragment(members: readonly Asked[], expected: number, pressed: boolean): Asked | undefined {
  if (members.length < expected) return undefined;
  const worth = members.filter((member) => isWorthwhile(member, pressed));
  return worth.find(({ memberId, leaderId }) => memberId !== leaderId) ?? worth[0];
}

function isWorthwhile({ dbSizeBytes, dbSizeInUseBytes }: Asked, pressed: boolean): boolean {
  const empty = dbSizeBytes - dbSizeInUseBytes;
  if (pressed) return empty > dbSizeBytes * (1 - ROOM_AGAIN);
  return dbSizeBytes >= WORTH_BYTES && empty > dbSizeBytes * EMPTY_SHARE;
}

/** What users are told of the database's size and alarms. Pure. */
export function sizeWords(status: MemberStatus, alarms: readonly Alarm[], quotaBytes: number): string[] {
  const size = `${mib(status.dbSizeInUseBytes)} of ${mib(quotaBytes)} MiB in use`;
  const words: string[] = [];
  if (alarms.some(({ kind }) => kind === 'nospace'))
    words.push(`the managers' etcd is full and takes no writes (${size}): remove what the swarm does not need`);
  else if (status.dbSizeInUseBytes > quotaBytes * NEARLY_FULL)
    words.push(`the managers' etcd is nearly full (${size})`);
  if (alarms.some(({ kind }) => kind === 'corrupt'))
    words.push("a member of the managers' etcd has data that differs from the others'");
  return words;
}

export class Upkeep {
  readonly #deps: UpkeepDeps;
  readonly #api: MemberApi;
  #history: Moment[] = [];
  #words: string[] = [];
  #timer: Timer | undefined;
  #stopped = true;

  constructor(deps: UpkeepDeps) {
    this.#deps = deps;
    this.#api = deps.connect([deps.endpoint]);
  }

  start(): void {
    this.#stopped = false;
    void this.#runRound();
  }

  /** Begins nothing any more; a defragmentation under way is etcd's own business. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#api.close();
  }

  /** What does not work, in words. */
  degraded(): readonly string[] {
    return this.#words;
  }

  /** Never rejects. */
  async #runRound(): Promise<void> {
    try {
      await this.#look();
    } catch (error) {
      // That etcd does not answer is said by others; the next round finds what this one left.
      this.#deps.log.debug({ err: error }, 'upkeep of the managers’ etcd is done later');
    }
    if (!this.#stopped) this.#timer = this.#deps.clock.after(ROUND_MS, () => void this.#runRound());
  }

  async #look(): Promise<void> {
    const { quotaBytes } = this.#deps;
    const status = await this.#api.status();
    const alarms = await this.#api.alarms();
    this.#words = sizeWords(status, alarms, quotaBytes);
    if (status.leaderId !== status.memberId) {
      this.#history = [];
      return;
    }
    const full = alarms.filter(({ kind }) => kind === 'nospace');
    await this.#compact(status.revision, full.length > 0);
    const members = (await this.#api.members()).filter(({ learner }) => !learner);
    const pressed = full.length > 0 || status.dbSizeBytes > quotaBytes * NEARLY_FULL;
    await this.#defragment(await statusesOf(this.#deps.connect, members), members.length, pressed);
    if (full.length > 0) await this.#disarm(full, members);
  }

  async #compact(revision: number, full: boolean): Promise<void> {
    const { clock, log } = this.#deps;
    const nowMs = clock.monotonic();
    if (!full && nowMs - (this.#history.at(-1)?.atMs ?? -Infinity) < COMPACT_MS) return;
    this.#history.push({ atMs: nowMs, revision });
    const point = compactionPoint(this.#history, nowMs, full);
    if (point === undefined) return;
    this.#history = this.#history.filter(({ atMs }) => nowMs - atMs <= KEEP_MS + COMPACT_MS);
    try {
      await this.#api.compact(point);
      log.debug({ revision: point }, 'history of the managers’ etcd was compacted');
    } catch (error) {
      // Done already: by the leader before, or nothing was written since.
      if (!(error instanceof EtcdRefused)) throw error;
    }
  }

  async #defragment(members: readonly Asked[], expected: number, full: boolean): Promise<void> {
    const { connect, log } = this.#deps;
    const next = nextToDefragment(members, expected, full);
    if (next === undefined) return;
    log.info(
      { endpoint: next.endpoint, dbSizeBytes: next.dbSizeBytes },
      'a member of the managers’ etcd is defragmented',
    );
    await askAt(connect, next.endpoint, (api) => api.defragment());
  }

  /** If there is room again; etcd raises it by itself if there is not. */
  async #disarm(alarms: readonly Alarm[], members: readonly Member[]): Promise<void> {
    const { connect, quotaBytes, log } = this.#deps;
    const sized = await statusesOf(connect, members);
    const hasRoom = ({ dbSizeBytes }: Asked) => dbSizeBytes <= quotaBytes * ROOM_AGAIN;
    if (sized.length < members.length || !sized.every(hasRoom)) return;
    for (const alarm of alarms) await this.#api.disarm(alarm);
    log.info({}, 'there is space again: the managers’ etcd takes writes');
    this.#words = [];
  }
}

function mib(bytes: number): number {
  return Math.round(bytes / 1024 ** 2);
}
