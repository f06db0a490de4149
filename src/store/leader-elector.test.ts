import { describe, expect, test } from 'vitest';
import { JournalDamaged } from '../journal/journal.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { silentLog } from '../model/clock.ts';
import { FakeClock, settle } from '../sim/fake-clock.ts';
import { CATCH_UP_MS, LeaderElector, RETRY_MS, STOP_MS, type ElectionState } from './leader-elector.ts';
import { node, nodeRow, nodesOf } from './nodes.fixture.ts';
import { Keeper, LEASE_MS, type KeeperClient } from './shared-journal.fixture.ts';
import { Store } from './store.ts';

const create = (id: string) => (tx: Parameters<Parameters<Store['update']>[0]>[0]) => tx.nodes.create(node(id, 'h'));

/** A manager whose loops are a counter. */
class Manager {
  readonly store: Store;
  readonly client: KeeperClient;
  readonly elector: LeaderElector;
  /** What the loops did, in order. */
  readonly log: string[] = [];
  running = 0;
  /** Replaced by tests. */
  starting: (over: AbortSignal) => Promise<void> = async () => {};
  stopping: () => Promise<void> = async () => {};

  constructor(keeper: Keeper, nodeId: string, store = Store.replica()) {
    this.store = store;
    this.client = keeper.client();
    this.elector = new LeaderElector({
      journal: this.client,
      store,
      self: { nodeId, address: `${nodeId}:2377` },
      clock: keeper.clock,
      log: silentLog,
      onLead: async (over) => {
        await this.starting(over);
        return this.start();
      },
    });
  }

  start(): () => Promise<void> {
    this.running += 1;
    this.log.push('start');
    return async () => {
      this.log.push(`stop, ${this.store.leading ? 'leading' : 'following'}`);
      await this.stopping();
      this.running -= 1;
      this.log.push('stopped');
    };
  }
}

function world(...names: string[]) {
  const clock = new FakeClock();
  const keeper = new Keeper(clock);
  const managers = names.map((name) => new Manager(keeper, name));
  return { clock, keeper, managers };
}

/** Managers that stand for election in this order: the first leads. */
async function elected(...names: string[]) {
  const { clock, keeper, managers } = world(...names);
  for (const { elector } of managers) {
    elector.start();
    await settle();
  }
  return { clock, keeper, managers };
}

