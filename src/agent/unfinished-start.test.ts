/**
 * Found by the simulator: a daemon that is killed leaves the engine a start that is under way, and who comes after it sees a
 * container that does not run. A task that has been said to have ended never runs again.
 */
import { beforeEach, expect, test } from 'vitest';
import type { TaskStatusReport } from '../model/assignments.ts';
import { silentLog } from '../model/clock.ts';
import { TaskState } from '../model/states.ts';
import { EngineHost } from '../sim/engine-host.ts';
import { EventLoop } from '../sim/event-loop.ts';
import { NodeMemory } from '../sim/node-memory.ts';
import { NodeNetworkTwin } from '../sim/node-network.ts';
import { hostTime, Process } from '../sim/process.ts';
import { Chance } from '../sim/seeded.ts';
import { assigned, fact, inState } from './assignment.fixture.ts';
import { Agent } from './agent.ts';
import { RecordingFiles } from './task-files.fixture.ts';

const MANAGERS_WITHIN_MS = 1_000;

let loop: EventLoop;
let host: EngineHost;
let memory: NodeMemory;
let reports: TaskStatusReport[];

beforeEach(() => {
  loop = new EventLoop();
  host = new EngineHost({
    clock: new Process(loop, 'engine', hostTime()).clock,
    chance: new Chance(1),
    resources: { nanoCpus: 8e9, memoryBytes: 16e9 },
    hostname: 'w1',
    started: () => {},
  });
  memory = new NodeMemory();
  reports = [];
});

function started(bootId = 'boot 1'): { agent: Agent; process: Process } {
  const process = new Process(loop, 'w1', hostTime());
  const agent = new Agent({
    nodeId: 'n1',
    engine: host.seenFrom(process),
    network: new NodeNetworkTwin(process.clock, new Chance(2)),
    memory,
    files: new RecordingFiles(),
    bootId,
    clock: process.clock,
    random: () => 0.5,
    log: silentLog,
    report: async (batch) => void reports.push(...batch),
    managersWithinMs: MANAGERS_WITHIN_MS,
  });
  agent.start();
  return { agent, process };
}

/** The one task of this node: its container takes a fifth of a second and more to start. */
const facts = (desiredState: TaskState, state: TaskState = TaskState.ASSIGNED) => [
  fact(assigned({ desiredState, spec: { ContainerSpec: { Image: 'slow' } }, status: inState(state) })),
];

/** Lets time pass until the engine has been asked to start a container for the n-th time, and has not done it yet. */
async function untilStartIsUnderWay(nth: number): Promise<void> {
  const asked = () => host.engine.calls.filter((call) => call.startsWith('start ')).length;
  for (let ms = 0; asked() < nth && ms < 60_000; ms++) await loop.run(1);
  expect(asked()).toBe(nth);
  expect(host.running()).toEqual([]);
}

/** For how many milliseconds of the next 20 s it runs after it was said to have ended. */
async function runsAfterItsEndMs(): Promise<number> {
  let since = 0;
  for (let ms = 0; ms < 20_000; ms++) {
    await loop.run(1);
    if (reports.at(-1)?.status.state === TaskState.SHUTDOWN && host.running().length > 0) since++;
  }
  return since;
}

test('a start under way when the daemon was killed never comes to anything once the task is to end', async () => {
  const first = started();
  await loop.run(100);
  first.agent.replace(facts(TaskState.RUNNING));
  await untilStartIsUnderWay(1);
  first.process.kill();

  started().agent.replace(facts(TaskState.SHUTDOWN));
  expect(await runsAfterItsEndMs()).toBe(0);
  expect(reports.at(-1)?.status.state).toBe(TaskState.SHUTDOWN);
  expect(host.running()).toEqual([]);
});

test('so too if a manager has counted the task as ended meanwhile', async () => {
  const first = started();
  await loop.run(100);
  first.agent.replace(facts(TaskState.RUNNING));
  await untilStartIsUnderWay(1);
  first.process.kill();

  started().agent.replace(facts(TaskState.SHUTDOWN, TaskState.ORPHANED));
  let runsMs = 0;
  for (let ms = 0; ms < 20_000; ms++) {
    await loop.run(1);
    if (host.running().length > 0) runsMs++;
  }
  expect(runsMs).toBe(0);
});

test('a container that has run before and is being started again is stopped as soon as it runs', async () => {
  const first = started();
  await loop.run(100);
  first.agent.replace(facts(TaskState.RUNNING));
  await loop.run(20_000);
  expect(host.running()).toHaveLength(1);
  first.process.kill();
  host.engine.powerCut();
  host.engine.comeBack();
  // No manager answers: the host goes on with what it had.
  const second = started('boot 2');
  await untilStartIsUnderWay(2);
  second.process.kill();

  started('boot 2').agent.replace(facts(TaskState.SHUTDOWN));
  await loop.run(20_000);
  expect(reports.at(-1)?.status.state).toBeGreaterThanOrEqual(TaskState.COMPLETE);
  expect(host.engine.containerOf('t1').starts).toBe(2);
  expect(host.running()).toEqual([]);
});

test('what could not be started stays, to be looked at', async () => {
  const { agent } = started();
  await loop.run(100);
  const bad = assigned({ spec: { ContainerSpec: { Image: 'bad' } } });
  agent.replace([fact(bad)]);
  await loop.run(20_000);
  expect(reports.at(-1)?.status.state).toBe(TaskState.FAILED);
  agent.apply([fact({ ...bad, desiredState: TaskState.SHUTDOWN })]);
  await loop.run(20_000);
  expect(host.engine.containerOf('t1')).toMatchObject({ state: 'created', exitCode: 127 });
});
