/** The agent's part in single containers in overlays, with an engine, a network and a manager that the test plays. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EngineUnreachable } from '../docker/errors.ts';
import type { ConnectedContainer, InspectedContainer } from '../engine/connected-containers.ts';
import type { AssignmentChange, AttachmentAssignment } from '../model/assignments.ts';
import { silentLog } from '../model/clock.ts';
import type { AttachedContainer } from '../model/objects.ts';
import { engineNetworkName } from '../network/names.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { Attachments } from './attachments.ts';
import type { AttachmentRegistry, NodeNetworkPort, RunningTask } from './ports.ts';

const APP = engineNetworkName('n1', { id: 'app', ingress: false, internal: false });
const networkFact = (id: string): AssignmentChange => ({
  kind: 'network',
  key: id,
  value: {
    id,
    name: id,
    environment: 'default',
    subnet: '10.1.0.0/24',
    gateway: '10.1.0.2',
    vni: 5000,
    dataPathPort: 4789,
    ingress: false,
    internal: false,
    labels: {},
    options: {},
  },
});
const fact = (id: string, address: string, container?: AttachedContainer): AssignmentChange => {
  const value: AttachmentAssignment = { id, networkId: 'app', address, aliases: [], ...(container && { container }) };
  return { kind: 'attachment', key: id, value };
};

/** An engine with the containers that a test puts into it. */
class FakeContainers {
  readonly all = new Map<string, InspectedContainer>();
  away = false;
  #hints: ((id: string) => void) | undefined;

  put(containerId: string, more: Partial<InspectedContainer> & { address?: string } = {}): void {
    const { address, ...rest } = more;
    const endpoints = address === undefined ? [] : [{ engineNetwork: APP, address }];
    this.all.set(containerId, {
      containerId,
      name: `${containerId}-name`,
      running: true,
      pid: 7,
      nameServers: ['10.1.0.2'],
      endpoints,
      ...rest,
    });
    this.#hints?.(containerId);
  }

  drop(containerId: string): void {
    this.all.delete(containerId);
    this.#hints?.(containerId);
  }

  async list(engineNetworks: readonly string[]): Promise<ConnectedContainer[]> {
    if (this.away) throw new EngineUnreachable('away');
    return [...this.all.values()].filter(({ endpoints }) =>
      endpoints.some((each) => engineNetworks.includes(each.engineNetwork)),
    );
  }

  async inspect(containerId: string): Promise<InspectedContainer | undefined> {
    if (this.away) throw new EngineUnreachable('away');
    return this.all.get(containerId);
  }

  async watch(signal: AbortSignal): Promise<AsyncIterable<string>> {
    const queue: string[] = [];
    let wake = Promise.withResolvers<void>();
    this.#hints = (id) => {
      queue.push(id);
      wake.resolve();
    };
    signal.addEventListener('abort', () => wake.resolve());
    return (async function* () {
      while (!signal.aborted) {
        while (queue.length > 0) yield queue.shift()!;
        await wake.promise;
        wake = Promise.withResolvers<void>();
      }
    })();
  }
}

/** A manager that gives addresses, and the facts that it sends back. */
class FakeRegistry implements AttachmentRegistry {
  readonly rows = new Map<string, { address: string; container?: AttachedContainer }>();
  refusal: Error | undefined;
  away = false;
  attachments!: Attachments;

  async attach({
    id,
    wantedAddress,
  }: {
    id: string;
    wantedAddress?: string;
  }): Promise<{ networkId: string; address: string }> {
    if (this.refusal !== undefined) throw this.refusal;
    const address = wantedAddress ?? `10.1.0.${this.rows.size + 10}`;
    this.rows.set(id, { address });
    this.attachments.apply([fact(id, address)]);
    return { networkId: 'app', address };
  }

  async seen(containers: { id: string; container: AttachedContainer }[]): Promise<void> {
    if (this.away) throw new Error('there is no session');
    for (const { id, container } of containers) {
      const row = this.rows.get(id)!;
      this.rows.set(id, { ...row, container });
      this.attachments.apply([fact(id, row.address, container)]);
    }
  }

  async release(ids: string[]): Promise<void> {
    if (this.away) throw new Error('there is no session');
    for (const id of ids) {
      this.rows.delete(id);
      this.attachments.apply([{ kind: 'attachment', key: id, value: null }]);
    }
  }
}

let containers: FakeContainers;
let registry: FakeRegistry;
let clock: FakeClock;
let attachments: Attachments;
/** Containers whose rules stand, with what they were made for. */
let standing: Map<string, RunningTask>;
let ready: boolean;
/** Its process has ended, and the engine does not know yet. */
let ended: boolean;

beforeEach(() => {
  containers = new FakeContainers();
  registry = new FakeRegistry();
  clock = new FakeClock();
  standing = new Map();
  ready = true;
  ended = false;
  const network: Pick<NodeNetworkPort, 'prepare' | 'expect' | 'attach' | 'detach'> = {
    prepare: async () => {
      if (!ready) throw new Error('network app is not ready');
      return { engineNetwork: APP, gateway: '10.1.0.2' };
    },
    expect: async () => {},
    attach: async (task) => {
      if (ended) return 'ended';
      standing.set(task.taskId, task);
      return 'attached';
    },
    detach: async (taskId) => void standing.delete(taskId),
  };
  let seed = 1;
  attachments = new Attachments({
    nodeId: 'n1',
    containers,
    network: network as NodeNetworkPort,
    registry,
    hostNameServers: async () => ['192.0.2.53', '127.0.0.1'],
    clock,
    random: () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647,
    log: silentLog,
  });
  registry.attachments = attachments;
});
afterEach(() => attachments.stop());

