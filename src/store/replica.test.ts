import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { JournalUnavailable, type Change, type Journal } from '../journal/journal.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { NotLeading } from '../journal/shared.ts';
import { hostnames, node, nodeRow, nodeRows, nodesOf } from './nodes.fixture.ts';
import { Store, type Event } from './store.ts';

/** A journal that answers each commit as told; it notes what it was asked. */
class AskedJournal implements Journal {
  readonly asked: Change[][] = [];
  answer: () => Promise<void> = () => Promise.resolve();

  async load(): Promise<Map<string, string>> {
    return new Map();
  }

  commit(transactions: readonly (readonly Change[])[]): Promise<void> {
    for (const changes of transactions) this.asked.push(changes.map(({ key, value }) => ({ key, value })));
    return this.answer();
  }

  async close(): Promise<void> {}
}

function replica(nodes: Record<string, string> = {}, index = 0): Store {
  const store = Store.replica();
  store.replace(nodeRows(nodes, index));
  return store;
}

function leader(nodes: Record<string, string> = {}, index = 0) {
  const store = replica(nodes, index);
  const journal = new AskedJournal();
  store.lead(journal);
  return { store, journal };
}

/** Each event as `table id: hostname → hostname`. */
function record(store: Store): string[][] {
  const batches: string[][] = [];
  const hostname = (object: Event['after']) =>
    (object as { description?: { hostname: string } })?.description?.hostname;
  store.watch((events) => {
    batches.push(
      events.map((event) => {
        const { table, before, after } = event;
        return `${table} ${(after ?? before)!.id}: ${hostname(before) ?? '-'} → ${hostname(after) ?? '-'}`;
      }),
    );
  });
  return batches;
}

const create = (id: string) => (tx: Parameters<Parameters<Store['update']>[0]>[0]) => tx.nodes.create(node(id, 'h'));

describe('a store that follows', () => {
  test('shows what it is told, and tells its watchers of the difference as of one batch', () => {
    const store = replica({ a: 'h1', b: 'h1', c: 'h2' }, 7);
    const before = store.view((view) => view.nodes.get('a'));
    const batches = record(store);
    store.watch((events) => {
      // Memory shows all of it before anybody hears of any.
      for (const event of events)
        expect(store.view((view) => view.nodes.get((event.after ?? event.before)!.id))).toBe(event.after);
    });
    store.replace(nodeRows({ a: 'h1', b: 'h2', d: 'h3' }, 9));
    expect(nodesOf(store)).toEqual({ a: 'h1', b: 'h2', d: 'h3' });
    expect(store.index).toBe(9);
    expect(batches).toEqual([['nodes c: h2 → -', 'nodes b: h1 → h2', 'nodes d: - → h3']]);
    expect(store.view((view) => view.nodes.get('a'))).toBe(before);
    expect(hostnames(store, 'h1')).toEqual(['a']);
  });

  test('a replace by what is there already tells nobody', () => {
    const store = replica({ a: 'h1' }, 7);
    const batches = record(store);
    store.replace(nodeRows({ a: 'h1' }, 8));
    expect(batches).toEqual([]);
    expect(store.index).toBe(8);
  });

  test('applies transactions in their order, a row that is there twice included', () => {
    const store = replica({ a: 'h1' }, 1);
    const batches = record(store);
    store.apply([nodeRow('b', 'h2'), { key: 'index', value: '2' }]);
    store.apply([
      nodeRow('b', 'h3'),
      { key: 'nodes/a', value: null },
      nodeRow('b', 'h4'),
      { key: 'index', value: '4' },
    ]);
    store.apply([
      { key: 'nodes/never', value: null },
      { key: 'index', value: '5' },
    ]);
    expect(batches).toEqual([['nodes b: - → h2'], ['nodes b: h2 → h3', 'nodes a: h1 → -', 'nodes b: h3 → h4']]);
    expect(nodesOf(store)).toEqual({ b: 'h4' });
    expect(store.index).toBe(5);
  });

  test('what is told twice, too early or cannot be understood changes nothing', () => {
    const store = Store.replica();
    expect(() => store.apply([nodeRow('a', 'h')])).toThrow('before all rows');
    store.replace(nodeRows({ a: 'h' }, 3));
    const wrong: [Change[], string][] = [
      [[nodeRow('b', 'h'), { key: 'index', value: '3' }], 'transaction 3 was told again, after 3'],
      [[nodeRow('b', 'h'), { key: 'gadgets/x', value: '{}' }], 'unknown kind: gadgets/x'],
      [[nodeRow('b', 'h'), { key: 'nodes/c', value: '{' }], 'no JSON: nodes/c'],
      [[nodeRow('b', 'h'), { key: 'nodes/c', value: 'null' }], 'another object in the row nodes/c'],
      [[nodeRow('b', 'h'), { key: 'index', value: 'x' }], 'row index that is no number'],
    ];
    for (const [changes, words] of wrong) expect(() => store.apply(changes)).toThrow(words);
    for (const [changes, words] of wrong.slice(1)) {
      const rows = new Map([...nodeRows({}, 4), ...changes.map(({ key, value }) => [key, value!] as const)]);
      expect(() => store.replace(rows)).toThrow(words);
    }
    expect(nodesOf(store)).toEqual({ a: 'h' });
    expect(store.index).toBe(3);
  });

  test('takes no writes', async () => {
    const store = replica();
    expect(store.leading).toBe(false);
    await expect(store.update(create('a'))).rejects.toBeInstanceOf(NotLeading);
    await store.follow();
    expect(await store.steppedDown).toBeInstanceOf(NotLeading);
  });

  test('who waits for an index is told once memory shows it and the watchers have heard, whoever wrote it', async () => {
    const store = replica({}, 1);
    const seen: string[] = [];
    store.watch(() => seen.push('watcher'));
    const told = [2, 4, 1].map((index) => store.reached(index).then(() => seen.push(String(index))));
    await told[2];
    store.apply([nodeRow('a', 'h'), { key: 'index', value: '3' }]);
    await told[0];
    store.lead(new AskedJournal());
    await store.update(create('b'));
    await told[1];
    expect(seen).toEqual(['1', 'watcher', '2', 'watcher', '4']);
  });

  test('who waits for an index in vain: aborted, closed', async () => {
    const store = replica({}, 1);
    const quit = new AbortController();
    const aborted = store.reached(2, quit.signal);
    const closed = store.reached(2);
    quit.abort(new Error('five seconds have passed'));
    await expect(aborted).rejects.toThrow('five seconds');
    await expect(store.reached(2, quit.signal)).rejects.toThrow('five seconds');
    const closing = store.close();
    await expect(closed).rejects.toMatchObject({ name: 'StoreClosed' });
    await closing;
    await expect(store.reached(2)).rejects.toMatchObject({ name: 'StoreClosed' });
    await store.reached(1);
    expect(() => store.replace(new Map())).toThrow('the store is closed');
  });

  test('a watcher that throws ends it, as it ends a leader', async () => {
    const store = replica({}, 1);
    const waiting = store.reached(9);
    store.watch(() => {
      throw new Error('no such field');
    });
    store.apply([nodeRow('a', 'h'), { key: 'index', value: '2' }]);
    expect(await store.lost).toMatchObject({ name: 'StoreClosed', message: expect.stringContaining('no such field') });
    await expect(waiting).rejects.toMatchObject({ name: 'StoreClosed' });
    expect(() => store.apply([nodeRow('b', 'h'), { key: 'index', value: '3' }])).toThrow('droverd has to start again');
    expect(() => store.lead(new AskedJournal())).toThrow('droverd has to start again');
  });
});

