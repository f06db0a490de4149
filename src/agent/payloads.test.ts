/** Secrets and configs on their way through an agent: from facts to files, and out of the way again. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryEngine } from '../engine/memory-engine.ts';
import type { AssignmentChange, TaskStatusReport } from '../model/assignments.ts';
import { silentLog } from '../model/clock.ts';
import type { ContainerSpec } from '../model/specs.ts';
import { TaskState, taskStateName } from '../model/states.ts';
import { FakeClock, settle } from '../sim/fake-clock.ts';
import { assigned, fact } from './assignment.fixture.ts';
import { Agent } from './agent.ts';
import { AgentMemory } from './memory.ts';
import type { NodeNetworkPort } from './ports.ts';
import { RecordingFiles } from './task-files.fixture.ts';

let clock: FakeClock;
let engine: MemoryEngine;
let memory: AgentMemory;
let files: RecordingFiles;
let reports: TaskStatusReport[];
let agent: Agent;

beforeEach(() => {
  clock = new FakeClock();
  engine = new MemoryEngine({ clock });
  memory = AgentMemory.open(':memory:', silentLog);
  files = new RecordingFiles();
  reports = [];
});
afterEach(async () => {
  await agent.stop();
  memory.close();
});

async function start(bootId = 'boot1'): Promise<void> {
  const network = { replace() {}, apply() {}, degraded: () => [], engineRestarted() {} } as unknown as NodeNetworkPort;
  const report = async (batch: readonly TaskStatusReport[]) => void reports.push(...batch);
  const deps = {
    nodeId: 'n1',
    engine,
    network,
    memory,
    files,
    bootId,
    clock,
    random: () => 0.5,
    log: silentLog,
    report,
  };
  agent = new Agent(deps);
  agent.start();
  await settle();
}

/** The daemon dies and comes back; `boot` is another if its host did too. */
async function restart(boot = 'boot1'): Promise<void> {
  await agent.stop();
  await start(boot);
}

const FILE = { Name: 'x', UID: '0', GID: '0', Mode: 0o444 };
const SECRET = { Secrets: [{ SecretID: 's1', SecretName: 'pw', File: FILE }] };
const CONFIG = { Configs: [{ ConfigID: 'c1', ConfigName: 'conf', File: FILE }] };
const told = (kind: 'secret' | 'config', key: string, text: string): AssignmentChange => ({
  kind,
  key,
  value: { id: key, data: Buffer.from(text).toString('base64'), templated: text.includes('{{') },
});
const task = (spec: Partial<ContainerSpec>, desiredState: TaskState = TaskState.RUNNING): AssignmentChange =>
  fact(assigned({ desiredState, spec: { ContainerSpec: { Image: 'app', ...spec } } }));
const last = () => {
  const { state, error } = reports.at(-1)!.status;
  return error === undefined ? taskStateName(state) : `${taskStateName(state)}: ${error}`;
};

test('a task finds its files; they go when it has ended', async () => {
  await start();
  agent.replace([
    told('secret', 's1', 'hunter2'),
    told('config', 'c1', 'on {{.Node.Hostname}}'),
    task({ ...SECRET, ...CONFIG }),
  ]);
  await settle();
  expect(last()).toBe('running');
  expect(files.there.get('t1')).toEqual({ '/run/secrets/x': 'hunter2', '/x': 'on memory' });
  expect(engine.containerOf('t1').place.files).toEqual([
    { source: '/tasks/t1/0', target: '/run/secrets/x' },
    { source: '/tasks/t1/1', target: '/x' },
  ]);
  engine.exit(engine.containerOf('t1').containerId, 1);
  await settle();
  expect(last()).toMatch(/^failed/);
  expect([...files.there]).toEqual([]);
});

test('no secret is ever in what the agent remembers; a config is, while it is told', async () => {
  await start();
  agent.replace([told('secret', 's1', 'a'), told('config', 'c1', 'b')]);
  agent.apply([told('secret', 's2', 'c'), told('config', 'c2', 'd')]);
  const kinds = () => memory.load().facts!.map(({ kind, key }) => `${kind} ${key}`);
  expect(kinds()).toEqual(['config c1', 'config c2']);
  agent.apply([
    { kind: 'secret', key: 's1', value: null },
    { kind: 'config', key: 'c1', value: null },
  ]);
  expect(kinds()).toEqual(['config c2']);
});

test('a secret that a manager does not know rejects the task, by its name', async () => {
  await start();
  agent.replace([task(SECRET)]);
  await settle();
  expect(last()).toBe('rejected: secret pw does not exist any more');
  expect(engine.containers.size).toBe(0);
});

test('after a restart without a manager: what runs keeps its files, a task that did not start waits, then starts', async () => {
  await start();
  agent.replace([told('secret', 's1', 'hunter2'), task(SECRET, TaskState.READY)]);
  await settle();
  await restart();
  await clock.advance(60_000);
  expect(files.there.get('t1')).toEqual({ '/run/secrets/x': 'hunter2' });

  agent.replace([]);
  await settle();
  expect([...files.there]).toEqual([]);
  // Assigned, and the daemon dies before anything was prepared.
  memory.replace([task(SECRET)]);
  await restart();
  await clock.advance(60_000);
  expect(engine.containers.size).toBe(0);
  agent.replace([told('secret', 's1', 'hunter2'), task(SECRET)]);
  await settle();
  expect(last()).toBe('running');
});

test.each<[string, Partial<ContainerSpec>, string]>([
  ['with a config starts again: its files are made anew', CONFIG, 'running'],
  ['with a secret waits for a manager', SECRET, 'exited'],
])('after a reboot of the host without a manager, a task %s', async (_, spec, state) => {
  await start();
  agent.replace([told('secret', 's1', 'hunter2'), told('config', 'c1', 'settings'), task(spec)]);
  await settle();
  engine.powerCut();
  files.there.clear();
  engine.comeBack();
  await restart('boot2');
  await clock.advance(60_000);
  expect(engine.containerOf('t1').state).toBe(state);
  expect(files.there.has('t1')).toBe(state === 'running');
  if (state === 'running') return;
  agent.replace([told('secret', 's1', 'hunter2'), task(spec)]);
  await settle();
  expect(last()).toMatch(/^failed: .*host/i);
});

test('files of tasks that nobody knows any more are removed once a manager has spoken', async () => {
  await files.put('left', []);
  await start();
  await clock.advance(60_000);
  expect([...files.there.keys()]).toEqual(['left']);
  agent.replace([]);
  await settle();
  expect([...files.there.keys()]).toEqual([]);
});
