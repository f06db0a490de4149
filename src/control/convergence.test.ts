/** The orchestration loops under random histories: whatever happened, the cluster comes to rest as declared. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { TaskState } from '../model/states.ts';
import type { View } from '../store/store.ts';
import { startOrchestration } from './control.ts';
import { demandOn } from './global.ts';
import { isOver, isWanted, mustLeave } from './tasks.ts';
import { BAD_IMAGE, wantedRunOnce, World } from './world.fixture.ts';

const image = (Image: string) => ({ ContainerSpec: { Image } });

describe('whatever happens', () => {
  const services = ['s1', 's2', 'g1'] as const;
  const nodeIds = ['n1', 'n2', 'n3'] as const;
  const OUTSIDE_X = { Placement: { Constraints: ['node.labels.zone!=x'] } };
  const exists = (w: World, id: string) => w.service(id) !== undefined;

  /** Data, so that a counterexample can be read. */
  const deed = fc.oneof(
    fc.record({ scale: fc.constantFrom('s1', 's2'), to: fc.nat(6) }),
    fc.record({ make: fc.constant('g1') }),
    fc.record({ update: fc.constantFrom(...services), to: fc.constantFrom('v1', 'v2', BAD_IMAGE) }),
    fc.record({ remove: fc.constantFrom(...services) }),
    fc.record({
      node: fc.constantFrom(...nodeIds),
      be: fc.constantFrom('active' as const, 'pause' as const, 'drain' as const),
    }),
    fc.record({
      node: fc.constantFrom(...nodeIds),
      is: fc.constantFrom('ready' as const, 'down' as const, 'unknown' as const),
    }),
    fc.record({ label: fc.constantFrom(...nodeIds), zone: fc.constantFrom('a', 'x') }),
    fc.record({ fail: fc.constantFrom(...services), which: fc.nat(10) }),
    fc.record({ ms: fc.nat(8000) }),
    fc.record({ manager: fc.constant('restarts') }),
  );

  type Deed = typeof deed extends fc.Arbitrary<infer D> ? D : never;

  async function act(w: World, deed: Deed): Promise<void> {
    if ('scale' in deed)
      await (exists(w, deed.scale) ? w.scale(deed.scale, deed.to) : w.createService(deed.scale, deed.to, OUTSIDE_X));
    else if ('make' in deed) await (exists(w, deed.make) || w.createService(deed.make, 'global', OUTSIDE_X));
    else if ('update' in deed) await (exists(w, deed.update) && w.setTemplate(deed.update, image(deed.to)));
    else if ('remove' in deed) await (exists(w, deed.remove) && w.removeService(deed.remove));
    else if ('be' in deed) await w.setAvailability(deed.node, deed.be);
    else if ('is' in deed) await w.setState(deed.node, deed.is);
    else if ('label' in deed) await w.setLabels(deed.label, { zone: deed.zone });
    else if ('ms' in deed) await w.run(deed.ms);
    else if ('manager' in deed) await w.restartManager();
    else {
      const running = w.running(deed.fail);
      if (running.length > 0) await w.failTask(running[deed.which % running.length]!.id);
    }
  }

  test('the cluster comes to rest as declared, its history bounded', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(deed, { minLength: 5, maxLength: 25 }), async (deeds) => {
        const w = await World.open(startOrchestration);
        w.always(wantedRunOnce);
        for (const id of nodeIds) await w.addNode(id);
        for (const one of deeds) {
          await act(w, one);
          await w.run(100);
        }
        // A bad image never comes to rest, and would hide what else is wrong.
        for (const id of services) if (exists(w, id)) await w.setTemplate(id, image('good'));
        await w.settle();
        w.store.view((view) => nothingWhereItMustNotBe(view));
        for (const id of nodeIds) {
          await w.setAvailability(id, 'active');
          await w.setState(id, 'ready');
          await w.setLabels(id, {});
        }
        await w.settle();
        w.store.view((view) => {
          nothingWhereItMustNotBe(view);
          asDeclared(view, services);
        });
        await w.close();
      }),
      { numRuns: 100 },
    );
  });

  function nothingWhereItMustNotBe(view: View): void {
    const offenders = [...view.tasks.all()].filter((task) => {
      if (!isWanted(task)) return false;
      if (view.services.get(task.serviceId) === undefined) return true;
      const node = view.nodes.get(task.nodeId);
      if (task.nodeId === '') return false;
      // A paused node keeps its replicas, whatever its labels become.
      const keeps = task.slot > 0 && node?.spec.Availability === 'pause';
      return keeps ? mustLeave(node) : demandOn(node, OUTSIDE_X.Placement) === 'leave';
    });
    expect(offenders).toEqual([]);
  }

  function asDeclared(view: View, ids: readonly string[]): void {
    for (const id of ids) expect(offences(view, id), id).toEqual([]);
  }

  /** In what a service is not as declared. */
  function offences(view: View, id: string): string[] {
    const service = view.services.get(id);
    const tasks = view.tasks.by('service', id);
    if (service === undefined) return tasks.map((task) => `task ${task.id} of a removed service`);
    const wanted = tasks.filter(isWanted);
    const places = new Set(wanted.map((task) => task.slot || task.nodeId));
    const histories = [...Map.groupBy(tasks, (task) => task.slot || task.nodeId).values()];
    const declared = service.spec.Mode.Replicated?.Replicas ?? nodeIds.length;
    const checks: [string, boolean][] = [
      ['a wanted task does not run', wanted.every((task) => task.status.state === TaskState.RUNNING)],
      ['a task is outdated', wanted.every((task) => task.specVersion === service.specVersion)],
      ['an unwanted task is not over', tasks.every((task) => isWanted(task) || isOver(task))],
      ['a place is held twice', wanted.length === places.size],
      ['there are too many or too few', wanted.length === declared],
      ['history is too long', histories.every((ofPlace) => ofPlace.filter(isOver).length <= 5)],
    ];
    return checks.filter(([, holds]) => !holds).map(([offence]) => offence);
  }
});
