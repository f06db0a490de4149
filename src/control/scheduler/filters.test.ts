import { describe, expect, test } from 'vitest';
import type { ServiceSpec } from '../../model/specs.ts';
import { Verdict, explain, judge } from './filters.ts';
import { nodeRow, serviceSpec } from './rows.fixture.ts';
import { requirementsOf } from './requirements.ts';

const reserve = (NanoCPUs: number, MemoryBytes: number): Partial<ServiceSpec> => ({
  TaskTemplate: { Resources: { Reservations: { NanoCPUs, MemoryBytes } } },
});
const place = (Placement: ServiceSpec['TaskTemplate']['Placement']): Partial<ServiceSpec> => ({
  TaskTemplate: { Placement },
});
const publish = (PublishedPort: number, Protocol: 'tcp' | 'udp' = 'tcp'): Partial<ServiceSpec> => ({
  EndpointSpec: { Ports: [{ Protocol, TargetPort: 80, PublishedPort, PublishMode: 'host' }] },
});

const generic = (Kind: string, Value: number): Partial<ServiceSpec> => ({
  TaskTemplate: { Resources: { Reservations: { GenericResources: [{ DiscreteResourceSpec: { Kind, Value } }] } } },
});
const mount = (Name: string): Partial<ServiceSpec> => ({
  TaskTemplate: {
    ContainerSpec: {
      Image: 'busybox',
      Mounts: [{ Type: 'volume', Source: 'v', Target: '/v', VolumeOptions: { DriverConfig: { Name } } }],
    },
  },
});
const log = (Name: string): Partial<ServiceSpec> => ({ TaskTemplate: { LogDriver: { Name } } });
const attach = (Target: string): Partial<ServiceSpec> => ({ TaskTemplate: { Networks: [{ Target }] } });
const driverOf = (networkId: string) => ({ ours: 'overlay', theirs: 'weave', gone: undefined })[networkId];
const has = (...plugins: [type: string, name: string][]) => ({
  description: {
    engine: { version: '', labels: {}, plugins: plugins.map(([type, name]) => ({ type, name })) },
    resources: {
      nanoCpus: 4e9,
      memoryBytes: 8e9,
      generic: [
        { NamedResourceSpec: { Kind: 'gpu', Value: 'a' } },
        { NamedResourceSpec: { Kind: 'gpu', Value: 'b' } },
        { DiscreteResourceSpec: { Kind: 'licence', Value: 3 } },
      ],
    },
  },
});

