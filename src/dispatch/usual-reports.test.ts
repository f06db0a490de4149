import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TaskState } from '../model/states.ts';
import { checkAgentMessage } from './messages.ts';
import { isUsualReports } from './usual-reports.ts';

const now = '2026-11-21T20:15:00.000Z';
const usual = {
  type: 'status',
  number: 7,
  reports: [
    { taskId: 't1', status: { timestamp: now, state: TaskState.PREPARING, message: 'preparing' } },
    {
      taskId: 't2',
      status: {
        timestamp: now,
        state: TaskState.RUNNING,
        message: 'started',
        container: { id: 'c'.repeat(64), pid: 4242 },
        runningSince: now,
      },
    },
  ],
};

test('what agents say while services are created is usual', () => {
  expect(isUsualReports(usual)).toBe(true);
});

/** Values at and beyond what a field may be. */
const odd = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(
    -1,
    0,
    1.5,
    2 ** 53,
    TaskState.NEW,
    TaskState.FAILED,
    TaskState.ORPHANED,
    '',
    now,
    '2026-02-29T00:00:00Z',
  ),
  fc.constantFrom('2026-11-21 20:15:00', '2026-11-21T20:15:00+01:00', 'x'.repeat(64), 'x'.repeat(65), 'x'.repeat(129)),
  fc.constantFrom('x'.repeat(4096), 'x'.repeat(4097)),
);
const within = (at: string) => (key: string) => `${at}.${key}`;
const path = fc.oneof(
  fc.constantFrom(
    'type',
    'number',
    'reports',
    'reports.0',
    'reports.0.taskId',
    'reports.0.status',
    'reports.0.further',
  ),
  fc
    .constantFrom('timestamp', 'state', 'message', 'container', 'runningSince', 'error', 'ready')
    .map(within('reports.1.status')),
  fc.constantFrom('id', 'pid', 'exitCode', '__proto__').map(within('reports.1.status.container')),
);

/** The usual message with a value put at a place, or taken away from there, as JSON would bring it. */
function changed(at: string, value: unknown): unknown {
  const message = structuredClone(usual);
  const keys = at.split('.');
  const last = keys.pop()!;
  let inner = message as unknown as Record<string, unknown>;
  for (const key of keys) inner = inner[key] as Record<string, unknown>;
  Object.defineProperty(inner, last, { value, enumerable: true, configurable: true, writable: true });
  return JSON.parse(JSON.stringify(message));
}

test('the schema takes, as it is, whatever is taken for usual', () => {
  fc.assert(
    fc.property(path, fc.option(odd, { nil: undefined }), (at, value) => {
      const message = changed(at, value);
      if (isUsualReports(message)) expect(checkAgentMessage(message)).toEqual(message);
    }),
    { numRuns: 2_000 },
  );
});
