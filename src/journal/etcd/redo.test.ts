import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Change } from '../journal.ts';
import type { Row, RowEvent } from './api.ts';
import { Keys } from './keys.ts';
import { changesOf, partsOf, Reader } from './redo.ts';

const keys = new Keys('c');
const change = fc.record({ key: fc.string({ maxLength: 9 }), value: fc.option(fc.string(), { nil: null }) });
const row = (key: string, value: string): Row => ({ key, value, modRevision: 1 });
const event = (key: string, value: string | null): RowEvent => ({ key, value, revision: 1 });

describe('the parts of a large transaction', () => {
  test('are its changes again, and none of the parts is larger than asked for', () => {
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 30 }), (changes) => {
        const parts = partsOf(changes, 300);
        expect(changesOf(parts)).toEqual(changes);
        expect(changesOf(parts.slice(0, -1))).toBeUndefined();
        for (const part of parts) expect(Buffer.byteLength(part)).toBeLessThanOrEqual(300);
      }),
    );
  });
});

describe('a reader', () => {
  const large: Change[] = [
    { key: 'a', value: 'new' },
    { key: 'gone', value: null },
  ];
  const parts = partsOf(large, 60).map((part, i) => [keys.redoPart(i), part] as const);

  test('sees nothing of a large transaction before its last part, all of it then, and nothing twice', () => {
    expect(parts.length).toBe(2);
    const reader = new Reader(keys);
    expect(reader.rows([row(keys.row('a'), 'old'), row(keys.row('gone'), 'x')])).toEqual(
      new Map([
        ['a', 'old'],
        ['gone', 'x'],
      ]),
    );
    expect(reader.changes([event(...parts[0]!), event(keys.round, '1.1')])).toEqual([]);
    expect(reader.changes([event(...parts[1]!)])).toEqual(large);
    expect(reader.changes([event(keys.row('a'), 'new')])).toEqual([]);
    const removed = parts.map(([key]) => event(key, null));
    expect(reader.changes([event(keys.row('gone'), null), ...removed])).toEqual([]);
    expect(reader.changes([event(keys.row('b'), 'x')])).toEqual([{ key: 'b', value: 'x' }]);
  });

  test('who comes in the middle sees all of it', () => {
    const reader = new Reader(keys);
    const rows = reader.rows([...parts.map(([key, value]) => row(key, value)), row(keys.row('gone'), 'x')]);
    expect(rows).toEqual(new Map([['a', 'new']]));
    expect(reader.changes([event(keys.row('a'), 'new')])).toEqual([]);
    const removed = parts.map(([key]) => event(key, null));
    expect(reader.changes([event(keys.row('gone'), null), ...removed])).toEqual([]);
    expect(reader.changes([event(keys.row('gone'), 'y')])).toEqual([{ key: 'gone', value: 'y' }]);
  });

  test('parts that never became valid change nothing', () => {
    const reader = new Reader(keys);
    expect(reader.rows([row(...parts[0]!), row(keys.row('a'), 'old')])).toEqual(new Map([['a', 'old']]));
    expect(reader.changes([event(keys.row('b'), 'x')])).toEqual([{ key: 'b', value: 'x' }]);
    expect(reader.changes([event(parts[0]![0], null)])).toEqual([]);
    expect(reader.changes([event(keys.row('c'), 'x')])).toEqual([{ key: 'c', value: 'x' }]);
  });
});
