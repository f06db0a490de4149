/**
 * The simulator, for as long as one likes: `node tests/sim/soak.ts [seeds] [--from N] [--managers N]` runs seed after seed on
 * all cores, until stopped if no number is given. A failing one is shrunk and printed with the command that runs it again;
 * `--seed N …` is that command, and tells the story of the run; `--rows TEXT` with every row that holds the text. `--planted NAME`
 * plants a bug. Exit code 1: something failed.
 */
import { availableParallelism } from 'node:os';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Log } from '../../src/model/clock.ts';
import { PLANTED } from '../../src/sim/planted.fixture.ts';
import { shrink } from '../../src/sim/shrink.ts';
import { simulate, type Scenario, type Surroundings } from '../../src/sim/simulate.ts';
import { users } from '../../src/sim/users.fixture.ts';
import type { Event } from '../../src/store/store.ts';
import { failureText, readOptions, rowText, type Options } from './report.ts';

/** One manager, or several; as the seed has it, unless it was said. */
const MANAGERS = [1, 3, 1, 5];
const PROGRESS_MS = 10_000;

interface Told {
  failure?: string;
  events: number;
  simulatedMs: number;
  acknowledged: number;
}

const options = readOptions(isMainThread ? process.argv.slice(2) : (workerData as string[]));
if (!isMainThread) serve(options);
else if (options.replay === undefined) await soak(options);
else await replay(options.replay, options);

function around({ planted }: Options): Surroundings {
  return { users, ...(planted === undefined ? {} : { planted: PLANTED[planted] }) };
}

/** A worker: runs the seeds it is sent. */
function serve(options: Options): void {
  parentPort!.on('message', (seed: number) => {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not a window
    void run(seed, options).then((told) => parentPort!.postMessage(told));
  });
}

async function run(seed: number, options: Options): Promise<Told> {
  const managers = options.managers ?? MANAGERS[seed % MANAGERS.length]!;
  const outcome = await simulate({ seed, managers }, around(options));
  const { events, simulatedMs, acknowledged } = outcome;
  if (outcome.failure === undefined) return { events, simulatedMs, acknowledged };
  const failure = failureText(await shrink(outcome, around(options)), options.planted);
  return { failure, events, simulatedMs, acknowledged };
}

async function soak({ seeds, from }: Options): Promise<void> {
  const began = performance.now();
  const sum = { seeds: 0, failed: 0, events: 0, simulatedMs: 0, acknowledged: 0 };
  let next = from;
  const say = () => {
    const seconds = (performance.now() - began) / 1000;
    console.log(
      `${sum.seeds} seeds in ${seconds.toFixed(0)} s (${(sum.seeds / seconds).toFixed(1)}/s), ${sum.failed} failed; ` +
        `${(sum.simulatedMs / 3_600_000).toFixed(1)} h simulated, ${sum.events} events, ${sum.acknowledged} writes acknowledged`,
    );
  };
  const progress = setInterval(say, PROGRESS_MS);
  const work = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: process.argv.slice(2) });
      const give = () => {
        if (next >= from + seeds) void worker.terminate().then(() => resolve());
        // oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not a window
        else worker.postMessage(next++);
      };
      worker.on('error', reject);
      worker.on('message', ({ failure, events, simulatedMs, acknowledged }: Told) => {
        sum.seeds++;
        sum.events += events;
        sum.simulatedMs += simulatedMs;
        sum.acknowledged += acknowledged;
        if (failure !== undefined) {
          sum.failed++;
          console.log(failure);
        }
        give();
      });
      give();
    });
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  clearInterval(progress);
  say();
  process.exitCode = sum.failed === 0 ? 0 : 1;
}

async function replay(scenario: Scenario, options: Options): Promise<void> {
  const tell =
    (level: string) =>
    (fields: object, message: string): void => {
      const { atMs, err, ...rest } = fields as { atMs?: number; err?: Error };
      const more = atMs === undefined ? JSON.stringify(rest) : '';
      console.log(`${String(atMs ?? '').padStart(7)} ${level} ${message} ${more} ${err?.stack ?? ''}`.trimEnd());
    };
  const log: Log = { debug() {}, info: tell('     '), warn: tell('warn '), error: tell('error'), child: () => log };
  const { rows } = options;
  const seen = (event: Event, atMs: number): void => {
    const line = rows === undefined ? undefined : rowText(event, rows);
    if (line !== undefined) log.info({ atMs: Math.round(atMs) }, line);
  };
  const outcome = await simulate(scenario, { ...around(options), log, seen });
  console.log(failureText(outcome, options.planted));
  process.exitCode = outcome.failure === undefined ? 0 : 1;
}
