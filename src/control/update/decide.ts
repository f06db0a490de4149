/**
 * The next step of a rollout, be it an update or a rollback: a pure decision on the slots as they are. Nothing is
 * remembered between steps: what a rollout has done stands on the tasks it made.
 *
 * `parallelism` slots may be on their way at once, each on its own: as one has arrived (or failed) and has rested for the
 * delay, the next begins. Start-first, one has arrived when the task it replaces has been let go (handover.ts). The monitor
 * period holds up no slot; it says how long a new task may fail for it to count.
 */
import type { Rollout, Task } from '../../model/objects.ts';
import { taskStateName } from '../../model/states.ts';
import { endedByItself } from '../restart.ts';
import { hasArrived, isOver, isRunning, isWanted, newest, standing, type Slot } from '../tasks.ts';

export interface RolloutSlot extends Slot {
  /** What is wanted here is not made from what the service declares now. */
  dirty: boolean;
  /** The outgoing task is: the dirty one that was to follow it need only go. */
  outgoingIsClean?: boolean;
}

/** What is in force for one rollout. Durations in milliseconds. */
export interface Policy {
  /** Infinity: all at once. */
  parallelism: number;
  delayMs: number;
  monitorMs: number;
  /** How long a task may take to arrive; Infinity: as long as it likes. */
  deadlineMs: number;
  /** RFC 3339: the deadline of a task that was made before counts from here. */
  deadlineFrom?: string;
  maxFailureRatio: number;
  action: 'pause' | 'continue' | 'rollback';
  startFirst: boolean;
  /** How many slots of the new version there may be for now; Infinity: all. */
  canaries: number;
}

export interface Failure {
  task: Task;
  /** In words; absent if nothing more is known than that it ended. */
  reason?: string;
}

export interface Step {
  /** Tasks of rollouts that are seen to have arrived, or to have failed, for the first time. */
  arrived: Task[];
  failed: Failure[];
  /** Slots whose newest task has to go, for the one before it is what is wanted. */
  restore: RolloutSlot[];
  /** Slots to get a new task now. */
  replace: RolloutSlot[];
  /** Set when too many have failed: the policy's action is due. */
  giveUp?: Failure;
  /** `canaries`: it waits to be promoted. `done`: all slots were taken and watched. */
  state: 'busy' | 'canaries' | 'done';
  /** When to look again if nothing happens; absent: only when something does. */
  againMs?: number;
}

/** How long ago a moment was, in milliseconds: RFC 3339 in, never negative. `of` is the id of what it is a moment of. */
export type Age = (of: string, moment: string) => number;

export function nextStep(slots: readonly RolloutSlot[], rollout: Rollout, policy: Policy, age: Age): Step {
  return stepBy(summed(slots, rollout.id, policy, age), rollout, policy, age);
}

/** The same from sums that were kept (books.ts). */
export function stepBy(of: Sums, rollout: Rollout, policy: Policy, age: Age): Step {
  const { arrived, failed, restore, waiting, failures, slots, ...sums } = of;
  const base = { arrived, failed, restore, replace: [] };

  const latest = failed.findLast(({ task }) => task.rollout?.id === rollout.id);
  if (latest !== undefined && policy.action !== 'continue' && exceeds(failures, rollout, policy))
    return { ...base, giveUp: latest, state: 'busy' };

  const taken = slots - waiting.size;
  const allowed = Math.max(0, Math.min(policy.parallelism - sums.busy, policy.canaries - taken));
  const replace = waiting.first(allowed);

  const held = waiting.size > replace.length && taken + replace.length >= policy.canaries;
  const ends = (waiting.size === replace.length || held) && replace.length === 0 && restore.length === 0;
  // One that had only to leave what was on its way is watched, too: clients look now and then, and are to see it.
  const begunMs = rollout.slots === 0 ? 0 : left(policy.monitorMs, age(String(rollout.id), rollout.startedAt));
  const watchMs = Math.max(begunMs, sums.watchMs);
  const { inFlight } = sums;
  const waitsForRest = waiting.size > replace.length && !held;
  const againMs = Math.min(
    sums.leftMs,
    waitsForRest ? sums.restsMs : Infinity,
    watchMs > 0 && ends && !inFlight ? watchMs : Infinity,
  );
  const over = ends && !inFlight && watchMs === 0;
  return {
    ...base,
    replace,
    state: !over ? 'busy' : held ? 'canaries' : 'done',
    ...(againMs === Infinity ? {} : { againMs }),
  };
}

