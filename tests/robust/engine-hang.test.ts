/**
 * An engine that takes calls and answers none: every call of the agent's and the API's ends by itself, what waits says
 * so, and all goes on when the engine does. The client's deadlines run on timers that the test moves.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { startApi } from '../../src/api/api.fixture.ts';
import { EngineUnreachable } from '../../src/docker/errors.ts';
import { DockerEngine } from '../../src/engine/docker-engine.ts';
import { task } from '../../src/engine/engine.contract.ts';
import { silentLog } from '../../src/model/clock.ts';
import { Agent } from '../../src/agent/agent.ts';
import { AgentMemory } from '../../src/agent/memory.ts';
import type { NodeNetworkPort } from '../../src/agent/ports.ts';
import { RecordingFiles } from '../../src/agent/task-files.fixture.ts';
import { TaskState } from '../../src/model/states.ts';
import { FakeClock, settle } from '../../src/sim/fake-clock.ts';
import { HangingEngine } from './hanging-engine.ts';

/** More than any deadline: the longest is two minutes. */
const LONG_MS = 200_000;

let hanging: HangingEngine;
beforeEach(async () => {
  hanging = await HangingEngine.start();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
});
afterEach(() => {
  vi.useRealTimers();
  hanging.close();
});

const place = { node: { id: 'n', hostname: 'h', platform: { os: 'linux', architecture: 'x86_64' } }, attachments: [] };

describe('every call of the executor has a deadline', () => {
  const calls: Record<string, (engine: DockerEngine) => Promise<unknown>> = {
    describe: (engine) => engine.describe(),
    ensureImage: (engine) => engine.ensureImage('busybox'),
    create: (engine) => engine.create(task('n', { Image: 'busybox' }), place),
    start: (engine) => engine.start('c1'),
    stop: (engine) => engine.stop('c1'),
    kill: (engine) => engine.kill('c1', 'SIGKILL'),
    remove: (engine) => engine.remove('c1'),
    inspect: (engine) => engine.inspect('c1'),
    list: (engine) => engine.list('n'),
    watch: (engine) => engine.watch('n', new AbortController().signal),
  };

  test.each(Object.keys(calls))('%s', async (name) => {
    const engine = new DockerEngine({ client: hanging.client, clock: new FakeClock(), log: silentLog });
    await hanging.client.apiVersion();
    hanging.hangs = true;
    const reached = hanging.called('');
    const ended = calls[name]!(engine).then(
      () => 'an answer',
      (error: unknown) => error,
    );
    await reached;
    await vi.advanceTimersByTimeAsync(LONG_MS);
    expect(await ended).toBeInstanceOf(EngineUnreachable);
  });

  test('stop: from the grace period of the container on', async () => {
    const engine = new DockerEngine({ client: hanging.client, clock: new FakeClock(), log: silentLog });
    await engine.create(task('n', { Image: 'busybox' }), place);
    const stopping = hanging.called('POST /containers/c1/stop');
    const inspected = hanging.called('GET /containers/c1/json').then(() => (hanging.hangs = true));
    let ended: unknown;
    void engine.stop('c1').catch((error: unknown) => (ended = error));
    await inspected;
    await stopping;
    await vi.advanceTimersByTimeAsync(80_000); // the container has 30 s
    expect(ended).toBeUndefined();
    await vi.advanceTimersByTimeAsync(20_000);
    expect(ended).toBeInstanceOf(EngineUnreachable);
  });
});

/** An agent on the engine that can hang, with no network to care for. */
function agentOn(clock: FakeClock): { agent: Agent; memory: AgentMemory } {
  const network = {
    replace() {},
    apply() {},
    degraded: () => [],
    engineRestarted() {},
    async detach() {},
  } as unknown as NodeNetworkPort;
  const memory = AgentMemory.open(':memory:', silentLog);
  const engine = new DockerEngine({ client: hanging.client, clock, log: silentLog });
  const agent = new Agent({
    nodeId: 'n',
    engine,
    network,
    memory,
    files: new RecordingFiles(),
    bootId: 'b',
    clock,
    random: () => 0.5,
    log: silentLog,
    report: async () => {},
  });
  return { agent, memory };
}