describe('LeaderElector', () => {
  test('the first leads, the others follow what it writes and know who leads', async () => {
    const { managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    await m1.elector.followed;
    expect(m1.elector.state()).toEqual({ role: 'leader', leader: { nodeId: 'm1', address: 'm1:2377' } });
    expect(m2.elector.state()).toEqual({ role: 'follower', leader: { nodeId: 'm1', address: 'm1:2377' } });
    await m1.store.update(create('a'));
    await m2.store.reached(m1.store.index);
    expect(nodesOf(m2.store)).toEqual({ a: 'h' });
    expect([m1.running, m2.running]).toEqual([1, 0]);
    await expect(m2.store.update(create('b'))).rejects.toMatchObject({ name: 'NotLeading' });
  });

  test('a leader leaves: loops end while it still leads, what was asked for is written, then another leads at once', async () => {
    const { managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    const last = Promise.withResolvers<void>();
    m1.stopping = () => m1.store.update(create('last words')).finally(last.resolve);
    const observed: ElectionState[] = [];
    m2.elector.observe((state) => observed.push(state));
    await m1.elector.stop();
    await settle();
    expect(m1.log).toEqual(['start', 'stop, leading', 'stopped']);
    expect(m2.elector.state().role).toBe('leader');
    expect(nodesOf(m2.store)).toEqual({ 'last words': 'h' });
    await m2.store.update(create('b'));
    expect(observed.map(({ role, leader }) => `${role} ${leader?.nodeId}`)).toEqual([
      'follower m1',
      'follower undefined',
      'leader m2',
    ]);
    await m1.elector.stop();
  });

  test('stopped without resigning, the leadership runs out by itself', async () => {
    const { clock, keeper, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    await m1.elector.stop({ resign: false });
    await settle();
    expect([m1.store.leading, m1.running, m2.store.leading]).toEqual([false, 0, false]);
    expect(keeper.leader?.nodeId).toBe('m1');
    m1.client.expire();
    await clock.advance(LEASE_MS);
    expect(m2.store.leading).toBe(true);
  });

  test('a leadership that runs out: loops have ended before another leads, and the loser follows anew', async () => {
    const { clock, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    await m1.store.update(create('a'));
    const object = m1.store.view((view) => view.nodes.get('a'));
    const ended = Promise.withResolvers<void>();
    m1.stopping = () => ended.promise;
    m1.client.expire();
    await clock.advance(LEASE_MS / 2);
    expect([m1.log.at(-1), m1.store.leading, m2.running]).toEqual(['stop, leading', false, 0]);
    expect(m1.elector.state()).toEqual({ role: 'follower' });
    ended.resolve();
    await settle();
    expect([m1.running, m2.running]).toEqual([0, 1]);
    await m2.store.update(create('b'));
    await m1.store.reached(m2.store.index);
    expect(nodesOf(m1.store)).toEqual({ a: 'h', b: 'h' });
    expect(m1.store.view((view) => view.nodes.get('a'))).toBe(object);
    expect(m1.elector.state().leader?.nodeId).toBe('m2');
    await m2.elector.stop();
    await clock.advance(RETRY_MS.first);
    await m1.store.update(create('c'));
    expect(m1.running).toBe(1);
  });

  test('a write in doubt: the leader steps down, resigns, follows to see what became of it, and leads again', async () => {
    for (const applied of [0, 1]) {
      const { clock, managers } = await elected('m1');
      const [m1] = managers as [Manager];
      m1.client.fates.push({ applied });
      await expect(m1.store.update(create('a'))).rejects.toMatchObject({ name: 'InDoubt' });
      await clock.advance(RETRY_MS.first);
      expect(m1.log).toEqual(['start', 'stop, following', 'stopped', 'start']);
      expect(nodesOf(m1.store)).toEqual(applied === 1 ? { a: 'h' } : {});
      await m1.store.update(create('b'));
      expect(m1.store.index).toBe(applied + 1);
    }
  });

  test('who was elected leads only once its store shows what was written before', async () => {
    const { clock, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    // The news is late: it is there, but m2 was not told.
    m2.client.lags = true;
    await m1.store.update(create('a'));
    await m1.elector.stop();
    await settle();
    expect([m2.store.leading, m2.running]).toEqual([false, 0]);
    m2.client.lags = false;
    await settle();
    expect(m2.store.leading).toBe(true);
    expect(nodesOf(m2.store)).toEqual({ a: 'h' });
    expect(m2.elector.state().trouble).toBeUndefined();
    await clock.advance(CATCH_UP_MS);
    expect(m2.store.leading).toBe(true);
  });

  test('who was elected and does not learn in time what was written before lets others lead', async () => {
    const { clock, keeper, managers } = await elected('m1', 'm2', 'm3');
    const [m1, m2, m3] = managers as [Manager, Manager, Manager];
    m2.client.lags = true;
    await m1.store.update(create('a'));
    await m1.elector.stop();
    await settle();
    expect(keeper.leader?.nodeId).toBe('m2');
    await clock.advance(CATCH_UP_MS);
    expect(keeper.leader?.nodeId).toBe('m3');
    expect(nodesOf(m3.store)).toEqual({ a: 'h' });
    expect([m2.running, m3.running]).toEqual([0, 1]);
  });

  test('loops that do not end: the manager follows, others lead, and it stands for election only when they have ended', async () => {
    const { clock, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    const hang = Promise.withResolvers<void>();
    m1.stopping = () => hang.promise;
    m1.client.expire();
    await clock.advance(STOP_MS);
    await m2.store.update(create('a'));
    expect(nodesOf(m1.store)).toEqual({ a: 'h' });
    expect(m1.elector.state().trouble).toContain('has not ended');
    await m2.elector.stop();
    await clock.advance(60_000);
    expect([m1.store.leading, m1.running]).toEqual([false, 1]);
    hang.resolve();
    await clock.advance(RETRY_MS.first);
    expect([m1.store.leading, m1.running]).toEqual([true, 1]);
    expect(m1.elector.state().trouble).toBeUndefined();
  });

  test('loops that cannot be ended run once for ever: this manager does not lead again', async () => {
    const { clock, managers } = await elected('m1');
    const [m1] = managers as [Manager];
    m1.stopping = () => Promise.reject(new Error('broken'));
    m1.client.expire();
    await clock.advance(60_000);
    expect([m1.store.leading, m1.running]).toEqual([false, 1]);
    expect(m1.elector.state().trouble).toContain('until droverd starts again');
    await m1.elector.stop();
  });

  test('a commit that hangs when the leadership is over is given up, and the manager follows', async () => {
    const { clock, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    const gate = Promise.withResolvers<void>();
    m1.client.gate = gate.promise;
    const update = m1.store.update(create('a'));
    const outcome = update.catch((error: unknown) => error);
    await settle();
    m1.client.expire();
    await clock.advance(STOP_MS);
    expect(await outcome).toMatchObject({ name: 'InDoubt' });
    await m2.store.update(create('b'));
    gate.resolve();
    await settle();
    expect(nodesOf(m1.store)).toEqual({ b: 'h' });
  });

  test('what only a leader runs cannot be started: resigned, and tried again with growing pauses', async () => {
    const { clock, keeper, managers } = world('m1');
    const [m1] = managers as [Manager];
    const tries: number[] = [];
    m1.starting = () => {
      tries.push(clock.monotonic());
      return Promise.reject(new Error('port in use'));
    };
    m1.elector.start();
    await clock.advance(6_000);
    const pauses = tries.slice(1).map((at, i) => at - tries[i]!);
    expect(pauses).toEqual([100, 200, 400, 800, 1600, 2000]);
    expect(m1.store.leading).toBe(false);
    expect(keeper.leader).toBeUndefined();
    m1.starting = async () => {};
    await clock.advance(RETRY_MS.most);
    expect([m1.store.leading, m1.running]).toEqual([true, 1]);
  });

  test('a leadership that ends while loops are being started: they are told, and ended once they have started', async () => {
    const { clock, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    const begun = Promise.withResolvers<void>();
    let told = false;
    m2.starting = (over) => {
      over.addEventListener('abort', () => (told = true));
      return begun.promise;
    };
    await m1.elector.stop();
    await settle();
    expect(m2.store.leading).toBe(true);
    m2.client.expire();
    await settle();
    expect([told, m2.store.leading, m2.log]).toEqual([true, false, []]);
    begun.resolve();
    m2.starting = async () => {};
    await settle();
    expect(m2.log).toEqual(['start', 'stop, following', 'stopped']);
    await clock.advance(LEASE_MS + RETRY_MS.first);
    expect([m2.store.leading, m2.running]).toEqual([true, 1]);
  });

  test('a journal that is away when it starts: said in words, and followed when it is back', async () => {
    const { clock, managers } = world('m1');
    const [m1] = managers as [Manager];
    m1.client.cut = true;
    m1.elector.start();
    await clock.advance(30_000);
    expect(m1.elector.state()).toEqual({ role: 'follower', trouble: 'the keeper does not answer' });
    m1.client.cut = false;
    await clock.advance(RETRY_MS.most);
    expect(m1.elector.state().role).toBe('leader');
    expect(m1.elector.state().trouble).toBeUndefined();
  });

  test('rows that this version does not understand: it does not stand for election, says why, and others lead', async () => {
    const { clock, keeper, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    keeper.apply([{ key: 'gadgets/x', value: '{}' }]);
    // What comes after something that is not there would stand on sand.
    keeper.apply([nodeRow('later', 'h'), { key: 'index', value: '1' }]);
    expect(nodesOf(m2.store)).toEqual({});
    await clock.advance(5_000);
    expect(nodesOf(m2.store)).toEqual({});
    expect(m2.elector.state().trouble).toContain('unknown kind: gadgets/x');
    await m1.elector.stop();
    await clock.advance(5_000);
    expect([m2.store.leading, keeper.leader]).toEqual([false, undefined]);
    keeper.apply([{ key: 'gadgets/x', value: null }]);
    await clock.advance(RETRY_MS.most);
    expect(m2.store.leading).toBe(true);
    expect(nodesOf(m2.store)).toEqual({ later: 'h' });
  });

  test('what comes next cannot be read: said in words, followed anew', async () => {
    const { clock, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    m2.client.damage(new JournalDamaged('the row secrets/x cannot be decrypted'));
    await settle();
    expect(m2.elector.state().trouble).toBe('the row secrets/x cannot be decrypted');
    await m1.store.update(create('a'));
    expect(nodesOf(m2.store)).toEqual({});
    await clock.advance(RETRY_MS.first);
    expect(nodesOf(m2.store)).toEqual({ a: 'h' });
    expect(m2.elector.state().trouble).toBeUndefined();
    await m1.elector.stop();
    await settle();
    expect(m2.store.leading).toBe(true);
  });

  test('stop while a leadership is ending waits until it was given up', async () => {
    const { managers } = world('m1');
    const [m1] = managers as [Manager];
    const given = Promise.withResolvers<void>();
    const campaign = m1.client.campaign.bind(m1.client);
    m1.client.campaign = async (self, signal) => ({ ...(await campaign(self, signal)), resign: () => given.promise });
    m1.elector.start();
    await settle();
    m1.client.expire();
    let stopped = false;
    const stop = m1.elector.stop().then(() => (stopped = true));
    await settle();
    expect([m1.running, stopped]).toEqual([0, false]);
    given.resolve();
    await stop;
  });

  test('who observes and throws disturbs nobody', async () => {
    const { clock, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    const observed: ElectionState['role'][] = [];
    for (const { elector } of [m1, m2])
      elector.observe(({ leader }) => {
        if (leader?.nodeId === 'm2') throw new Error('no such manager');
      });
    const end = m2.elector.observe(({ role }) => observed.push(role));
    await m1.elector.stop();
    await clock.advance(0);
    expect([m2.store.leading, m2.running]).toEqual([true, 1]);
    end();
    await m2.elector.stop();
    expect([observed, m2.running]).toEqual([['follower', 'follower', 'leader'], 0]);
  });

  test('a watcher that throws ends the store: the leadership is given up, and this manager stands no more', async () => {
    const { clock, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    const stop = m1.store.watch(() => {
      throw new Error('no such field');
    });
    await m1.store.update(create('a'));
    stop();
    await settle();
    expect([m1.running, m2.store.leading]).toEqual([0, true]);
    await m2.store.update(create('b'));
    await clock.advance(60_000);
    expect(nodesOf(m2.store)).toEqual({ a: 'h', b: 'h' });
    await m1.elector.stop();
  });

  test('stop while it waits: for the journal, for its turn, for a pause', async () => {
    const { clock, keeper, managers } = await elected('m1', 'm2');
    const [m1, m2] = managers as [Manager, Manager];
    await m2.elector.stop();
    await m1.elector.stop();
    const m3 = new Manager(keeper, 'm3');
    m3.client.cut = true;
    m3.elector.start();
    await settle();
    await m3.elector.stop();
    const m4 = new Manager(keeper, 'm4');
    m4.client.follow = () => new Promise(() => {});
    m4.elector.start();
    await settle();
    await m4.elector.stop();
    await clock.advance(60_000);
    expect(keeper.leader).toBeUndefined();
    expect([m1, m2, m3, m4].map(({ running }) => running)).toEqual([0, 0, 0, 0]);
  });

  test('takes up a leadership to which the state was moved, its loops running on', async () => {
    const clock = new FakeClock();
    const keeper = new Keeper(clock);
    const m1 = new Manager(keeper, 'm1', await Store.open(new MemoryJournal()));
    await m1.store.update(create('a'));
    const stop = m1.start();
    const leadership = await m1.client.campaign({ nodeId: 'm1', address: 'm1:2377' }, new AbortController().signal);
    await m1.store.moveTo(leadership.journal, async () => {});
    m1.elector.start({ leadership, stop });
    const m2 = new Manager(keeper, 'm2');
    m2.elector.start();
    await settle();
    expect(nodesOf(m2.store)).toEqual({ a: 'h' });
    expect(m1.elector.state().role).toBe('leader');
    await m1.store.update(create('b'));
    expect(m1.log).toEqual(['start']);
    m1.client.expire();
    await clock.advance(LEASE_MS);
    await m2.store.update(create('c'));
    await m1.store.reached(3);
    expect(nodesOf(m1.store)).toEqual({ a: 'h', b: 'h', c: 'h' });
    expect(m1.running).toBe(0);
  });
});
