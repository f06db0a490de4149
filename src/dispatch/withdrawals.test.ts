/** Which tasks may be stopped, by rounds and confirmations; and by random ones, against a plain model of the promise. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Task } from '../model/objects.ts';
import { TaskState } from '../model/states.ts';
import { task } from './testbed.fixture.ts';
import { beginsToLeave, isLeaving, Withdrawals } from './withdrawals.ts';

describe('withdrawals', () => {
  test('a task is withdrawn when the last of its nodes has confirmed its round', () => {
    const withdrawals = new Withdrawals();
    const round = withdrawals.begin([
      { tasks: ['t1'], nodes: ['n1', 'n2'] },
      { tasks: ['t2'], nodes: ['n2'] },
    ]);
    expect([withdrawals.roundOf('n1'), withdrawals.roundOf('n2'), withdrawals.roundOf('n3')]).toEqual([
      round,
      round,
      undefined,
    ]);
    expect(withdrawals.confirmed('n1', round)).toEqual([]);
    expect([withdrawals.has('t1'), withdrawals.has('t2')]).toEqual([true, true]);
    expect(withdrawals.confirmed('n2', round)).toEqual(['t1', 't2']);
    expect([withdrawals.has('t1'), withdrawals.has('t2'), withdrawals.roundOf('n2')]).toEqual([
      false,
      false,
      undefined,
    ]);
  });

  test('a confirmation of an earlier round says nothing of a later one; one of a later round says all', () => {
    const withdrawals = new Withdrawals();
    const first = withdrawals.begin([{ tasks: ['t1'], nodes: ['n1'] }]);
    const second = withdrawals.begin([{ tasks: ['t2'], nodes: ['n1'] }]);
    expect(withdrawals.roundOf('n1')).toBe(second);
    expect(withdrawals.confirmed('n1', first)).toEqual(['t1']);
    expect(withdrawals.has('t2')).toBe(true);
    withdrawals.begin([{ tasks: ['t3'], nodes: ['n1'] }]);
    const last = withdrawals.begin([{ tasks: ['t4'], nodes: ['n1'] }]);
    expect(withdrawals.confirmed('n1', last)).toEqual(['t2', 't3', 't4']);
  });

  test('a node that is lost is waited for no more', () => {
    const withdrawals = new Withdrawals();
    const round = withdrawals.begin([
      { tasks: ['t1'], nodes: ['n1', 'n2'] },
      { tasks: ['t2'], nodes: ['n2'] },
    ]);
    expect(withdrawals.lost('n2')).toEqual(['t2']);
    expect(withdrawals.confirmed('n1', round)).toEqual(['t1']);
  });

  test('the time of a round ends it, and no other', () => {
    const withdrawals = new Withdrawals();
    const first = withdrawals.begin([{ tasks: ['t1'], nodes: ['n1'] }]);
    withdrawals.begin([{ tasks: ['t2'], nodes: ['n1'] }]);
    expect(withdrawals.expired(first)).toEqual(['t1']);
    expect([withdrawals.has('t1'), withdrawals.has('t2')]).toEqual([false, true]);
    expect(withdrawals.expired(first)).toEqual([]);
  });

  test('a task that nobody balances, and one that has ended, are not waited for', () => {
    const withdrawals = new Withdrawals();
    withdrawals.begin([
      { tasks: ['t1'], nodes: [] },
      { tasks: ['t2'], nodes: ['n1'] },
    ]);
    withdrawals.end('t2');
    withdrawals.end('t2');
    expect([withdrawals.has('t1'), withdrawals.has('t2'), withdrawals.roundOf('n1')]).toEqual([
      false,
      false,
      undefined,
    ]);
  });

  test('whatever happens in which order: a task waits for exactly the nodes that have not confirmed since it began', () => {
    const [tasks, nodes] = [
      ['t1', 't2', 't3'],
      ['n1', 'n2', 'n3'],
    ];
    const step = fc.oneof(
      fc.record({ do: fc.constant('begin'), tasks: fc.subarray(tasks, { minLength: 1 }), nodes: fc.subarray(nodes) }),
      fc.record({ do: fc.constant('confirm'), node: fc.constantFrom(...nodes), back: fc.nat(3) }),
      fc.record({ do: fc.constant('lose'), node: fc.constantFrom(...nodes) }),
      fc.record({ do: fc.constant('expire'), back: fc.nat(3) }),
      fc.record({ do: fc.constant('end'), task: fc.constantFrom(...tasks) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const withdrawals = new Withdrawals();
        const model = new Map<string, { round: number; nodes: Set<string> }>();
        let round = 0;
        const drop = (node: string, upTo: number) => {
          const done: string[] = [];
          for (const [id, each] of model)
            if (each.round <= upTo && each.nodes.delete(node) && each.nodes.size === 0) done.push(id);
          for (const id of done) model.delete(id);
          return done.sort();
        };
        for (const each of steps) {
          if ('tasks' in each) {
            round = withdrawals.begin([each]);
            for (const id of each.tasks) {
              model.delete(id);
              if (each.nodes.length > 0) model.set(id, { round, nodes: new Set(each.nodes) });
            }
          } else if (each.do === 'confirm' && 'node' in each) {
            const upTo = 'back' in each ? round - each.back : round;
            expect(withdrawals.confirmed(each.node, upTo).sort()).toEqual(drop(each.node, upTo));
          } else if ('node' in each) expect(withdrawals.lost(each.node).sort()).toEqual(drop(each.node, Infinity));
          else if ('back' in each) {
            const late = [...model].filter(([, { round: begun }]) => begun === round - each.back).map(([id]) => id);
            expect(withdrawals.expired(round - each.back).sort()).toEqual(late.sort());
            for (const id of late) model.delete(id);
          } else if ('task' in each) {
            withdrawals.end(each.task);
            model.delete(each.task);
          }
          for (const id of tasks) expect(withdrawals.has(id)).toBe(model.has(id));
          for (const node of nodes) {
            const rounds = [...model.values()].filter((open) => open.nodes.has(node)).map((open) => open.round);
            expect(withdrawals.roundOf(node)).toBe(rounds.length === 0 ? undefined : Math.max(...rounds));
          }
        }
      }),
    );
  });
});

describe('a task leaves', () => {
  const running = (more: Partial<Task> = {}, ready?: boolean): Task => {
    const made = task('t', 's', 'n', ['net']);
    return {
      ...made,
      status: { ...made.status, state: TaskState.RUNNING, ...(ready === undefined ? {} : { ready }) },
      ...more,
    };
  };
  const stopping = { desiredState: TaskState.SHUTDOWN };

  test.each([
    ['when it is not wanted any more', running(), running(stopping), true],
    ['when its service is removed', running(), running({ desiredState: TaskState.REMOVE }), true],
    ['once only', running(stopping), running({ desiredState: TaskState.REMOVE }), false],
    [
      'but not by failing',
      running(),
      { ...running(stopping), status: { ...running().status, state: TaskState.FAILED } },
      false,
    ],
    ['but not without networks', running({ networks: [] }), running({ networks: [], ...stopping }), false],
    ['but not if it was never ready', running({}, false), running(stopping, false), false],
    ['but not before it runs', task('t', 's', 'n', ['net']), { ...task('t', 's', 'n', ['net']), ...stopping }, false],
    ['but not while it is wanted', running(), running(), false],
  ])('%s', (_what, before, after, leaves) => {
    expect(beginsToLeave(before, after)).toBe(leaves);
  });

  test('and a manager that has just begun finds those that do', () => {
    expect([running(), running(stopping), running(stopping, false)].map(isLeaving)).toEqual([false, true, false]);
  });
});
