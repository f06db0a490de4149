/** How a task goes out of balancing and comes into it, with the engine's twin, a fake clock and a network that counts. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MemoryEngine } from '../engine/memory-engine.ts';
import type { AssignmentChange, TaskAssignment, TaskStatusReport } from '../model/assignments.ts';
import { silentLog } from '../model/clock.ts';
import type { Probe } from '../model/readiness.ts';
import { TaskState } from '../model/states.ts';
import { FakeClock, settle } from '../sim/fake-clock.ts';
import { assigned, fact } from './assignment.fixture.ts';
import { Agent } from './agent.ts';
import { AgentMemory } from './memory.ts';
import type { NodeNetworkPort } from './ports.ts';
import { askReadiness } from './probe.ts';
import { RecordingFiles } from './task-files.fixture.ts';

let clock: FakeClock;
let engine: MemoryEngine;
let memory: AgentMemory;
let reports: TaskStatusReport[];
/** Connections that the task serves; an error instead when they cannot be counted. */
let connections: number | Error;
let looks: number;
/** When what the network was told is in force. */
let inForce: Promise<void>;
/** What the next probes say; undefined: passed. */
let fault: string | undefined;
let probed: { address: string; probe: Probe }[];
const agents: Agent[] = [];

const network: NodeNetworkPort = {
  replace() {},
  apply() {},
  settled: () => inForce,
  prepare: async (networkId) => ({ engineNetwork: networkId, gateway: '10.0.0.1' }),
  async expect() {},
  attach: async () => 'attached',
  async detach() {},
  async connections() {
    looks++;
    if (connections instanceof Error) throw connections;
    return connections;
  },
  engineRestarted() {},
  degraded: () => [],
};

beforeEach(() => {
  clock = new FakeClock();
  engine = new MemoryEngine({ clock, behaviour: ({ image }) => (image === 'checked' ? { healthAfterMs: 2_000 } : {}) });
  memory = AgentMemory.open(':memory:', silentLog);
  reports = [];
  connections = 0;
  looks = 0;
  inForce = Promise.resolve();
  fault = undefined;
  probed = [];
});

afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.stop()));
  memory.close();
});

async function started(): Promise<Agent> {
  const agent = new Agent({
    nodeId: 'n1',
    engine,
    network,
    memory,
    files: new RecordingFiles(),
    bootId: 'boot',
    clock,
    random: () => 0.5,
    log: silentLog,
    report: async (batch) => void reports.push(...batch),
    askReadiness: async (address, probe) => {
      probed.push({ address, probe });
      return fault;
    },
  });
  agents.push(agent);
  agent.start();
  await settle();
  return agent;
}

const OVERLAY = [{ networkId: 'net', address: '10.0.0.9', aliases: [] }];

const task = (more: Partial<TaskAssignment> = {}): TaskAssignment =>
  assigned({ drainMs: 5_000, networks: OVERLAY, ...more });

const last = (): TaskStatusReport['status'] => reports.at(-1)!.status;
const runs = (): boolean => engine.containerOf('t1').state === 'running';

async function running(wanted = task()): Promise<Agent> {
  const agent = await started();
  agent.replace([fact(wanted)]);
  await settle(20);
  expect(runs()).toBe(true);
  return agent;
}

async function pass(ms: number): Promise<void> {
  await clock.advance(ms);
  await settle(20);
}

