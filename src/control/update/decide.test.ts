/** The pure decision of a rollout's next step, as a table. */
import { describe, expect, test } from 'vitest';
import type { Task, TaskStatus } from '../../model/objects.ts';
import { TaskState } from '../../model/states.ts';
import { nextStep, type Policy, type RolloutSlot } from './decide.ts';

const { RUNNING, PENDING, STARTING, FAILED, COMPLETE, SHUTDOWN } = TaskState;
const NOW_MS = 1_000_000;
const ID = 7;
const ago = (seconds: number) => new Date(NOW_MS - seconds * 1000).toISOString();

interface Given {
  is?: TaskState;
  desired?: TaskState;
  ready?: boolean;
  /** Seconds ago. */
  made?: number;
  arrived?: number;
  failed?: number;
  ended?: number;
  ran?: number;
  error?: string;
  /** Of another rollout. */
  foreign?: boolean;
}

let made = 0;

function task(slot: number, given: Given, rollout: boolean): Task {
  const { is = RUNNING, desired = RUNNING, ready, arrived, failed, ended, ran, error } = given;
  const status: TaskStatus = {
    timestamp: ago(ended ?? 0),
    state: is,
    message: '',
    ...(ready === undefined ? {} : { ready }),
    ...(ran === undefined ? {} : { runningSince: ago(ran) }),
    ...(error === undefined ? {} : { error }),
  };
  const mark = {
    id: given.foreign === true ? ID - 1 : ID,
    ...(arrived === undefined ? {} : { arrivedAt: ago(arrived) }),
    ...(failed === undefined ? {} : { failedAt: ago(failed) }),
  };
  return {
    id: `t${slot}`,
    meta: { version: made++, createdAt: ago(given.made ?? 1), updatedAt: '' },
    slot,
    desiredState: desired,
    status,
    ...(rollout ? { rollout: mark } : {}),
  } as Task;
}

/** A slot that is still to be replaced. */
const old = (slot: number, given: Given = {}): RolloutSlot => {
  const current = task(slot, given, false);
  return { current, tasks: [current], dirty: true };
};
/** A slot that a rollout has replaced. */
const fresh = (slot: number, given: Given = {}): RolloutSlot => {
  const current = task(slot, given, true);
  return { current, tasks: [current], dirty: false };
};
/** Start-first: a new task beside an old one. */
const beside = (slot: number, given: Given, outgoingIsClean = false): RolloutSlot => {
  const [outgoing, current] = [{ ...task(slot, {}, false), id: `old${slot}` }, task(slot, given, !outgoingIsClean)];
  return { current, outgoing, tasks: [outgoing, current], dirty: outgoingIsClean, outgoingIsClean };
};

const POLICY: Policy = {
  parallelism: 1,
  delayMs: 0,
  monitorMs: 5000,
  deadlineMs: 60_000,
  maxFailureRatio: 0,
  action: 'pause',
  startFirst: false,
  canaries: Infinity,
};

function decided(slots: RolloutSlot[], policy: Partial<Policy> = {}, began = 99, of = slots.length): string {
  const age = (_: string, moment: string) => NOW_MS - Date.parse(moment);
  const step = nextStep(slots, { id: ID, version: 1, slots: of, startedAt: ago(began) }, { ...POLICY, ...policy }, age);
  const numbers = (name: string, tasks: { current: Task }[]) =>
    tasks.length === 0 ? [] : [`${name} ${tasks.map(({ current }) => current.slot).join()}`];
  const failed = step.failed.map(({ task: one, reason }) => `failed ${one.slot}${reason ? ` (${reason})` : ''}`);
  return [
    ...(step.arrived.length === 0 ? [] : [`arrived ${step.arrived.map(({ slot }) => slot).join()}`]),
    ...failed,
    ...(step.giveUp === undefined ? [] : [`give up for ${step.giveUp.task.slot}`]),
    ...numbers('restore', step.restore),
    ...numbers('replace', step.replace),
    step.state,
    ...(step.againMs === undefined ? [] : [`again ${step.againMs}`]),
  ].join('; ');
}

