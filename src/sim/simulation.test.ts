/** Some hundred seeds of the simulator, and whether it finds what it is there to find. More: `node tests/sim/soak.ts`. */
import { describe, expect, test } from 'vitest';
import { failureText } from '../../tests/sim/report.ts';
import { PLANTED, type Planted } from './planted.fixture.ts';
import { shrink } from './shrink.ts';
import { simulate, type Scenario } from './simulate.ts';
import { users } from './users.fixture.ts';

/** Far more than it needs on a machine that has other things to do. */
const WITHIN_MS = 600_000;

/** What went wrong in the smallest scenario that fails, with the command that runs it again; '' if nothing did. */
async function failureOf(scenario: Scenario): Promise<string> {
  const outcome = await simulate(scenario, { users });
  return outcome.failure === undefined ? '' : failureText(await shrink(outcome, { users }));
}

test.each([1, 3])('with %i manager(s), the same seed is the same run to the last event', async (managers) => {
  for (const seed of [3, 4]) {
    const runs = [await simulate({ seed, managers }, { users }), await simulate({ seed, managers }, { users })];
    expect(runs[1]).toEqual(runs[0]);
    expect(runs[0]!.events).toBeGreaterThan(500);
  }
  const other = await simulate({ seed: 5, managers }, { users });
  expect(other.trace).not.toBe((await simulate({ seed: 3, managers }, { users })).trace);
});

describe('what was declared runs, whatever happens', () => {
  test.each([
    { managers: 1, seeds: 150 },
    { managers: 3, seeds: 80 },
    { managers: 5, seeds: 20 },
  ])(
    '$seeds seeds with $managers manager(s)',
    async ({ managers, seeds }) => {
      for (let seed = 1; seed <= seeds; seed++) expect(await failureOf({ seed, managers })).toBe('');
    },
    WITHIN_MS,
  );
});

describe('a planted bug is found', () => {
  const seedsOf: Record<Planted, { managers: number; most: number }> = {
    'lost-event': { managers: 1, most: 150 },
    'reservation-twice': { managers: 1, most: 150 },
    'release-twice': { managers: 1, most: 150 },
    unfenced: { managers: 3, most: 300 },
    'early-answer': { managers: 1, most: 150 },
  };

  test.each(Object.entries(seedsOf) as [Planted, { managers: number; most: number }][])(
    '%s',
    async (planted, { managers, most }) => {
      const around = { users, planted: PLANTED[planted] };
      let found = false;
      for (let seed = 1; seed <= most && !found; seed++)
        found = (await simulate({ seed, managers }, around)).failure !== undefined;
      expect(found).toBe(true);
    },
    WITHIN_MS,
  );
});
