import { describe, expect, test } from 'vitest';
import { booleanFilter, hasLabels, lacksLabels, parseFilters, startsWith } from './filters.ts';

describe('parseFilters', () => {
  test('reads the new and the old form alike', () => {
    const expected = new Map([['label', ['a=b', 'c']]]);
    expect(parseFilters('{"label":{"a=b":true,"c":true,"off":false}}')).toEqual(expected);
    expect(parseFilters('{"label":["a=b","c"]}')).toEqual(expected);
    expect(parseFilters(undefined)).toEqual(new Map());
    expect(parseFilters('{"label":{}}')).toEqual(new Map());
  });

  test.each([
    ['{"nope":{"x":true}}', "invalid filter 'nope'"],
    ['{"label":', 'invalid filter: the filters are no JSON'],
    ['[]', 'invalid filter: the filters must be a JSON object such as {"label":{"a=b":true}}'],
    ['{"label":"x"}', 'invalid filter: values must be an object or a list'],
  ])('refuses %s', (text, message) => {
    expect(() => parseFilters(text, ['label'])).toThrow(expect.objectContaining({ status: 400, message }));
  });
});

test('labels must all match, by name or by name and value', () => {
  const labels = { a: '1', b: 'x=y' };
  const has = (...wanted: string[]) => hasLabels(new Map([['label', wanted]]), 'label', labels);
  expect([has('a'), has('a=1'), has('b=x=y'), has('a', 'b')]).toEqual([true, true, true, true]);
  expect([has('a=2'), has('c'), has('a', 'c')]).toEqual([false, false, false]);
  expect(lacksLabels(new Map([['label!', ['c']]]), 'label!', labels)).toBe(true);
  expect(lacksLabels(new Map([['label!', ['c', 'a']]]), 'label!', labels)).toBe(false);
});

test('values of one key are alternatives', () => {
  const filters = new Map([['name', ['web', 'db']]]);
  expect([
    startsWith(filters, 'name', 'db2'),
    startsWith(filters, 'name', 'a-web'),
    startsWith(filters, 'id', 'x'),
  ]).toEqual([true, false, true]);
});

test('a truth value is one of true, false, 1, 0', () => {
  expect(booleanFilter(new Map([['x', ['true']]]), 'x')).toBe(true);
  expect(booleanFilter(new Map([['x', ['0']]]), 'x')).toBe(false);
  expect(booleanFilter(new Map(), 'x')).toBeUndefined();
  expect(() => booleanFilter(new Map([['x', ['maybe']]]), 'x')).toThrow("invalid filter 'x=[maybe]'");
});
