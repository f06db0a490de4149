import { expect, test } from 'vitest';
import { planText } from './rebalance.ts';

const move = (Service: string, Slot: number) => ({
  Service,
  Slot,
  Task: 't',
  From: { Hostname: 'h1' },
  To: { Hostname: 'h2' },
});
const Skipped = [{ Service: 'db', Reason: 'an update of it is under way' }];

test('planText: what would be moved, and what is left alone', () => {
  expect(planText({ Moves: [move('web', 3), move('worker', 11)], Skipped }, true)).toBe(
    'db is left alone: an update of it is under way\n' +
      'TASK        FROM   TO\n' +
      'web.3       h1     h2\n' +
      'worker.11   h1     h2\n',
  );
  expect(planText({ Moves: [], Skipped: [] }, true)).toBe('Nothing to move.\n');
  expect(planText({ Moves: [move('web', 1)], Skipped: [] }, false)).toBe('1 task to move.\n');
});
