/** The pure decisions of the loops, one table each. */
import { describe, expect, test } from 'vitest';
import type { Node, Task, TaskStatus } from '../model/objects.ts';
import type { Labels, RestartPolicy, ServiceSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import { misplaced } from './enforcer.ts';
import { demandOn } from './global.ts';
import { orphansInMs } from './orphans.ts';
import { reapable } from './reaper.ts';
import { scaling } from './replicated.ts';
import { slotFate } from './restart.ts';
import { startsInMs } from './starter.ts';
import { slotOf, type Slot } from './tasks.ts';

const { RUNNING, PENDING, READY, COMPLETE, FAILED, REJECTED, SHUTDOWN, REMOVE, ORPHANED } = TaskState;
const at = (seconds: number) => new Date(seconds * 1000).toISOString();

interface Given {
  id?: string;
  slot?: number;
  on?: string;
  desired?: TaskState;
  is?: TaskState;
  made?: number;
  version?: number;
  endedAt?: number;
}

function task({
  id = 't',
  slot = 1,
  on = 'n',
  desired = RUNNING,
  is = RUNNING,
  made = 1,
  version = 1,
  endedAt = 0,
}: Given): Task {
  const meta = { version: made, createdAt: '', updatedAt: '' };
  const status: TaskStatus = { timestamp: at(endedAt), state: is, message: '' };
  const service = { environment: 'default', serviceId: 's', serviceName: 's', specVersion: version, networks: [] };
  return { id, meta, ...service, slot, nodeId: on, desiredState: desired, status };
}

function node(
  given: { state?: Node['status']['state']; is?: Node['spec']['Availability']; memory?: number } = {},
): Node {
  return {
    id: 'n',
    meta: { version: 1, createdAt: '', updatedAt: '' },
    spec: { Labels: { zone: 'a' }, Role: 'worker', Availability: given.is ?? 'active' },
    description: {
      platform: { OS: 'linux', Architecture: 'x86_64' },
      resources: { nanoCpus: 4e9, memoryBytes: given.memory ?? 100 },
    } as Node['description'],
    status: { state: given.state ?? 'ready', message: '', address: '', since: at(0) },
    gateways: {},
  };
}

const slot = (...given: Given[]) => slotOf(given.map((one, i) => task({ id: `t${i}`, made: i + 1, ...one })))!;

describe('slotOf', () => {
  test.each<[string, Given[], string | undefined]>([
    ['nothing holds an empty slot', [], undefined],
    ['tasks being removed hold no slot', [{ desired: REMOVE }], undefined],
    ['the wanted task stands for it', [{ desired: RUNNING }, { desired: SHUTDOWN }], 't0'],
    ['else the newest', [{ desired: SHUTDOWN }, { desired: SHUTDOWN }, { desired: REMOVE }], 't1'],
  ])('%s', (_, given, id) => {
    expect(slotOf(given.map((one, i) => task({ id: `t${i}`, made: i, ...one })))?.current.id).toBe(id);
  });
});

describe('slotFate', () => {
  const SEC = 1e9;
  const failed = (endedAt: number, version = 1): Given => ({ desired: SHUTDOWN, is: FAILED, endedAt, version });
  const dies = (endedAt: number): Given => ({ is: FAILED, endedAt });
  test.each<[string, Given[], RestartPolicy, Node | undefined, string]>([
    ['a running task stays', [{}], {}, node(), 'keep'],
    ['a task without a node stays', [{ on: '', is: PENDING }], {}, undefined, 'keep'],
    ['a failed one is replaced after the default delay', [dies(0)], {}, node(), 'replace 5000'],
    ['after the delay that was said', [dies(0)], { Delay: 0.25 * SEC }, node(), 'replace 250'],
    ['a completed one too', [{ is: COMPLETE }], {}, node(), 'replace 5000'],
    ['on-failure: not if it completed', [{ is: COMPLETE }], { Condition: 'on-failure' }, node(), 'finish'],
    ['on-failure: if it failed', [dies(0)], { Condition: 'on-failure' }, node(), 'replace 5000'],
    ['none: never', [dies(0)], { Condition: 'none' }, node(), 'finish'],
    ['a finished slot stays finished', [failed(0)], { Condition: 'none' }, node(), 'keep'],
    ['drain: at once', [{}], {}, node({ is: 'drain' }), 'replace 0'],
    ['down: at once', [{}], {}, node({ state: 'down' }), 'replace 0'],
    ['gone: at once', [{ is: ORPHANED }], {}, undefined, 'replace 0'],
    ['drain, to run once', [{}], { Condition: 'none' }, node({ is: 'drain' }), 'finish'],
    ['pause: stays', [{}], {}, node({ is: 'pause' }), 'keep'],
    ['unknown: stays', [{}], {}, node({ state: 'unknown' }), 'keep'],
    ['a task that the manager took away is replaced', [{ desired: SHUTDOWN, is: SHUTDOWN }], {}, node(), 'replace 0'],
    ['refused before it was to start: not before then', [{ desired: READY, is: REJECTED }], {}, node(), 'keep'],
    ['nor does that hold up a move', [{ desired: READY, is: REJECTED }], {}, node({ is: 'drain' }), 'replace 0'],
    ['the last attempt', [failed(0), dies(1)], { MaxAttempts: 2 }, node(), 'replace 5000'],
    ['no attempt left', [failed(0), failed(1), dies(2)], { MaxAttempts: 2 }, node(), 'finish'],
    [
      'attempts of another version do not count',
      [failed(0, 0), failed(1, 0), dies(2)],
      { MaxAttempts: 2 },
      node(),
      'replace 5000',
    ],
    ['nor moves', [{ desired: SHUTDOWN, is: SHUTDOWN }, dies(2)], { MaxAttempts: 1 }, node(), 'replace 5000'],
    ['a move needs no attempt', [failed(0), {}], { MaxAttempts: 1 }, node({ is: 'drain' }), 'replace 0'],
    [
      'attempts before the window are forgotten',
      [failed(0), failed(50), dies(100)],
      { MaxAttempts: 2, Window: 60 * SEC },
      node(),
      'replace 5000',
    ],
    [
      'those in it are not',
      [failed(45), failed(50), dies(100)],
      { MaxAttempts: 2, Window: 60 * SEC },
      node(),
      'finish',
    ],
  ])('%s', (_, given, RestartPolicy, on, fate) => {
    const decided = slotFate(slot(...given), { RestartPolicy }, on, {});
    expect(decided.kind === 'replace' ? `replace ${decided.delayMs}` : decided.kind).toBe(fate);
  });
});

describe('slotFate in a crash loop', () => {
  const crashed = (quickFailures: number, ranSeconds = 1) => {
    const given = task({ is: FAILED, endedAt: 100 });
    const status = { ...given.status, runningSince: at(100 - ranSeconds) };
    return slotOf([{ ...given, status, quickFailures }])!;
  };
  test.each<[string, Slot, Labels, object]>([
    ['the first restarts take the plain delay', crashed(2), {}, { delayMs: 5000, quickFailures: 3 }],
    ['then they are put off', crashed(3), {}, { delayMs: 10_000, quickFailures: 4 }],
    ['up to a minute', crashed(20), {}, { delayMs: 60_000, quickFailures: 21 }],
    ['or what the label says', crashed(20), { 'drover.restart.backoff': '7s' }, { delayMs: 7000, quickFailures: 21 }],
    ['or not at all', crashed(20), { 'drover.restart.backoff': 'off' }, { delayMs: 5000 }],
    ['one that ran for a while ends the loop', crashed(20, 90), {}, { delayMs: 5000, quickFailures: 0 }],
  ])('%s', (_, crashing, labels, fate) => {
    expect(slotFate(crashing, {}, node(), labels)).toEqual({ kind: 'replace', ...fate });
  });

  test('leaving a node is no failure', () => {
    const leaving = slotOf([{ ...task({}), quickFailures: 9 }])!;
    expect(slotFate(leaving, {}, node({ is: 'drain' }), {})).toEqual({ kind: 'replace', delayMs: 0 });
  });
});

describe('scaling', () => {
  const held = (...given: Given[]) => given.map((one) => slot(one));
  test.each<[string, Given[], number, number[], number[]]>([
    ['from nothing', [], 3, [1, 2, 3], []],
    ['gaps first', [{ slot: 2 }, { slot: 5 }], 4, [1, 3], []],
    ['as it is', [{ slot: 1 }], 1, [], []],
    ['to nothing', [{ slot: 1 }, { slot: 2, on: 'm' }], 0, [], [1, 2]],
    ['the fullest node gives', [{ slot: 1 }, { slot: 2 }, { slot: 3, on: 'm' }], 2, [], [2]],
    ['what does not run goes first', [{ slot: 1, is: READY }, { slot: 2 }, { slot: 3, on: 'm' }], 2, [], [1]],
    ['then the highest number', [{ slot: 1 }, { slot: 2, on: 'm' }, { slot: 3, on: 'o' }], 2, [], [3]],
    ['without a node before all', [{ slot: 1, on: '', is: PENDING }, { slot: 2 }, { slot: 3 }], 2, [], [1]],
    ['finished slots count, and go first', [{ slot: 1, desired: SHUTDOWN, is: COMPLETE }, { slot: 2 }], 1, [], [1]],
  ])('%s', (_, given, replicas, add, remove) => {
    const plan = scaling(held(...given), replicas);
    expect([plan.add, plan.remove.sort((a, b) => a - b)]).toEqual([add, remove]);
  });
});

describe('startsInMs', () => {
  const waiting = { ...task({ desired: READY }), startAfter: at(100) };
  test.each<[string, { graceMs: number } | undefined, number, number]>([
    ['the delay is not over', undefined, 98, 2000],
    ['the delay is over', undefined, 101, 0],
    ['the old task still stops', { graceMs: 10_000 }, 101, 59_000],
    ['patience is over', { graceMs: 10_000 }, 160, 0],
    ['a long grace is waited for', { graceMs: 300_000 }, 160, 250_000],
  ])('%s', (_, stopping, now, delayMs) => {
    expect(startsInMs(waiting, stopping, now * 1000)).toBe(delayMs);
  });
});

describe('reapable', () => {
  const dead = (made: number): Given => ({ desired: SHUTDOWN, is: FAILED, made });
  const live = (made: number): Given => ({ made });
  test.each<[string, Given[], number, number[]]>([
    ['dead tasks up to the limit stay', [dead(1), dead(2), live(3)], 2, []],
    ['the oldest go', [dead(3), dead(1), dead(2), live(4)], 1, [1, 2]],
    ['limit 0 keeps none', [dead(1), live(2)], 0, [1]],
    ['but the last of a finished slot', [dead(1), dead(2)], 0, [1]],
    ['a negative limit keeps all', [dead(1), dead(2), live(3)], -1, []],
    ['what still stops stays', [{ desired: SHUTDOWN, made: 1 }, live(2)], 0, []],
    ['a dead task that is still wanted is not history yet', [{ is: FAILED, made: 1 }], 0, []],
    ['removed and over', [{ desired: REMOVE, is: SHUTDOWN, made: 1 }], 5, [1]],
    ['removed, still stopping', [{ desired: REMOVE, made: 1 }], 5, []],
    ['removed, and its node with it', [{ desired: REMOVE, on: 'gone', made: 1 }], 5, [1]],
  ])('%s', (_, given, limit, reaped) => {
    const tasks = given.map((one) => task(one));
    expect(
      reapable(tasks, limit, (id) => id === 'gone')
        .map((one) => one.meta.version)
        .sort((a, b) => a - b),
    ).toEqual(reaped);
  });
});

describe('misplaced', () => {
  const spec = (
    Constraints: string[],
    MemoryBytes = 0,
    Mode: ServiceSpec['Mode'] = { Replicated: {} },
  ): ServiceSpec => {
    const TaskTemplate = { Placement: { Constraints }, Resources: { Reservations: { MemoryBytes } } };
    return { Name: 's', Labels: {}, Mode, TaskTemplate };
  };
  const placed = (made: number, declared: ServiceSpec) => ({ task: task({ made }), made: declared, declared });
  const inA = spec(['node.labels.zone==a']);
  const inB = spec(['node.labels.zone==b']);
  test.each<[string, Node, ReturnType<typeof placed>[], number[]]>([
    ['constraints met', node(), [placed(1, inA)], []],
    ['constraints not met', node(), [placed(1, inA), placed(2, inB)], [2]],
    ['paused nodes are left alone', node({ is: 'pause' }), [placed(1, inB)], []],
    ['global services see to it themselves', node(), [placed(1, spec(['node.labels.zone==b'], 0, { Global: {} }))], []],
    ['the declared constraints count', node(), [{ ...placed(1, inA), made: inB }], []],
    [
      'too much reserved: the older stay',
      node(),
      [placed(2, spec([], 60)), placed(1, spec([], 60)), placed(3, spec([], 40))],
      [2],
    ],
  ])('%s', (_, on, tasks, ids) => {
    expect(misplaced(on, tasks).map((one) => one.meta.version)).toEqual(ids);
  });

  test('a thing that is no longer there, or was given twice, costs the younger task its place', () => {
    const gpu = (Value: string) => ({ NamedResourceSpec: { Kind: 'gpu', Value } });
    const { description, ...rest } = node();
    const resources = { ...description!.resources, generic: [gpu('b')] };
    const on: Node = { ...rest, description: { ...description!, resources } };
    const given = ['a', 'b', 'b'].map((name, i) => {
      const one = placed(i + 1, spec([]));
      return { ...one, task: { ...one.task, genericResources: [gpu(name)] } };
    });
    expect(misplaced(on, given).map((one) => one.meta.version)).toEqual([1, 3]);
  });
});

describe('demandOn', () => {
  test.each<[string, Node | undefined, object, string]>([
    ['a ready node', node(), {}, 'run'],
    ['drained', node({ is: 'drain' }), {}, 'leave'],
    ['down', node({ state: 'down' }), {}, 'leave'],
    ['gone', undefined, {}, 'leave'],
    ['paused', node({ is: 'pause' }), {}, 'keep'],
    ['unknown', node({ state: 'unknown' }), {}, 'keep'],
    ['another zone', node(), { Constraints: ['node.labels.zone!=a'] }, 'leave'],
    ['another processor', node(), { Platforms: [{ OS: 'linux', Architecture: 'arm64' }] }, 'leave'],
    ['the same by another name', node(), { Platforms: [{ OS: 'linux', Architecture: 'amd64' }] }, 'run'],
  ])('%s', (_, on, placement, demand) => {
    expect(demandOn(on, placement)).toBe(demand);
  });
});

test('orphansInMs: at once without a node, after a day with one that is down', () => {
  expect(orphansInMs(undefined, 0)).toBe(0);
  expect(orphansInMs(node(), 1e12)).toBeUndefined();
  expect(orphansInMs(node({ state: 'down' }), 3_600_000)).toBe(23 * 3_600_000);
  expect(orphansInMs(node({ state: 'down' }), 25 * 3_600_000)).toBe(0);
});
