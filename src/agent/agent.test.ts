/** The agent with the engine's twin, a fake clock and a network that writes down what it is asked. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MemoryEngine } from '../engine/memory-engine.ts';
import type { Behaviour } from '../engine/memory-engine.ts';
import type { AssignmentChange, TaskAssignment, TaskStatusReport } from '../model/assignments.ts';
import { silentLog } from '../model/clock.ts';
import type { ContainerSpec } from '../model/specs.ts';
import { TaskState, taskStateName } from '../model/states.ts';
import { FakeClock, settle } from '../sim/fake-clock.ts';
import { assigned, fact } from './assignment.fixture.ts';
import { Agent } from './agent.ts';
import { AgentMemory } from './memory.ts';
import type { NodeNetworkPort, RunningTask } from './ports.ts';
import { RecordingFiles } from './task-files.fixture.ts';

const NODE = 'node1';

class RecordingNetwork implements NodeNetworkPort {
  readonly calls: string[] = [];
  /** Networks that are not ready, with the reason. */
  readonly broken = new Map<string, string>();
  attachError: string | undefined;
  /** The process ends before its rules stand, and the engine has yet to notice. */
  ended = false;
  /** Connections that every task serves. */
  open = 0;

  replace(all: readonly AssignmentChange[]): void {
    this.calls.push(`replace ${all.length}`);
  }
  apply(changes: readonly AssignmentChange[]): void {
    this.calls.push(`apply ${changes.length}`);
  }
  async settled(): Promise<void> {}

  async prepare(networkId: string): Promise<{ engineNetwork: string; gateway: string }> {
    const reason = this.broken.get(networkId);
    if (reason !== undefined) throw new Error(reason);
    return { engineNetwork: `drover-${networkId}`, gateway: '10.0.0.1' };
  }
  async expect(task: { taskId: string }): Promise<void> {
    this.calls.push(`expect ${task.taskId}`);
  }
  async attach(task: RunningTask): Promise<'attached' | 'ended'> {
    this.calls.push(`attach ${task.taskId} published=${task.published} ours=${await task.stillOurs()}`);
    if (this.attachError !== undefined) throw new Error(this.attachError);
    return this.ended ? 'ended' : 'attached';
  }
  async detach(taskId: string): Promise<void> {
    this.calls.push(`detach ${taskId}`);
  }
  async connections(pid: number): Promise<number> {
    this.calls.push(`connections ${pid}`);
    return this.open;
  }
  engineRestarted(): void {
    this.calls.push('engineRestarted');
  }
  degraded(): string[] {
    return [];
  }
}

let clock: FakeClock;
let engine: MemoryEngine;
let network: RecordingNetwork;
let memory: AgentMemory;
let files: RecordingFiles;
let behaviours: Map<string, Behaviour>;
let reports: TaskStatusReport[];
let managerTakes: boolean;
const agents: Agent[] = [];

beforeEach(() => {
  clock = new FakeClock();
  behaviours = new Map();
  engine = new MemoryEngine({ clock, behaviour: ({ image }) => behaviours.get(image) ?? {} });
  network = new RecordingNetwork();
  memory = AgentMemory.open(':memory:', silentLog);
  files = new RecordingFiles();
  reports = [];
  managerTakes = true;
});

afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.stop()));
  memory.close();
});

async function started(bootId = 'boot1'): Promise<Agent> {
  const agent = new Agent({
    nodeId: NODE,
    engine,
    network,
    memory,
    files,
    bootId,
    clock,
    random: () => 0.5,
    log: silentLog,
    report: async (batch) => {
      if (!managerTakes) throw new Error('no session');
      reports.push(...batch);
    },
  });
  agents.push(agent);
  agent.start();
  await settle();
  return agent;
}

function task(id: string, more: Partial<TaskAssignment> = {}, spec: Partial<ContainerSpec> = {}): TaskAssignment {
  return assigned({ id, nodeId: NODE, spec: { ContainerSpec: { Image: 'app', ...spec } }, ...more });
}

const gone = (id: string): AssignmentChange => ({ kind: 'task', key: id, value: null });
const wanted = (value: TaskAssignment, desiredState: TaskState): AssignmentChange => fact({ ...value, desiredState });
const overlay = { networkId: 'net', address: '10.0.0.9', aliases: [] };

