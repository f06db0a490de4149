/**
 * Random requests, some at a time to a cluster that is new for each run, until there were `cases`. As a program
 * (`make soak`) it works on every core: node tests/robust/fuzz.ts [cases] [seed].
 */
import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import fc from 'fast-check';
import { FuzzWorld } from './fuzz-world.ts';
import { request } from './requests.ts';

export interface FuzzReport {
  cases: number;
  seconds: number;
  /** Answers by status. */
  statuses: Record<string, number>;
}

/** Requests to one cluster, at most. */
const RUN = 25;
const DEFAULT_SOAK = 1_000_000;

const setting = fc.record({
  role: fc.oneof(
    { weight: 10, arbitrary: fc.constant('manager' as const) },
    { weight: 1, arbitrary: fc.constantFrom('worker' as const, 'none' as const) },
  ),
  engine: fc.oneof(
    { weight: 5, arbitrary: fc.constant('there' as const) },
    { weight: 1, arbitrary: fc.constant('away' as const) },
  ),
});

/** At least `cases` requests. @throws with the shortest series of requests that does harm, and the seed, if one does */
export async function fuzz(options: { cases: number; seed?: number }): Promise<FuzzReport> {
  const world = await FuzzWorld.open();
  const began = performance.now();
  let cases = 0;
  try {
    const series = fc.array(request, { minLength: 1, maxLength: RUN, size: 'max' });
    const harmless = fc.asyncProperty(setting, series, async (with_, requests) => {
      await world.begin(with_);
      for (const one of requests) {
        await world.play(one);
        cases++;
      }
      await world.end();
    });
    for (let round = 0; cases < options.cases; round++) {
      const numRuns = Math.ceil((2 * (options.cases - cases)) / RUN);
      await fc.assert(harmless, {
        numRuns,
        ...(options.seed === undefined ? {} : { seed: options.seed + 7919 * round }),
      });
    }
  } finally {
    await world.close();
  }
  const statuses = Object.fromEntries([...world.statuses].toSorted(([a], [b]) => a - b));
  return { cases, seconds: (performance.now() - began) / 1000, statuses };
}

/** `cases` in as many processes as there are cores, in portions, so that what one run leaves behind is not kept. */
async function soak(cases: number, seed: number): Promise<void> {
  const began = performance.now();
  const portion = 20_000;
  const statuses: Record<string, number> = {};
  let started = 0;
  let done = 0;
  const worker = async (): Promise<void> => {
    while (started * portion < cases) {
      const own = seed + started++;
      const child = fork(import.meta.filename, ['portion', String(Math.min(portion, cases)), String(own)]);
      child.once('message', (report: FuzzReport) => {
        done += report.cases;
        for (const [status, count] of Object.entries(report.statuses))
          statuses[status] = (statuses[status] ?? 0) + count;
      });
      const code = await new Promise((resolve) => child.once('exit', resolve));
      if (code !== 0) throw new Error(`harm was done in the portion of seed ${own}`);
      const rate = Math.round(done / ((performance.now() - began) / 1000));
      console.log(`${done} cases, ${rate}/s; answers: ${JSON.stringify(statuses)}`);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

if (import.meta.main) {
  const [first, second, third] = process.argv.slice(2);
  if (first === 'portion') process.send?.(await fuzz({ cases: Number(second), seed: Number(third) }));
  else await soak(Number(first ?? DEFAULT_SOAK), Number(second ?? Math.floor(Math.random() * 2 ** 31)));
  if (process.connected) process.disconnect?.();
}
