/** What each key of a compose file becomes in Docker's API. */
import { describe, expect, test } from 'vitest';
import { plan, service } from './plan.fixture.ts';
import type { StackPlan } from './project.ts';

const container = (text: string) => service(text).spec.TaskTemplate.ContainerSpec;
const STACK = { 'com.docker.stack.namespace': 'app' };
const S = 1e9;

test('a service that says nothing but its image', () => {
  expect(service('').spec).toEqual({
    Name: 'app_web',
    Labels: { ...STACK, 'com.docker.stack.image': 'i' },
    TaskTemplate: {
      ContainerSpec: { Image: 'i', Labels: STACK, Privileges: { NoNewPrivileges: false } },
      Resources: {},
      Placement: {},
      Networks: [{ Target: 'app_default', Aliases: ['web'] }],
      ForceUpdate: 0,
    },
    Mode: { Replicated: {} },
    EndpointSpec: {},
  });
});

describe('the container', () => {
  test.each([
    ['cap_add: [net_admin, CAP_CHOWN, CHOWN]', { CapabilityAdd: ['CAP_CHOWN', 'CAP_NET_ADMIN'] }],
    ['cap_drop: [ALL, MKNOD]', { CapabilityDrop: ['ALL'] }],
    [`command: sh -c "echo 'a b'" c\\ d ""`, { Args: ['sh', '-c', "echo 'a b'", 'c d', ''] }],
    ['command: [a, 1]', { Args: ['a', '1'] }],
    ['entrypoint: /x y', { Command: ['/x', 'y'] }],
    [
      'configs: [c]',
      { Configs: [{ ConfigID: '', ConfigName: 'app_c', File: { Name: 'c', UID: '0', GID: '0', Mode: 0o444 } }] },
    ],
    [
      'secrets: [{source: out, target: t, uid: "1", gid: 2, mode: 0400}, s]',
      {
        Secrets: [
          { SecretID: '', SecretName: 'app_s', File: { Name: 's', UID: '0', GID: '0', Mode: 0o444 } },
          { SecretID: '', SecretName: 'realsecret', File: { Name: 't', UID: '1', GID: '2', Mode: 0o400 } },
        ],
      },
    ],
    [
      'credential_spec: {file: x}',
      { Privileges: { CredentialSpec: { Config: '', File: 'x', Registry: '' }, NoNewPrivileges: false } },
    ],
    ['dns: 1.1.1.1', { DNSConfig: { Nameservers: ['1.1.1.1'] } }],
    ['dns_search: [a, b]', { DNSConfig: { Search: ['a', 'b'] } }],
    ['dns_opt: [ndots:2]', { DNSConfig: { Options: ['ndots:2'] } }],
    ['environment: {B: 1.10, A: , KNOWN: , E: ""}', { Env: ['A', 'B=1.1', 'E=', 'KNOWN=k'] }],
    ['env_file: a.env', { Env: ['A=file', 'KNOWN=k'] }],
    [
      '{env_file: [{path: gone, required: false}, a.env], environment: [A=own]}'.slice(1, -1).replace('], ', ']\n    '),
      { Env: ['A=own', 'KNOWN=k'] },
    ],
    ['extra_hosts: ["a:1.2.3.4", "b=::1"]', { Hosts: ['1.2.3.4 a', '::1 b'] }],
    ['extra_hosts: {b: 2.2.2.2, a: 1.1.1.1}', { Hosts: ['1.1.1.1 a', '2.2.2.2 b'] }],
    ['group_add: [10, mail]', { Groups: ['10', 'mail'] }],
    [
      'healthcheck: {test: a b, interval: 1m30s, timeout: 500ms, retries: 3, start_period: 2s, start_interval: 1s}',
      {
        Healthcheck: {
          Test: ['CMD-SHELL', 'a b'],
          Interval: 90 * S,
          Timeout: S / 2,
          Retries: 3,
          StartPeriod: 2 * S,
          StartInterval: S,
        },
      },
    ],
    ['healthcheck: {test: [CMD, a]}', { Healthcheck: { Test: ['CMD', 'a'] } }],
    ['healthcheck: {disable: true}', { Healthcheck: { Test: ['NONE'] } }],
    ['hostname: h', { Hostname: 'h' }],
    ['init: false', { Init: false }],
    ['isolation: default', { Isolation: 'default' }],
    ['labels: [a=1, b]', { Labels: { a: '1', b: '', ...STACK } }],
    ['oom_score_adj: -5', { OomScoreAdj: -5 }],
    ['read_only: true', { ReadOnly: true }],
    ['security_opt: ["no-new-privileges:true"]', { Privileges: { NoNewPrivileges: true } }],
    ['stdin_open: true', { OpenStdin: true }],
    ['stop_grace_period: 0s', { StopGracePeriod: 0 }],
    ['stop_signal: SIGINT', { StopSignal: 'SIGINT' }],
    ['sysctls: [a=1]', { Sysctls: { a: '1' } }],
    [
      'tmpfs: ["/a", "/b:size=1m,mode=1770"]',
      {
        Mounts: [
          { Type: 'tmpfs', Target: '/a' },
          { Type: 'tmpfs', Target: '/b', TmpfsOptions: { SizeBytes: 1048576, Mode: 0o1770 } },
        ],
      },
    ],
    ['tty: true', { TTY: true }],
    [
      'ulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}',
      {
        Ulimits: [
          { Name: 'nofile', Soft: 1, Hard: 2 },
          { Name: 'nproc', Soft: 5, Hard: 5 },
        ],
      },
    ],
    ['user: "1:2"', { User: '1:2' }],
    ['working_dir: /w', { Dir: '/w' }],
    [
      'volumes: ["v:/v:ro,nocopy"]',
      {
        Mounts: [
          {
            Type: 'volume',
            Source: 'app_v',
            Target: '/v',
            ReadOnly: true,
            VolumeOptions: { NoCopy: true, Labels: STACK },
          },
        ],
      },
    ],
    [
      'volumes: ["./x:/x:rslave"]',
      { Mounts: [{ Type: 'bind', Source: '/dir/x', Target: '/x', BindOptions: { Propagation: 'rslave' } }] },
    ],
    ['volumes: [/anon]', { Mounts: [{ Type: 'volume', Target: '/anon' }] }],
    [
      'volumes: ["lab:/l"]',
      {
        Mounts: [
          {
            Type: 'volume',
            Source: 'app_lab',
            Target: '/l',
            VolumeOptions: { Labels: { a: '', ...STACK }, DriverConfig: { Name: 'd', Options: { o: '1' } } },
          },
        ],
      },
    ],
    [
      'volumes: ["ext:/e", "named:/n"]',
      {
        Mounts: [
          { Type: 'volume', Source: 'ext', Target: '/e', VolumeOptions: {} },
          { Type: 'volume', Source: 'other', Target: '/n', VolumeOptions: { Labels: STACK } },
        ],
      },
    ],
    [
      'volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1g, mode: 0700}}]',
      { Mounts: [{ Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 2 ** 30, Mode: 0o700 } }] },
    ],
    [
      'volumes: [{type: bind, source: /b, target: /t, read_only: true, bind: {propagation: shared}}]',
      {
        Mounts: [{ Type: 'bind', Source: '/b', Target: '/t', ReadOnly: true, BindOptions: { Propagation: 'shared' } }],
      },
    ],
    [
      'volumes: [{type: volume, source: v, target: /t, volume: {subpath: s}}]',
      { Mounts: [{ Type: 'volume', Source: 'app_v', Target: '/t', VolumeOptions: { Subpath: 's', Labels: STACK } }] },
    ],
  ])('%s', (text, expected) => {
    expect(container(text)).toEqual({ Image: 'i', Labels: STACK, Privileges: { NoNewPrivileges: false }, ...expected });
  });
});