/** States reported of a task, in order. */
const told = (id: string): string[] => reports.filter((r) => r.taskId === id).map((r) => taskStateName(r.status.state));
const last = (id: string): TaskStatusReport['status'] | undefined => reports.findLast((r) => r.taskId === id)?.status;

describe('a task', () => {
  test('goes up to RUNNING, each state in order, with container id and pid', async () => {
    const agent = await started();
    agent.replace([fact(task('t1'))]);
    await settle(20);
    const seen = told('t1');
    expect(seen.at(-1)).toBe('running');
    expect(seen).toEqual([...seen].sort((a, b) => order(a) - order(b)));
    expect(last('t1')).toMatchObject({ message: 'started', container: { id: engine.containerOf('t1').containerId } });
    expect(last('t1')?.container?.pid).toBe(engine.containerOf('t1').pid);
  });

  test('desired READY holds at READY until it is to run', async () => {
    const agent = await started();
    const held = task('t1', { desiredState: TaskState.READY });
    agent.replace([fact(held)]);
    await settle(20);
    expect(last('t1')).toMatchObject({ state: TaskState.READY, message: 'prepared' });
    expect(engine.containerOf('t1').state).toBe('created');
    agent.apply([wanted(held, TaskState.RUNNING)]);
    await settle(20);
    expect(last('t1')?.state).toBe(TaskState.RUNNING);
  });

  test.each([
    [0, TaskState.COMPLETE, 'finished', undefined],
    [1, TaskState.FAILED, 'started', 'task: non-zero exit (1)'],
  ])('exit code %i', async (code, state, message, error) => {
    const agent = await started();
    agent.replace([fact(task('t1'))]);
    await settle(20);
    engine.exit(engine.containerOf('t1').containerId, code);
    await settle(20);
    expect(last('t1')).toMatchObject({ state, message, container: { exitCode: code } });
    expect(last('t1')?.error).toBe(error);
    // The dead container stays, so that its logs can be read.
    expect(engine.containers.size).toBe(1);
  });

  test('an image that nobody has is REJECTED, before anything is made', async () => {
    behaviours.set('nope', { pullError: 'manifest unknown' });
    const agent = await started();
    agent.replace([fact(task('t1', {}, { Image: 'nope' }))]);
    await settle(20);
    expect(last('t1')).toMatchObject({ state: TaskState.REJECTED, error: 'No such image: nope (manifest unknown)' });
    expect(engine.containers.size).toBe(0);
  });

  test('the credentials of the service go with the pull', async () => {
    (await started()).replace([fact(task('t1', {}, { PullOptions: { RegistryAuth: 'e30=' } }))]);
    await settle(20);
    expect(engine.calls).toContain('ensureImage app as e30=');
  });

  test('a bad template is REJECTED, a failing start is FAILED', async () => {
    behaviours.set('bad', { startError: 'exec: not found' });
    const agent = await started();
    agent.replace([fact(task('t1', {}, { Hostname: '{{.X}}' })), fact(task('t2', {}, { Image: 'bad' }))]);
    await settle(20);
    expect(last('t1')).toMatchObject({ state: TaskState.REJECTED, error: expect.stringContaining('bad template') });
    expect(last('t2')).toMatchObject({
      state: TaskState.FAILED,
      message: 'starting',
      error: 'starting container failed: exec: not found',
      container: { exitCode: 127 },
    });
  });

  test('a health check gates RUNNING; unhealthy ends it', async () => {
    behaviours.set('app', { healthAfterMs: 5_000 });
    const agent = await started();
    agent.replace([fact(task('t1'))]);
    await settle(20);
    expect(last('t1')?.state).toBe(TaskState.STARTING);
    await clock.advance(5_000);
    await settle(20);
    expect(last('t1')?.state).toBe(TaskState.RUNNING);
    const runningSince = last('t1')?.runningSince;
    expect(runningSince).toBe(last('t1')?.timestamp);
    await clock.advance(1_000);
    engine.setHealth(engine.containerOf('t1').containerId, 'unhealthy', 'connecting …\nconnection refused\n');
    await settle(20);
    expect(last('t1')).toMatchObject({
      state: TaskState.FAILED,
      error: expect.stringContaining('unhealthy container: connection refused'),
      runningSince,
    });
    expect(engine.containerOf('t1').state).toBe('exited');
  });

  test('desired SHUTDOWN stops it and keeps its container; taken away, the container goes', async () => {
    const agent = await started();
    const running = task('t1');
    agent.replace([fact(running)]);
    await settle(20);
    agent.apply([wanted(running, TaskState.SHUTDOWN)]);
    await settle(20);
    expect(last('t1')).toMatchObject({ state: TaskState.SHUTDOWN, message: 'shutdown', container: { exitCode: 143 } });
    expect(engine.containerOf('t1').state).toBe('exited');
    agent.apply([gone('t1')]);
    await settle(20);
    expect(engine.containers.size).toBe(0);
    expect(agent.statuses().size).toBe(0);
    expect(memory.load().statuses.size).toBe(0);
  });

  test('desired REMOVE stops it and removes its container', async () => {
    const agent = await started();
    const running = task('t1');
    agent.replace([fact(running)]);
    await settle(20);
    agent.apply([wanted(running, TaskState.REMOVE)]);
    await settle(20);
    expect(last('t1')?.state).toBe(TaskState.SHUTDOWN);
    expect(engine.containers.size).toBe(0);
  });

  test('a pull that takes long ends when the task is not wanted any more', async () => {
    behaviours.set('app', { pullMs: 600_000 });
    const agent = await started();
    const pulling = task('t1');
    agent.replace([fact(pulling)]);
    await settle(20);
    expect(last('t1')?.state).toBe(TaskState.PREPARING);
    agent.apply([wanted(pulling, TaskState.SHUTDOWN)]);
    await settle(20);
    expect(last('t1')?.state).toBe(TaskState.SHUTDOWN);
    expect(engine.containers.size).toBe(0);
  });

  test('a container that somebody removed is a failure', async () => {
    const agent = await started();
    agent.replace([fact(task('t1'))]);
    await settle(20);
    await engine.remove(engine.containerOf('t1').containerId);
    await settle(20);
    expect(last('t1')).toMatchObject({ state: TaskState.FAILED, error: expect.stringContaining('No such container') });
  });

  test('tasks start side by side', async () => {
    behaviours.set('app', { pullMs: 1_000, startMs: 1_000 });
    const agent = await started();
    agent.replace(Array.from({ length: 30 }, (_, i) => fact(task(`t${i}`))));
    await clock.advance(1_000);
    await settle(20);
    await clock.advance(1_000);
    await settle(20);
    expect([...agent.statuses().values()].every(({ state }) => state === TaskState.RUNNING)).toBe(true);
  });
});

