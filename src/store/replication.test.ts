/**
 * Several managers on one shared journal, with faults at random: what was acknowledged is in every store at the end, exactly
 * once; what was refused is in none; watchers of a store that led and followed have heard every change once and in order.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { silentLog } from '../model/clock.ts';
import { FakeClock, settle } from '../sim/fake-clock.ts';
import { LeaderElector, RETRY_MS, STOP_MS } from './leader-elector.ts';
import { node } from './nodes.fixture.ts';
import { Keeper, LEASE_MS, type KeeperClient } from './shared-journal.fixture.ts';
import { Store } from './store.ts';

/** Counts the writes: whatever is applied twice, or built upon what is not there, shows in it. */
const COUNTER = 'counter';
const SCARCE_MS = 50;

type Outcome = 'acknowledged' | 'refused' | 'in doubt';

/** One life of a manager's process. */
class Manager {
  readonly client: KeeperClient;
  readonly store = Store.replica();
  readonly elector: LeaderElector;
  /** The state as its watchers know it. */
  readonly watched = new Map<string, unknown>();
  running = 0;

  constructor(keeper: Keeper, nodeId: string) {
    this.client = keeper.client();
    const { client, store, watched } = this;
    store.watch((events) => {
      for (const { before, after } of events) {
        const { id } = (after ?? before)!;
        // Thrown in a watcher: it ends the store, which then is not what it should be at the end.
        if (watched.get(id) !== before) throw new Error(`${id} was something else before`);
        if (after === undefined) watched.delete(id);
        else watched.set(id, after);
      }
    });
    this.elector = new LeaderElector({
      journal: client,
      store,
      self: { nodeId, address: `${nodeId}:2377` },
      clock: keeper.clock,
      log: silentLog,
      onLead: async () => {
        this.running += 1;
        return async () => {
          this.running -= 1;
        };
      },
    });
    this.elector.start();
  }

  /** Nothing of it reaches the keeper any more. */
  crash(): void {
    this.client.cut = true;
    void this.elector.stop({ resign: false });
  }

  async write(id: string): Promise<Outcome> {
    try {
      await this.store.update((tx) => {
        const counter = tx.nodes.get(COUNTER);
        const counted = Number(counter?.description?.hostname ?? 0) + 1;
        tx.nodes[counter === undefined ? 'create' : 'update'](node(COUNTER, String(counted)));
        tx.nodes.create(node(id, 'written'));
      });
      return 'acknowledged';
    } catch (error) {
      return outcomeOf(error as Error);
    }
  }
}

function outcomeOf(error: Error): Outcome {
  if (error.name === 'InDoubt') return 'in doubt';
  if (['NotLeading', 'JournalUnavailable', 'StoreClosed'].includes(error.name)) return 'refused';
  throw error;
}