describe('the service', () => {
  test.each([
    ['deploy: {replicas: 0}', { Mode: { Replicated: { Replicas: 0 } } }],
    ['scale: 2', { Mode: { Replicated: { Replicas: 2 } } }],
    ['deploy: {mode: global}', { Mode: { Global: {} } }],
    [
      'deploy: {mode: replicated-job, replicas: 3}',
      { Mode: { ReplicatedJob: { MaxConcurrent: 3, TotalCompletions: 3 } } },
    ],
    ['deploy: {mode: global-job}', { Mode: { GlobalJob: {} } }],
    ['deploy: {labels: [a=1]}', { Labels: { a: '1', ...STACK, 'com.docker.stack.image': 'i' } }],
    [
      'depends_on: [db]',
      { Labels: { 'drover.depends-on': 'db:service_started', ...STACK, 'com.docker.stack.image': 'i' } },
    ],
    [
      'depends_on: {db: {condition: service_healthy}, gone: {condition: service_started, required: false}}',
      { Labels: { 'drover.depends-on': 'db:service_healthy', ...STACK, 'com.docker.stack.image': 'i' } },
    ],
    [
      'deploy: {update_config: {parallelism: 0, delay: 1s, failure_action: rollback, monitor: 2s, max_failure_ratio: 0.1, order: start-first}}',
      {
        UpdateConfig: {
          Parallelism: 0,
          Delay: S,
          FailureAction: 'rollback',
          Monitor: 2 * S,
          MaxFailureRatio: 0.1,
          Order: 'start-first',
        },
      },
    ],
    ['deploy: {rollback_config: {}}', { RollbackConfig: { Parallelism: 1, MaxFailureRatio: 0 } }],
    ['deploy: {endpoint_mode: dnsrr}', { EndpointSpec: { Mode: 'dnsrr' } }],
    [
      'ports: [80, "8080:81/udp"]',
      {
        EndpointSpec: {
          Ports: [
            { Protocol: 'tcp', TargetPort: 80, PublishMode: 'ingress' },
            { Protocol: 'udp', TargetPort: 81, PublishedPort: 8080, PublishMode: 'ingress' },
          ],
        },
      },
    ],
    [
      'ports: ["9000-9001:90-91"]',
      {
        EndpointSpec: {
          Ports: [
            { Protocol: 'tcp', TargetPort: 90, PublishedPort: 9000, PublishMode: 'ingress' },
            { Protocol: 'tcp', TargetPort: 91, PublishedPort: 9001, PublishMode: 'ingress' },
          ],
        },
      },
    ],
    [
      'ports: [{target: 80, published: "8000", mode: host, protocol: tcp}, {target: 81}]',
      {
        EndpointSpec: {
          Ports: [{ TargetPort: 81 }, { Protocol: 'tcp', TargetPort: 80, PublishedPort: 8000, PublishMode: 'host' }],
        },
      },
    ],
  ])('%s', (text, expected) => {
    expect(service(text).spec).toMatchObject(expected);
    expect(Object.keys(service(text).spec.Labels)).toEqual(
      Object.keys(('Labels' in expected ? expected.Labels : undefined) ?? { ...STACK, image: '' }).map((key) =>
        key === 'image' ? 'com.docker.stack.image' : key,
      ),
    );
  });
});

