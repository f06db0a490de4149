import { createSecureServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import { TaskState } from '../model/states.ts';
import { Store } from '../store/store.ts';
import { FrameReader } from './frames.ts';
import type { Periods } from './liveness.ts';
import {
  descriptionOf,
  frame,
  hello,
  manager,
  network,
  newManager,
  node,
  putService,
  raw,
  running,
  service,
  task,
  type Manager,
} from './testbed.fixture.ts';

const until = <T>(fn: () => T) => vi.waitFor(fn, { timeout: 30_000, interval: 5 });

let m: Manager;
beforeEach(async () => {
  m = await newManager();
});
afterEach(() => m.close());

/** Makes tasks that do not go to their agent all at once: of 20 kB each, 6 MB together. Returns their ids. */
async function heavyTasks(store: Store, nodeId: string): Promise<string[]> {
  const web = service('web');
  web.spec.TaskTemplate.ContainerSpec!.Env = ['x'.repeat(20_000)];
  const ids = Array.from({ length: 300 }, (_, i) => `t${i}`);
  await store.update((tx) => {
    putService(tx, web);
    for (const id of ids) tx.tasks.create(task(id, 'web', nodeId));
  });
  return ids;
}

const nodeState = (id: string) => m.store.view((view) => view.nodes.get(id)?.status.state);

describe('a session', () => {
  test('makes the node ready, gives it all its facts at once, and then what changes', async () => {
    const identity = await m.certify();
    const { nodeId } = identity;
    await m.store.update((tx) => {
      tx.networks.create(network('net'));
      putService(tx, service('web', ['net']));
      tx.nodes.update(node(nodeId, { net: '10.0.0.9' }));
      tx.tasks.create(task('t1', 'web', nodeId, ['net']));
    });
    const { memory, session } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    expect([...memory.facts.keys()].sort()).toEqual(['endpoint net/t1', 'network net', 'service net/web', 'task t1']);
    expect(memory.facts.get('task t1')).toMatchObject({
      serviceName: 'web',
      spec: { ContainerSpec: { Image: 'web' } },
    });
    expect(memory.facts.get('service net/web')).toMatchObject({ vip: '10.0.0.2', aliases: ['web-alias'], ports: [] });
    const row = m.store.view((view) => view.nodes.get(nodeId))!;
    expect(row.status).toMatchObject({ state: 'ready', address: '127.0.0.1' });
    expect(row.description?.hostname).toBe(`host-${nodeId.slice(0, 4)}`);
    expect(session.state()).toEqual({ phase: 'connected', manager: m.address, error: '' });

    await m.store.update((tx) => tx.tasks.create(task('t2', 'web', nodeId)));
    await until(() => expect(memory.facts.has('task t2')).toBe(true));
    await m.store.update((tx) => tx.tasks.remove('t1'));
    await until(() => expect([...memory.facts.keys()].sort()).toEqual(['network net', 'service net/web', 'task t2']));
    expect(memory.replaced).toBe(1);
  });

  test('stores what the agent saw of its own tasks, upwards only, and answers when it is stored', async () => {
    const [mine, theirs] = [await m.certify(), await m.certify()];
    await m.store.update((tx) => {
      putService(tx, service('web'));
      tx.tasks.create(task('t1', 'web', mine.nodeId));
      tx.tasks.create(task('t2', 'web', theirs.nodeId));
    });
    const { memory, session } = m.agent(mine);
    await until(() => expect(memory.replaced).toBe(1));
    await session.report([running('t1'), running('t2'), running('unknown')]);
    const states = () => m.store.view((view) => ['t1', 't2'].map((id) => view.tasks.get(id)!.status.state));
    expect(states()).toEqual([TaskState.RUNNING, TaskState.ASSIGNED]);
    expect(m.store.view((view) => view.tasks.get('t1')!.status.container)).toEqual({ id: 'c1', pid: 7 });
    await session.report([running('t1', TaskState.STARTING)]);
    expect(states()[0]).toBe(TaskState.RUNNING);
    await Promise.all(Array.from({ length: 50 }, () => session.report([running('t1', TaskState.FAILED)])));
    expect(states()[0]).toBe(TaskState.FAILED);
    // Nothing but the end of it was news to the agent, whose status this is.
    expect(session.state().phase).toBe('connected');
  });

  test('texts of any length are reported, cut', async () => {
    const identity = await m.certify();
    await m.store.update((tx) => {
      putService(tx, service('web'));
      tx.tasks.create(task('t1', 'web', identity.nodeId));
    });
    const { memory, session } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    const long = running('t1', TaskState.REJECTED);
    long.status.error = 'x'.repeat(100_000);
    await session.report([long]);
    expect(m.store.view((view) => view.tasks.get('t1')!.status.error)).toHaveLength(4096);
  });

  test('ten thousand facts arrive whole, in frames of bounded size', async () => {
    const identity = await m.certify();
    await m.store.update((tx) => {
      putService(tx, service('web'));
      for (let i = 0; i < 10_000; i++) tx.tasks.create(task(`t${i}`, 'web', identity.nodeId));
    });
    const { memory } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    expect(memory.facts.size).toBe(10_000);
  });

  test('what of the full assignment has to wait for room is told as it is by then', async () => {
    const identity = await m.certify();
    const ids = await heavyTasks(m.store, identity.nodeId);
    const { stream, connection, answer } = await raw(m.address, identity);
    stream.write(hello(identity.nodeId));
    await answer;
    await m.store.update((tx) => {
      for (const id of ids) tx.tasks.update({ ...tx.tasks.get(id)!, desiredState: TaskState.SHUTDOWN });
    });
    const reader = new FrameReader(1e8);
    const told: TaskState[] = [];
    let isWhole = false;
    stream.on('data', (chunk: Buffer) => {
      for (const message of reader.push(chunk) as Iterable<{
        type: string;
        changes: { value: { desiredState: TaskState } }[];
      }>) {
        if (message.type === 'assignment') told.push(...message.changes.map(({ value }) => value.desiredState));
        isWhole ||= message.type === 'complete';
      }
    });
    await until(() => expect(isWhole).toBe(true));
    expect(told).toHaveLength(ids.length);
    expect(told[0]).toBe(TaskState.RUNNING);
    expect(told.at(-1)).toBe(TaskState.SHUTDOWN);
    connection.destroy();
  });

  test('an agent that does not read costs bounded memory, and finds the newest when it reads again', async () => {
    const own = await newManager({ flushMs: 0 });
    const identity = await own.certify();
    const { stream, connection, answer } = await raw(own.address, identity);
    stream.write(hello(identity.nodeId));
    await answer;
    const ids = await heavyTasks(own.store, identity.nodeId);
    const rounds = 20;
    for (let round = 1; round <= rounds; round++) {
      await own.store.update((tx) => {
        const desiredState =
          round === rounds ? TaskState.SHUTDOWN : round % 2 === 0 ? TaskState.RUNNING : TaskState.READY;
        for (const id of ids) tx.tasks.update({ ...tx.tasks.get(id)!, desiredState });
      });
      // There and back again: the manager had its turn to send this round.
      await new Promise((resolve) => connection.ping(resolve));
      await new Promise((resolve) => connection.ping(resolve));
    }
    const reader = new FrameReader(1e8);
    const newest = new Map<string, TaskState>();
    let sent = 0;
    stream.on('data', (chunk: Buffer) => {
      sent += chunk.length;
      for (const message of reader.push(chunk) as Iterable<{
        type: string;
        changes: { key: string; value: { desiredState: TaskState } }[];
      }>) {
        if (message.type === 'changes')
          for (const { key, value } of message.changes) newest.set(key, value.desiredState);
      }
    });
    await until(() => expect(ids.filter((id) => newest.get(id) === TaskState.SHUTDOWN)).toHaveLength(ids.length));
    // Every round of all tasks would be 20 × 6 MB.
    expect(sent).toBeLessThan(12_000_000);
    connection.destroy();
    await own.close();
  });

  test('a new description is stored, all of it', async () => {
    const identity = await m.certify();
    let hostname = 'before';
    const { memory, session } = m.agent(identity);
    const generic = [
      { NamedResourceSpec: { Kind: 'gpu', Value: 'a' } },
      { DiscreteResourceSpec: { Kind: 'ssd', Value: 3 } },
    ];
    const described = () => {
      const plain = descriptionOf(hostname);
      return { ...plain, resources: { ...plain.resources, generic } };
    };
    memory.description = described;
    await until(() => expect(memory.replaced).toBe(1));
    hostname = 'after';
    session.describe();
    await until(() =>
      expect(m.store.view((view) => view.nodes.get(identity.nodeId)!.description)).toMatchObject(described()),
    );
  });

  test('a second session of a node replaces the first', async () => {
    const identity = await m.certify();
    const first = await raw(m.address, identity);
    first.stream.write(hello(identity.nodeId));
    expect((await first.answer).status).toBe(200);
    const reader = new FrameReader(1e6);
    const heard: unknown[] = [];
    first.stream.on('data', (chunk: Buffer) => heard.push(...reader.push(chunk)));
    const { memory } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    await until(() => expect(heard.at(-1)).toMatchObject({ type: 'end', reason: 'replaced' }));
    expect(nodeState(identity.nodeId)).toBe('ready');
    first.connection.destroy();
  });

  test('a removed node loses its session at once, and is refused afterwards', async () => {
    const identity = await m.certify();
    await m.store.update((tx) => {
      putService(tx, service('web'));
      tx.tasks.create(task('t1', 'web', identity.nodeId));
    });
    const { memory, session } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    await m.store.update((tx) => tx.nodes.remove(identity.nodeId));
    await until(() =>
      expect(session.state()).toMatchObject({ phase: 'removed', error: 'node is not part of this cluster any more' }),
    );
    await expect(session.report([running('t1')])).rejects.toThrow('no session');
    expect(m.store.view((view) => view.nodes.get(identity.nodeId))).toBeUndefined();
    const again = await raw(m.address, identity);
    again.stream.write(hello(identity.nodeId));
    expect(await again.answer).toEqual({ status: 410, body: { message: 'node is not part of this cluster any more' } });
    again.connection.destroy();
  });

  test('comes back by itself when the manager is restarted; the node is unknown until then and never down', async () => {
    const identity = await m.certify();
    const { memory, session } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    const states = new Set<string>();
    m.store.watch((events) => {
      for (const event of events) if (event.table === 'nodes' && event.after) states.add(event.after.status.state);
    });
    const { store, port } = m;
    await m.server.close();
    await until(() => expect(session.state().phase).toBe('connecting'));
    await expect(session.report([running('t1')])).rejects.toThrow('no session');
    const second = await manager({ store, port });
    await until(() => expect(memory.replaced).toBe(2));
    expect(nodeState(identity.nodeId)).toBe('ready');
    expect([...states].sort()).toEqual(['ready', 'unknown']);
    await session.close();
    await second.close();
  });

  test('a report that is not stored when the session ends is rejected, for the agent to repeat', async () => {
    const journal = new MemoryJournal();
    const own = await manager({ store: await Store.open(journal) });
    const { memory, session } = own.agent(await own.certify());
    await until(() => expect(memory.replaced).toBe(1));
    const stalled = Promise.withResolvers<void>();
    const commit = journal.commit.bind(journal);
    journal.commit = async (transactions) => {
      await stalled.promise;
      await commit(transactions);
    };
    void own.store.update((tx) => tx.nodes.create(node('other')));
    const report = session.report([running('t1')]);
    report.catch(() => {}); // looked at below
    await own.server.close();
    await expect(report).rejects.toThrow('the manager is stopping');
    stalled.resolve();
    await own.close();
  });
});

describe('liveness', () => {
  async function within(periods: Partial<Periods>): Promise<void> {
    await m.close();
    m = await newManager({ periods });
  }

  test('a silent node is down when its time is over, although its connection stands', async () => {
    await within({ heartbeatMs: 50, silenceMs: 250, returnMs: 60_000 });
    const identity = await m.certify();
    const { stream, connection, answer } = await raw(m.address, identity);
    stream.write(hello(identity.nodeId));
    expect((await answer).status).toBe(200);
    await until(() => expect(nodeState(identity.nodeId)).toBe('down'));
    expect(m.store.view((view) => view.nodes.get(identity.nodeId)!.status.message)).toBe('heartbeat failure');
    connection.destroy();
  });

  test('a node whose connection was closed has longer, with or without a goodbye', async () => {
    await within({ silenceMs: 60_000, returnMs: 1_000 });
    for (const goodbye of [true, false]) {
      const identity = await m.certify();
      const { stream, connection, answer } = await raw(m.address, identity);
      stream.write(hello(identity.nodeId));
      expect((await answer).status).toBe(200);
      const since = performance.now();
      if (goodbye) stream.write(frame({ type: 'goodbye' }));
      else connection.destroy();
      await until(() => expect(nodeState(identity.nodeId)).toBe('down'));
      expect(performance.now() - since).toBeGreaterThan(900);
      connection.destroy();
    }
  });

  test('a node that leaves the cluster is down at once, and says why', async () => {
    const identity = await m.certify();
    const { memory, session } = m.agent(identity);
    await until(() => expect(memory.replaced).toBe(1));
    await session.close({ left: true });
    await until(() => expect(nodeState(identity.nodeId)).toBe('down'));
    expect(m.store.view((view) => view.nodes.get(identity.nodeId)!.status.message)).toBe('left');
  });

  test('an agent turns away from a manager that cannot be reached, and from one that falls silent', async () => {
    const { certificate, key } = await m.certify('manager', false);
    const silent = createSecureServer({ cert: certificate, key });
    let sessions = 0;
    silent.on('stream', (stream) => {
      sessions += 1;
      stream.on('error', () => {});
      stream.respond({ ':status': 200 });
      stream.write(frame({ type: 'welcome', sessionId: 's', managers: [], heartbeatMs: 50, timeoutMs: 300 }));
    });
    const port = await new Promise<number>((resolve) => {
      silent.listen(0, '127.0.0.1', () => resolve((silent.address() as AddressInfo).port));
    });
    const { memory, session } = m.agent(await m.certify(), {
      addresses: ['127.0.0.1:1', `127.0.0.1:${port}`, m.address],
    });
    await until(() => expect(memory.replaced).toBe(1));
    expect(session.state().manager).toBe(m.address);
    expect(sessions).toBe(1);
    silent.close();
  });

  test('an agent speaks to no one whose certificate is not that of a manager of its cluster', async () => {
    const other = await newManager();
    for (const { certificate, key } of [await m.certify('worker'), await other.certify('manager')]) {
      const impostor = createSecureServer({ cert: certificate, key });
      let heard = 0;
      impostor.on('stream', () => (heard += 1));
      const port = await new Promise<number>((resolve) => {
        impostor.listen(0, '127.0.0.1', () => resolve((impostor.address() as AddressInfo).port));
      });
      const { session } = m.agent(await m.certify(), { addresses: [`127.0.0.1:${port}`] });
      await until(() =>
        expect(session.state().error).toMatch(/not a manager|certificate signature|self-signed|unable to/),
      );
      expect(heard).toBe(0);
      await session.close();
      impostor.close();
    }
    await other.close();
  });
});
