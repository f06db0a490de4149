/** The compliance suite of the journal's contract (journal.ts). Every keeper runs it. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Change, Journal } from './journal.ts';

/** A place where a journal lasts: `open` may be called again after `close`, and finds what was committed. */
export interface Keeper {
  open(): Promise<Journal>;
  dispose(): Promise<void>;
}

const change = fc.record({
  key: fc.constantFrom('tasks/a', 'tasks/b', 'nodes/a', 'index', "quote'd", 'ü'),
  value: fc.option(fc.string({ unit: 'binary-ascii', maxLength: 20 }), { nil: null }),
});

export function journalContract(name: string, keeper: () => Promise<Keeper>): void {
  describe(`journal contract: ${name}`, () => {
    async function within(body: (place: Keeper) => Promise<void>): Promise<void> {
      const place = await keeper();
      try {
        await body(place);
      } finally {
        await place.dispose();
      }
    }

    test('a new journal is empty', () =>
      within(async (place) => {
        const journal = await place.open();
        expect(await journal.load()).toEqual(new Map());
        await journal.close();
      }));

    test('what was committed is loaded, in this life and the next', () =>
      within(async (place) => {
        await fc.assert(
          fc.asyncProperty(fc.array(fc.array(change, { maxLength: 5 }), { maxLength: 8 }), async (transactions) => {
            const journal = await place.open();
            const model = await journal.load();
            for (const { key, value } of transactions.flat()) {
              if (value === null) model.delete(key);
              else model.set(key, value);
            }
            await journal.commit(transactions);
            expect(await journal.load()).toEqual(model);
            await journal.close();
            const next = await place.open();
            expect(await next.load()).toEqual(model);
            await next.close();
          }),
          { numRuns: 30 },
        );
      }));

    test('commits that overlap are applied in the order they were asked for', () =>
      within(async (place) => {
        const journal = await place.open();
        const writes: Change[][][] = Array.from({ length: 50 }, (_, i) => [[{ key: 'k', value: String(i) }]]);
        await Promise.all(writes.map((write) => journal.commit(write)));
        expect(await journal.load()).toEqual(new Map([['k', '49']]));
        await journal.close();
      }));

    test('a commit that fails applies none of its transactions', () =>
      within(async (place) => {
        const journal = await place.open();
        await journal.commit([[{ key: 'kept', value: 'x' }]]);
        const bad = { key: 'b', value: 7 as unknown as string };
        Object.defineProperty(bad, 'value', {
          get() {
            throw new Error('torn');
          },
        });
        await expect(journal.commit([[{ key: 'a', value: 'x' }], [bad]])).rejects.toThrow('torn');
        expect(await journal.load()).toEqual(new Map([['kept', 'x']]));
        await journal.commit([[{ key: 'after', value: 'x' }]]);
        expect([...(await journal.load()).keys()].sort()).toEqual(['after', 'kept']);
        await journal.close();
      }));

    test('close is idempotent', () =>
      within(async (place) => {
        const journal = await place.open();
        await journal.close();
        await journal.close();
      }));
  });
}
