/** Makes a failing scenario smaller: leaves out what it does not need to fail in the same way. */
import { simulate, type Outcome, type Scenario, type Surroundings } from './simulate.ts';

/** Runs that shrinking may cost. */
const MOST_RUNS = 120;

/** The outcome of the smallest scenario found; the one given, if nothing can be left out. */
export async function shrink(failed: Outcome, around: Surroundings): Promise<Outcome> {
  const runs = { left: MOST_RUNS };
  const withoutRequests = await leaveOut(failed, 'withoutRequests', failed.requests, around, runs);
  return leaveOut(withoutRequests, 'withoutFaults', failed.faults.length, around, runs);
}

async function leaveOut(
  failed: Outcome,
  what: 'withoutFaults' | 'withoutRequests',
  count: number,
  around: Surroundings,
  runs: { left: number },
): Promise<Outcome> {
  let best = failed;
  for (let size = Math.ceil(count / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < count && runs.left > 0; from += size) {
      const already = new Set(best.scenario[what]);
      const more = Array.from({ length: Math.min(size, count - from) }, (_, i) => from + i).filter(
        (at) => !already.has(at),
      );
      if (more.length === 0) continue;
      runs.left--;
      const scenario: Scenario = { ...best.scenario, [what]: [...already, ...more].sort((a, b) => a - b) };
      const outcome = await simulate(scenario, around);
      if (outcome.failure !== undefined && kindOf(outcome) === kindOf(failed)) best = outcome;
    }
  }
  return best;
}

/** Two failures are of one kind if they differ in names and numbers only. */
function kindOf({ failure }: Outcome): string {
  return (failure?.message ?? '').replace(/\b[a-z0-9]{25}\b/g, 'ID').replace(/\b\w*\d[\w.]*\b/g, 'N');
}