describe('a store that leads', () => {
  test('writes go to the journal it was given, numbered on from what it was told', async () => {
    const { store, journal } = leader({ a: 'h1' }, 41);
    expect(store.leading).toBe(true);
    await store.update(create('b'));
    expect(journal.asked).toEqual([[nodeRow('b', 'h'), { key: 'index', value: '42' }]]);
    expect(store.index).toBe(42);
  });

  test('a journal that takes nothing now ends no leadership', async () => {
    const { store, journal } = leader();
    journal.answer = () => Promise.reject(new JournalUnavailable('no quorum'));
    await expect(store.update(create('a'))).rejects.toThrow('no quorum');
    journal.answer = () => Promise.resolve();
    await store.update(create('a'));
    expect(store.leading).toBe(true);
    expect(store.index).toBe(1);
  });

  test('another leads: nothing happened, what waits and what comes later is refused alike', async () => {
    const { store, journal } = leader();
    const batches = record(store);
    journal.answer = () => Promise.reject(new NotLeading('the fence stands'));
    const first = store.update(create('a'));
    await Promise.resolve();
    const waits = store.update(create('b'));
    await expect(first).rejects.toThrow('the fence stands');
    await expect(waits).rejects.toThrow('the fence stands');
    await expect(store.update(create('c'))).rejects.toBeInstanceOf(NotLeading);
    expect(store.leading).toBe(false);
    expect(journal.asked).toHaveLength(1);
    expect([nodesOf(store), batches]).toEqual([{}, []]);
  });

  test('a write in doubt: its batch is told so, memory is without it until it is told, the store is not lost', async () => {
    const { store, journal } = leader({}, 5);
    const batches = record(store);
    const over = store.steppedDown;
    journal.answer = () => Promise.reject(new Error('no answer in time'));
    const first = store.update(create('a'));
    const second = store.update(create('b'));
    await Promise.resolve();
    await Promise.resolve();
    const waits = store.update(create('c'));
    await expect(first).rejects.toMatchObject({
      name: 'InDoubt',
      message: expect.stringContaining('no answer in time'),
    });
    await expect(second).rejects.toMatchObject({ name: 'InDoubt' });
    await expect(waits).rejects.toMatchObject({ name: 'NotLeading', cause: { message: 'no answer in time' } });
    expect(await over).toMatchObject({ name: 'NotLeading' });
    await store.follow();
    expect(nodesOf(store)).toEqual({});
    expect(() => store.lead(journal)).toThrow('only after it was told all rows');
    store.replace(nodeRows({ a: 'h' }, 6));
    expect(batches).toEqual([['nodes a: - → h']]);
    store.lead(journal);
    journal.answer = () => Promise.resolve();
    await store.update(create('b'));
    expect(journal.asked.at(-1)).toContainEqual({ key: 'index', value: '7' });
  });

  test('follow lets the commit under way end, and refuses what waits and what comes', async () => {
    const { store, journal } = leader();
    const written = Promise.withResolvers<void>();
    journal.answer = () => written.promise;
    const underWay = store.update(create('a'));
    await Promise.resolve();
    const waits = store.update(create('b'));
    const followed = store.follow();
    expect(store.leading).toBe(false);
    await expect(waits).rejects.toBeInstanceOf(NotLeading);
    await expect(store.update(create('c'))).rejects.toBeInstanceOf(NotLeading);
    expect(() => store.replace(new Map())).toThrow('has not come to its end');
    expect(() => store.lead(journal)).toThrow('has not come to its end');
    written.resolve();
    await followed;
    await underWay;
    expect(nodesOf(store)).toEqual({ a: 'h' });
    expect(journal.asked).toHaveLength(1);
    store.replace(nodeRows({ a: 'h' }, 1));
    expect(store.index).toBe(1);
  });

  test('follow gives up a commit that hangs: it is in doubt, and its late success means nothing here', async () => {
    const { store, journal } = leader();
    const written = Promise.withResolvers<void>();
    journal.answer = () => written.promise;
    const underWay = store.update(create('a'));
    await Promise.resolve();
    const limit = new AbortController();
    const followed = store.follow(limit.signal);
    limit.abort();
    await expect(underWay).rejects.toMatchObject({ name: 'InDoubt' });
    await followed;
    store.replace(nodeRows({ b: 'h' }, 1));
    written.resolve();
    await Promise.resolve();
    expect(nodesOf(store)).toEqual({ b: 'h' });
  });

  test('a transaction in whose function the leading ends is not written', async () => {
    const { store, journal } = leader();
    const update = store.update((tx) => {
      create('a')(tx);
      void store.follow();
    });
    await expect(update).rejects.toBeInstanceOf(NotLeading);
    expect(journal.asked).toEqual([]);
    store.replace(nodeRows({}, 0));
    store.lead(journal);
    await store.update(create('a'));
    expect(store.index).toBe(1);
  });

  test('is told nothing by others, and who has a journal of his own follows nobody', async () => {
    const { store } = leader();
    expect(() => store.replace(new Map())).toThrow('this store leads');
    expect(() => store.apply([])).toThrow('this store leads');
    expect(() => store.lead(new AskedJournal())).toThrow('this store leads');
    const own = await Store.open(new MemoryJournal());
    expect(own.leading).toBe(true);
    await expect(own.follow()).rejects.toThrow('nobody to follow');
    expect(own.leading).toBe(true);
  });

  test('close lets what was asked for be written', async () => {
    const { store, journal } = leader();
    const update = store.update(create('a'));
    await store.close();
    await update;
    expect(journal.asked).toHaveLength(1);
    await expect(store.update(create('b'))).rejects.toMatchObject({ name: 'StoreClosed' });
  });
});