/** What the turns of all slots come to. Durations in milliseconds: the shortest until one in flight counts as failed and until a
 * delay is over, Infinity if there is none; the longest for which one is still watched. */
export interface Sums extends Pick<Step, 'arrived' | 'failed' | 'restore'> {
  slots: number;
  waiting: Waiting;
  /** Slots that count against the parallelism. */
  busy: number;
  failures: number;
  inFlight: boolean;
  leftMs: number;
  restsMs: number;
  watchMs: number;
}

/** The slots that have yet to be replaced. */
export interface Waiting {
  readonly size: number;
  /** The next `count` of them, in turn. */
  first(count: number): RolloutSlot[];
}

function summed(slots: readonly RolloutSlot[], id: number, policy: Policy, age: Age): Sums {
  const waiting: RolloutSlot[] = [];
  const sums = noSums(slots.length, {
    get size() {
      return waiting.length;
    },
    first: (count) => (count > 0 ? waiting.sort(inTurn).slice(0, count) : []),
  });
  for (const slot of slots) {
    const turn = turnOf(slot, id, policy, age);
    if (turn.waits) waiting.push(slot);
    count(sums, turn);
  }
  return sums;
}

export function noSums(slots: number, waiting: Waiting): Sums {
  return {
    slots,
    arrived: [],
    failed: [],
    restore: [],
    waiting,
    busy: 0,
    failures: 0,
    inFlight: false,
    leftMs: Infinity,
    restsMs: Infinity,
    watchMs: 0,
  };
}

/** Adds what a slot's turn comes to, but for its waiting. */
export function count(sums: Sums, turn: Turn): void {
  const { slot, made, news, inFlight, leftMs, restsMs, watchMs, failed } = turn;
  if (isToBeRestored(slot)) sums.restore.push(slot);
  if (news === 'arrived') sums.arrived.push(made!);
  else if (news !== undefined) sums.failed.push(news);
  if (inFlight || restsMs > 0) sums.busy += 1;
  if (failed) sums.failures += 1;
  if (inFlight) {
    sums.inFlight = true;
    sums.leftMs = Math.min(sums.leftMs, leftMs);
  }
  if (restsMs > 0) sums.restsMs = Math.min(sums.restsMs, restsMs);
  sums.watchMs = Math.max(sums.watchMs, watchMs);
}

function isToBeRestored({ dirty, outgoingIsClean }: RolloutSlot): boolean {
  return dirty && outgoingIsClean === true;
}

/** True once time alone changes nothing of a slot's turn, and nothing is to be done for it but to wait for its turn. */
export function isAtRest({ slot, news, inFlight, restsMs, watchMs }: Turn): boolean {
  return !isToBeRestored(slot) && news === undefined && !inFlight && restsMs === 0 && watchMs === 0;
}

/** What does not run goes first, then low numbers; slots without a number by their node. */
export function inTurn(a: RolloutSlot, b: RolloutSlot): number {
  return Number(isRunning(standing(a))) - Number(isRunning(standing(b))) || byNumber(a.current, b.current);
}

function byNumber(a: Task, b: Task): number {
  if (a.slot !== b.slot || a.slot !== 0 || a.nodeId === b.nodeId) return a.slot - b.slot;
  return a.nodeId < b.nodeId ? -1 : 1;
}