const manager = fc.nat({ max: 2 });
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('write' as const), manager, count: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.constantFrom(0, 20, RETRY_MS.first, LEASE_MS, STOP_MS),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('refuse' as const), manager }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('doubt' as const),
      manager,
      applied: fc.nat({ max: 3 }),
      afterMs: fc.constantFrom(undefined, 0, SCARCE_MS, LEASE_MS - 1, LEASE_MS + 1),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('expire' as const), manager }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('hold' as const),
      manager,
      ms: fc.constantFrom(SCARCE_MS, LEASE_MS, 2 * STOP_MS),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('cut' as const), manager, ms: fc.constantFrom(SCARCE_MS, 2 * LEASE_MS) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('lag' as const),
      manager,
      ms: fc.constantFrom(SCARCE_MS, 2 * LEASE_MS, 3 * STOP_MS),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('compact' as const), manager }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const), manager }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class World {
  readonly clock = new FakeClock();
  readonly keeper = new Keeper(this.clock);
  readonly managers: Manager[];
  readonly outcomes = new Map<string, Promise<Outcome>>();

  constructor(count: number) {
    this.managers = Array.from({ length: count }, (_, i) => new Manager(this.keeper, `m${i}`));
  }

  async take(each: Step): Promise<void> {
    if (each.do === 'wait') return this.clock.advance(each.ms);
    const at = each.manager % this.managers.length;
    const manager = this.managers[at]!;
    const { client } = manager;
    if (each.do === 'write') {
      for (let i = 0; i < each.count; i++) {
        const id = `w${this.outcomes.size}`;
        this.outcomes.set(id, manager.write(id));
      }
      // Sometimes the faults of the next step come while this is under way.
      return;
    }
    if (each.do === 'refuse') client.fates.push('refused');
    if (each.do === 'doubt')
      client.fates.push({ applied: each.applied, ...(each.afterMs !== undefined && { afterMs: each.afterMs }) });
    if (each.do === 'expire') client.expire();
    if (each.do === 'compact') client.compact();
    if (each.do === 'restart') {
      manager.crash();
      this.managers[at] = new Manager(this.keeper, `m${at}`);
    }
    if (each.do === 'hold') client.gate = new Promise((resolve) => void this.clock.after(each.ms, resolve));
    if (each.do === 'lag') {
      client.lags = true;
      this.clock.after(each.ms, () => (client.lags = false));
    }
    if (each.do === 'cut') {
      client.cut = true;
      this.clock.after(each.ms, () => {
        if (this.managers.includes(manager)) client.cut = false;
      });
    }
  }

  /** Faults stop, and all that was begun comes to its end. */
  async heal(): Promise<void> {
    for (const { client } of this.managers) {
      client.cut = false;
      client.lags = false;
      client.fates.length = 0;
    }
    await this.clock.advance(3 * STOP_MS);
  }
}

/** After every step: nobody decides while another may. */
function checkLeaders({ managers }: World): void {
  expect(managers.filter(({ store }) => store.leading).length).toBeLessThanOrEqual(1);
  expect(managers.reduce((sum, { running }) => sum + running, 0)).toBeLessThanOrEqual(1);
}

async function checkEnd({ keeper, managers, outcomes }: World): Promise<void> {
  const { rows, transactions } = keeper;
  const leaders = managers.filter(({ store }) => store.leading);
  expect(leaders).toHaveLength(1);
  expect(await leaders[0]!.write('at the end')).toBe('acknowledged');
  await settle();
  const written = new Set([...rows.keys()].filter((key) => key.startsWith('nodes/w')));
  for (const [id, outcome] of outcomes) {
    const there = written.has(`nodes/${id}`);
    if ((await outcome) === 'acknowledged') expect(there, `${id} was acknowledged`).toBe(true);
    if ((await outcome) === 'refused') expect(there, `${id} was refused`).toBe(false);
  }
  for (const key of written)
    expect(transactions.filter((changes) => changes.some((change) => change.key === key))).toHaveLength(1);
  expect(JSON.parse(rows.get(`nodes/${COUNTER}`)!)).toMatchObject({
    description: { hostname: String(written.size + 1) },
  });
  expect(rows.get('index')).toBe(String(transactions.length));
  for (const { client, store, watched, running } of managers) {
    const nodes = store.view((view) => [...view.nodes.all()]);
    expect(new Map(nodes.map((each) => [`nodes/${each.id}`, JSON.stringify(each)]))).toEqual(
      new Map([...rows].filter(([key]) => key !== 'index')),
    );
    expect(store.index).toBe(transactions.length);
    expect(watched).toEqual(new Map(nodes.map((each) => [each.id, each])));
    expect(running).toBe(Number(store.leading));
    expect(client.followings).toBe(Number(!store.leading));
  }
}

/** How often each outcome was seen: a property that meets no faults proves nothing. */
const seen = new Map<string, number>();
const count = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);

test('every acknowledged write is in every store once, no refused one is in any, whatever happens on the way', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 3 }),
      fc.array(step, { minLength: 5, maxLength: 25 }),
      async (managers, steps) => {
        const world = new World(managers);
        await settle();
        for (const each of steps) {
          await world.take(each);
          checkLeaders(world);
        }
        await world.heal();
        await checkEnd(world);
        for (const outcome of world.outcomes.values()) count(await outcome);
        for (const { elector } of world.managers) await elector.stop();
      },
    ),
    { numRuns: 300 },
  );
  for (const outcome of ['acknowledged', 'refused', 'in doubt'])
    expect(seen.get(outcome), outcome).toBeGreaterThan(100);
});
