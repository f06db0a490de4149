/** The promise of books.ts: whatever happens between looks, a look by the books comes to what a look at every slot comes to. */
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { MemoryJournal } from '../../journal/memory.ts';
import { timestamp } from '../../model/clock.ts';
import { serviceSpecId, type Service, type Task } from '../../model/objects.ts';
import { ROLLOUT } from '../../model/rollouts.ts';
import type { ServiceSpec } from '../../model/specs.ts';
import { TaskState } from '../../model/states.ts';
import { Store, type Transaction } from '../../store/store.ts';
import { nodeRow, serviceRow, serviceSpec, specRow, taskRow } from '../scheduler/rows.fixture.ts';
import { RolloutBooks, touchBooks } from './books.ts';
import { nextStep, stepBy, type Age, type Step } from './decide.ts';
import { policyOf } from './policy.ts';
import { rolloutSlots } from './slots.ts';

const SEC = 1e9;
const ROLLOUT_ID = 7;
const VERSION = 3;
const BEGAN_MS = Date.UTC(2026, 0, 1);
const NODES = ['n1', 'n2', 'n3'];
const SLOTS = 4;

type Change = (tx: Transaction, nowMs: number) => void;

/** The versions that tasks are of: the second differs in what a task can feel, the last is the present one. */
function specs(mode: ServiceSpec['Mode'], order: 'stop-first' | 'start-first', canaries: boolean): ServiceSpec[] {
  const spec = (Image: string, zone: string) =>
    serviceSpec('web', {
      Labels: { [ROLLOUT.deadline]: '10s', ...(canaries ? { [ROLLOUT.canary]: '2' } : {}) },
      TaskTemplate: {
        ContainerSpec: { Image },
        Placement: { Constraints: [`node.labels.zone!=${zone}`] },
      },
      Mode: mode,
      UpdateConfig: { Parallelism: 2, Delay: 2 * SEC, Monitor: 4 * SEC, MaxFailureRatio: 0.5, Order: order },
    });
  return [spec('v2', 'b'), spec('v1', 'a'), spec('v2', 'a')];
}

const desired = fc.constantFrom(
  TaskState.READY,
  TaskState.RUNNING,
  TaskState.RUNNING,
  TaskState.RUNNING,
  TaskState.SHUTDOWN,
);
const state = fc.constantFrom(
  TaskState.PENDING,
  TaskState.STARTING,
  TaskState.RUNNING,
  TaskState.RUNNING,
  TaskState.FAILED,
  TaskState.SHUTDOWN,
);
const mark = fc.option(
  fc.record({
    id: fc.constantFrom(ROLLOUT_ID, ROLLOUT_ID, ROLLOUT_ID, 2),
    seen: fc.constantFrom('', 'arrivedAt', 'arrivedAt', 'failedAt'),
  }),
);

/** Puts a task in the place of the one with its id, if any: its slot goes with its id. */
const putTask = fc
  .record({
    n: fc.nat(11),
    node: fc.constantFrom(...NODES),
    version: fc.integer({ min: 1, max: VERSION }),
    desired,
    state,
    mark,
    beside: fc.boolean(),
  })
  .map(({ n, node, version, mark: rollout, beside, ...states }): Change => (tx, nowMs) => {
    const service = tx.services.get('web')!;
    const at = timestamp(nowMs);
    const global = service.spec.Mode.Global !== undefined;
    const nth = (i: number) => (global ? NODES[i % NODES.length]! : node);
    const before = tx.tasks.get(`t${n}`);
    const task: Task = {
      ...taskRow(`t${n}`, service, { nodeId: nth(n), slot: global ? 0 : (n % SLOTS) + 1, specVersion: version }),
      meta: { version: before?.meta.version ?? tx.index, createdAt: at, updatedAt: at },
      desiredState: states.desired,
      status: { timestamp: at, state: states.state, message: '' },
      ...(rollout === null
        ? {}
        : { rollout: { id: rollout.id, ...(rollout.seen === '' ? {} : { [rollout.seen]: at }) } }),
      ...(beside ? { replaces: `t${(n + (global ? NODES.length : SLOTS)) % 12}` } : {}),
    };
    tx.tasks[before === undefined ? 'create' : 'update'](task);
  });

const removeTask = fc.nat(11).map((n): Change => (tx) => {
  if (tx.tasks.get(`t${n}`) !== undefined) tx.tasks.remove(`t${n}`);
});

const changeNode = fc
  .record({
    id: fc.constantFrom(...NODES),
    zone: fc.constantFrom('a', 'b', 'c'),
    Availability: fc.constantFrom('active' as const, 'pause' as const, 'drain' as const),
    down: fc.boolean(),
    gone: fc.boolean(),
  })
  .map(({ id, zone, Availability, down, gone }): Change => (tx) => {
    const isThere = tx.nodes.get(id) !== undefined;
    if (gone) {
      if (isThere) tx.nodes.remove(id);
      return;
    }
    const spec = { Availability, Labels: { zone } };
    tx.nodes[isThere ? 'update' : 'create'](nodeRow(id, { spec, status: { state: down ? 'down' : 'ready' } }));
  });

const promote = fc.constant<Change>((tx) => {
  tx.services.update({ ...tx.services.get('web')!, promoted: VERSION });
});

