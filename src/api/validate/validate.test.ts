import { describe, expect, test } from 'vitest';
import { checked } from '../body.ts';
import { isImageReference } from './image-reference.ts';
import { checkName } from './names.ts';
import { networkShape, overlaySpec } from './network-shape.ts';
import { checkServiceSpec } from './service-rules.ts';
import { serviceSpecShape } from './service-shape.ts';
import { initRequest, initShape, joinRequest, joinShape } from './swarm-requests.ts';

const TOKEN = `SWMTKN-1-${'0'.repeat(49)}1-${'0'.repeat(24)}1`;

function service(over: object, container: object = {}) {
  const spec = checked(serviceSpecShape, {
    Name: 'web',
    ...over,
    TaskTemplate: {
      ContainerSpec: { Image: 'busybox', ...container },
      ...('TaskTemplate' in over ? (over.TaskTemplate as object) : {}),
    },
  });
  checkServiceSpec(spec);
  return spec;
}

const task = (over: object) => ({ TaskTemplate: { ...over } });
const ports = (Ports: object[], Mode?: string) => ({
  EndpointSpec: { Ports, ...(Mode === undefined ? {} : { Mode }) },
});

describe('a service spec', () => {
  test('is one replica if nothing is said; what is not known is kept; empty words mean none', () => {
    expect(service({ Extra: { a: 1 }, UpdateConfig: { Order: '', FailureAction: '', Parallelism: 2 } })).toEqual({
      Name: 'web',
      Labels: {},
      Extra: { a: 1 },
      Mode: { Replicated: { Replicas: 1 } },
      UpdateConfig: { Parallelism: 2 },
      TaskTemplate: { ContainerSpec: { Image: 'busybox', Isolation: 'default' }, ForceUpdate: 0, Runtime: 'container' },
    });
    expect(service({ Mode: { Replicated: {} } }).Mode).toEqual({ Replicated: { Replicas: 1 } });
    expect(service({ Mode: { Replicated: { Replicas: 0 } } }).Mode).toEqual({ Replicated: { Replicas: 0 } });
    expect(service({ Mode: { Global: {} } }).Mode).toEqual({ Global: {} });
  });

  test.each<[string, number, object, object?]>([
    ['meta: name must be provided', 400, { Name: '' }],
    ['name must be valid as a DNS name component', 400, { Name: 'web_' }],
    ['name must be 63 characters or fewer', 400, { Name: 'a'.repeat(64) }],
    ['ContainerSpec: image reference must be provided', 400, {}, { Image: '' }],
    ['ContainerSpec: "UPPER" is not a valid repository/tag', 400, {}, { Image: 'UPPER' }],
    ['unsupported runtime', 400, task({ Runtime: 'hope' })],
    ['ContainerSpec: Interval in HealthConfig cannot be less than 1ms', 400, {}, { Healthcheck: { Interval: -1 } }],
    ['ContainerSpec: Retries in HealthConfig cannot be negative', 400, {}, { Healthcheck: { Retries: -1 } }],
    ['expanding hostname failed: template "{{.No}}": {{.No}} is not known here', 400, {}, { Hostname: '{{.No}}' }],
    [
      'expanding env failed: template "A={{.Task.ID": a {{ has no }}',
      400,
      {},
      { Env: ['B={{.Task.ID}}', 'A={{.Task.ID'] },
    ],
    [
      'invalid CredentialSpec: cannot specify both "file" and "registry" credential specs',
      400,
      {},
      { Privileges: { CredentialSpec: { File: 'a', Registry: 'b' } } },
    ],
    ['invalid RestartCondition: "x"', 400, task({ RestartPolicy: { Condition: 'x' } })],
    [
      'invalid argument for resource gpu',
      400,
      task({ Resources: { Reservations: { GenericResources: [{ NamedResourceSpec: { Kind: 'gpu', Value: 'a' } }] } } }),
    ],
    ['mismatched Runtime and *Spec fields', 400, task({ ContainerSpec: undefined })],
    ['must specify only one service mode', 400, { Mode: { Replicated: {}, Global: {} } }],
    ['Maximum concurrent jobs must not be negative', 400, { Mode: { ReplicatedJob: { MaxConcurrent: -1 } } }],
    ['Total completed jobs must not be negative', 400, { Mode: { ReplicatedJob: { TotalCompletions: -1 } } }],
    [
      'Completions of a job and its concurrent tasks must be at most 1000000',
      400,
      { Mode: { ReplicatedJob: { TotalCompletions: 1_000_001 } } },
    ],
    ['Jobs may not have an update config', 400, { Mode: { GlobalJob: {} }, UpdateConfig: { Parallelism: 1 } }],
    ['Number of replicas must be non-negative', 400, { Mode: { Replicated: { Replicas: -1 } } }],
    ['Number of replicas must be at most 1000000', 400, { Mode: { Replicated: { Replicas: 1_000_001 } } }],
    ['invalid cpu value 0.0001: Must be at least 0.001', 400, task({ Resources: { Limits: { NanoCPUs: 1e5 } } })],
    [
      'invalid memory value 1024: Must be at least 4MiB',
      400,
      task({ Resources: { Reservations: { MemoryBytes: 1024 } } }),
    ],
    ['memory swap provided, but no memory-limit was set', 400, task({ Resources: { SwapBytes: 0 } })],
    [
      'invalid swap value -2: Must be -1 or more',
      400,
      task({ Resources: { Limits: { MemoryBytes: 8 << 20 }, SwapBytes: -2 } }),
    ],
    ['invalid value: 101, valid memory swappiness range is 0-100', 400, task({ Resources: { MemorySwappiness: 101 } })],
    ['invalid value -1001, range for oom score adj is [-1000, 1000]', 400, {}, { OomScoreAdj: -1001 }],
    ['TaskSpec: restart-delay cannot be negative', 400, task({ RestartPolicy: { Delay: -1 } })],
    ['constraint expected one operator from ==, !=', 400, task({ Placement: { Constraints: ['nonsense'] } })],
    [
      'TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1',
      400,
      { UpdateConfig: { MaxFailureRatio: 2 } },
    ],
    ['TaskSpec: update-delay cannot be negative', 400, { RollbackConfig: { Delay: -5 } }],
    [
      'ContainerSpec: duplicate mount point: /a',
      400,
      {},
      { Mounts: [1, 2].map(() => ({ Type: 'tmpfs', Target: '/a' })) },
    ],
    [
      'invalid mount config for type "bind": field Source must not be empty',
      400,
      {},
      { Mounts: [{ Type: 'bind', Target: '/a' }] },
    ],
    [
      'invalid mount config for type "volume": field Target must not be empty',
      400,
      {},
      { Mounts: [{ Type: 'volume' }] },
    ],
    ['cluster volumes are not supported yet', 501, {}, { Mounts: [{ Type: 'cluster', Target: '/a' }] }],
    ['malformed secret reference, no target provided', 400, {}, { Secrets: [{ SecretID: 'x', SecretName: 'x' }] }],
    [
      "EndpointSpec: port published with ingress mode can't be used with dnsrr mode",
      400,
      ports([{ TargetPort: 80, PublishedPort: 80 }], 'dnsrr'),
    ],
    [
      'EndpointSpec: duplicate published ports provided',
      400,
      ports([80, 81].map((TargetPort) => ({ TargetPort, PublishedPort: 8080 }))),
    ],
    ['EndpointSpec: a published port needs a target port from 1 to 65535', 400, ports([{ PublishedPort: 8080 }])],
  ])('%s', (message, status, over, container) => {
    expect(() => service(over, container)).toThrow(expect.objectContaining({ status, message }));
  });

  test('the same port in two protocols, and dnsrr with host ports, are fine', () => {
    const both = [
      { TargetPort: 53, PublishedPort: 53 },
      { TargetPort: 53, PublishedPort: 53, Protocol: 'udp' },
    ];
    expect(service(ports(both)).EndpointSpec?.Ports).toEqual([
      { TargetPort: 53, PublishedPort: 53, Protocol: 'tcp', PublishMode: 'ingress' },
      { TargetPort: 53, PublishedPort: 53, Protocol: 'udp', PublishMode: 'ingress' },
    ]);
    const host = [{ TargetPort: 80, PublishedPort: 80, PublishMode: 'host' }];
    expect(service(ports(host, 'dnsrr')).EndpointSpec).toMatchObject({ Mode: 'dnsrr', Ports: host });
  });

  test.each([
    [{ Labels: { a: 1 } }, 'invalid value for Labels.a: expected string, received number'],
    [
      { Mode: { Replicated: { Replicas: '3' } } },
      'invalid value for Mode.Replicated.Replicas: expected number, received string',
    ],
    [{ UpdateConfig: { Order: 'sideways' } }, 'unrecognized update order sideways'],
    [
      ports([{ TargetPort: 70_000 }]),
      'invalid value for EndpointSpec.Ports.0.TargetPort: a port is a number up to 65535',
    ],
  ])('of the wrong shape is refused with the place: %j', (over, message) => {
    expect(() => service(over)).toThrow(expect.objectContaining({ status: 400, message }));
  });
});

