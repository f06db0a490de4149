import { describe, expect, test } from 'vitest';
import type { TaskAssignment } from '../model/assignments.ts';
import type { ContainerSpec, TaskSpec } from '../model/specs.ts';
import { createPlan } from './container-body.ts';
import { task } from './engine.contract.ts';
import type { Attachment, TaskPlace } from './engine.ts';

const place = (attachments: Attachment[] = []): TaskPlace => ({
  node: { id: 'node1', hostname: 'h1', platform: { os: 'linux', architecture: 'x86_64' } },
  attachments,
});
const made = (spec: Partial<ContainerSpec>, more: Partial<TaskAssignment> = {}): TaskAssignment =>
  task('node1', { Image: 'app', ...spec }, { id: 'tid', ...more });
const body = (spec: Partial<ContainerSpec>, api = '1.41') => createPlan(made(spec), place(), api).body;
const hostConfig = (spec: Partial<ContainerSpec>, api?: string) => body(spec, api).HostConfig;

test('name and labels are those of Swarm, over the labels of the spec', () => {
  const plan = createPlan(made({ Labels: { a: 'b', 'com.docker.swarm.task.id': 'forged' } }), place(), '1.41');
  expect(plan.name).toBe('web.1.tid');
  expect(plan.body.Labels).toEqual({
    a: 'b',
    'com.docker.swarm.node.id': 'node1',
    'com.docker.swarm.service.id': 'service',
    'com.docker.swarm.service.name': 'web',
    'com.docker.swarm.task': '',
    'com.docker.swarm.task.id': 'tid',
    'com.docker.swarm.task.name': 'web.1.tid',
  });
  expect(createPlan(made({}, { slot: 0 }), place(), '1.41').name).toBe('web.node1.tid');
});

test.each<[string, Partial<ContainerSpec>, object]>([
  ['command is the entrypoint', { Command: ['a', 'b'] }, { Entrypoint: ['a', 'b'] }],
  ['an empty command leaves the entrypoint', { Command: [], Args: ['c'] }, { Entrypoint: undefined, Cmd: ['c'] }],
  ['args are the command', { Args: ['c'] }, { Cmd: ['c'] }],
  ['user, dir', { User: '1:2', Dir: '/w' }, { User: '1:2', WorkingDir: '/w' }],
  ['tty, stdin', { TTY: true, OpenStdin: true }, { Tty: true, OpenStdin: true }],
  ['stop signal', { StopSignal: 'SIGQUIT' }, { StopSignal: 'SIGQUIT' }],
  ['grace of 1.5 s is 2 s', { StopGracePeriod: 1.5e9 }, { StopTimeout: 2 }],
  ['no grace', { StopGracePeriod: 0 }, { StopTimeout: 0 }],
  ['default grace', {}, { StopTimeout: 10 }],
  ['hostname', { Hostname: '{{.Service.Name}}-{{.Task.Slot}}' }, { Hostname: 'web-1' }],
  ['env', { Env: ['N={{.Node.Hostname}}', 'PLAIN=1'] }, { Env: ['N=h1', 'PLAIN=1'] }],
])('container: %s', (_, spec, expected) => {
  expect(body(spec)).toMatchObject(expected);
});

