/** Found by the simulator: a rollout and the loop of a global service fill one slot, each of them once. */
import { expect, test, vi } from 'vitest';
import { MemoryJournal } from '../../journal/memory.ts';
import { startOrchestration } from '../control.ts';
import { isWanted } from '../tasks.ts';
import { World } from '../world.fixture.ts';

test('a drained node comes back while a rollout is watched, and the journal takes its time: one task for its slot', async () => {
  const world = await World.open(startOrchestration);
  for (const id of ['n1', 'n2', 'n3']) await world.addNode(id);
  await world.createService('web', 'global');
  await world.settle();
  await world.setAvailability('n1', 'drain');
  await world.run(2_000);
  await world.updateService('web', (spec) => ({
    ...spec,
    TaskTemplate: { ContainerSpec: { Image: 'v2' } },
    UpdateConfig: { Parallelism: 0, Monitor: 60e9 },
  }));
  await world.run(5_000);

  const commit: MemoryJournal['commit'] = Reflect.get(MemoryJournal.prototype, 'commit');
  vi.spyOn(MemoryJournal.prototype, 'commit').mockImplementation(async function late(this: MemoryJournal, written) {
    await new Promise<void>((resolve) => world.clock.after(5, resolve));
    await commit.call(this, written);
  });
  const active = world.setAvailability('n1', 'active');
  await world.clock.advance(200);
  await active;
  vi.restoreAllMocks();

  const wanted = world.tasks('web').filter(isWanted);
  expect(wanted.map(({ nodeId }) => nodeId).sort()).toEqual(['n1', 'n2', 'n3']);
  await world.close();
});