test.each(['a', 'web-1', 'app_web', 'a'.repeat(63), '0'])('a good name: %s', (name) =>
  expect(() => checkName(name)).not.toThrow(),
);
test.each(['-a', 'a-', '_a', 'a.b', 'a b', 'ä', `${'a'.repeat(62)}!`])('a bad name: %s', (name) =>
  expect(() => checkName(name)).toThrow(/DNS/),
);

test.each([
  'busybox',
  'busybox:1.36',
  'reg.io:5000/a/b_c/d:tag',
  `x@sha256:${'a'.repeat(64)}`,
  'localhost/x:1',
  '10.0.0.1:5000/x',
])('an image: %s', (text) => expect(isImageReference(text)).toBe(true));
test.each(['', 'A', 'a b', 'a:', 'a@b', '/a', 'a//b', 'f'.repeat(64), 'a'.repeat(600)])('no image: %s', (text) =>
  expect(isImageReference(text)).toBe(false),
);

describe('swarm init and join', () => {
  const init = (body: object) => initRequest(checked(initShape, body));
  const join = (body: object) =>
    joinRequest(checked(joinShape, { RemoteAddrs: ['10.0.0.1'], JoinToken: TOKEN, ...body }));

  test("defaults are Docker's, but for the size of overlays", () => {
    expect(init({ ListenAddr: '0.0.0.0:2377', SubnetSize: 24 })).toMatchObject({
      listenAddr: { host: '0.0.0.0', port: 2377 },
      dataPathPort: 4789,
      defaultAddressPool: ['10.0.0.0/8'],
      subnetSize: 20,
      availability: 'active',
      spec: { Name: 'default', Orchestration: { TaskHistoryRetentionLimit: 5 }, CAConfig: { NodeCertExpiry: 7776e12 } },
    });
    expect(init({ AdvertiseAddr: 'eth0', DefaultAddrPool: ['10.20.0.0/16'], SubnetSize: 24 })).toMatchObject({
      advertiseAddr: { host: 'eth0' },
      defaultAddressPool: ['10.20.0.0/16'],
      subnetSize: 24,
    });
  });

  test('remote addresses get the port that managers listen on', () => {
    expect(join({ RemoteAddrs: ['10.0.0.1', 'h2:3000', '[fd00::1]:99'] }).remoteAddrs).toEqual([
      { host: '10.0.0.1', port: 2377 },
      { host: 'h2', port: 3000 },
      { host: 'fd00::1', port: 99 },
    ]);
  });

  test.each([
    [{ AdvertiseAddr: '0.0.0.0' }, /^advertise address must be a non-zero IP address/],
    [{ AdvertiseAddr: '10.0.0.300' }, /^advertise address must be/],
    [{ AdvertiseAddr: '10.0.0.1:99999' }, /^advertise address must be/],
    [{ ListenAddr: 'a b' }, /^listen address must be/],
    [{ DataPathAddr: '::' }, /^data path address must be/],
    [{ DataPathPort: 80 }, /^Datapath port number is not in valid range \(1024-49151\) : 80$/],
    [{ Availability: 'sleepy' }, /^invalid Availability: "sleepy"$/],
    [{ DefaultAddrPool: ['10.0.0.0'] }, /invalid CIDR address: 10.0.0.0$/],
    [{ DefaultAddrPool: ['10.0.0.0/8', '10.1.0.0/16'] }, /10.1.0.0\/16 overlaps another/],
    [{ DefaultAddrPool: ['10.0.0.0/8'], SubnetSize: 31 }, /^subnet size is out of range: 31$/],
    [{ Spec: { CAConfig: { NodeCertExpiry: 1e9 } } }, /^minimum certificate expiry time is: 1h0m0s$/],
    [{ Spec: { Name: 'x' } }, /^swarm spec must be named "default"$/],
  ])('init refuses %j', (body, message) => {
    expect(() => init(body)).toThrow(expect.objectContaining({ status: 400, message: expect.stringMatching(message) }));
  });

  test.each([
    [{}, false],
    [{ ForceNewCluster: true }, true],
  ])('init %j: goes on alone is %s', (body, forceNewCluster) => expect(init(body)).toMatchObject({ forceNewCluster }));

  test.each([
    [{}, false],
    [{ AutoLockManagers: true }, true],
    [{ Spec: { EncryptionConfig: { AutoLockManagers: true } } }, true],
  ])('init with %j: managers lock themselves: %j', (body, expected) => {
    expect(init(body).spec.EncryptionConfig).toEqual({ AutoLockManagers: expected });
  });

  test.each([
    [{ RemoteAddrs: [] }, /^at least 1 RemoteAddr is required to join$/],
    [{ RemoteAddrs: ['no port:x'] }, /^invalid remote address "no port:x"/],
    [{ JoinToken: '' }, /^invalid join token/],
    [{ JoinToken: 'SWMTKN-1-abc-def' }, /^invalid join token/],
  ])('join refuses %j', (body, message) => {
    expect(() => join(body)).toThrow(expect.objectContaining({ status: 400, message: expect.stringMatching(message) }));
  });
});