describe('the network', () => {
  const withNetwork = (): TaskAssignment => task('t1', { networks: [overlay] });
  const ingress: AssignmentChange = {
    kind: 'network',
    key: 'net',
    value: {
      id: 'net',
      name: 'ingress',
      environment: 'default',
      subnet: '10.0.0.0/16',
      gateway: '10.0.0.1',
      vni: 4096,
      dataPathPort: 4789,
      ingress: true,
      internal: false,
      labels: {},
      options: {},
    },
  };

  test('knows of the task before it starts, gets its pid before RUNNING is said, and is told of its end', async () => {
    const agent = await started();
    agent.replace([ingress, fact(withNetwork())]);
    await settle(20);
    expect(network.calls).toEqual(['replace 2', 'expect t1', 'attach t1 published=true ours=true']);
    expect(engine.containerOf('t1').place.attachments).toEqual([
      { engineNetwork: 'drover-net', gateway: '10.0.0.1', address: '10.0.0.9' },
    ]);
    engine.exit(engine.containerOf('t1').containerId, 1);
    await settle(20);
    expect(network.calls.at(-1)).toBe('detach t1');
  });

  test('that is not ready is waited for, and rejects the task with its reason after 30 s', async () => {
    network.broken.set('net', 'network net is not ready: no bridge');
    const agent = await started();
    agent.replace([fact(withNetwork())]);
    await clock.advance(29_000);
    expect(last('t1')?.state).toBe(TaskState.PREPARING);
    await clock.advance(2_000);
    await settle(20);
    expect(last('t1')).toMatchObject({ state: TaskState.REJECTED, error: 'network net is not ready: no bridge' });
  });

  test('that cannot be attached fails a task that starts, but never one that runs', async () => {
    network.attachError = 'nft: permission denied';
    const agent = await started();
    agent.replace([fact(withNetwork())]);
    await settle(20);
    expect(last('t1')).toMatchObject({ state: TaskState.FAILED, error: 'network: nft: permission denied' });
    expect(engine.containerOf('t1').state).toBe('exited');

    network.attachError = undefined;
    agent.replace([fact({ ...withNetwork(), id: 't2' })]);
    await settle(20);
    await agent.stop();
    network.attachError = 'nft: permission denied';
    const next = await started();
    expect(next.statuses().get('t2')?.state).toBe(TaskState.RUNNING);
    expect(engine.containerOf('t2').starts).toBe(1);
    network.attachError = undefined;
    network.calls.length = 0;
    await clock.advance(5_000);
    expect(network.calls).toEqual(['attach t2 published=false ours=true']);
  });

  test('that has no process any more is how the engine says it ended, as soon as it does', async () => {
    network.ended = true;
    behaviours.set('app', { exitAfterMs: 300 });
    const agent = await started();
    agent.replace([fact(withNetwork())]);
    await settle(20);
    expect(last('t1')?.state).toBe(TaskState.STARTING);
    network.calls.length = 0;
    await settle(20);
    expect(network.calls).toEqual([]);
    await clock.advance(300);
    await settle(20);
    expect(last('t1')).toMatchObject({ state: TaskState.COMPLETE, message: 'finished' });
    expect(last('t1')).not.toHaveProperty('error');
  });

  test('that has no process here although the engine says that it runs on fails before long', async () => {
    network.ended = true;
    const agent = await started();
    agent.replace([fact(withNetwork())]);
    await clock.advance(9_900);
    await settle(20);
    expect(last('t1')?.state).toBe(TaskState.STARTING);
    await clock.advance(200);
    await settle(20);
    expect(last('t1')).toMatchObject({
      state: TaskState.FAILED,
      error: expect.stringMatching(
        /^network: the engine says that process \d+ runs, and this host has no such process$/,
      ),
    });
    expect(engine.containerOf('t1').state).toBe('exited');
  });
});