describe('judge', () => {
  // The node has 4 CPUs and 8 GB, of which 1 CPU and 2 GB are in use, and port 80/tcp; two tasks of the service.
  const usage = {
    nanoCpus: 1e9,
    memoryBytes: 2e9,
    hostPorts: new Map([['tcp/80', 1]]),
    generic: new Map([['gpu=a', 1]]),
  };
  test.each<[string, Partial<ServiceSpec>, Parameters<typeof nodeRow>[1], Verdict]>([
    ['nothing asked', {}, {}, Verdict.FITS],
    ['node down', {}, { status: { state: 'down' } }, Verdict.UNAVAILABLE],
    ['node not seen yet', {}, { status: { state: 'unknown' } }, Verdict.UNAVAILABLE],
    ['node paused', {}, { spec: { Availability: 'pause' } }, Verdict.UNAVAILABLE],
    ['node drained', {}, { spec: { Availability: 'drain' } }, Verdict.UNAVAILABLE],
    ['all that is left', reserve(3e9, 6e9), {}, Verdict.FITS],
    ['one nanosecond of CPU too much', reserve(3e9 + 1, 0), {}, Verdict.CPU],
    ['one byte too much', reserve(0, 6e9 + 1), {}, Verdict.MEMORY],
    ['constraint met', place({ Constraints: ['node.role==worker'] }), {}, Verdict.FITS],
    ['constraint not met', place({ Constraints: ['node.role==manager'] }), {}, Verdict.CONSTRAINT],
    ['stored nonsense', place({ Constraints: ['nonsense'] }), {}, Verdict.CONSTRAINT],
    ['platform by its other name', place({ Platforms: [{ Architecture: 'amd64', OS: 'linux' }] }), {}, Verdict.FITS],
    [
      'one of two platforms',
      place({ Platforms: [{ Architecture: 'arm64', OS: 'linux' }, { Architecture: 'AMD64' }] }),
      {},
      Verdict.FITS,
    ],
    ['other architecture', place({ Platforms: [{ Architecture: 'arm64', OS: 'linux' }] }), {}, Verdict.PLATFORM],
    ['other system', place({ Platforms: [{ OS: 'windows' }] }), {}, Verdict.PLATFORM],
    ['host port taken', publish(80), {}, Verdict.HOST_PORT],
    ['same port, other protocol', publish(80, 'udp'), {}, Verdict.FITS],
    ['port left to the engine', publish(0), {}, Verdict.FITS],
    ['a thing that is free', generic('gpu', 1), has(), Verdict.FITS],
    ['more things than are free', generic('gpu', 2), has(), Verdict.GENERIC],
    ['an amount', generic('licence', 3), has(), Verdict.FITS],
    ['more than the amount', generic('licence', 4), has(), Verdict.GENERIC],
    ['a kind the node has not', generic('tpu', 1), has(), Verdict.GENERIC],
    ['local volumes need nothing', mount('local'), {}, Verdict.FITS],
    ['volume driver missing', mount('rexray'), has(['Volume', 'local'], ['Log', 'rexray']), Verdict.PLUGIN],
    ['volume driver there', mount('rexray'), has(['Volume', 'rexray:latest']), Verdict.FITS],
    ['no log needs no driver', log('none'), has(['Log', 'syslog']), Verdict.FITS],
    ['log driver missing', log('gelf'), has(['Log', 'syslog']), Verdict.PLUGIN],
    ['log driver there', log('gelf'), has(['Log', 'syslog'], ['Log', 'gelf']), Verdict.FITS],
    ['an engine that lists no log drivers', log('gelf'), has(['Volume', 'local']), Verdict.FITS],
    ['an overlay needs no plugin', attach('ours'), has(), Verdict.FITS],
    ['a network that is gone', attach('gone'), has(), Verdict.FITS],
    ['network driver missing', attach('theirs'), has(['Network', 'bridge']), Verdict.PLUGIN],
    ['network driver there', attach('theirs'), has(['Network', 'weave']), Verdict.FITS],
    ['below the limit per node', place({ MaxReplicas: 3 }), {}, Verdict.FITS],
    ['at the limit per node', place({ MaxReplicas: 2 }), {}, Verdict.MAX_REPLICAS],
    [
      'filters in order',
      { ...reserve(9e9, 9e9), ...publish(80) },
      { spec: { Availability: 'drain' } },
      Verdict.UNAVAILABLE,
    ],
  ])('%s', (_, spec, node, verdict) => {
    expect(judge(requirementsOf(serviceSpec('web', spec), driverOf), nodeRow('a', node), usage, 2)).toBe(verdict);
  });

  test('a node that has not described itself takes only what asks for nothing', () => {
    const { description: _, ...bare } = nodeRow('a');
    const judged = (spec: Partial<ServiceSpec>) =>
      judge(requirementsOf(serviceSpec('web', spec), driverOf), bare, usage, 0);
    expect(judged({})).toBe(Verdict.FITS);
    expect(judged(reserve(0, 1))).toBe(Verdict.MEMORY);
    expect(judged(place({ Platforms: [{ OS: 'linux' }] }))).toBe(Verdict.PLATFORM);
  });
});

describe('explain', () => {
  test.each<[Partial<Record<Verdict, number>>, string]>([
    [{}, 'no suitable node'],
    [{ [Verdict.UNAVAILABLE]: 1 }, 'no suitable node (1 node not available for new tasks)'],
    [
      { [Verdict.CONSTRAINT]: 1, [Verdict.MEMORY]: 2 },
      'no suitable node (insufficient memory on 2 nodes; scheduling constraints not satisfied on 1 node)',
    ],
    [
      { [Verdict.CPU]: 1, [Verdict.PLATFORM]: 3, [Verdict.HOST_PORT]: 1 },
      'no suitable node (unsupported platform on 3 nodes; insufficient CPU on 1 node; host-mode port already in use on 1 node)',
    ],
    [
      { [Verdict.GENERIC]: 1, [Verdict.PLUGIN]: 2 },
      'no suitable node (missing plugin on 2 nodes; insufficient generic resources on 1 node)',
    ],
    [{ [Verdict.MAX_REPLICAS]: 4 }, 'no suitable node (max replicas per node limit exceed)'],
  ])('%j', (given, text) => {
    const counts = Object.values(Verdict).map((verdict) => given[verdict] ?? 0);
    expect(explain(counts)).toBe(text);
  });
});
