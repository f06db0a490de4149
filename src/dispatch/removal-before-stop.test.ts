/** When an agent is told that it may stop a task: sessions over real TLS, kernels that take their time when told to. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import type { EndpointAssignment, TaskAssignment } from '../model/assignments.ts';
import { TaskState } from '../model/states.ts';
import type { Identity } from '../pki/identity.ts';
import { Store } from '../store/store.ts';
import type { AgentSession } from './agent-session.ts';
import {
  descriptionOf,
  manager,
  network,
  node,
  putService,
  service,
  task,
  type Manager,
  type Memory,
} from './testbed.fixture.ts';

const until = <T>(fn: () => T) => vi.waitFor(fn, { timeout: 8_000, interval: 5 });

/** A node of the cluster. */
interface TestNode {
  id: string;
  identity: Identity;
  memory: Memory;
  session: AgentSession;
  /** The kernel takes its time from now on, until the function is called. */
  hold(): () => void;
  task(): TaskAssignment | undefined;
  serving(taskId?: string): boolean | undefined;
}

let m: Manager;
let nodes: TestNode[];

async function join(): Promise<TestNode> {
  const identity = await m.certify();
  const id = identity.nodeId;
  await m.store.update((tx) =>
    tx.nodes.update({ ...node(id, { net: `10.0.0.${nodes.length + 9}` }), description: descriptionOf(id) }),
  );
  const { memory, session } = m.agent(identity);
  const made: TestNode = {
    id,
    identity,
    memory,
    session,
    hold() {
      const { promise, resolve } = Promise.withResolvers<void>();
      memory.settled = () => promise;
      return resolve;
    },
    task: () => memory.facts.get('task t1') as TaskAssignment | undefined,
    serving: (taskId = 't1') => (memory.facts.get(`endpoint net/${taskId}`) as EndpointAssignment | undefined)?.serving,
  };
  nodes.push(made);
  return made;
}

/** t1 runs on the first node; all three balance it. */
beforeEach(async () => {
  m = await manager({ store: await Store.open(new MemoryJournal()) });
  nodes = [];
  await m.store.update((tx) => {
    tx.networks.create(network('net'));
    putService(tx, service('web', ['net']));
  });
  for (let i = 0; i < 3; i++) await join();
  await create('t1', ['net']);
  await vi.waitUntil(() => nodes.every((each) => each.serving()), { timeout: 8_000, interval: 5 });
});
afterEach(() => m.close());

const create = (id: string, networks: string[]) =>
  m.store.update((tx) => {
    const made = task(id, 'web', nodes[0]!.id, networks);
    tx.tasks.create({ ...made, status: { ...made.status, state: TaskState.RUNNING } });
  });
const end = (id = 't1', desiredState: TaskState = TaskState.SHUTDOWN) =>
  m.store.update((tx) => tx.tasks.update({ ...tx.tasks.get(id)!, desiredState }));
const isHeld = () => ({ desired: nodes[0]!.task()?.desiredState, balanced: nodes[0]!.task()?.balanced });
const HELD = { desired: TaskState.SHUTDOWN, balanced: true };
const FREE = { desired: TaskState.SHUTDOWN, balanced: undefined };

test('only when every node that balances it has taken it out, this one included', async () => {
  const releases = nodes.map((each) => each.hold());
  await end();
  await until(() => expect(nodes.map((each) => each.serving())).toEqual([false, false, false]));
  for (const release of releases) {
    await until(() => expect(isHeld()).toEqual(HELD));
    release();
  }
  await until(() => expect(isHeld()).toEqual(FREE));
});

test('after 2 s if a node does not say so', async () => {
  nodes[1]!.hold();
  const since = performance.now();
  await end();
  await until(() => expect(isHeld()).toEqual(HELD));
  await until(() => expect(isHeld()).toEqual(FREE));
  expect(performance.now() - since).toBeGreaterThan(1_900);
});

test('at once if nobody balances it', async () => {
  await create('t2', []);
  const told: (true | undefined)[] = [];
  const { memory } = nodes[0]!;
  const apply = memory.apply.bind(memory);
  memory.apply = (changes) => {
    apply(changes);
    const fact = memory.facts.get('task t2') as TaskAssignment;
    if (fact.desiredState === TaskState.SHUTDOWN) told.push(fact.balanced);
  };
  await until(() => expect(memory.facts.has('task t2')).toBe(true));
  for (const each of nodes) each.hold();
  await end('t2');
  await until(() => expect(told).toEqual([undefined]));
});

test('when the node that has not said so is taken for down', async () => {
  nodes[2]!.hold();
  await end();
  await until(() => expect(isHeld()).toEqual(HELD));
  await nodes[2]!.session.close();
  await m.store.update((tx) => {
    const row = tx.nodes.get(nodes[2]!.id)!;
    tx.nodes.update({ ...row, status: { ...row.status, state: 'down' } });
  });
  const since = performance.now();
  await until(() => expect(isHeld()).toEqual(FREE));
  expect(performance.now() - since).toBeLessThan(1_000);
});

test('when a node that was away for a moment has come back and taken it out', async () => {
  nodes[2]!.hold();
  await end();
  await until(() => expect(isHeld()).toEqual(HELD));
  await nodes[2]!.session.close();
  delete nodes[2]!.memory.settled;
  // Its certificate is still good: the same node, in another session.
  const { memory } = m.agent(nodes[2]!.identity);
  await until(() => expect(memory.replaced).toBe(1));
  await until(() => expect(isHeld()).toEqual(FREE));
});

test('also by a manager that has just begun', async () => {
  const release = nodes[1]!.hold();
  await end();
  await until(() => expect(isHeld()).toEqual(HELD));
  const { store, port } = m;
  await m.server.close();
  const replaced = nodes[0]!.memory.replaced;
  const second = await manager({ store, port });
  await until(() => expect(nodes.every((each) => each.memory.replaced > replaced)).toBe(true));
  expect(isHeld()).toEqual(HELD);
  release();
  await until(() => expect(isHeld()).toEqual(FREE));
  await second.close();
});

test('the one that takes its place is in before it is out, on every node', async () => {
  const seen = nodes.map((each) => {
    const states: string[] = [];
    const apply = each.memory.apply.bind(each.memory);
    each.memory.apply = (changes) => {
      apply(changes);
      states.push(`${each.serving('t1')} ${each.serving('t2')}`);
    };
    return states;
  });
  await m.store.update((tx) => tx.tasks.create(task('t2', 'web', nodes[0]!.id, ['net'])));
  await until(() => expect(nodes.map((each) => each.serving('t2'))).toEqual([false, false, false]));
  // As an update does it, start-first: one transaction sees the arrival, the next asks the old task to end.
  m.store.watch((events) => {
    const arrived = events.some(
      (event) => event.table === 'tasks' && event.after?.id === 't2' && event.after.status.state === TaskState.RUNNING,
    );
    if (arrived) void end();
  });
  await m.store.update((tx) => {
    const next = tx.tasks.get('t2')!;
    tx.tasks.update({ ...next, status: { ...next.status, state: TaskState.RUNNING } });
  });
  await until(() => expect(nodes.map((each) => each.serving('t1'))).toEqual([false, false, false]));
  for (const states of seen) {
    expect(states).not.toContain('false false');
    expect(states.at(-1)).toBe('false true');
  }
});