/** Deadlines count from here. */
const letStart = fc.constant<Change>((tx, nowMs) => {
  tx.services.update({ ...tx.services.get('web')!, startOrder: { metAt: timestamp(nowMs) } });
});

/** Another version is the present one. */
const declare = fc.integer({ min: 1, max: VERSION }).map((specVersion): Change => (tx) => {
  const { spec } = tx.serviceSpecs.get(serviceSpecId('web', specVersion))!;
  tx.services.update({ ...tx.services.get('web')!, spec, specVersion });
});

const happening = fc.record({
  change: fc.oneof(
    { weight: 6, arbitrary: putTask },
    { weight: 1, arbitrary: removeTask },
    { weight: 2, arbitrary: changeNode },
    { weight: 1, arbitrary: promote },
    { weight: 1, arbitrary: letStart },
    { weight: 1, arbitrary: declare },
  ),
  passedMs: fc.constantFrom(0, 0, 1_000, 2_000, 3_000),
  isLookedAt: fc.constantFrom(true, true, false),
});

/** What a look comes to; in which order what was seen is written down does not matter. */
function outcome({ arrived, failed, restore, replace, giveUp, ...rest }: Step): object {
  return {
    ...rest,
    arrived: arrived.map(({ id }) => id).sort(),
    failed: failed.map(({ task, reason }) => `${task.id} ${reason}`).sort(),
    restore: restore.map(({ current }) => current.id).sort(),
    replace: replace.map(({ current }) => current.id),
    givesUp: giveUp !== undefined,
  };
}

async function rollout(mode: ServiceSpec['Mode'], order: 'stop-first' | 'start-first', canaries: boolean) {
  const store = await Store.open(new MemoryJournal());
  const versions = specs(mode, order, canaries);
  await store.update((tx) => {
    for (const id of NODES) tx.nodes.create(nodeRow(id, { spec: { Labels: { zone: 'c' } } }));
    const service: Service = {
      ...serviceRow('web', versions[VERSION - 1]!, VERSION),
      updateStatus: { state: 'updating', startedAt: timestamp(BEGAN_MS), message: '' },
      rollout: { id: ROLLOUT_ID, version: VERSION, slots: SLOTS, startedAt: timestamp(BEGAN_MS) },
    };
    tx.services.create(service);
    versions.forEach((spec, i) =>
      tx.serviceSpecs.create({ ...specRow(service), id: serviceSpecId('web', i + 1), version: i + 1, spec }),
    );
  });
  const books = new RolloutBooks();
  store.watch((events) =>
    store.view((view) =>
      events.forEach((event) => touchBooks(event, view, (id) => (id === 'web' ? books : undefined))),
    ),
  );
  const looks = (nowMs: number) =>
    store.view((view) => {
      const service = view.services.get('web')!;
      const age: Age = (_, moment) => Math.max(0, nowMs - Date.parse(moment));
      const slots = rolloutSlots(view, service);
      const count = books.read(view, service);
      expect(count).toBe(slots.length);
      const policy = policyOf(service, count);
      return {
        whole: outcome(nextStep(slots, service.rollout!, policy, age)),
        kept: outcome(stepBy(books.sums(ROLLOUT_ID, policy, age), service.rollout!, policy, age)),
      };
    });
  return { store, books, looks };
}

test('a look by the books comes to what a look at every slot comes to', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.boolean(),
      fc.constantFrom('stop-first' as const, 'start-first' as const),
      fc.boolean(),
      fc.array(happening, { minLength: 1, maxLength: 40 }),
      async (global, order, canaries, happenings) => {
        const { store, looks } = await rollout(global ? { Global: {} } : { Replicated: {} }, order, canaries);
        let nowMs = BEGAN_MS;
        for (const { change, passedMs, isLookedAt } of happenings) {
          nowMs += passedMs;
          await store.update((tx) => change(tx, nowMs));
          if (!isLookedAt) continue;
          const { whole, kept } = looks(nowMs);
          expect(kept).toEqual(whole);
        }
        const { whole, kept } = looks(nowMs + 60_000);
        expect(kept).toEqual(whole);
      },
    ),
    { numRuns: 1_000 },
  );
});

test('a look asks the slots that have changed, and those on their way, not those that wait or are done', async () => {
  const { store, books, looks } = await rollout({ Replicated: {} }, 'stop-first', false);
  await store.update((tx) => {
    const service = tx.services.get('web')!;
    for (let slot = 1; slot <= 500; slot++) {
      const task = taskRow(`old${slot}`, service, { slot, specVersion: 2, nodeId: 'n1', state: TaskState.RUNNING });
      tx.tasks.create(task);
    }
  });
  const now = timestamp(BEGAN_MS);
  looks(BEGAN_MS);
  expect(books.open).toBe(0);
  await store.update((tx) => {
    tx.tasks.remove('old1');
    const task = taskRow('new1', tx.services.get('web')!, { slot: 1, nodeId: 'n1', state: TaskState.STARTING });
    tx.tasks.create({ ...task, meta: { ...task.meta, createdAt: now }, rollout: { id: ROLLOUT_ID } });
  });
  looks(BEGAN_MS);
  expect(books.open).toBe(1);
  // Not one of the others is read again.
  store.view((view) => {
    const by = vi.spyOn(view.tasks, 'by');
    try {
      books.read(view, view.services.get('web')!);
      expect(by).not.toHaveBeenCalled();
    } finally {
      by.mockRestore();
    }
  });
});