describe('a task that is not wanted any more', () => {
  const leaving = (more: Partial<TaskAssignment> = {}): AssignmentChange =>
    fact(task({ desiredState: TaskState.SHUTDOWN, ...more }));

  test('is stopped at once if nobody balances it and it serves nobody', async () => {
    const agent = await running();
    agent.apply([leaving()]);
    await settle(20);
    expect([last().state, looks]).toEqual([TaskState.SHUTDOWN, 1]);
  });

  test('runs on while a node may still send it connections', async () => {
    const agent = await running();
    agent.apply([leaving({ balanced: true })]);
    await pass(1_000);
    expect([runs(), looks]).toEqual([true, 0]);
    agent.apply([leaving()]);
    await pass(250);
    expect(last().state).toBe(TaskState.SHUTDOWN);
  });

  test('serves a connection that was on its way when the last node took it out', async () => {
    const agent = await running();
    agent.apply([leaving({ balanced: true })]);
    await pass(50);
    agent.apply([leaving()]);
    await pass(150);
    expect([runs(), looks]).toEqual([true, 0]);
    connections = 1;
    await pass(500);
    expect(runs()).toBe(true);
    connections = 0;
    await pass(100);
    expect(last().state).toBe(TaskState.SHUTDOWN);
  });

  test('is stopped after 3 s even if no manager ever says that it was taken out', async () => {
    const agent = await running();
    agent.apply([leaving({ balanced: true })]);
    await pass(2_900);
    expect(runs()).toBe(true);
    await pass(350);
    expect(last().state).toBe(TaskState.SHUTDOWN);
  });

  test('runs on while its own node may still send it connections', async () => {
    const done = Promise.withResolvers<void>();
    inForce = done.promise;
    const agent = await running();
    agent.apply([leaving()]);
    await pass(1_000);
    expect([runs(), looks]).toEqual([true, 0]);
    done.resolve();
    await pass(100);
    expect(last().state).toBe(TaskState.SHUTDOWN);
  });

  test('does not wait for ever for its own node', async () => {
    inForce = new Promise(() => {});
    const agent = await running();
    agent.apply([leaving()]);
    await pass(2_900);
    expect(runs()).toBe(true);
    await pass(200);
    expect(last().state).toBe(TaskState.SHUTDOWN);
  });

  test('keeps its connections until they end', async () => {
    connections = 2;
    const agent = await running();
    agent.apply([leaving()]);
    await pass(1_500);
    expect(runs()).toBe(true);
    const inspections = engine.calls.filter((call) => call.startsWith('inspect')).length;
    await pass(1_000);
    // What is looked at meanwhile is one small file, not the engine.
    expect(engine.calls.filter((call) => call.startsWith('inspect'))).toHaveLength(inspections);
    connections = 0;
    await pass(100);
    expect(last().state).toBe(TaskState.SHUTDOWN);
  });

  test.each([
    [5_000, 4_900],
    [60_000, 59_900],
    [undefined, 4_900],
  ])('with drainMs %s: they have so long at most', async (drainMs, still) => {
    connections = 1;
    const agent = await running();
    agent.apply([leaving(drainMs === undefined ? { drainMs } : { drainMs })]);
    await pass(still);
    expect(runs()).toBe(true);
    await pass(200);
    expect(last().state).toBe(TaskState.SHUTDOWN);
  });

  test('the drain begins when it is out of balancing', async () => {
    connections = 1;
    const agent = await running();
    agent.apply([leaving({ balanced: true, drainMs: 2_000 })]);
    await pass(1_000);
    agent.apply([leaving({ drainMs: 2_000 })]);
    await pass(1_900);
    expect(runs()).toBe(true);
    await pass(200);
    expect(last().state).toBe(TaskState.SHUTDOWN);
  });

  test.each<[string, Partial<TaskAssignment>]>([
    ['whose drain is 0', { drainMs: 0 }],
    ['without networks', { networks: [] }],
  ])('%s has no connections to wait for', async (_what, more) => {
    connections = 3;
    const agent = await running(task(more));
    agent.apply([leaving(more)]);
    await settle(20);
    expect([last().state, looks]).toEqual([TaskState.SHUTDOWN, 0]);
  });

  test('and has not begun to run, or is unhealthy, is stopped at once', async () => {
    connections = 3;
    const spec = { ContainerSpec: { Image: 'checked' } };
    const agent = await running(task({ spec }));
    expect(last().state).toBe(TaskState.STARTING);
    agent.apply([leaving({ spec, balanced: true })]);
    await settle(20);
    expect([last().state, looks]).toEqual([TaskState.SHUTDOWN, 0]);
  });

  test('whose health fails while it drains is stopped then', async () => {
    connections = 3;
    const agent = await running();
    agent.apply([leaving()]);
    await pass(500);
    engine.setHealth(engine.containerOf('t1').containerId, 'unhealthy');
    await settle(20);
    expect(last().state).toBe(TaskState.SHUTDOWN);
  });

  test('that ends by itself meanwhile has ended', async () => {
    connections = 3;
    const agent = await running();
    agent.apply([leaving()]);
    await pass(500);
    engine.exit(engine.containerOf('t1').containerId, 0);
    await settle(20);
    expect(last()).toMatchObject({ state: TaskState.SHUTDOWN, container: { exitCode: 0 } });
  });

  test('that is taken away waits for nobody', async () => {
    connections = 3;
    const agent = await running();
    agent.apply([{ kind: 'task', key: 't1', value: null }]);
    await settle(20);
    expect(engine.containers.size).toBe(0);
  });

  test('whose connections cannot be counted is stopped', async () => {
    connections = new Error('gone');
    const agent = await running();
    agent.apply([leaving()]);
    await settle(20);
    expect(last().state).toBe(TaskState.SHUTDOWN);
  });

  test('goes on leaving when the daemon is restarted in the middle', async () => {
    connections = 1;
    const agent = await running();
    agent.apply([leaving()]);
    await pass(4_000);
    await agent.stop();
    expect(runs()).toBe(true);
    await started();
    await pass(4_900);
    expect(runs()).toBe(true);
    await pass(200);
    expect(runs()).toBe(false);
  });
});