describe('a restart of the daemon', () => {
  test('adopts what runs without touching it, and learns the exit codes of what ended', async () => {
    const first = await started();
    first.replace([fact(task('t1', { networks: [overlay] })), fact(task('t2'))]);
    await settle(20);
    const { containerId, pid } = engine.containerOf('t1');
    await first.stop();
    engine.exit(engine.containerOf('t2').containerId, 7);
    engine.calls.length = 0;
    network.calls.length = 0;
    await started();
    await settle(20);
    expect(engine.containerOf('t1')).toMatchObject({ containerId, pid, state: 'running', starts: 1 });
    expect(engine.calls.filter((call) => /^(start|stop|create|remove|kill)/.test(call))).toEqual([]);
    expect(network.calls).toEqual(['replace 2', 'attach t1 published=false ours=true']);
    expect(last('t2')).toMatchObject({ state: TaskState.FAILED, error: 'task: non-zero exit (7)' });
  });

  test('with an empty memory touches nothing until a manager has told everything, then removes strays only', async () => {
    const first = await started();
    first.replace([fact(task('t1')), fact(task('t2'))]);
    await settle(20);
    await first.stop();
    memory.close();
    memory = AgentMemory.open(':memory:', silentLog);
    const second = await started();
    await clock.advance(120_000);
    expect([...engine.containers.values()].map(({ state }) => state)).toEqual(['running', 'running']);
    second.replace([fact(task('t1'))]);
    await settle(20);
    expect(engine.containers.size).toBe(1);
    expect(engine.containerOf('t1')).toMatchObject({ state: 'running', starts: 1 });
    expect(last('t1')?.state).toBe(TaskState.RUNNING);
  });

  test('in the middle of preparing makes the container anew', async () => {
    behaviours.set('app', { pullMs: 1_000 });
    const first = await started();
    first.replace([fact(task('t1'))]);
    await settle(20);
    await first.stop();
    await started();
    await clock.advance(1_000);
    await settle(20);
    expect(last('t1')?.state).toBe(TaskState.RUNNING);
    expect(engine.containers.size).toBe(1);
  });
});

