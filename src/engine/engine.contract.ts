/** What every Engine must do: run on the twin and on a real engine. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { TaskAssignment } from '../model/assignments.ts';
import { newId } from '../model/ids.ts';
import type { ContainerSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import type { ContainerStatus, Engine, TaskPlace } from './engine.ts';

/** What the suite's containers are to do; each keeper has its own way to have them do it. */
export type Kind =
  | 'runs'
  | 'exits 3'
  | 'ignores the stop signal'
  | 'turns healthy'
  | 'turns unhealthy'
  | 'cannot start';

export interface Harness {
  engine: Engine;
  /** Image, command and check that behave so. */
  container(kind: Kind): ContainerSpec;
  /** An image that nobody has. */
  missingImage: string;
  /** The engine goes away and comes back, its containers running on. */
  goAway(): Promise<void>;
  comeBack(): Promise<void>;
}

export function task(nodeId: string, spec: ContainerSpec, more: Partial<TaskAssignment> = {}): TaskAssignment {
  return {
    id: newId(Math.random),
    environment: 'default',
    serviceId: 'service',
    serviceName: 'web',
    serviceLabels: {},
    slot: 1,
    nodeId,
    desiredState: TaskState.RUNNING,
    spec: { ContainerSpec: spec },
    networks: [],
    hostPorts: [],
    status: { timestamp: '2026-01-01T00:00:00.000Z', state: TaskState.ASSIGNED, message: '' },
    ...more,
  };
}

