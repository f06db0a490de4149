/** The contract on a real engine, and what only a real engine can show: networks, ports, limits. Needs root. */
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ContainerInspect, ContainerCreateBody } from '../docker/types.ts';
import { silentLog } from '../model/clock.ts';
import type { Clock } from '../model/clock.ts';
import type { ContainerSpec, Mount } from '../model/specs.ts';
import { DockerEngine } from './docker-engine.ts';
import { describeEngineContract, task } from './engine.contract.ts';
import type { Kind } from './engine.contract.ts';
import { DockerNetworks } from './engine-networks.ts';
import type { EngineNetworkSpec } from './engine-networks.ts';
import { noDockerdBecause, PrivateDockerd, TEST_IMAGE } from './private-dockerd.fixture.ts';

const clock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (delayMs, fn) => {
    const timer = setTimeout(fn, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

const check = { Interval: 50e6, Retries: 1 };
const SPECS: Record<Kind, Partial<ContainerSpec>> = {
  runs: { Args: ['sleep', '1000'], Init: true },
  'exits 3': { Args: ['sh', '-c', 'exit 3'] },
  'ignores the stop signal': { Args: ['sleep', '1000'], StopGracePeriod: 1e9 },
  'turns healthy': { Args: ['sleep', '1000'], Init: true, Healthcheck: { Test: ['CMD', 'true'], ...check } },
  'turns unhealthy': {
    Args: ['sleep', '1000'],
    Init: true,
    Healthcheck: { Test: ['CMD-SHELL', 'echo no answer; exit 1'], ...check },
  },
  'cannot start': { Command: ['/nope'] },
};
const container = (kind: Kind): ContainerSpec => ({ Image: TEST_IMAGE, ...SPECS[kind] });

const reason = noDockerdBecause();
if (reason !== undefined) console.warn(`SKIPPED: DockerEngine on a real engine (${reason})`);

describe.skipIf(reason !== undefined)('on a real engine', () => {
  let dockerd: PrivateDockerd;
  let engine: DockerEngine;

  beforeAll(async () => {
    dockerd = await PrivateDockerd.start();
    engine = new DockerEngine({ client: dockerd.client, clock, log: silentLog });
  }, 90_000);

  afterAll(() => dockerd.close(), 60_000);

  describeEngineContract('DockerEngine', () => ({
    engine,
    container,
    missingImage: 'localhost:1/missing:latest',
    goAway: () => dockerd.down(),
    comeBack: () => dockerd.up(),
  }));

  const inspect = (
    id: string,
  ): Promise<ContainerInspect & { HostConfig: Record<string, unknown>; Config: ContainerCreateBody }> =>
    dockerd.client.request('GET', `/containers/${id}/json`);
  const node = { id: 'n1', hostname: 'h1', platform: { os: 'linux', architecture: 'x86_64' } };

  const overlay = (index: number): EngineNetworkSpec => ({
    name: `net${index}`,
    subnet: `10.77.${100 + index}.0/24`,
    gateway: `10.77.${100 + index}.7`,
    bridge: `drtest${index}`,
    internal: false,
    mtu: 1450,
    labels: { which: String(index) },
    options: {},
  });

  test('networks: made once, replaced when they differ, listed, not removed under a running container', async () => {
    const networks = new DockerNetworks({ client: dockerd.client, nodeId: 'n1' });
    const id = await networks.ensure(overlay(1));
    expect(await networks.ensure(overlay(1))).toBe(id);
    expect(await networks.list()).toMatchObject([{ id, name: 'net1', labels: { which: '1' } }]);
    expect(await dockerd.inNetwork('ip', '-o', 'link', 'show', 'drtest1')).toMatch(/drtest1/);
    const moved = await networks.ensure({ ...overlay(1), gateway: '10.77.101.8' });
    expect(moved).not.toBe(id);

    const made = task('n1', container('runs'));
    const attachments = [{ engineNetwork: 'net1', address: '10.77.101.20', gateway: '10.77.101.8' }];
    const containerId = await engine.create(made, { node, attachments });
    await engine.start(containerId);
    await expect(networks.remove(moved)).rejects.toThrow(/active endpoints/);
    await engine.remove(containerId);
    await networks.remove(moved);
    await networks.remove(moved);
    expect(await networks.list()).toEqual([]);
  });

  test('a task on two networks has its addresses, its MACs, the first gateway as its route and resolver', async () => {
    const networks = new DockerNetworks({ client: dockerd.client, nodeId: 'n1' });
    const ids = [await networks.ensure(overlay(2)), await networks.ensure(overlay(3))];
    const made = task('n1', { ...container('runs'), Hostname: 'web-{{.Task.Slot}}' });
    const containerId = await engine.create(made, {
      node,
      attachments: [
        { engineNetwork: 'net3', address: '10.77.103.20', gateway: '10.77.103.7' },
        { engineNetwork: 'net2', address: '10.77.102.20', gateway: '10.77.102.7' },
      ],
    });
    await engine.start(containerId);
    const found = await inspect(containerId);
    expect(found.NetworkSettings).toMatchObject({
      Networks: {
        net2: { IPAddress: '10.77.102.20', MacAddress: '02:42:0a:4d:66:14' },
        net3: { IPAddress: '10.77.103.20', MacAddress: '02:42:0a:4d:67:14' },
      },
    });
    expect(found.HostConfig).toMatchObject({ Dns: ['10.77.102.7'], NetworkMode: 'net2' });
    expect(found.Config.Hostname).toBe('web-1');
    await engine.remove(containerId);
    for (const id of ids) await networks.remove(id);
  });

  test('host-mode ports: the one asked for, and one of the engine', async () => {
    const made = task('n1', container('runs'), {
      hostPorts: [
        { protocol: 'tcp', targetPort: 80, publishedPort: 18080, publishMode: 'host' },
        { protocol: 'udp', targetPort: 53, publishedPort: 0, publishMode: 'host' },
      ],
    });
    const containerId = await engine.create(made, { node, attachments: [] });
    await engine.start(containerId);
    const ports = (await engine.inspect(containerId))?.ports ?? [];
    expect(ports).toContainEqual({ protocol: 'tcp', targetPort: 80, publishedPort: 18080, publishMode: 'host' });
    expect(ports.find((port) => port.targetPort === 53)?.publishedPort).toBeGreaterThan(1024);
    await engine.remove(containerId);
  });

  test('limits, mounts and the rest reach the engine', async () => {
    const spec: ContainerSpec = {
      ...container('runs'),
      Env: ['SLOT={{.Task.Slot}}'],
      Hosts: ['10.1.1.1 db database'],
      ReadOnly: true,
      CapabilityDrop: ['NET_RAW'],
      Sysctls: { 'net.core.somaxconn': '512' },
      Ulimits: [{ Name: 'nofile', Soft: 100, Hard: 200 }],
      Mounts: [
        { Type: 'tmpfs', Target: '/tmp', TmpfsOptions: { SizeBytes: 1048576, Mode: 0o1777 } },
        { Type: 'volume', Source: 'vol-{{.Task.Slot}}', Target: '/data', VolumeOptions: { Labels: { a: 'b' } } },
      ],
    };
    const made = task('n1', spec);
    made.spec.Resources = { Limits: { NanoCPUs: 5e8, MemoryBytes: 64 << 20 }, Reservations: { MemoryBytes: 32 << 20 } };
    const containerId = await engine.create(made, { node, attachments: [] });
    await engine.start(containerId);
    const found = await inspect(containerId);
    expect(found.Config.Env).toContain('SLOT=1');
    expect(found.HostConfig).toMatchObject({
      NanoCpus: 5e8,
      Memory: 64 << 20,
      MemoryReservation: 32 << 20,
      ReadonlyRootfs: true,
      ExtraHosts: ['db:10.1.1.1', 'database:10.1.1.1'],
    });
    expect(await dockerd.client.request('GET', '/volumes/vol-1')).toMatchObject({ Labels: { a: 'b' } });
    await engine.remove(containerId);
  });

  test('what confines a container reaches the engine', async () => {
    const spec: ContainerSpec = {
      ...container('runs'),
      CapabilityAdd: ['NET_ADMIN'],
      CapabilityDrop: ['ALL'],
      Groups: ['1234'],
      OomScoreAdj: 300,
      Privileges: {
        CredentialSpec: null,
        NoNewPrivileges: true,
        Seccomp: { Mode: 'custom', Profile: Buffer.from('{"defaultAction":"SCMP_ACT_ALLOW"}').toString('base64') },
      },
      Mounts: [
        { Type: 'tmpfs', Target: '/dev/shm', TmpfsOptions: { SizeBytes: 3 << 20 } },
        { Type: 'bind', Source: '/proc', Target: '/data', ReadOnly: true, BindOptions: { Propagation: 'private' } },
      ],
    };
    const genericResources = [{ NamedResourceSpec: { Kind: 'gpu', Value: 'a' } }];
    const made = task('n1', spec, { genericResources });
    const containerId = await engine.create(made, { node, attachments: [] });
    await engine.start(containerId);
    const found = await inspect(containerId);
    expect(found.HostConfig).toMatchObject({
      CapAdd: ['NET_ADMIN'],
      CapDrop: ['ALL'],
      GroupAdd: ['1234'],
      OomScoreAdj: 300,
      SecurityOpt: ['no-new-privileges', 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'],
    });
    expect(found.Config.Env).toContain('DOCKER_RESOURCE_GPU=a');
    const { pid = 0 } = (await engine.inspect(containerId)) ?? {};
    const proc = (file: string): Promise<string> => dockerd.inProcesses('cat', `/proc/${pid}/${file}`);
    const status = await proc('status');
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^CapBnd:\t0000000000001000$/m);
    expect(status).toMatch(/^Groups:\t.*1234/m);
    expect(await proc('oom_score_adj')).toBe('300\n');
    expect(await proc('mounts')).toMatch(/ \/dev\/shm tmpfs \S*size=3072k/);
    await engine.remove(containerId);
  });

  test('a dead task leaves no anonymous volume behind, and keeps the named ones', async () => {
    const Mounts: ContainerSpec['Mounts'] = [
      { Type: 'volume', Target: '/data' },
      { Type: 'volume', Source: 'kept', Target: '/tmp', VolumeOptions: { DriverConfig: { Name: 'local' } } },
    ];
    const volumes = async (): Promise<string[]> => {
      const { Volumes } = await dockerd.client.request<{ Volumes: { Name: string }[] }>('GET', '/volumes');
      return Volumes.map(({ Name }) => Name);
    };
    const before = await volumes();
    const made = task('n1', { ...container('runs'), Mounts });
    // A create that is repeated removes what it made before.
    await engine.create(made, { node, attachments: [] });
    const containerId = await engine.create(made, { node, attachments: [] });
    expect(await volumes()).toHaveLength(before.length + 2);
    await engine.start(containerId);
    await engine.stop(containerId);
    await engine.remove(containerId);
    expect((await volumes()).filter((name) => !before.includes(name))).toEqual(['kept']);
  });

  test.each<[string, Partial<ContainerSpec>, RegExp]>([
    ['an isolation', { Isolation: 'hyperv' }, /only supports 'default'/],
    ['a capability', { CapabilityAdd: ['NONESUCH'] }, /unknown capability: "?CAP_NONESUCH/],
  ])('%s that is not known is refused in the words of the engine', async (_, spec, message) => {
    const create = engine.create(task('n1', { ...container('runs'), ...spec }), { node, attachments: [] });
    await expect(create).rejects.toThrow(message);
  });

  test('an NFS volume whose server does not answer is said by the start', async () => {
    const Options = { type: 'nfs', o: 'addr=127.0.0.1,soft,timeo=1,retrans=1', device: ':/{{.Service.Name}}' };
    const mount: Mount = {
      Type: 'volume',
      Source: 'nfs',
      Target: '/x',
      VolumeOptions: { DriverConfig: { Name: 'local', Options } },
    };
    const containerId = await engine.create(task('n1', { ...container('runs'), Mounts: [mount] }), {
      node,
      attachments: [],
    });
    expect(await dockerd.client.request('GET', '/volumes/nfs')).toMatchObject({
      Options: { ...Options, device: ':/web' },
    });
    await expect(engine.start(containerId)).rejects.toThrow(/failed to mount local volume: mount :\/web/);
    await engine.remove(containerId);
  });

  test('a container that took too much memory is told from one that was killed', async () => {
    const hints = await engine.watch('oom', AbortSignal.timeout(15_000));
    // It outlives by a second the process that takes too much: of a container that ends at once containerd may miss why.
    const greed = '(x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done); code=$?; sleep 1; exit $code';
    const made = task('oom', { ...container('runs'), Args: ['sh', '-c', greed] });
    made.spec.Resources = { Limits: { MemoryBytes: 8 << 20 }, SwapBytes: 0 };
    const containerId = await engine.create(made, { node, attachments: [] });
    await engine.start(containerId);
    // Its start is hinted at as well.
    for await (const _ of hints) if ((await engine.inspect(containerId))?.state === 'exited') break;
    expect(await engine.inspect(containerId)).toMatchObject({ exitCode: 137 });
    // The engine hears of the lack of memory by another way than of the end, and on a busy machine a little later.
    await expect.poll(() => engine.inspect(containerId)).toMatchObject({ oomKilled: true });
    await engine.remove(containerId);
  });

  test('generic resources are part of the description', async () => {
    expect((await engine.describe()).resources.generic).toEqual(
      expect.arrayContaining([
        { NamedResourceSpec: { Kind: 'gpu', Value: 'a' } },
        { NamedResourceSpec: { Kind: 'gpu', Value: 'b' } },
        { DiscreteResourceSpec: { Kind: 'ssd', Value: 3 } },
      ]),
    );
  });

  test("a private registry gives its image for the service's credentials only", async () => {
    const registry = dockerd.spawnInNetwork(process.execPath, join(import.meta.dirname, 'private-registry.fixture.ts'));
    const exited = once(registry, 'exit');
    try {
      const [port] = (await once(registry.stdout, 'data')) as [Buffer];
      const image = `127.0.0.1:${String(port).trim()}/app:v1`;
      // With its padding: without, the engine takes it for none, and says nothing.
      const auth = (password: string): string =>
        Buffer.from(JSON.stringify({ username: 'ann', password }))
          .toString('base64')
          .replaceAll('+', '-')
          .replaceAll('/', '_');
      await expect(engine.ensureImage(image)).rejects.toThrow(/^No such image: .*no basic auth credentials/);
      const wrong = engine.ensureImage(image, { registryAuth: auth('wrong') });
      await expect(wrong).rejects.toThrow(/^No such image: .*\(.*unauthorized/);
      await engine.ensureImage(image, { registryAuth: auth('secret') });
      expect(await dockerd.client.request('GET', `/images/${image}/json`)).toMatchObject({ Os: 'linux' });
      const unknown = engine.ensureImage(image.replace('v1', 'v2'), { registryAuth: auth('secret') });
      await expect(unknown).rejects.toThrow(/manifest .*unknown/);
    } finally {
      registry.stdin.end();
      await exited;
    }
  });

  test('a bind source that is missing is refused in the words of the engine', async () => {
    const spec = { ...container('runs'), Mounts: [{ Type: 'bind' as const, Source: '/no/such/folder', Target: '/x' }] };
    const create = engine.create(task('n1', spec), { node, attachments: [] });
    await expect(create).rejects.toThrow(/bind source path does not exist: \/no\/such\/folder/);
  });

  test('an image that is here is used when its registry does not answer', async () => {
    await expect(engine.ensureImage(TEST_IMAGE)).resolves.toBeUndefined();
    await dockerd.client.request('POST', `/images/${TEST_IMAGE}/tag`, {
      query: { repo: 'localhost:1/copy', tag: 'v1' },
    });
    await expect(engine.ensureImage('localhost:1/copy:v1')).resolves.toBeUndefined();
  });
});