describe('the tasks', () => {
  test.each([
    [
      'deploy: {resources: {limits: {cpus: "0.5", memory: 64M, pids: 5}, reservations: {cpus: 0.25, memory: 1.5g}}}',
      {
        Resources: {
          Limits: { NanoCPUs: S / 2, MemoryBytes: 64 * 2 ** 20, Pids: 5 },
          Reservations: { NanoCPUs: S / 4, MemoryBytes: 1.5 * 2 ** 30 },
        },
      },
    ],
    [
      'deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}}',
      { Resources: { Reservations: { GenericResources: [{ DiscreteResourceSpec: { Kind: 'gpu', Value: 2 } }] } } },
    ],
    [
      'mem_limit: 1g\n    cpus: 2\n    pids_limit: 7\n    mem_reservation: 512k',
      {
        Resources: {
          Limits: { NanoCPUs: 2 * S, MemoryBytes: 2 ** 30, Pids: 7 },
          Reservations: { MemoryBytes: 2 ** 19 },
        },
      },
    ],
    [
      'deploy: {restart_policy: {condition: on-failure, delay: 0s, max_attempts: 3, window: 1m}}',
      { RestartPolicy: { Condition: 'on-failure', Delay: 0, MaxAttempts: 3, Window: 60 * S } },
    ],
    ['restart: unless-stopped', { RestartPolicy: { Condition: 'any' } }],
    ['restart: on-failure:3', { RestartPolicy: { Condition: 'on-failure', MaxAttempts: 3 } }],
    [
      'deploy: {placement: {constraints: [a==b], preferences: [{spread: node.labels.z}], max_replicas_per_node: 2}}',
      {
        Placement: {
          Constraints: ['a==b'],
          Preferences: [{ Spread: { SpreadDescriptor: 'node.labels.z' } }],
          MaxReplicas: 2,
        },
      },
    ],
    [
      'logging: {driver: json-file, options: {max-file: 3}}',
      { LogDriver: { Name: 'json-file', Options: { 'max-file': '3' } } },
    ],
    [
      'networks: {n: {aliases: [a], driver_opts: {o: p}}, ext: }',
      {
        Networks: [
          { Target: 'app_n', Aliases: ['a', 'web'], DriverOpts: { o: 'p' } },
          { Target: 'real', Aliases: ['web'] },
        ],
      },
    ],
    ['networks: [h]', { Networks: [{ Target: 'host' }] }],
  ])('%s', (text, expected) => {
    expect(service(text).spec.TaskTemplate).toMatchObject(expected);
  });

  test('restart: no is no policy', () => {
    expect(service('restart: "no"').spec.TaskTemplate).not.toHaveProperty('RestartPolicy');
  });
});

