import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import type { Node } from '../model/objects.ts';
import { hostnames, node } from './nodes.fixture.ts';
import { Store, type Event } from './store.ts';

describe('Store', () => {
  test('what update did is seen by view, by indexes and after a reopen', async () => {
    const journal = new MemoryJournal();
    const store = await Store.open(journal);
    await store.update((tx) => tx.nodes.create(node('a', 'h1')));
    await store.update((tx) => tx.nodes.update(node('a', 'h2')));
    expect(hostnames(store, 'h1')).toEqual([]);
    expect(hostnames(store, 'h2')).toEqual(['a']);
    const again = await Store.open(journal);
    expect(again.view((view) => [...view.nodes.all()])).toEqual(store.view((view) => [...view.nodes.all()]));
  });

  test('a transaction sees its own changes in every reading, and those of the batch before it', async () => {
    const store = await Store.open(new MemoryJournal());
    const first = store.update((tx) => tx.nodes.create(node('a', 'h')));
    const second = store.update((tx) => {
      tx.nodes.create(node('b', 'h'));
      tx.nodes.update(node('a', 'other'));
      return {
        size: tx.nodes.size,
        all: [...tx.nodes.all()].map((n) => n.id).sort(),
        byH: tx.nodes.by('hostname', 'h').map((n) => n.id),
        countH: tx.nodes.countBy('hostname', 'h'),
        hostnames: [...tx.nodes.keys('hostname')].sort(),
      };
    });
    await first;
    expect(await second).toEqual({ size: 2, all: ['a', 'b'], byH: ['b'], countH: 1, hostnames: ['h', 'other'] });
  });

  test('a transaction that throws changes nothing, and its neighbours in the batch are not touched', async () => {
    const store = await Store.open(new MemoryJournal());
    const seen: string[] = [];
    store.watch((events) => events.forEach((event) => seen.push((event.after ?? event.before)!.id)));
    const results = await Promise.allSettled([
      store.update((tx) => tx.nodes.create(node('a', 'h'))),
      store.update((tx) => {
        tx.nodes.create(node('b', 'h'));
        throw new Error('no');
      }),
      store.update((tx) => tx.nodes.create(node('c', 'h'))),
    ]);
    expect(results.map((result) => result.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(hostnames(store, 'h')).toEqual(['a', 'c']);
    expect(seen).toEqual(['a', 'c']);
  });

  test('memory shows nothing that the journal refused, and the store takes writes again afterwards', async () => {
    const journal = new MemoryJournal();
    const store = await Store.open(journal);
    const commit = journal.commit.bind(journal);
    journal.commit = () => Promise.reject(Object.assign(new Error('disk full'), { name: 'JournalUnavailable' }));
    await expect(store.update((tx) => tx.nodes.create(node('a', 'h')))).rejects.toThrow('disk full');
    expect(hostnames(store, 'h')).toEqual([]);
    journal.commit = commit;
    await store.update((tx) => tx.nodes.create(node('b', 'h')));
    expect(hostnames(store, 'h')).toEqual(['b']);
  });

  test('a journal in doubt: nothing more is written, what was committed can be read, and the store says so', async () => {
    const journal = new MemoryJournal();
    const store = await Store.open(journal);
    await store.update((tx) => tx.nodes.create(node('a', 'h')));
    journal.commit = () => Promise.reject(new Error('sync failed'));
    await expect(store.update((tx) => tx.nodes.create(node('b', 'h')))).rejects.toThrow('in doubt (sync failed)');
    await expect(store.update(() => {})).rejects.toMatchObject({ name: 'StoreClosed' });
    expect(await store.lost).toMatchObject({ name: 'StoreClosed' });
    expect(hostnames(store, 'h')).toEqual(['a']);
  });

  test('a listener that throws ends the store on purpose: what was written is, the others hear of it, nothing follows', async () => {
    const journal = new MemoryJournal();
    const store = await Store.open(journal);
    const heard: string[] = [];
    store.watch((events) => {
      if (events.length > 0) throw new Error('cannot read properties of undefined');
    });
    store.watch((events) => events.forEach((event) => heard.push(event.after!.id)));
    const first = store.update((tx) => tx.nodes.create(node('a', 'h')));
    // Asked for while the first is being made durable: it is in the next batch.
    await Promise.resolve();
    const second = store.update((tx) => tx.nodes.create(node('b', 'h')));
    await first;
    await expect(second).rejects.toThrow(
      'who watches the state failed at a change of nodes (cannot read properties of undefined); droverd has to start again',
    );
    await expect(store.update(() => {})).rejects.toMatchObject({ name: 'StoreClosed' });
    expect(await store.lost).toMatchObject({ cause: { message: 'cannot read properties of undefined' } });
    expect(heard).toEqual(['a']);
    const again = await Store.open(journal);
    expect(again.view((view) => [...view.nodes.all()].map(({ id }) => id))).toEqual(['a']);
  });

  test('who begins to watch while others are told hears only of what comes later, who ends it of nothing more', async () => {
    const store = await Store.open(new MemoryJournal());
    const heard: string[] = [];
    const note = (who: string) => (events: readonly Event[]) =>
      events.forEach((event) => heard.push(`${who} ${event.after!.id}`));
    const stops: (() => void)[] = [];
    store.watch(() => {
      if (stops.length > 1) return;
      stops[0]?.();
      const { result, stop } = store.viewAndWatch((view) => view.nodes.size, note('late'));
      heard.push(`late saw ${result}`);
      stops.push(stop);
    });
    stops.push(store.watch(note('early')));
    await store.update((tx) => tx.nodes.create(node('a', 'h')));
    await store.update((tx) => tx.nodes.create(node('b', 'h')));
    expect(heard).toEqual(['late saw 1', 'late b']);
  });

  test('memory shows a change only once the journal has it', async () => {
    const journal = new MemoryJournal();
    const store = await Store.open(journal);
    let release = () => {};
    const commit = journal.commit.bind(journal);
    journal.commit = async (transactions) => {
      await new Promise<void>((resolve) => (release = resolve));
      await commit(transactions);
    };
    const done = store.update((tx) => tx.nodes.create(node('a', 'h')));
    await new Promise((resolve) => setImmediate(resolve));
    expect(hostnames(store, 'h')).toEqual([]);
    release();
    await done;
    expect(hostnames(store, 'h')).toEqual(['a']);
  });
});

/** What a transaction of the property below does, one line a change. */
const step = fc.record({
  action: fc.constantFrom('put' as const, 'put' as const, 'remove' as const, 'fail' as const),
  id: fc.constantFrom('a', 'b', 'c', 'd'),
  hostname: fc.constantFrom('h1', 'h2', 'h3'),
});

test('whatever is written, alone or together: memory equals a model, its indexes, and what is loaded again', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(step, { maxLength: 4 }), { maxLength: 12 }), async (transactions) => {
      const journal = new MemoryJournal();
      const store = await Store.open(journal);
      const model = new Map<string, string>();
      const watched = new Map<string, string>();
      store.watch((events) => {
        for (const { before, after } of events) {
          if (after === undefined) watched.delete(before!.id);
          else watched.set(after.id, (after as Node).description!.hostname);
        }
      });
      await Promise.allSettled(
        transactions.map((steps) =>
          store.update((tx) => {
            for (const { action, id, hostname } of steps) {
              if (action === 'fail') throw new Error('changed its mind');
              const there = tx.nodes.get(id) !== undefined;
              if (action === 'put') tx.nodes[there ? 'update' : 'create'](node(id, hostname));
              else if (there) tx.nodes.remove(id);
            }
          }),
        ),
      );
      for (const steps of transactions) {
        if (steps.some(({ action }) => action === 'fail')) continue;
        for (const { action, id, hostname } of steps) {
          if (action === 'put') model.set(id, hostname);
          else model.delete(id);
        }
      }
      for (const state of [store, await Store.open(journal)]) {
        const found = state.view((view) => new Map([...view.nodes.all()].map((n) => [n.id, n.description!.hostname])));
        expect(found).toEqual(model);
        for (const key of ['h1', 'h2', 'h3']) {
          expect(hostnames(state, key).sort()).toEqual(
            [...model]
              .filter(([, h]) => h === key)
              .map(([id]) => id)
              .sort(),
          );
        }
      }
      expect(watched).toEqual(model);
    }),
  );
});