describe('a service with a readiness probe', () => {
  const serviceLabels = { 'drover.ready.http': ':8080/healthz', 'drover.ready.failures': '2' };

  test('has its tasks run, not ready, until it passes; then ready', async () => {
    fault = 'GET :8080/healthz: ECONNREFUSED';
    await running(task({ serviceLabels }));
    expect(last()).toMatchObject({
      state: TaskState.RUNNING,
      message: 'started, waiting until it is ready',
      error: 'not ready: GET :8080/healthz: ECONNREFUSED',
      ready: false,
    });
    expect(probed[0]).toMatchObject({ address: '10.0.0.9', probe: { port: 8080, path: '/healthz' } });
    const { timestamp } = last();
    await pass(1_000);
    // 100, 200 and 400 ms after one another to begin with.
    expect(probed.length).toBe(4);
    fault = 'GET :8080/healthz answers 503';
    await pass(6_000);
    expect(last()).toMatchObject({ error: 'not ready: GET :8080/healthz answers 503', timestamp });
    fault = undefined;
    await pass(1_000);
    expect(last()).toMatchObject({ state: TaskState.RUNNING, message: 'started', ready: true });
    expect(last()).not.toHaveProperty('error');
    expect(last().timestamp).not.toBe(timestamp);
  });

  test('takes a task out again after so many failures in a row, and never ends it', async () => {
    await running(task({ serviceLabels }));
    expect(last().ready).toBe(true);
    const told = reports.length;
    fault = 'GET :8080/healthz answers 500';
    await pass(1_000);
    fault = undefined;
    await pass(1_000);
    expect(reports).toHaveLength(told);
    fault = 'GET :8080/healthz answers 500';
    await pass(2_000);
    expect(last()).toMatchObject({ state: TaskState.RUNNING, ready: false });
    await pass(60_000);
    expect(runs()).toBe(true);
    expect(reports).toHaveLength(told + 1);
    fault = undefined;
    await pass(1_000);
    expect(last().ready).toBe(true);
  });

  test('asks a task without overlays at its own address', async () => {
    await running(task({ serviceLabels, networks: [] }));
    expect(probed[0]?.address).toBe('172.17.0.2');
  });

  test('is asked no more once the task ends or is not wanted', async () => {
    const agent = await running(task({ serviceLabels }));
    connections = 1;
    agent.apply([fact(task({ serviceLabels, desiredState: TaskState.SHUTDOWN }))]);
    await settle(20);
    const asked = probed.length;
    await pass(10_000);
    expect(probed).toHaveLength(asked);
  });

  test('an adopted task goes on as ready as it was', async () => {
    const agent = await running(task({ serviceLabels }));
    expect(last().ready).toBe(true);
    await agent.stop();
    fault = 'GET :8080/healthz: ECONNREFUSED';
    const second = await started();
    second.replace([fact(task({ serviceLabels, status: last() }))]);
    await settle(20);
    expect(second.statuses().get('t1')?.ready).toBe(true);
    await pass(1_000);
    expect(second.statuses().get('t1')?.ready).toBe(false);
  });

  test('a health check comes first: what passes meanwhile makes it RUNNING and ready at once', async () => {
    await running(task({ serviceLabels, spec: { ContainerSpec: { Image: 'checked' } } }));
    expect(last().state).toBe(TaskState.STARTING);
    await pass(2_000);
    expect(last()).toMatchObject({ state: TaskState.RUNNING, ready: true });
    expect(reports.some(({ status }) => status.ready === false)).toBe(false);
  });
});

describe('a probe', () => {
  let server: Server;
  let port: number;
  beforeEach(async () => {
    server = createServer((request, response) => {
      if (request.url === '/slow') return;
      response.writeHead(Number(request.url?.slice(1)), { location: '/500' }).end('x'.repeat(100_000));
    });
    port = await new Promise<number>((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
    });
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });
  const ask = (more: Partial<Probe>) => {
    const probe = { port, intervalMs: 1_000, timeoutMs: 2_000, failures: 1, ...more };
    return askReadiness('127.0.0.1', probe, new AbortController().signal);
  };

  test.each([
    ['/200', undefined],
    ['/302', undefined],
    ['/399', undefined],
    ['/404', 'answers 404'],
    ['/503', 'answers 503'],
  ])('GET %s: %s', async (path, words) => {
    expect(await ask({ path })).toBe(words && `GET :${port}${path} ${words}`);
  });

  test('that gets no answer says so in time', async () => {
    expect(await ask({ path: '/slow', timeoutMs: 50 })).toBe(`GET :${port}/slow: no answer within 50 ms`);
  });

  test('of a port passes if it opens', async () => {
    expect(await ask({})).toBeUndefined();
    await new Promise((resolve) => server.close(resolve));
    expect(await ask({})).toBe(`connection to port ${port}: ECONNREFUSED`);
    expect(await ask({ path: '/200' })).toBe(`GET :${port}/200: ECONNREFUSED`);
  });
});
