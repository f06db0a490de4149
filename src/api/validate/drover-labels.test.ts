import { describe, expect, test } from 'vitest';
import { drainMsOf, probeOf } from '../../model/readiness.ts';
import { checkDroverLabels } from './drover-labels.ts';

describe('labels that are taken, and what they mean', () => {
  test.each([
    [{}, 5_000],
    [{ 'drover.drain': '0' }, 0],
    [{ 'drover.drain': '1m30s' }, 90_000],
  ])('%j drains for %d ms', (labels, ms) => {
    expect(() => checkDroverLabels(labels)).not.toThrow();
    expect(drainMsOf(labels)).toBe(ms);
  });

  test.each([
    [{}, undefined],
    [{ 'drover.ready.tcp': '6379' }, { port: 6379, intervalMs: 1_000, timeoutMs: 1_000, failures: 3 }],
    [{ 'drover.ready.http': ':8080' }, { port: 8080, path: '/', intervalMs: 1_000, timeoutMs: 1_000, failures: 3 }],
    [
      {
        'drover.ready.http': ':8080/healthz?deep=1',
        'drover.ready.interval': '5s',
        'drover.ready.timeout': '200ms',
        'drover.ready.failures': '1',
      },
      { port: 8080, path: '/healthz?deep=1', intervalMs: 5_000, timeoutMs: 200, failures: 1 },
    ],
  ])('%j probes %j', (labels, probe) => {
    expect(() => checkDroverLabels(labels)).not.toThrow();
    expect(probeOf(labels)).toEqual(probe);
  });
});

test.each([
  [
    { 'drover.drain': 'soon' },
    'label drover.drain: "soon" is not understood: 0 for none, or a duration such as 5s or 1m30s is needed, at least 1ms and at most 24h',
  ],
  [{ 'drover.drain': '-1s' }, 'label drover.drain: "-1s" is not'],
  [{ 'drover.drain': '25h' }, 'label drover.drain: "25h" is not'],
  [{ 'drover.drain': '' }, 'label drover.drain: "" is not'],
  [{ 'drover.ready.http': '8080/healthz' }, 'a port and a path such as :8080/healthz are needed'],
  [{ 'drover.ready.http': 'http://web:80/' }, 'a port and a path'],
  [{ 'drover.ready.http': ':70000/' }, 'a port and a path'],
  [{ 'drover.ready.http': ':80/a b' }, 'a port and a path'],
  [{ 'drover.ready.tcp': '0' }, 'a port from 1 to 65535 is needed'],
  [{ 'drover.ready.tcp': '80', 'drover.ready.interval': '0s' }, 'label drover.ready.interval: "0s" is not understood'],
  [{ 'drover.ready.tcp': '80', 'drover.ready.failures': '0' }, 'a whole number from 1 to 1000 is needed'],
  [{ 'drover.ready.tcp': '80', 'drover.ready.http': ':80/' }, 'only one of the two can be given'],
  [{ 'drover.ready.timeout': '1s' }, 'label drover.ready.timeout: there is no probe it could be about'],
])('%j is refused', (labels, sentence) => {
  expect(() => checkDroverLabels(labels)).toThrow(sentence);
  expect(() => checkDroverLabels(labels)).toThrow(expect.objectContaining({ status: 400 }));
  // Whoever gets such labels all the same still knows what to do.
  expect(drainMsOf(labels)).toBeGreaterThanOrEqual(0);
});