test.each(['POST /containers/create', 'POST /containers/c1/start', 'GET /events'])(
  'an engine that hangs at %s: the task waits, and runs once it answers',
  async (at) => {
    const clock = new FakeClock();
    const { agent, memory } = agentOn(clock);
    const wanted = task('n', { Image: 'busybox' }, { id: 't1' });
    await hanging.client.apiVersion();
    void hanging.called(at).then(() => (hanging.hangs = true));
    agent.start();
    agent.replace([
      {
        kind: 'task',
        key: 't1',
        value: {
          ...wanted,
          networks: [],
          desiredState: TaskState.RUNNING,
          status: { ...wanted.status, state: TaskState.ASSIGNED },
        },
      },
    ]);
    const step = async (): Promise<void> => {
      await vi.advanceTimersByTimeAsync(1_000);
      await clock.advance(1_000);
      await settle();
    };
    const state = (): TaskState | undefined => agent.statuses().get('t1')?.state;
    while (!hanging.hangs) await step();
    for (let seconds = 0; seconds < 150; seconds++) await step();
    expect(state() ?? 0).toBeLessThan(TaskState.RUNNING);
    hanging.hangs = false;
    for (let seconds = 0; seconds < 150 && state() !== TaskState.RUNNING; seconds++) await step();
    expect(state()).toBe(TaskState.RUNNING);
    await agent.stop();
    memory.close();
  },
);

test('an engine that hangs while its event stream stands: the node says so, and is well again when it answers', async () => {
  const clock = new FakeClock();
  const { agent, memory } = agentOn(clock);
  agent.start();
  while (agent.engineState() !== 'up') await settle();
  expect((await agent.describe()).degraded).toEqual([]);
  hanging.hangs = true;
  const asked = hanging.called('GET /info');
  const described = agent.describe();
  await asked;
  await vi.advanceTimersByTimeAsync(30_000);
  expect((await described).degraded).toEqual(['the Docker Engine does not answer']);
  expect(agent.engineState()).toBe('away');
  hanging.hangs = false;
  for (let seconds = 0; seconds < 60 && agent.engineState() === 'away'; seconds++) {
    await vi.advanceTimersByTimeAsync(1_000);
    await clock.advance(1_000);
    await settle();
  }
  expect((await agent.describe()).degraded).toEqual([]);
  await agent.stop();
  memory.close();
});

// What is passed through waits as long as its client does: `docker wait` has no deadline.
describe("every call of the API's own to the engine has a deadline", () => {
  test.each([
    ['GET', '/_ping', 200],
    ['GET', '/version', 200],
    ['GET', '/info', 200],
    ['GET', '/networks', 200],
    ['GET', '/networks/unknown', 503],
    ['POST', '/networks/prune', 503],
    ['GET', '/distribution/busybox/json', 503],
    ['POST', '/services/create', 503],
  ])('%s %s', async (method, path, status) => {
    let hangs = false;
    let reached = (): void => {};
    const asked = new Promise<void>((resolve) => (reached = resolve));
    const api = await startApi((_request, response) => {
      if (!hangs) response.end();
      reached();
    });
    hangs = true;
    const Networks = [{ Target: 'unknown' }];
    const body =
      path === '/services/create'
        ? { Name: 's', TaskTemplate: { ContainerSpec: { Image: 'i' }, Networks } }
        : undefined;
    const options = { headers: { 'content-type': 'application/json' }, payload: JSON.stringify(body) };
    const answer = api.api.app.inject({ method: method as 'GET', url: path, ...(body === undefined ? {} : options) });
    if (path !== '/_ping') await asked;
    await vi.advanceTimersByTimeAsync(100_000);
    expect((await answer).statusCode).toBe(status);
    await api.close();
  });
});
