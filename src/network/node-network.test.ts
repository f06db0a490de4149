/** What NodeNetwork does when the engine or the kernel does not: it says so, tries again, and gets there. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../model/clock.ts';
import type { AssignmentChange } from '../model/assignments.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { NodeNetwork } from './node-network.ts';
import type { EngineNetworks } from './overlay.ts';

let dataDir: string;
let clock: FakeClock;
let commands: string[];
let engineError: string | undefined;
let failing: RegExp | undefined;
/** Called with each command before it is over. */
let during: (command: string) => void;
let network: NodeNetwork;

const usual: EngineNetworks['ensure'] = ({ name }) =>
  engineError === undefined ? Promise.resolve(name) : Promise.reject(new Error(engineError));
let ensure = usual;

const engine: EngineNetworks = {
  ensure: (wanted) => ensure(wanted),
  list: () => Promise.resolve([]),
  remove: () => (engineError === undefined ? Promise.resolve() : Promise.reject(new Error(engineError))),
};

const app: AssignmentChange = {
  kind: 'network',
  key: 'app',
  value: {
    id: 'app',
    name: 'app',
    environment: 'default',
    subnet: '10.1.0.0/16',
    gateway: '10.1.0.1',
    vni: 5000,
    dataPathPort: 4789,
    ingress: false,
    internal: false,
    labels: {},
    options: {},
  },
};

const remote = (taskId: string, octet: number): AssignmentChange => ({
  kind: 'endpoint',
  key: `app/${taskId}`,
  value: {
    networkId: 'app',
    taskId,
    serviceId: 'web',
    slot: 1,
    nodeId: 'other',
    address: `10.1.1.${octet}`,
    dataPathAddress: '192.168.0.2',
    serving: true,
    aliases: [],
  },
});

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'drover-network-'));
  await mkdir(join(dataDir, 'resolver'));
  clock = new FakeClock();
  commands = [];
  engineError = undefined;
  ensure = usual;
  failing = undefined;
  during = () => {};
  network = new NodeNetwork({
    nodeId: 'me',
    dataDir,
    dataPathAddress: '192.168.0.1',
    engine,
    clock,
    log: silentLog,
    run: (argv, options) => {
      const text = [...argv, options?.input ?? ''].join(' ');
      if (failing?.test(text) === true) return Promise.reject(new Error(`refused: ${argv[0]}`));
      commands.push(text);
      during(text);
      return Promise.resolve('');
    },
  });
});

afterEach(async () => {
  await network.stop();
  await rm(dataDir, { recursive: true, force: true });
});

test('an engine that is away is named, and tried again until it is back', async () => {
  engineError = 'the engine is away';
  network.replace([app]);
  await network.settled();
  expect(network.degraded()).toEqual(['network app: the engine is away']);
  await expect(network.prepare('app')).rejects.toThrow('network app is not ready: the engine is away');
  engineError = undefined;
  await clock.advance(100);
  await network.settled();
  expect(network.degraded()).toEqual([]);
  expect(await network.prepare('app')).toMatchObject({ gateway: '10.1.0.1' });
});

test('what takes long is named while it lasts', async () => {
  const asked = Promise.withResolvers<string>();
  const answer = Promise.withResolvers<string>();
  ensure = ({ name }) => (asked.resolve(name), answer.promise);
  network.replace([app]);
  const name = await asked.promise;
  expect(network.degraded()).toEqual([]);
  await clock.advance(20_000);
  expect(network.degraded()).toEqual(['network app: has been under way for more than 20 s']);
  answer.resolve(name);
  await network.settled();
  expect(network.degraded()).toEqual([]);
});

test('a network that cannot be removed yet is removed later', async () => {
  network.replace([app]);
  await network.settled();
  engineError = 'network has active endpoints';
  network.apply([{ ...app, value: null }]);
  await network.settled();
  expect(network.degraded()).toEqual([`network app: ${engineError}`]);
  engineError = undefined;
  await clock.advance(100);
  await network.settled();
  expect(network.degraded()).toEqual([]);
  await expect(network.prepare('app')).rejects.toThrow('not assigned');
});

test('a batch that failed half-way is done from what stands, not from what was meant', async () => {
  network.replace([app]);
  await network.settled();
  failing = /^bridge -batch/;
  network.apply([remote('t1', 1)]);
  await network.settled();
  expect(network.degraded()).toEqual(['forwarding app: refused: bridge']);
  failing = undefined;
  commands = [];
  await clock.advance(100);
  await network.settled();
  expect(network.degraded()).toEqual([]);
  expect(commands).toContainEqual(expect.stringMatching(/^bridge -j fdb show/));
  expect(commands).toContainEqual(expect.stringContaining('fdb replace 02:42:0a:01:01:01'));
});

test('a change costs its own entries, not the network', async () => {
  network.replace([app, ...Array.from({ length: 100 }, (_each, i) => remote(`t${i}`, i + 1))]);
  await network.settled();
  commands = [];
  network.apply([remote('new', 200)]);
  await network.settled();
  expect(commands).toEqual([
    expect.stringMatching(
      /^bridge -batch - fdb replace \S+ dev \S+ dst 192.168.0.2 self permanent\nfdb replace \S+ dev \S+ master static$/,
    ),
    expect.stringMatching(/^ip -batch - neigh replace 10.1.1.200 \S+ \S+ dev \S+ nud permanent$/),
  ]);
});

test('an address that moves while its entry is being made is followed', async () => {
  network.replace([app]);
  await network.settled();
  network.apply([remote('t1', 1)]);
  await network.settled();
  during = (command) => {
    if (!command.startsWith('bridge -batch - fdb del')) return;
    during = () => {};
    network.apply([remote('t2', 1)]);
  };
  network.apply([{ kind: 'endpoint', key: 'app/t1', value: null }]);
  await network.settled();
  await network.settled();
  expect(commands.filter((command) => command.startsWith('bridge -batch'))).toEqual([
    expect.stringContaining('fdb replace 02:42:0a:01:01:01'),
    expect.stringContaining('fdb del 02:42:0a:01:01:01'),
    expect.stringContaining('fdb replace 02:42:0a:01:01:01'),
  ]);
});

test('many calls in one turn are one piece of work', async () => {
  network.replace([app]);
  for (let i = 1; i <= 50; i++) network.apply([remote(`t${i}`, i)]);
  await network.settled();
  expect(commands.filter((command) => command.startsWith('bridge -batch'))).toHaveLength(1);
  const names: { endpoints: object[] } = JSON.parse(
    await readFile(join(dataDir, 'resolver', 'network-app.json'), 'utf8'),
  );
  expect(names.endpoints).toHaveLength(50);
});

test('without a full state no task is given rules: they would lack what it needs', async () => {
  await expect(network.attach({ taskId: 't', pid: process.pid, networks: [], published: false })).rejects.toThrow(
    'not known yet',
  );
});