export function describeEngineContract(name: string, harness: () => Harness): void {
  describe(`the contract of ${name}`, () => {
    const nodeId = newId(Math.random);
    const place: TaskPlace = {
      node: { id: nodeId, hostname: 'h1', platform: { os: 'linux', architecture: 'x86_64' } },
      attachments: [],
    };
    let h: Harness;
    let engine: Engine;
    let watching: AbortController;

    beforeEach(() => {
      h = harness();
      engine = h.engine;
      watching = new AbortController();
    });

    afterEach(async () => {
      watching.abort(new Error('test over'));
      for (const { containerId } of await engine.list(nodeId)) await engine.remove(containerId);
    });

    async function created(kind: Kind): Promise<{ made: TaskAssignment; containerId: string }> {
      const made = task(nodeId, h.container(kind));
      await engine.ensureImage(made.spec.ContainerSpec?.Image ?? '');
      return { made, containerId: await engine.create(made, place) };
    }

    /** Inspects at each hint until it is so; the test's own time limit ends a wait that never ends. */
    async function until(
      containerId: string,
      hints: AsyncIterable<string>,
      so: (status: ContainerStatus | undefined) => boolean,
    ): Promise<ContainerStatus | undefined> {
      const iterator = hints[Symbol.asyncIterator]();
      for (;;) {
        const status = await engine.inspect(containerId);
        if (so(status)) return status;
        if ((await iterator.next()).done === true) throw new Error('the engine went away');
      }
    }

    test('describes its host', async () => {
      const { hostname, platform, resources, engine: described } = await engine.describe();
      expect(hostname).not.toBe('');
      expect(platform).toEqual({ OS: 'linux', Architecture: expect.any(String) });
      expect(resources.nanoCpus).toBeGreaterThanOrEqual(1e9);
      expect(resources.memoryBytes).toBeGreaterThan(1e6);
      expect(described.version).toMatch(/^\d+\.\d+/);
    });

    test('an image that nobody has is an error with its name', async () => {
      await expect(engine.ensureImage(h.missingImage)).rejects.toThrow(`No such image: ${h.missingImage}`);
    });

    test('create, start, stop, remove: each state is seen, in the list too', async () => {
      const { made, containerId } = await created('runs');
      expect(await engine.inspect(containerId)).toMatchObject({
        taskId: made.id,
        state: 'created',
        pid: 0,
        health: 'none',
      });
      await engine.start(containerId);
      const running = await engine.inspect(containerId);
      expect(running).toMatchObject({ state: 'running', error: '' });
      expect(running?.pid).toBeGreaterThan(0);
      expect(await engine.list(nodeId)).toEqual([{ containerId, taskId: made.id, state: 'running' }]);
      await engine.stop(containerId);
      expect(await engine.inspect(containerId)).toMatchObject({ state: 'exited', pid: 0 });
      expect(await engine.list(nodeId)).toMatchObject([{ state: 'exited' }]);
      await engine.remove(containerId);
      expect(await engine.inspect(containerId)).toBeUndefined();
      expect(await engine.list(nodeId)).toEqual([]);
    });

    test('every step may be repeated', async () => {
      const { containerId } = await created('runs');
      await engine.start(containerId);
      const pid = (await engine.inspect(containerId))?.pid;
      await engine.start(containerId);
      expect((await engine.inspect(containerId))?.pid).toBe(pid);
      await engine.stop(containerId);
      await engine.stop(containerId);
      await engine.kill(containerId, 'SIGKILL');
      await engine.remove(containerId);
      await engine.remove(containerId);
      await engine.stop(containerId);
      await engine.kill(containerId, 'SIGKILL');
    });

    test('a create that is repeated replaces what never ran, and refuses to replace what runs', async () => {
      const { made, containerId } = await created('runs');
      const second = await engine.create(made, place);
      expect(second).not.toBe(containerId);
      expect(await engine.list(nodeId)).toMatchObject([{ containerId: second }]);
      await engine.start(second);
      await expect(engine.create(made, place)).rejects.toThrow(/already in use/);
      expect(await engine.inspect(second)).toMatchObject({ state: 'running' });
    });

    test('a container that exits is hinted at, with its exit code', async () => {
      const hints = await engine.watch(nodeId, watching.signal);
      const { containerId } = await created('exits 3');
      await engine.start(containerId);
      const status = await until(containerId, hints, (seen) => seen?.state === 'exited');
      expect(status).toMatchObject({ exitCode: 3, oomKilled: false, pid: 0 });
    });

    test('a start is hinted at', async () => {
      const hints = await engine.watch(nodeId, watching.signal);
      const { containerId } = await created('runs');
      await engine.start(containerId);
      expect(await until(containerId, hints, (seen) => seen?.state === 'running')).toMatchObject({ health: 'none' });
    });

    test('a container that is removed while it is being started runs no more', async () => {
      const { containerId } = await created('runs');
      const starting = engine.start(containerId).then(() => 'started', String);
      await engine.remove(containerId);
      // Whichever came first: it started and was ended, or it was not there any more.
      expect(await starting).toMatch(/^started$|No such container|marked for removal/);
      expect(await engine.list(nodeId)).toEqual([]);
    });

    test('a health check is hinted at when it decides', async () => {
      const hints = await engine.watch(nodeId, watching.signal);
      for (const health of ['healthy', 'unhealthy'] as const) {
        const { containerId } = await created(`turns ${health}`);
        await engine.start(containerId);
        const status = await until(containerId, hints, (seen) => seen?.health !== 'starting');
        expect(status).toMatchObject({ state: 'running', health });
        expect(status?.healthOutput?.trim()).toBe(health === 'unhealthy' ? 'no answer' : undefined);
      }
    });

    test('a removal from outside is hinted at', async () => {
      const hints = await engine.watch(nodeId, watching.signal);
      const { containerId } = await created('runs');
      await engine.start(containerId);
      await engine.remove(containerId);
      expect(await until(containerId, hints, (seen) => seen === undefined)).toBeUndefined();
    });

    test('the end of the signal ends the watching', async () => {
      const hints = await engine.watch(nodeId, watching.signal);
      const ending = endOf(hints);
      watching.abort(new Error('enough'));
      await expect(ending).resolves.toBe('ended');
    });

    test('a stop signal that is ignored ends in a kill after the grace period', async () => {
      const { containerId } = await created('ignores the stop signal');
      await engine.start(containerId);
      await engine.stop(containerId);
      expect(await engine.inspect(containerId)).toMatchObject({ state: 'exited' });
    });

    test('kill ends it at once', async () => {
      const hints = await engine.watch(nodeId, watching.signal);
      const { containerId } = await created('runs');
      await engine.start(containerId);
      await engine.kill(containerId, 'SIGKILL');
      const status = await until(containerId, hints, (seen) => seen?.state === 'exited');
      expect(status?.exitCode).toBe(137);
    });

    test('what cannot start says why, and has an exit code', async () => {
      const { containerId } = await created('cannot start');
      await expect(engine.start(containerId)).rejects.toThrow(/executable file not found|no such file/);
      expect(await engine.inspect(containerId)).toMatchObject({ state: 'created', exitCode: 127 });
    });

    test('a spec that cannot be translated is refused before anything is made', async () => {
      const bad = task(nodeId, { ...h.container('runs'), Hostname: '{{.Nonsense}}' });
      await expect(engine.create(bad, place)).rejects.toThrow(/bad template/);
      expect(await engine.list(nodeId)).toEqual([]);
    });

    test('an engine that went away is unreachable, its watch ends, and it knows its containers when it is back', async () => {
      const hints = await engine.watch(nodeId, watching.signal);
      const { containerId } = await created('runs');
      await engine.start(containerId);
      const pid = (await engine.inspect(containerId))?.pid;
      const ending = endOf(hints);
      await h.goAway();
      await expect(ending).resolves.toBe('ended');
      await expect(engine.inspect(containerId)).rejects.toThrow(/Cannot connect to the Docker daemon/);
      await h.comeBack();
      expect(await engine.inspect(containerId)).toMatchObject({ state: 'running', pid });
    });
  });
}

/** Settles when no more hints come, by an end or an error. */
async function endOf(hints: AsyncIterable<string>): Promise<'ended'> {
  const iterator = hints[Symbol.asyncIterator]();
  const next = (): Promise<boolean> =>
    iterator.next().then(
      ({ done }) => done !== true,
      () => false,
    );
  while (await next());
  return 'ended';
}