describe('a restart of the host', () => {
  async function rebooted(): Promise<Agent> {
    const first = await started();
    first.replace([fact(task('t1'))]);
    await settle(20);
    await first.stop();
    engine.powerCut();
    engine.comeBack();
    return started('boot2');
  }

  test('while no manager answers: the task is started again and stays RUNNING', async () => {
    const agent = await rebooted();
    expect(engine.containerOf('t1').starts).toBe(1);
    await clock.advance(15_000);
    await settle(20);
    expect(engine.containerOf('t1')).toMatchObject({ state: 'running', starts: 2 });
    expect(agent.statuses().get('t1')).toMatchObject({
      state: TaskState.RUNNING,
      container: { pid: engine.containerOf('t1').pid },
    });
  });

  test('with a manager: it gets the failure, and nothing is started', async () => {
    const agent = await rebooted();
    agent.replace([fact(task('t1'))]);
    await settle(20);
    expect(last('t1')).toMatchObject({
      state: TaskState.FAILED,
      error: 'task: non-zero exit (255): the host was restarted',
    });
    await clock.advance(60_000);
    expect(engine.containerOf('t1').starts).toBe(1);
  });
});

describe('an engine that is away', () => {
  test('fails nothing; what happened meanwhile is seen when it is back', async () => {
    const agent = await started();
    agent.replace([fact(task('t1')), fact(task('t2'))]);
    await settle(20);
    engine.goAway();
    await settle();
    expect(agent.engineState()).toBe('away');
    agent.apply([fact(task('t3'))]);
    await clock.advance(20_000);
    expect(told('t1').at(-1)).toBe('running');
    expect((await agent.describe()).degraded).toEqual(['the Docker Engine does not answer']);
    engine.exit(engine.containerOf('t2').containerId, 4);
    engine.comeBack();
    await clock.advance(5_000);
    await settle(20);
    expect(agent.engineState()).toBe('up');
    expect(network.calls).toContain('engineRestarted');
    expect(told('t1').at(-1)).toBe('running');
    expect(last('t2')).toMatchObject({ state: TaskState.FAILED, error: 'task: non-zero exit (4)' });
    expect(last('t3')?.state).toBe(TaskState.RUNNING);
  });

  test('from the start on: the tasks begin when it comes', async () => {
    engine.goAway();
    const agent = await started();
    agent.replace([fact(task('t1'))]);
    await clock.advance(10_000);
    expect(reports).toEqual([]);
    engine.comeBack();
    await clock.advance(5_000);
    await settle(20);
    expect(last('t1')?.state).toBe(TaskState.RUNNING);
  });
});

describe('reports', () => {
  test('that no manager took are sent again in the next session, the newest of each task only', async () => {
    managerTakes = false;
    const agent = await started();
    agent.replace([fact(task('t1'))]);
    await settle(20);
    expect(reports).toEqual([]);
    managerTakes = true;
    agent.replace([fact(task('t1'))]);
    await settle(20);
    expect(told('t1')).toEqual(['running']);
    // A manager that knows it already is not told again.
    reports.length = 0;
    agent.replace([fact(task('t1', { status: agent.statuses().get('t1') }))]);
    await settle(20);
    expect(reports).toEqual([]);
  });
});

test('a memory that cannot be written any more stops nothing', async () => {
  const agent = await started();
  const writable = memory;
  memory = AgentMemory.open(':memory:', silentLog);
  writable.close();
  agent.replace([fact(task('t1'))]);
  await settle(20);
  expect(last('t1')?.state).toBe(TaskState.RUNNING);
});

test('what somebody else did to a container is found within half a minute, without any event', async () => {
  const agent = await started();
  agent.replace([fact(task('t1'))]);
  await settle(20);
  Object.assign(engine.containerOf('t1'), { state: 'exited', exitCode: 9, pid: 0 });
  await clock.advance(30_000);
  await settle(20);
  expect(last('t1')).toMatchObject({ state: TaskState.FAILED, error: 'task: non-zero exit (9)' });
});

function order(name: string): number {
  return Object.values(TaskState).findIndex((state) => taskStateName(state) === name);
}
