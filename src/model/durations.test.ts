import { expect, test } from 'vitest';
import { parseDuration } from './durations.ts';

test.each([
  ['0', 0],
  ['0s', 0],
  ['5s', 5_000],
  ['250ms', 250],
  ['1m30s', 90_000],
  ['1.5h', 5_400_000],
  ['.5s', 500],
  ['1500us', 1.5],
])('%s is %d ms', (text, ms) => expect(parseDuration(text)).toBe(ms));

test.each(['', '5', 's', '-5s', '5 s', '5s ', '1d', '1e3s', 'soon', '5s5'])('%j is no duration', (text) =>
  expect(parseDuration(text)).toBeUndefined(),
);
