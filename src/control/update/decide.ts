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
  const { arrived, failed, restore, waiting, failures, ...sums } = summed(slots, rollout.id, policy, age);
  const base = { arrived, failed, restore, replace: [] };

  const latest = failed.findLast(({ task }) => task.rollout?.id === rollout.id);
  if (latest !== undefined && policy.action !== 'continue' && exceeds(failures, rollout, policy))
    return { ...base, giveUp: latest, state: 'busy' };

  const taken = slots.length - waiting.length;
  const allowed = Math.max(0, Math.min(policy.parallelism - sums.busy, policy.canaries - taken));
  const replace = first(waiting, allowed, inTurn);

  const held = waiting.length > replace.length && taken + replace.length >= policy.canaries;
  const ends = (waiting.length === replace.length || held) && replace.length === 0 && restore.length === 0;
  // One that had only to leave what was on its way is watched, too: clients look now and then, and are to see it.
  const begunMs = rollout.slots === 0 ? 0 : left(policy.monitorMs, age(String(rollout.id), rollout.startedAt));
  const watchMs = Math.max(begunMs, sums.watchMs);
  const { inFlight } = sums;
  const waitsForRest = waiting.length > replace.length && !held;
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
interface Sums extends Pick<Step, 'arrived' | 'failed' | 'restore'> {
  waiting: RolloutSlot[];
  /** Slots that count against the parallelism. */
  busy: number;
  failures: number;
  inFlight: boolean;
  leftMs: number;
  restsMs: number;
  watchMs: number;
}

/** In one pass: this is done for every slot of a service whenever one of its tasks has moved. */
function summed(slots: readonly RolloutSlot[], id: number, policy: Policy, age: Age): Sums {
  const sums: Sums = {
    arrived: [],
    failed: [],
    restore: [],
    waiting: [],
    busy: 0,
    failures: 0,
    inFlight: false,
    leftMs: Infinity,
    restsMs: Infinity,
    watchMs: 0,
  };
  for (const slot of slots) {
    if (slot.dirty && slot.outgoingIsClean === true) sums.restore.push(slot);
    const { waits, made, news, inFlight, leftMs, restsMs, watchMs, failed } = turnOf(slot, id, policy, age);
    if (waits) sums.waiting.push(slot);
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
  return sums;
}

/** What does not run goes first, then low numbers. */
function inTurn(a: RolloutSlot, b: RolloutSlot): number {
  return Number(isRunning(standing(a))) - Number(isRunning(standing(b))) || a.current.slot - b.current.slot;
}

/** The first `count` in an order, without sorting the others. */
function first<T>(items: readonly T[], count: number, order: (a: T, b: T) => number): T[] {
  if (count >= items.length) return [...items].sort(order);
  const kept: T[] = [];
  for (const item of count > 0 ? items : []) {
    if (kept.length === count && order(item, kept.at(-1)!) >= 0) continue;
    let at = kept.length;
    while (at > 0 && order(item, kept[at - 1]!) < 0) at -= 1;
    kept.splice(at, 0, item);
    if (kept.length > count) kept.pop();
  }
  return kept;
}

/** Where a slot stands in the rollout. */
interface Turn {
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

function turnOf(slot: RolloutSlot, id: number, policy: Policy, age: Age): Turn {
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
