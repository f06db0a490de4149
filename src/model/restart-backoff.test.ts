import { describe, expect, test } from 'vitest';
import type { TaskStatus } from './objects.ts';
import { crashLoop, longestDelayMs, parseBackoff, quickFailuresAfter, restartDelayMs } from './restart-backoff.ts';
import { TaskState } from './states.ts';

const { FAILED, REJECTED, COMPLETE, READY, RUNNING } = TaskState;

test.each<[string | undefined, number]>([
  [undefined, 60_000],
  ['off', 0],
  ['5m', 300_000],
  ['500ms', 500],
])('longestDelayMs: %s', (text, ms) => {
  expect(longestDelayMs(text === undefined ? {} : { 'drover.restart.backoff': text })).toBe(ms);
});

test.each(['', '0', 'none', '5', '-5s'])('parseBackoff refuses %j', (text) => {
  expect(parseBackoff(text)).toBeUndefined();
});

describe('restartDelayMs', () => {
  const delays = (delayMs: number, mostMs: number, count: number) =>
    Array.from({ length: count }, (_, i) => restartDelayMs(delayMs, i + 1, mostMs) / 1000);
  test('the first restarts are as in Docker, then they double up to a bound', () => {
    expect(delays(5000, 60_000, 8)).toEqual([5, 5, 5, 10, 20, 40, 60, 60]);
  });
  test('no delay doubles too', () => expect(delays(0, 1000, 8)).toEqual([0, 0, 0, 0.2, 0.4, 0.8, 1, 1]));
  test('a long delay is not shortened', () => expect(delays(3_600_000, 60_000, 5)).toEqual(Array(5).fill(3600)));
  test('off', () => expect(delays(5000, 0, 6)).toEqual(Array(6).fill(5)));
  test('for ever', () => expect(restartDelayMs(0, 1e6, 60_000)).toBe(60_000));
});

describe('quickFailuresAfter', () => {
  const ended = (state: TaskState, ranSeconds?: number): TaskStatus => ({
    timestamp: '2026-01-01T01:00:00.000Z',
    state,
    message: '',
    ...(ranSeconds === undefined
      ? {}
      : { runningSince: new Date(Date.parse('2026-01-01T01:00:00Z') - ranSeconds * 1000).toISOString() }),
  });
  test.each<[string, TaskStatus, number]>([
    ['failed at once', ended(FAILED, 2), 4],
    ['never ran', ended(FAILED), 4],
    ['was refused', ended(REJECTED), 4],
    ['ran for a minute', ended(FAILED, 60), 0],
    ['ended well', ended(COMPLETE, 1), 0],
  ])('%s', (_, status, count) => expect(quickFailuresAfter({ quickFailures: 3, status })).toBe(count));
  test('the first one', () => expect(quickFailuresAfter({ status: ended(FAILED) })).toBe(1));
});

test('crashLoop says why a task waits, and until when', () => {
  const waits = { desiredState: READY, startAfter: '2026-01-01T01:00:00.000Z', quickFailures: 5 };
  expect(crashLoop(waits)).toBe('crash loop: 5 quick failures in a row; not started before 2026-01-01T01:00:00.000Z');
  expect(crashLoop({ ...waits, quickFailures: 3 })).toBeUndefined();
  expect(crashLoop({ ...waits, desiredState: RUNNING })).toBeUndefined();
});
