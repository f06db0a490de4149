import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Change } from '../journal.ts';
import { Batch } from './batch.ts';

const change = fc.record({
  key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
  value: fc.option(fc.string({ maxLength: 40 }), { nil: null }),
});
const transactions = fc.array(fc.array(change, { maxLength: 6 }), { maxLength: 8 });

/** What the changes make, applied to nothing. */
function made(changes: Iterable<Change>): Map<string, string | null> {
  return new Map([...changes].map(({ key, value }) => [key, value]));
}

describe('a batch', () => {
  test('means what its transactions mean one after the other, and never grows beyond its limits', () => {
    fc.assert(
      fc.property(transactions, (all) => {
        const batch = new Batch({ rows: 4, bytes: 250 });
        const taken = all.filter((one) => batch.tryToAdd(one));
        expect(made(batch.changes)).toEqual(made(taken.flat()));
        expect(new Set(batch.changes.map(({ key }) => key)).size).toBe(batch.size);
        expect(batch.fits).toBe(true);
      }),
    );
  });

  test('is as before when a transaction does not fit', () => {
    const batch = new Batch({ rows: 2, bytes: 10_000 });
    batch.add([{ key: 'a', value: 'old' }]);
    const { bytes } = batch;
    expect(
      batch.tryToAdd([
        { key: 'a', value: 'new one' },
        { key: 'b', value: 'x' },
        { key: 'c', value: null },
      ]),
    ).toBe(false);
    expect([batch.changes, batch.bytes]).toEqual([[{ key: 'a', value: 'old' }], bytes]);
  });

  test('counts what a row weighs in bytes, not in characters', () => {
    const batch = new Batch({ rows: 10, bytes: 100 });
    expect(batch.tryToAdd([{ key: 'a', value: 'ü'.repeat(34) }])).toBe(false);
    expect(batch.tryToAdd([{ key: 'a', value: 'u'.repeat(34) }])).toBe(true);
  });
});
