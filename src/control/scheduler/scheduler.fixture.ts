/** A scheduler on a store of its own, run by a fake clock: for the tests of this room. */
import { afterEach } from 'vitest';
import { MemoryJournal } from '../../journal/memory.ts';
import { silentLog } from '../../model/clock.ts';
import type { Service } from '../../model/objects.ts';
import type { ServiceSpec } from '../../model/specs.ts';
import { TaskState } from '../../model/states.ts';
import { FakeClock } from '../../sim/fake-clock.ts';
import { Store } from '../../store/store.ts';
import { nodeRow, serviceRow, specRow, taskRow } from './rows.fixture.ts';
import { Scheduler } from './scheduler.ts';

const running: Scheduler[] = [];
afterEach(async () => {
  for (const scheduler of running.splice(0)) await scheduler.loop.stop();
});

export async function setUp(nodes: ReturnType<typeof nodeRow>[] = []) {
  const journal = new MemoryJournal();
  const store = await Store.open(journal);
  await store.update((tx) => nodes.forEach((node) => tx.nodes.create(node)));
  const clock = new FakeClock();
  const scheduler = new Scheduler({ store, clock, log: silentLog, random: () => 0 });
  scheduler.loop.start();
  running.push(scheduler);
  const writes = { tasks: 0 };
  store.watch((events) => (writes.tasks += events.filter((event) => event.table === 'tasks').length));
  return {
    journal,
    store,
    clock,
    scheduler,
    writes,
    run: () => clock.advance(0),
    addService: async (spec: ServiceSpec, version = 1) => {
      const service = serviceRow(spec.Name, spec, version);
      await store.update((tx) => tx.serviceSpecs.create(specRow(service)));
      return service;
    },
    addTasks: (service: Service, ids: string[], changes: Parameters<typeof taskRow>[2] = {}) =>
      store.update((tx) =>
        ids.forEach((id) => tx.tasks.create(taskRow(id, service, { state: TaskState.PENDING, ...changes }))),
      ),
    task: (id: string) => store.view((view) => view.tasks.get(id)!),
    end: (id: string, state: TaskState = TaskState.SHUTDOWN) =>
      store.update((tx) => {
        const task = tx.tasks.get(id)!;
        tx.tasks.update({ ...task, status: { ...task.status, state } });
      }),
  };
}

export const ids = (count: number, prefix = 't') => Array.from({ length: count }, (_, i) => `${prefix}${i}`);
