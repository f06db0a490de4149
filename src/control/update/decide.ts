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
  const turns = slots.map((slot) => turnOf(slot, rollout.id, policy, age));
  const arrived = turns.flatMap(({ made, news }) => (news === 'arrived' ? [made!] : []));
  const failed = turns.flatMap(({ news }) => (typeof news === 'object' ? [news] : []));
  const restore = slots.filter((slot) => slot.dirty && slot.outgoingIsClean === true);
  const base = { arrived, failed, restore, replace: [] };

  const latest = failed.findLast(({ task }) => task.rollout?.id === rollout.id);
  if (latest !== undefined && policy.action !== 'continue' && exceeds(turns, rollout, policy))
    return { ...base, giveUp: latest, state: 'busy' };

  const waiting = turns.filter((turn) => turn.waits);
  const taken = slots.length - waiting.length;
  const busy = turns.filter(({ inFlight, restsMs }) => inFlight || restsMs > 0).length;
  const allowed = Math.max(0, Math.min(policy.parallelism - busy, policy.canaries - taken));
  const replace = waiting
    .map(({ slot }) => slot)
    .sort((a, b) => Number(isRunning(standing(a))) - Number(isRunning(standing(b))) || a.current.slot - b.current.slot)
    .slice(0, allowed);

  const held = waiting.length > replace.length && taken + replace.length >= policy.canaries;
  const ends = (waiting.length === replace.length || held) && replace.length === 0 && restore.length === 0;
  // One that had only to leave what was on its way is watched, too: clients look now and then, and are to see it.
  const begunMs = rollout.slots === 0 ? 0 : left(policy.monitorMs, age(String(rollout.id), rollout.startedAt));
  const watchMs = Math.max(begunMs, ...turns.map((turn) => turn.watchMs));
  const alarms = turns.flatMap(({ inFlight, leftMs, restsMs }) => [
    ...(inFlight && leftMs < Infinity ? [leftMs] : []),
    ...(restsMs > 0 && waiting.length > replace.length && !held ? [restsMs] : []),
  ]);
  const inFlight = turns.some((turn) => turn.inFlight);
  if (watchMs > 0 && ends && !inFlight) alarms.push(watchMs);
  const againMs = alarms.length === 0 ? undefined : Math.min(...alarms);
  const over = ends && !inFlight && watchMs === 0;
  return {
    ...base,
    replace,
    state: !over ? 'busy' : held ? 'canaries' : 'done',
    ...(againMs === undefined ? {} : { againMs }),
  };
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
  const own = newest(slot.tasks.filter((task) => task.rollout?.id === id));
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
function exceeds(turns: readonly Turn[], rollout: Rollout, policy: Policy): boolean {
  const failures = turns.filter(({ failed }) => failed).length;
  return failures / Math.min(rollout.slots, policy.canaries) > policy.maxFailureRatio;
}

function left(periodMs: number, passedMs: number): number {
  return Math.max(0, periodMs - passedMs);
}