const begin = async (...facts: AssignmentChange[]): Promise<void> => {
  attachments.start();
  attachments.replace([networkFact('app'), ...facts]);
  await clock.advance(0);
};
const request = { environment: 'default', network: 'app', aliases: [] };
const rows = () => [...registry.rows.values()];

test('made, started, ended, removed: rules while it runs, the manager hears of each, the address goes back', async () => {
  await begin();
  const reservation = await attachments.reserve(request);
  expect(reservation).toMatchObject({
    networkId: 'app',
    address: '10.1.0.10',
    engineNetwork: APP,
    gateway: '10.1.0.2',
  });
  containers.put('c', { address: '10.1.0.10', running: false, pid: 0 });
  await attachments.settled([reservation], 'c');
  expect([rows(), standing.size]).toEqual([
    [{ address: '10.1.0.10', container: { id: 'c', name: 'c-name', running: false } }],
    0,
  ]);
  ended = true;
  containers.put('c', { address: '10.1.0.10', pid: 6 });
  await clock.advance(0);
  expect(standing.size).toBe(0);
  ended = false;
  containers.put('c', { address: '10.1.0.10' });
  await clock.advance(0);
  expect(standing.get('c')).toMatchObject({
    pid: 7,
    published: false,
    networks: [{ networkId: 'app', address: '10.1.0.10' }],
    nameServers: { instead: [] },
  });
  expect(rows()[0]!.container!.running).toBe(true);
  // The engine restarted it by itself, in another namespace.
  containers.put('c', { address: '10.1.0.10', pid: 8, name: 'renamed' });
  await clock.advance(0);
  expect([standing.get('c')!.pid, rows()[0]!.container!.name]).toEqual([8, 'renamed']);
  containers.put('c', { address: '10.1.0.10', running: false, pid: 0 });
  await clock.advance(0);
  expect([standing.size, rows()[0]!.container!.running]).toEqual([0, false]);
  containers.drop('c');
  await clock.advance(0);
  expect(rows()).toEqual([]);
});

test('one that asks other name servers is led to ours, until it is taken out of the last network', async () => {
  await begin();
  containers.put('c', { nameServers: [] });
  const reservation = await attachments.reserve(request);
  containers.put('c', { nameServers: [], address: reservation.address });
  await attachments.settled([reservation], 'c');
  expect(standing.get('c')!.nameServers).toEqual({ gateway: '10.1.0.2', instead: ['192.0.2.53'] });
  const undone = Promise.withResolvers<RunningTask>();
  standing.set = (_id, task) => (undone.resolve(task), standing);
  containers.put('c', { nameServers: [] });
  expect(await undone.promise).toMatchObject({ networks: [], nameServers: { instead: [] } });
  await clock.advance(0);
  expect(rows()).toEqual([]);
});

test('a container that could not be made leaves nothing; nor does a network that does not come up', async () => {
  await begin();
  await attachments.settled([await attachments.reserve(request)], undefined);
  expect(rows()).toEqual([]);
  registry.refusal = new Error('no');
  await expect(attachments.reserve(request)).rejects.toThrow('no');
  registry.refusal = undefined;
  ready = false;
  const reserving = attachments.reserve(request).catch((error: Error) => error.message);
  for (let i = 0; i < 100; i++) await clock.advance(250);
  expect(await reserving).toBe('network app is not ready');
  expect(rows()).toEqual([]);
});

test('a session that is away for a moment is waited for, one that stays away is not', async () => {
  const lost = Object.assign(new Error('there is no session with a manager'), { name: 'SessionLost' });
  await begin();
  registry.refusal = lost;
  const reserving = attachments.reserve(request);
  await clock.advance(3_000);
  registry.refusal = undefined;
  attachments.replace([networkFact('app')]);
  await clock.advance(0);
  expect((await reserving).networkId).toBe('app');
  registry.refusal = lost;
  const refused = attachments.reserve(request).catch((error: Error) => error.message);
  for (let i = 0; i < 41; i++) await clock.advance(250);
  expect(await refused).toBe(lost.message);
});

test('after a crash: what runs gets its rules, what is gone goes back, what is being made stays', async () => {
  containers.put('runs', { address: '10.1.0.20' });
  containers.put('stopped', { address: '10.1.0.21', running: false, pid: 0 });
  for (const [id, address] of [
    ['a', '10.1.0.20'],
    ['b', '10.1.0.21'],
    ['gone', '10.1.0.22'],
  ] as const)
    registry.rows.set(id, { address });
  await begin(...[...registry.rows].map(([id, { address }]) => fact(id, address)));
  await clock.advance(0);
  expect([...standing.keys()]).toEqual(['runs']);
  expect(Object.fromEntries([...registry.rows].map(([id, { container }]) => [id, container?.id]))).toEqual({
    a: 'runs',
    b: 'stopped',
  });
  const reservation = await attachments.reserve(request);
  await clock.advance(60_000);
  expect(registry.rows.has(reservation.id)).toBe(true);
});

test('what could not be told, or seen, is made up for later', async () => {
  await begin();
  const reservation = await attachments.reserve(request);
  containers.put('c', { address: reservation.address });
  await attachments.settled([reservation], 'c');
  registry.away = true;
  containers.drop('c');
  await clock.advance(0);
  expect(rows()).toHaveLength(1);
  registry.away = false;
  containers.away = true;
  attachments.replace([networkFact('app'), fact(reservation.id, reservation.address, rows()[0]!.container)]);
  await clock.advance(0);
  expect(rows()).toHaveLength(1);
  containers.away = false;
  await clock.advance(30_000);
  expect(rows()).toEqual([]);
});