describe('an overlay', () => {
  const overlay = (body: object) => overlaySpec(checked(networkShape, { Name: 'net', Driver: 'overlay', ...body }));

  test('keeps what the user gave', () => {
    const Config = [{ Subnet: '10.5.0.0/16', Gateway: '10.5.0.1' }];
    expect(overlay({ Labels: { a: 'b' }, Options: { mtu: '1400' }, Attachable: true, IPAM: { Config } })).toMatchObject(
      {
        Name: 'net',
        Driver: 'overlay',
        Labels: { a: 'b' },
        Options: { mtu: '1400' },
        Attachable: true,
        IPAM: { Driver: 'default', Config },
      },
    );
  });

  test.each<[number, object, RegExp]>([
    [400, { Name: 'a.b' }, /DNS/],
    [400, { IPAM: { Config: [{ Subnet: 'x' }] } }, /^Invalid subnet x : invalid CIDR address: x$/],
    [400, { IPAM: { Config: [{ Subnet: '10.0.0.0/31' }] } }, /too small/],
    [400, { IPAM: { Config: [{ Subnet: '10.0.0.0/24', Gateway: '10.0.1.1' }] } }, /gateway 10.0.1.1 is not within/],
    [400, { IPAM: { Config: [{ Gateway: '10.0.1.1' }] } }, /needs a subnet/],
    [501, { EnableIPv6: true }, /IPv6/],
    [501, { Options: { encrypted: '' } }, /encrypted/],
    [501, { IPAM: { Driver: 'infoblox' } }, /IPAM driver/],
  ])('%i %j', (status, body, message) => {
    expect(() => overlay(body)).toThrow(expect.objectContaining({ status, message: expect.stringMatching(message) }));
  });
});