describe('whose turn it is', () => {
  const here: Given = { made: 30, arrived: 20 };
  const comes: Given = { is: STARTING };
  test.each<[string, RolloutSlot[], Partial<Policy>, string]>([
    ['one of many', [old(2), old(1)], {}, 'replace 1; busy'],
    ['what does not run goes first', [old(1), old(2, { is: PENDING })], {}, 'replace 2; busy'],
    ['all at once', [old(1), old(2), old(3)], { parallelism: Infinity }, 'replace 1,2,3; busy'],
    ['not before the last has come', [fresh(1, comes), old(2)], {}, 'busy; again 59000'],
    ['nor before it is ready', [fresh(1, { ready: false }), old(2)], {}, 'busy; again 59000'],
    ['the next in the very step that sees it come', [fresh(1), old(2)], {}, 'arrived 1; replace 2; busy'],
    ['the monitor period holds up nothing', [fresh(1, { arrived: 1 }), old(2)], {}, 'replace 2; busy'],
    ['the delay does', [fresh(1), old(2)], { delayMs: 3000 }, 'arrived 1; busy; again 3000'],
    ['until it is over', [fresh(1, { arrived: 2 }), old(2)], { delayMs: 3000 }, 'busy; again 1000'],
    ['and then not', [fresh(1, { arrived: 4 }), old(2)], { delayMs: 3000 }, 'replace 2; busy'],
    [
      'each on its own: one comes, another rests, a third has its turn',
      [fresh(1, comes), fresh(2, { arrived: 1 }), old(3), old(4)],
      { parallelism: 3, delayMs: 3000 },
      'replace 3; busy; again 2000',
    ],
    ['one of a rollout before is waited for', [fresh(1, { ...comes, foreign: true }), old(2)], {}, 'busy; again 59000'],
    ['one that was asked to stop is not', [fresh(1, { ...comes, desired: SHUTDOWN }), old(2)], {}, 'replace 2; busy'],
    [
      'a clean task of nobody holds up nothing',
      [{ ...old(1, { is: PENDING }), dirty: false }, old(2)],
      {},
      'replace 2; busy',
    ],
    ['start-first: not before the new one has come', [beside(1, comes), old(2)], {}, 'busy; again 59000'],
    ['nor before the old one was let go, however long that takes', [beside(1, { made: 99 }), old(2)], {}, 'busy'],
    ['one that settles takes a turn', [beside(1, {}), old(2), old(3)], { parallelism: 2 }, 'replace 2; busy'],
    ['and is seen to the end', [beside(1, {})], {}, 'busy'],
    [
      'it has failed if it ends meanwhile',
      [beside(1, { is: FAILED, ran: 1 }), old(2)],
      {},
      'failed 1; give up for 1; busy',
    ],
    [
      'what was on its way when all went back only goes',
      [beside(1, comes, true), old(2)],
      {},
      'restore 1; replace 2; busy',
    ],
    [
      'all have come: watched for the monitor period',
      [fresh(1, { arrived: 1 }), fresh(2, here)],
      {},
      'busy; again 4000',
    ],
    ['and over', [fresh(1, here)], {}, 'done'],
    ['nothing to do', [], {}, 'done'],
  ])('%s', (_, slots, policy, expected) => {
    expect(decided(slots, policy)).toBe(expected);
  });
});

test('one that only had to leave what was on its way is watched for the monitor period, too', () => {
  const restored = { ...old(1), dirty: false };
  expect(decided([restored], {}, 2)).toBe('busy; again 3000');
  expect(decided([restored], {}, 5)).toBe('done');
  expect(decided([restored], {}, 2, 0)).toBe('done');
});