/** Where a slot stands in the rollout. */
export interface Turn {
  slot: RolloutSlot;
  /** It has yet to be replaced. */
  waits: boolean;
  /** The task that a rollout, this one if it could be, put here. */
  made?: Task;
  /** What is seen of that task for the first time. */
  news?: 'arrived' | Failure;
  /** It is neither there nor has it failed. */
  inFlight: boolean;
  /** Of one in flight: until it counts as failed; Infinity: time alone does not make it. */
  leftMs: number;
  /** Until the delay after it is over. */
  restsMs: number;
  /** Until its failing no longer counts. */
  watchMs: number;
  /** It counts as a failure of this rollout. */
  failed: boolean;
}

/** Where a slot stands in the rollout `id`. */
export function turnOf(slot: RolloutSlot, id: number, policy: Policy, age: Age): Turn {
  const own = newest(slot.tasks, (task) => task.rollout?.id === id);
  // A task of a rollout that this one took over from, still on its way, is waited for like its own.
  const made = own ?? (!slot.dirty && slot.current.rollout !== undefined ? slot.current : undefined);
  const waits = slot.dirty && own === undefined && slot.outgoingIsClean !== true;
  const turn = { slot, waits, inFlight: false, leftMs: 0, restsMs: 0, watchMs: 0, failed: false };
  const mark = made?.rollout;
  if (made === undefined || mark === undefined) return turn;
  if (mark.failedAt !== undefined)
    return { ...turn, made, failed: own !== undefined, restsMs: left(policy.delayMs, age(made.id, mark.failedAt)) };
  const failure = failureOf(made, policy, age);
  if (failure !== undefined)
    return { ...turn, made, news: failure, failed: own !== undefined, restsMs: policy.delayMs };
  if (mark.arrivedAt === undefined) {
    if (hasArrived(made)) {
      const settles = slot.outgoing !== undefined && slot.current.id === made.id;
      if (settles) return { ...turn, made, inFlight: true, leftMs: Infinity };
      return { ...turn, made, news: 'arrived', restsMs: policy.delayMs, watchMs: own ? policy.monitorMs : 0 };
    }
    if (!isWanted(made) || isOver(made)) return { ...turn, made };
    return { ...turn, made, inFlight: true, leftMs: left(policy.deadlineMs, onItsWayMs(made, policy, age)) };
  }
  const sinceMs = age(made.id, mark.arrivedAt);
  const watchMs = own !== undefined && isWanted(made) ? left(policy.monitorMs, sinceMs) : 0;
  return { ...turn, made, restsMs: left(policy.delayMs, sinceMs), watchMs };
}

/** Why a task that a rollout made counts as failed: it ended by itself too early, or did not come in time. */
function failureOf(task: Task, policy: Policy, age: Age): Failure | undefined {
  const { status, rollout } = task;
  const reason = status.error;
  if (isOver(task)) {
    if (!endedByItself(task)) return undefined;
    const since = status.runningSince ?? rollout?.arrivedAt;
    const livedMs = since === undefined ? 0 : Date.parse(status.timestamp) - Date.parse(since);
    if (rollout?.arrivedAt !== undefined && livedMs > policy.monitorMs) return undefined;
    return { task, ...(reason === undefined ? {} : { reason }) };
  }
  if (rollout?.arrivedAt !== undefined || !isWanted(task) || hasArrived(task)) return undefined;
  if (onItsWayMs(task, policy, age) < policy.deadlineMs) return undefined;
  const is = reason ?? (isRunning(task) ? 'not ready' : taskStateName(status.state));
  return { task, reason: `not up within ${policy.deadlineMs / 1000} s (${is})` };
}

/** For how long a task has been able to arrive, as far as its deadline goes. */
function onItsWayMs({ id, meta }: Task, { deadlineFrom }: Policy, age: Age): number {
  const fromMs = deadlineFrom === undefined ? Infinity : age(deadlineFrom, deadlineFrom);
  return Math.min(age(id, meta.createdAt), fromMs);
}

/** As long as canaries hold up the rest, the ratio is of them. */
function exceeds(failures: number, rollout: Rollout, policy: Policy): boolean {
  return failures / Math.min(rollout.slots, policy.canaries) > policy.maxFailureRatio;
}

function left(periodMs: number, passedMs: number): number {
  return Math.max(0, periodMs - passedMs);
}
