/** One run of a scenario: a quiet beginning, a time of faults and requests, and then rest, which must come. */
import type { Log } from '../model/clock.ts';
import { planFaults, type PlannedFault } from './faults.ts';
import type { Event } from '../store/store.ts';
import type { Users } from './requests.ts';
import { Chance } from './seeded.ts';
import { Troubles } from './troubles.ts';
import type { PlantedBug } from './manager-host.ts';
import { Violation, World } from './world.ts';

export interface Scenario {
  seed: number;
  /** One keeps its state on a disk of its own, several share a journal. */
  managers: number;
  /** Places in the plans that are left out: see `shrink`. */
  withoutFaults?: readonly number[];
  withoutRequests?: readonly number[];
}

export interface Surroundings {
  users: Users;
  log?: Log;
  planted?: PlantedBug;
  /** Told of every row that a leader shows: for whoever looks into a run. */
  seen?: (event: Event, atMs: number) => void;
}

export interface Outcome {
  scenario: Scenario;
  /** What was wrong, and when in simulated time. */
  failure?: { message: string; atMs: number };
  /** Two runs of one scenario have the same. */
  trace: number;
  events: number;
  simulatedMs: number;
  acknowledged: number;
  faults: readonly PlannedFault[];
  requests: number;
}

const TROUBLE_FROM_MS = 4_000;
/** How long after the last fault what was declared must run: the longest pause of a crash loop, of a stop, and some. */
export const REST_WITHIN_MS = 240_000;
const LOOK_MS = 1_000;
/** At rest for so long. */
const STEADY_MS = 3_000;

/** Never rejects: what the run finds is in the outcome, an error that nothing catches too. */
export async function simulate(scenario: Scenario, around: Surroundings): Promise<Outcome> {
  const { seed, withoutFaults = [], withoutRequests = [] } = scenario;
  const chance = new Chance(seed).of('scenario');
  const untilMs = TROUBLE_FROM_MS + chance.whole(20_000, 60_000);
  const plan = planFaults(chance.of('faults'), {
    fromMs: TROUBLE_FROM_MS,
    untilMs,
    count: chance.whole(0, 16),
    shared: scenario.managers > 1,
  });
  const requests = requestTimes(chance.of('requests'), untilMs);
  const faults = plan.filter((_, at) => !withoutFaults.includes(at));
  const world = new World({
    seed,
    managers: scenario.managers,
    users: around.users,
    nodes: chance.whole(2, 6),
    ...(around.log === undefined ? {} : { log: around.log }),
    ...(around.planted === undefined ? {} : { planted: around.planted }),
  });
  const { seen } = around;
  if (seen !== undefined) world.committed.seen = (event) => seen(event, world.loop.now);
  const failure = await failureOf(world, async () => {
    await world.begin();
    new Troubles(world).plan(faults);
    requests.forEach((atMs, write) => {
      if (!withoutRequests.includes(write)) world.loop.after(atMs - world.loop.now, 'user', () => world.ask(write));
    });
    await world.run(untilMs + 1 - world.loop.now);
    world.say('the faults are over');
    await rest(world);
  });
  return {
    scenario,
    ...(failure === undefined ? {} : { failure }),
    trace: world.loop.trace,
    events: world.loop.events,
    simulatedMs: world.loop.now,
    acknowledged: world.ledger.acknowledged,
    faults: plan,
    requests: requests.length,
  };
}

async function failureOf(world: World, run: () => Promise<void>): Promise<Outcome['failure']> {
  // A daemon ends by what nobody has caught.
  const uncaught = (error: unknown) => world.violated(`nobody handles ${stackOf(error)}`);
  process.on('unhandledRejection', uncaught);
  try {
    await run();
    return undefined;
  } catch (error) {
    const message = error instanceof Violation ? error.message : `nobody catches ${stackOf(error)}`;
    return { message, atMs: Math.round(world.loop.now) };
  } finally {
    process.off('unhandledRejection', uncaught);
  }
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Users come in bursts. */
function requestTimes(chance: Chance, untilMs: number): number[] {
  const times: number[] = [];
  const bursts = chance.whole(2, 8);
  for (let burst = 0; burst < bursts; burst++) {
    const fromMs = burst === 0 ? 1_500 : chance.between(1_500, untilMs);
    const count = chance.whole(1, 6);
    for (let i = 0; i < count; i++) times.push(Math.min(untilMs, Math.round(fromMs + chance.between(0, 3_000))));
  }
  return times.sort((a, b) => a - b);
}

async function rest(world: World): Promise<void> {
  const deadlineMs = world.loop.now + REST_WITHIN_MS;
  let steadyMs = 0;
  for (let why = world.notAtRest(); steadyMs < STEADY_MS; why = world.notAtRest()) {
    steadyMs = why === undefined ? steadyMs + LOOK_MS : 0;
    if (why !== undefined && world.loop.now >= deadlineMs)
      world.violated(`${REST_WITHIN_MS / 1000} s after the last fault: ${why}`);
    await world.run(LOOK_MS);
  }
}
