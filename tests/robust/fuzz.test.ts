/** The API under random requests (fuzz-world.ts says what must hold): a few thousand here, a million in `make soak`. */
import { expect, test } from 'vitest';
import { fuzz } from './fuzz.ts';

const CASES = 4_000;

test(
  'no request does harm: 5xx only with cause, errors change nothing, what is accepted is digested',
  { timeout: 120_000 },
  async () => {
    const { cases, statuses } = await fuzz({ cases: CASES });
    expect(cases).toBeGreaterThanOrEqual(CASES);
    // Else the requests would be so bad that nothing behind the first check is reached.
    expect(statuses['200']! + statuses['201']!).toBeGreaterThan(CASES / 5);
    expect(statuses['201']).toBeGreaterThan(CASES / 100);
  },
);