describe('what has failed', () => {
  const dead = (given: Given = {}): Given => ({ is: FAILED, made: 30, ...given });
  test.each<[string, RolloutSlot[], Partial<Policy>, string]>([
    [
      'one that never ran',
      [fresh(1, dead({ error: 'exit (1)' })), old(2)],
      {},
      'failed 1 (exit (1)); give up for 1; busy',
    ],
    [
      'one that ran and was never seen to',
      [fresh(1, dead({ ran: 3, ended: 2 })), old(2)],
      {},
      'failed 1; give up for 1; busy',
    ],
    [
      'one that ended well, but early',
      [fresh(1, { is: COMPLETE, arrived: 3, ran: 3 })],
      {},
      'failed 1; give up for 1; busy',
    ],
    [
      'one within the monitor period',
      [fresh(1, dead({ arrived: 20, ran: 20, ended: 16 }))],
      {},
      'failed 1; give up for 1; busy',
    ],
    [
      'not one after it, however late it is seen',
      [fresh(1, dead({ arrived: 20, ran: 20, ended: 14 })), old(2)],
      {},
      'replace 2; busy',
    ],
    [
      'without its own word on when it ran, the manager’s counts',
      [fresh(1, dead({ arrived: 20, ended: 14 })), old(2)],
      {},
      'replace 2; busy',
    ],
    [
      'one that does not come in time',
      [fresh(1, { is: PENDING, made: 61, error: 'no node' }), old(2)],
      {},
      'failed 1 (not up within 60 s (no node)); give up for 1; busy',
    ],
    [
      'one that is not ready in time',
      [fresh(1, { ready: false, made: 61 }), old(2)],
      {},
      'failed 1 (not up within 60 s (not ready)); give up for 1; busy',
    ],
    ['not one that may not start', [fresh(1, { is: PENDING, made: 999 }), old(2)], { deadlineMs: Infinity }, 'busy'],
    [
      'one that may has its time from then',
      [fresh(1, { is: PENDING, made: 999 }), old(2)],
      { deadlineFrom: ago(20) },
      'busy; again 40000',
    ],
    [
      'or from when it was made',
      [fresh(1, { is: PENDING, made: 5 }), old(2)],
      { deadlineFrom: ago(20) },
      'busy; again 55000',
    ],
    [
      'and not more',
      [fresh(1, { is: PENDING, made: 999 }), old(2)],
      { deadlineFrom: ago(60) },
      'failed 1 (not up within 60 s (pending)); give up for 1; busy',
    ],
    ['not one of another rollout', [fresh(1, dead({ foreign: true })), old(2)], {}, 'failed 1; replace 2; busy'],
    ['continue: the next', [fresh(1, dead()), old(2)], { action: 'continue' }, 'failed 1; replace 2; busy'],
    ['and to the end', [fresh(1, dead({ failed: 1 }))], { action: 'continue' }, 'done'],
    ['so many may', [fresh(1, dead()), old(2)], { maxFailureRatio: 0.5 }, 'failed 1; replace 2; busy'],
    [
      'not more',
      [fresh(1, dead({ failed: 9 })), fresh(2, dead())],
      { maxFailureRatio: 0.5 },
      'failed 2; give up for 2; busy',
    ],
    ['one counts once', [fresh(1, dead({ failed: 9 })), old(2)], {}, 'replace 2; busy'],
    ['a slot is tried once', [{ ...fresh(1, dead({ failed: 9 })), dirty: true }], { action: 'continue' }, 'done'],
    [
      'after a failure too, the delay is kept',
      [fresh(1, dead({ failed: 1 })), old(2)],
      { action: 'continue', delayMs: 3000 },
      'busy; again 2000',
    ],
  ])('%s', (_, slots, policy, expected) => {
    expect(decided(slots, policy)).toBe(expected);
  });
});

describe('canaries', () => {
  const here: Given = { made: 30, arrived: 20 };
  test.each<[string, RolloutSlot[], Partial<Policy>, string]>([
    ['so many and no more', [old(1), old(2), old(3)], { canaries: 2, parallelism: Infinity }, 'replace 1,2; busy'],
    ['they are watched first', [fresh(1, { arrived: 1 }), old(2)], { canaries: 1 }, 'busy; again 4000'],
    ['then it waits', [fresh(1, here), old(2)], { canaries: 1 }, 'canaries'],
    ['more than there are are all', [fresh(1, here)], { canaries: 5 }, 'done'],
    [
      'the ratio is of them',
      [fresh(1, { is: FAILED }), old(2), old(3)],
      { canaries: 1, maxFailureRatio: 0.5 },
      'failed 1; give up for 1; busy',
    ],
    ['slots that were clean before count', [{ ...old(1), dirty: false }, old(2)], { canaries: 1 }, 'canaries'],
  ])('%s', (_, slots, policy, expected) => {
    expect(decided(slots, policy)).toBe(expected);
  });
});