test.each<[string, Partial<ContainerSpec>, object]>([
  ['never restarted by the engine', {}, { RestartPolicy: { Name: 'no' } }],
  ['init, read-only', { Init: true, ReadOnly: true }, { Init: true, ReadonlyRootfs: true }],
  ['hosts', { Hosts: ['10.0.0.1 a b', 'fe80::1 c'] }, { ExtraHosts: ['a:10.0.0.1', 'b:10.0.0.1', 'c:fe80::1'] }],
  ['groups', { Groups: ['audio'] }, { GroupAdd: ['audio'] }],
  ['capabilities', { CapabilityAdd: ['A'], CapabilityDrop: ['B'] }, { CapAdd: ['A'], CapDrop: ['B'] }],
  ['isolation by default', { Isolation: 'default' }, { Isolation: undefined }],
  ['another isolation', { Isolation: 'hyperv' }, { Isolation: 'hyperv' }],
  ['OOM score', { OomScoreAdj: -100 }, { OomScoreAdj: -100 }],
  ['no log driver, no init', { Init: null }, { LogConfig: undefined, Init: undefined }],
  ['sysctls', { Sysctls: { x: '1' } }, { Sysctls: { x: '1' } }],
  ['ulimits', { Ulimits: [{ Name: 'n', Soft: 1, Hard: 2 }] }, { Ulimits: [{ Name: 'n', Soft: 1, Hard: 2 }] }],
  [
    'dns',
    { DNSConfig: { Nameservers: ['1.1.1.1'], Search: ['x'], Options: ['y'] } },
    { Dns: ['1.1.1.1'], DnsSearch: ['x'], DnsOptions: ['y'] },
  ],
  ['privileges of an older client', { Privileges: { CredentialSpec: null, SELinuxContext: null } }, {}],
  ['no new privileges', { Privileges: { NoNewPrivileges: true } }, { SecurityOpt: ['no-new-privileges'] }],
  [
    'mount templates',
    {
      Mounts: [{ Type: 'volume', Source: 'v{{.Task.Slot}}', Target: '/{{.Node.ID}}', VolumeOptions: { NoCopy: true } }],
    },
    { Mounts: [{ Type: 'volume', Source: 'v1', Target: '/node1', VolumeOptions: { NoCopy: true } }] },
  ],
  [
    'volume driver options',
    {
      Mounts: [
        {
          Type: 'volume',
          Target: '/d',
          VolumeOptions: {
            Labels: { l: '{{.Task.ID}}' },
            DriverConfig: { Name: 'nfs', Options: { o: '{{.Task.Slot}}' } },
          },
        },
      ],
    },
    { Mounts: [{ VolumeOptions: { Labels: { l: 'tid' }, DriverConfig: { Name: 'nfs', Options: { o: '1' } } } }] },
  ],
  [
    'an NFS volume by the local driver',
    {
      Mounts: [
        {
          Type: 'volume',
          Source: 'home',
          Target: '/home',
          VolumeOptions: {
            DriverConfig: {
              Name: 'local',
              Options: { type: 'nfs', o: 'addr=10.0.0.1,rw', device: ':/{{.Service.Name}}' },
            },
          },
        },
      ],
    },
    {
      Mounts: [
        {
          Source: 'home',
          VolumeOptions: {
            DriverConfig: { Name: 'local', Options: { type: 'nfs', o: 'addr=10.0.0.1,rw', device: ':/web' } },
          },
        },
      ],
    },
  ],
  [
    'bind propagation',
    { Mounts: [{ Type: 'bind', Source: '/s', Target: '/t', ReadOnly: true, BindOptions: { Propagation: 'rslave' } }] },
    { Mounts: [{ Type: 'bind', Source: '/s', ReadOnly: true, BindOptions: { Propagation: 'rslave' } }] },
  ],
  [
    "shared memory of one's own size",
    { Mounts: [{ Type: 'tmpfs', Target: '/dev/shm', TmpfsOptions: { SizeBytes: 1 << 28 } }] },
    { Mounts: [{ Type: 'tmpfs', Target: '/dev/shm', TmpfsOptions: { SizeBytes: 1 << 28 } }] },
  ],
  [
    'tmpfs',
    { Mounts: [{ Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 5, Mode: 0o700 } }] },
    { Mounts: [{ Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 5, Mode: 0o700 } }] },
  ],
])('host: %s', (_, spec, expected) => {
  expect(hostConfig(spec)).toMatchObject(expected);
});

test('files of the host come after the mounts of the spec, one by one and for reading only', () => {
  const files = [{ source: '/host/tasks/tid/0', target: '/run/secrets/db' }];
  const asked = made({ Mounts: [{ Type: 'tmpfs', Target: '/run' }] });
  expect(createPlan(asked, { ...place(), files }, '1.41').body.HostConfig.Mounts).toMatchObject([
    { Type: 'tmpfs', Target: '/run' },
    {
      Type: 'bind',
      Source: '/host/tasks/tid/0',
      Target: '/run/secrets/db',
      ReadOnly: true,
      BindOptions: { Propagation: 'rprivate' },
    },
  ]);
});

test('limits, reservations and the log driver come from the task', () => {
  const spec: TaskSpec = {
    ContainerSpec: { Image: 'app' },
    Resources: { Limits: { NanoCPUs: 5e8, MemoryBytes: 10, Pids: 7 }, Reservations: { MemoryBytes: 5, NanoCPUs: 1e8 } },
    LogDriver: { Name: 'json-file', Options: { 'max-size': '1m' } },
  };
  expect(createPlan(made({}, { spec }), place(), '1.41').body.HostConfig).toMatchObject({
    NanoCpus: 5e8,
    Memory: 10,
    PidsLimit: 7,
    MemoryReservation: 5,
    LogConfig: { Type: 'json-file', Config: { 'max-size': '1m' } },
  });
});

test('generic resources come after the variables of the spec, which may not have any', () => {
  const genericResources = [{ NamedResourceSpec: { Kind: 'gpu', Value: 'a' } }];
  const environment = (spec: Partial<ContainerSpec>) =>
    createPlan(made(spec, { genericResources }), place(), '1.41').body.Env;
  expect(environment({ Env: ['A={{.Task.Slot}}'] })).toEqual(['A=1', 'DOCKER_RESOURCE_GPU=a']);
  expect(environment({})).toEqual(['DOCKER_RESOURCE_GPU=a']);
});

