import { expect, test } from 'vitest';
import { certificateError } from './certificate-words.ts';

const fromMs = Date.UTC(2026, 0, 1);
const untilMs = Date.UTC(2026, 3, 1);
const worker = { nodeId: 'n1', role: 'worker' } as const;

test.each([
  ['as it begins', fromMs, worker, /^$/],
  ['as it ends', untilMs, worker, /^$/],
  [
    'after its end, on a worker',
    untilMs + 1,
    worker,
    /held until 2026-04-01T00:00:00\.000Z, and the clock here says 2026-04-01T00:00:00\.001Z\..*"docker swarm leave" here, "docker node rm --force n1"/,
  ],
  [
    'after its end, on a manager',
    untilMs + 1,
    { nodeId: 'n1', role: 'manager' } as const,
    /As a manager it renews it by itself/,
  ],
  [
    'before its time',
    fromMs - 1,
    worker,
    /holds from 2026-01-01T00:00:00\.000Z, and the clock here says 2025-12-31T23:59:59\.999Z\. Set the clock/,
  ],
])('what is said of a certificate %s', (_when, nowMs, node, words) => {
  expect(certificateError({ fromMs, untilMs }, nowMs, node)).toMatch(words);
});
