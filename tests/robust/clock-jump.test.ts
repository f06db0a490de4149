/**
 * A manager's wall clock that is set an hour forward or back while it runs: nothing restarts, nobody is taken for lost, and
 * what waits, waits as long as it was to wait.
 */
import { describe, expect, test, vi } from 'vitest';
import { startOrchestration } from '../../src/control/control.ts';
import { World } from '../../src/control/world.fixture.ts';
import { systemClock } from '../../src/daemon/system.ts';
import { DEFAULT_PERIODS, Liveness } from '../../src/dispatch/liveness.ts';
import { TaskState } from '../../src/model/states.ts';
import { FakeClock } from '../../src/sim/fake-clock.ts';

const HOUR_MS = 3_600_000;

describe.each([
  ['forward', HOUR_MS],
  ['back', -HOUR_MS],
])('an hour %s', (_name, jumpMs) => {
  const RESTART = { ContainerSpec: { Image: 'web' }, RestartPolicy: { Delay: 5e9 } };

  test('nothing restarts', async () => {
    const world = await World.open(startOrchestration);
    for (const id of ['n1', 'n2']) await world.addNode(id);
    await world.createService('web', 4, RESTART);
    await world.run(10_000);
    const before = world
      .running('web')
      .map(({ id }) => id)
      .toSorted();
    expect(before).toHaveLength(4);
    world.clock.jump(jumpMs);
    await world.run(60_000);
    expect(
      world
        .running('web')
        .map(({ id }) => id)
        .toSorted(),
    ).toEqual(before);
    expect(world.tasks('web')).toHaveLength(4);
    await world.close();
  });

  test('a restart delay is as long as it was, whether the clock is set in the middle of it or before', async () => {
    const world = await World.open(startOrchestration);
    await world.addNode('n1');
    await world.createService('web', 1, RESTART);
    await world.run(10_000);
    for (const set of ['in the middle', 'before']) {
      await world.failTask(world.running('web')[0]!.id);
      await world.run(1_000);
      if (set === 'in the middle') world.clock.jump(jumpMs);
      await world.run(3_000);
      expect(world.running('web')).toEqual([]);
      await world.run(2_000);
      expect(world.running('web')).toHaveLength(1);
    }
    await world.close();
  });

  test('a manager that starts after the clock was set makes no task wait longer than its delay', async () => {
    const world = await World.open(startOrchestration);
    await world.addNode('n1');
    await world.createService('web', 1, RESTART);
    await world.run(10_000);
    await world.failTask(world.running('web')[0]!.id);
    await world.run(1_000);
    world.clock.jump(jumpMs);
    await world.restartManager();
    await world.run(6_000);
    expect(world.running('web')).toHaveLength(1);
    await world.close();
  });

  test('an update comes to its end', async () => {
    const world = await World.open(startOrchestration);
    await world.addNode('n1');
    await world.createService('web', 1, RESTART);
    await world.run(10_000);
    await world.setTemplate('web', { ...RESTART, ContainerSpec: { Image: 'web:2' } });
    await world.run(3_000);
    expect(world.service('web')?.updateStatus?.state).toBe('updating');
    world.clock.jump(jumpMs);
    await world.run(10_000);
    expect(world.service('web')?.updateStatus?.state).toBe('completed');
    expect(world.running('web').map(({ desiredState }) => desiredState)).toEqual([TaskState.RUNNING]);
    await world.close();
  });

  test('nobody is taken for lost, and who is lost is found to be in time', async () => {
    const clock = new FakeClock();
    const lost: string[] = [];
    const liveness = new Liveness(clock, DEFAULT_PERIODS, (nodeId) => lost.push(nodeId));
    liveness.start();
    liveness.heard('n1', 3_000);
    clock.jump(jumpMs);
    await clock.advance(2_900);
    expect(lost).toEqual([]);
    await clock.advance(300);
    expect(lost).toEqual(['n1']);
    liveness.stop();
  });
});

// Delays are nanoseconds up to 2^53: 104 days, of which a timer of Node can do 24.8.
test('a timer of a hundred days fires after a hundred days', () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const fired: string[] = [];
    systemClock.after(100 * 24 * HOUR_MS, () => fired.push('it'));
    const cancelled = systemClock.after(100 * 24 * HOUR_MS, () => fired.push('cancelled'));
    vi.advanceTimersByTime(99 * 24 * HOUR_MS);
    expect(fired).toEqual([]);
    cancelled.cancel();
    vi.advanceTimersByTime(24 * HOUR_MS);
    expect(fired).toEqual(['it']);
  } finally {
    vi.useRealTimers();
  }
});