test('a start interval of the health check goes only to engines that know it', () => {
  const Healthcheck = { Test: ['CMD', 'x'], Interval: 1e9, StartInterval: 5e8 };
  expect(body({ Healthcheck }, '1.41').Healthcheck).toEqual({ Test: ['CMD', 'x'], Interval: 1e9 });
  expect(body({ Healthcheck }, '1.44').Healthcheck).toEqual(Healthcheck);
});

test('host-mode ports are bound; 0 is left to the engine', () => {
  const hostPorts: TaskAssignment['hostPorts'] = [
    { protocol: 'tcp', targetPort: 80, publishedPort: 8080, publishMode: 'host' },
    { protocol: 'tcp', targetPort: 80, publishedPort: 8081, publishMode: 'host' },
    { protocol: 'udp', targetPort: 53, publishedPort: 0, publishMode: 'host' },
  ];
  const plan = createPlan(made({}, { hostPorts }), place(), '1.41');
  expect(plan.body.ExposedPorts).toEqual({ '80/tcp': {}, '53/udp': {} });
  expect(plan.body.HostConfig.PortBindings).toEqual({
    '80/tcp': [{ HostPort: '8080' }, { HostPort: '8081' }],
    '53/udp': [{ HostPort: '' }],
  });
});

describe('networks', () => {
  const b = { engineNetwork: 'net-b', address: '10.0.1.9', gateway: '10.0.1.2' };
  const a = { engineNetwork: 'net-a', address: '10.0.0.9', gateway: '10.0.0.2' };
  const endpoint = (address: string) => ({ IPAMConfig: { IPv4Address: address } });

  test('an older engine creates with the first by name and connects the others', () => {
    const { body, connects } = createPlan(made({ DNSConfig: { Nameservers: ['9.9.9.9'] } }), place([b, a]), '1.41');
    expect(body.HostConfig).toMatchObject({ NetworkMode: 'net-a', Dns: ['10.0.0.2', '9.9.9.9'] });
    expect(body.MacAddress).toBe('02:42:0a:00:00:09');
    expect(body.NetworkingConfig).toEqual({ EndpointsConfig: { 'net-a': endpoint('10.0.0.9') } });
    expect(connects).toEqual([{ engineNetwork: 'net-b', endpoint: endpoint('10.0.1.9') }]);
  });

  test('a newer one creates with all, each with its MAC', () => {
    const { body, connects } = createPlan(made({}), place([b, a]), '1.44');
    expect(connects).toEqual([]);
    expect(body.MacAddress).toBeUndefined();
    expect(body.NetworkingConfig?.EndpointsConfig).toEqual({
      'net-a': { ...endpoint('10.0.0.9'), MacAddress: '02:42:0a:00:00:09' },
      'net-b': { ...endpoint('10.0.1.9'), MacAddress: '02:42:0a:00:01:09' },
    });
  });

  test('none at all is the default bridge', () => {
    const { body } = createPlan(made({}), place(), '1.41');
    expect(body.HostConfig.NetworkMode).toBeUndefined();
    expect(body.NetworkingConfig).toBeUndefined();
    expect(body.HostConfig.Dns).toBeUndefined();
  });

  test.each(['host', 'none', 'bridge'])("the engine's own network %s", (name) => {
    const spec: TaskSpec = { ContainerSpec: { Image: 'app' }, Networks: [{ Target: name }] };
    expect(createPlan(made({}, { spec }), place(), '1.41').body.HostConfig.NetworkMode).toBe(name);
    expect(() => createPlan(made({}, { spec }), place([a]), '1.41')).toThrow(/cannot be combined/);
  });
});

test.each<[RegExp, Partial<ContainerSpec>, TaskSpec['Resources']?]>([
  [/mounts of type cluster/, { Mounts: [{ Type: 'cluster', Target: '/x' }] }],
  [/tmpfs-options needs/, { Mounts: [{ Type: 'tmpfs', Target: '/x', TmpfsOptions: { Options: [['noexec']] } }] }],
  [
    /bind-recursive=readonly needs/,
    { Mounts: [{ Type: 'bind', Source: '/s', Target: '/x', BindOptions: { ReadOnlyForceRecursive: true } }] },
  ],
  [/memory swap provided/, {}, { SwapBytes: 1 }],
  [/volume-subpath needs/, { Mounts: [{ Type: 'volume', Target: '/x', VolumeOptions: { Subpath: 'y' } }] }],
  [/credential specs are for Windows/, { Privileges: { CredentialSpec: { File: 'x' } } }],
  [/bad template/, { Env: ['A={{.Nope}}'] }],
  [/bad template/, { Mounts: [{ Type: 'bind', Source: '{{', Target: '/x' }] }],
])('refused with %s', (message, spec, Resources) => {
  const asked = made(spec);
  const refused = { ...asked, spec: { ...asked.spec, Resources } };
  expect(() => createPlan(refused, place(), '1.41')).toThrow(message);
});
