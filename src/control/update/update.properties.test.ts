/** Rollouts of versions that fail in any way, under any policy, with a drain and a new manager in the middle. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ROLLOUT } from '../../model/rollouts.ts';
import type { View } from '../../store/store.ts';
import { startOrchestration } from '../control.ts';
import { endedByItself } from '../restart.ts';
import { hasArrived, slotsOf, type Slot } from '../tasks.ts';
import { BAD_IMAGE, FLAKY_IMAGE, MISSING_IMAGE, SHORT_IMAGE, slotsRunOnce, World } from '../world.fixture.ts';
import { ended, image, NOWHERE, SEC } from './rollout.fixture.ts';

describe('whatever fails', () => {
  const config = fc.record({
    Parallelism: fc.nat(3),
    Delay: fc.constantFrom(0, 2 * SEC),
    FailureAction: fc.constantFrom('pause' as const, 'continue' as const, 'rollback' as const),
    MaxFailureRatio: fc.constantFrom(0, 0.3, 1),
    Order: fc.constantFrom('stop-first' as const, 'start-first' as const),
  });
  const rollout = fc.record({
    replicas: fc.integer({ min: 1, max: 6 }),
    update: config,
    rollback: config.map(({ FailureAction, ...rest }) =>
      FailureAction === 'rollback' ? rest : { ...rest, FailureAction },
    ),
    to: fc.constantFrom('v2', BAD_IMAGE, MISSING_IMAGE, SHORT_IMAGE, SHORT_IMAGE, FLAKY_IMAGE, FLAKY_IMAGE),
    nowhere: fc.constantFrom(false, false, true),
    drainAt: fc.option(fc.nat(6000)),
    restartAt: fc.option(fc.nat(6000)),
  });

  /** Slots in which nothing serves; with a version: nothing of that. */
  const outOfService = (view: View, version?: number): Slot[] =>
    slotsOf(view.tasks.by('service', 'web')).filter(
      ({ tasks }) => !tasks.some((task) => hasArrived(task) && (version ?? task.specVersion) === task.specVersion),
    );

  /** One where a task has failed is out of service for that: the restart policy sees to it. */
  const hasFailed = (slot: Slot): boolean =>
    slot.tasks.some((task) => task.rollout?.failedAt !== undefined || endedByItself(task));

  test('a rollout ends completed, paused or rolled back, and never has more slots out of service than it may', async () => {
    await fc.assert(
      fc.asyncProperty(rollout, async ({ replicas, update, rollback, to, nowhere, drainAt, restartAt }) => {
        const w = await World.open(startOrchestration);
        for (const id of ['n1', 'n2', 'n3']) await w.addNode(id);
        await w.createService('web', replicas, { RestartPolicy: { Delay: SEC } });
        await w.updateService('web', (spec) => ({
          ...spec,
          Labels: { [ROLLOUT.deadline]: '15s' },
          UpdateConfig: update,
          RollbackConfig: rollback,
        }));
        await w.settle();
        const good = to === 'v2' && !nowhere;
        const old = w.running('web')[0]!.specVersion;
        w.always((view) => {
          const goesBack = view.services.get('web')!.updateStatus?.state.startsWith('rollback') === true;
          const { Order, Parallelism } = goesBack ? rollback : update;
          if (update.Order === 'stop-first' && rollback.Order === 'stop-first') slotsRunOnce(view);
          // A drain takes its own slots, and a rollback may begin while the last of the update's are still on their way.
          const most =
            drainAt !== null || Parallelism === 0 ? replicas : Math.max(Parallelism, update.Parallelism || replicas);
          // What cannot stay takes no old task's place, not for a moment.
          if (update.Order === 'start-first' && rollback.Order === 'start-first')
            expect(outOfService(view, good || to === FLAKY_IMAGE ? undefined : old)).toEqual([]);
          else if (Order === 'stop-first')
            expect(outOfService(view).filter((slot) => !hasFailed(slot)).length).toBeLessThanOrEqual(most);
        });
        await w.setTemplate('web', { ...image(to), ...(nowhere ? NOWHERE : {}) });
        const deeds: [number | null, () => Promise<void>][] = [
          [drainAt, () => w.setAvailability('n1', 'drain')],
          [restartAt, () => w.restartManager()],
        ];
        let now = 0;
        for (const [at, act] of deeds.filter(([when]) => when !== null).sort(([a], [b]) => a! - b!)) {
          await w.run(at! - now + 1);
          now = at!;
          await act();
        }
        await ended(w);
        const { state: end } = w.service('web')!.updateStatus!;
        // What has arrived and is drained before it ends has not failed.
        const escapes = to === FLAKY_IMAGE || (to === SHORT_IMAGE && update.Order === 'stop-first' && !nowhere);
        const fails = !good && !escapes && update.MaxFailureRatio < 1;
        if (good) expect(end).toBe('completed');
        if (fails && update.FailureAction === 'rollback') expect(end).toBe('rollback_completed');
        if (fails && update.FailureAction === 'pause') expect(end).toBe('paused');
        await w.close();
      }),
      { numRuns: 150 },
    );
  });
});