describe('what a stack needs besides services', () => {
  test('networks: those that are used, and the default one', () => {
    const { plan: made } = plan(`services:
  a: {image: i}
  b: {image: i, networks: [n, ext]}
networks:
  n: {driver: d, driver_opts: {o: 1}, internal: true, attachable: true, labels: [l], ipam: {driver: x, config: [{subnet: 10.0.0.0/24, gateway: 10.0.0.1}]}}
  ext: {external: {name: real}}
  unused: {}
`);
    expect(made.externalNetworks).toEqual(['real']);
    expect(made.networks.map(({ body }) => body)).toEqual([
      {
        Name: 'app_default',
        CheckDuplicate: true,
        Driver: 'overlay',
        Internal: false,
        Attachable: false,
        Labels: STACK,
      },
      {
        Name: 'app_n',
        CheckDuplicate: true,
        Driver: 'd',
        Internal: true,
        Attachable: true,
        Labels: { l: '', ...STACK },
        Options: { o: '1' },
        IPAM: { Driver: 'x', Config: [{ Subnet: '10.0.0.0/24', Gateway: '10.0.0.1' }] },
      },
    ]);
  });

  test('secrets and configs, from a file, a text, a variable', () => {
    const { plan: made } = plan(`services: {a: {image: i}}
secrets:
  f: {file: s.txt, labels: {l: m}, template_driver: golang}
  d: {driver: vault, driver_opts: {a: b}}
  x: {external: true}
configs:
  t: {content: "hi $KNOWN", name: named}
  e: {environment: KNOWN}
`);
    const shown = (all: StackPlan['secrets']) => all.map((one) => ({ ...one, data: Buffer.from(one.data).toString() }));
    expect(shown(made.secrets)).toEqual([
      { name: 'app_f', labels: { l: 'm', ...STACK }, data: 'content', templating: { Name: 'golang' } },
      { name: 'app_d', labels: STACK, data: '', driver: { Name: 'vault', Options: { a: 'b' } } },
    ]);
    expect(shown(made.configs)).toEqual([
      { name: 'named', labels: STACK, data: 'hi k' },
      { name: 'app_e', labels: STACK, data: 'k' },
    ]);
  });

  test('services come after what they depend on; those of other profiles stay out', () => {
    const text = `services:
  a: {image: i, depends_on: [c]}
  b: {image: i, profiles: [dev]}
  c: {image: i, depends_on: {d: {condition: service_completed_successfully}}}
  d: {image: i, profiles: []}
`;
    expect(plan(text).plan.services.map(({ key }) => key)).toEqual(['d', 'c', 'a']);
    expect(plan(text).warnings).toEqual(['services.b is not deployed: it has the profile dev; --profile turns one on']);
    expect(plan(text, ['dev']).plan.services.map(({ key }) => key)).toEqual(['d', 'c', 'a', 'b']);
  });
});