const nodes = fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd'), fc.constantFrom('h1', 'h2', 'h3'));

test('replace by difference: exactly the events of the difference, what is the same is the same object', () => {
  fc.assert(
    fc.property(fc.array(nodes, { minLength: 2, maxLength: 5 }), (states) => {
      const store = replica();
      const model = new Map<string, unknown>();
      let told = 0;
      store.watch((events) => {
        told += 1;
        const ids = events.map((event) => (event.after ?? event.before)!.id);
        expect(new Set(ids).size).toBe(ids.length);
        for (const { before, after } of events) {
          expect(model.get((after ?? before)!.id)).toBe(before);
          expect(JSON.stringify(after)).not.toBe(JSON.stringify(before));
          if (after === undefined) model.delete(before!.id);
          else model.set(after.id, after);
        }
      });
      states.forEach((state, i) => {
        const toldBefore = told;
        store.replace(nodeRows(state, i));
        expect({ ...nodesOf(store) }).toEqual({ ...state });
        expect(model).toEqual(new Map(store.view((view) => [...view.nodes.all()].map((n) => [n.id, n]))));
        for (const n of store.view((view) => [...view.nodes.all()])) expect(model.get(n.id)).toBe(n);
        expect(told - toldBefore).toBeLessThanOrEqual(1);
        for (const key of ['h1', 'h2', 'h3'])
          expect(hostnames(store, key).sort()).toEqual(
            Object.keys(state)
              .filter((id) => state[id] === key)
              .sort(),
          );
      });
    }),
  );
});
