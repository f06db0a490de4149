import { describe, expect, test } from 'vitest';
import { FakeClock } from '../sim/fake-clock.ts';
import { DEFAULT_PERIODS, Liveness } from './liveness.ts';

function setup() {
  const clock = new FakeClock();
  const down: string[] = [];
  const liveness = new Liveness(clock, DEFAULT_PERIODS, (nodeId) => down.push(`${nodeId} ${clock.monotonic()}`));
  liveness.start();
  return { clock, down, liveness };
}

describe('Liveness', () => {
  test('a silent node is down after 3 s in a small cluster, one that pauses for 2 s is not', async () => {
    const { clock, down, liveness } = setup();
    const { timeoutMs } = liveness.periodsFor(3);
    liveness.heard('silent', timeoutMs);
    liveness.heard('pausing', timeoutMs);
    await clock.advance(2_500);
    liveness.heard('pausing', timeoutMs);
    await clock.advance(600);
    expect(down).toEqual(['silent 3000']);
    expect(liveness.expects('silent')).toBe(false);
    expect(liveness.expects('pausing')).toBe(true);
  });

  test('one that a new manager has not heard yet has 10 s, and longer where heartbeats are rare', async () => {
    for (const [nodes, dueMs] of [
      [3, 10_000],
      // A heartbeat every 25 s, and it takes two to find out that the last manager is silent.
      [50_000, 59_000],
    ] as const) {
      const { clock, down, liveness } = setup();
      liveness.expect('never', nodes);
      liveness.expect('comes', nodes);
      liveness.expect('comes and goes', nodes);
      expect(liveness.expects('never')).toBe(true);
      liveness.heard('comes', 100_000);
      liveness.heard('comes and goes', 100_000);
      liveness.away('comes and goes');
      await clock.advance(9_900);
      expect(down).toEqual([]);
      await clock.advance(dueMs - 9_800);
      expect(down.toSorted()).toEqual(['comes and goes 10000', `never ${dueMs}`]);
    }
  });

  test('one whose connection was closed has 10 s, and may come back', async () => {
    const { clock, down, liveness } = setup();
    liveness.heard('a', 3_000);
    liveness.heard('b', 3_000);
    liveness.away('a');
    liveness.away('b');
    await clock.advance(9_900);
    expect(down).toEqual([]);
    liveness.heard('b', 3_000);
    await clock.advance(200);
    expect(down).toEqual(['a 10000']);
    liveness.forget('b');
    await clock.advance(20_000);
    expect(down).toHaveLength(1);
  });

  test('the heartbeat period stretches, so that the rate over all nodes stays bounded', () => {
    const { liveness } = setup();
    expect(liveness.periodsFor(1)).toEqual({ heartbeatMs: 500, timeoutMs: 3_000 });
    expect(liveness.periodsFor(1_000)).toEqual({ heartbeatMs: 500, timeoutMs: 3_000 });
    expect(liveness.periodsFor(10_000)).toEqual({ heartbeatMs: 5_000, timeoutMs: 7_500 });
  });

  test('a manager that was stopped for a minute finds nobody down, and still notices who is silent afterwards', () => {
    // A clock by hand: time passes, but no timer fires, as after SIGSTOP.
    let now = 0;
    const timers: (() => void)[] = [];
    const clock = {
      now: () => now,
      monotonic: () => now,
      after: (_delayMs: number, fn: () => void) => (timers.push(fn), { cancel() {} }),
    };
    const tick = (ms: number) => {
      now += ms;
      timers.shift()!();
    };
    const down: string[] = [];
    const liveness = new Liveness(clock, DEFAULT_PERIODS, (nodeId) => down.push(nodeId));
    liveness.start();
    liveness.heard('a', 3_000);
    tick(100);
    tick(60_000);
    tick(50_000);
    expect(down).toEqual([]);
    for (let i = 0; i < 26; i++) tick(100);
    expect(down).toEqual([]);
    for (let i = 0; i < 3; i++) tick(100);
    expect(down).toEqual(['a']);
  });
});
