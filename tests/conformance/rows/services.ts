/** Services: create, every field of their specs, inspect, lists, ports (docker-api.md 1.2–1.5, 1.9). */
import { expect } from 'vitest';
import { CAPITAL, del, get, post, type Row } from '../row.ts';

/** A service of two replicas that belongs to a stack. */
export const spec = (over: object = {}, image = '{image}'): Record<string, unknown> => ({
  Name: 'web',
  Labels: { 'com.docker.stack.namespace': 'shop' },
  TaskTemplate: { ContainerSpec: { Image: image } },
  Mode: { Replicated: { Replicas: 2 } },
  ...over,
});

const GPUS = {
  Resources: { Reservations: { GenericResources: [{ DiscreteResourceSpec: { Kind: 'gpu', Value: 2 } }] } },
};

/** The interval came with API 1.44. */
const STARTS_SOON = {
  ContainerSpec: { Image: '{image}', Healthcheck: { Test: ['CMD', 'true'], StartInterval: 1e9 } },
};

/** Every field that engine 20.10 takes, in the form it gives it back. */
const FULL = {
  Name: 'full',
  Labels: { tier: 'back', empty: '' },
  TaskTemplate: {
    ContainerSpec: {
      Image: '{image}',
      Labels: { in: 'container' },
      Command: ['/bin/web'],
      Args: ['--flag', 'two words'],
      Hostname: 'h-{{.Task.Slot}}',
      Env: ['A=1', 'B='],
      Dir: '/tmp',
      User: 'nobody',
      Groups: ['users'],
      Privileges: { SELinuxContext: { Disable: true, User: '', Role: '', Type: '', Level: '' } },
      Init: true,
      StopSignal: 'SIGTERM',
      TTY: true,
      OpenStdin: true,
      ReadOnly: true,
      Mounts: [
        { Type: 'volume', Source: 'data', Target: '/data', VolumeOptions: { NoCopy: true, Labels: { a: 'b' } } },
        { Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 1048576, Mode: 1023 } },
        { Type: 'bind', Source: '/etc', Target: '/etc2', ReadOnly: true, BindOptions: { Propagation: 'rprivate' } },
      ],
      StopGracePeriod: 3e9,
      Healthcheck: { Test: ['CMD', 'true'], Interval: 1e9, Timeout: 2e9, StartPeriod: 3e9, Retries: 4 },
      Hosts: ['10.0.0.1 one'],
      DNSConfig: { Nameservers: ['192.0.2.53'], Search: ['example.org'], Options: ['ndots:1'] },
      Isolation: 'default',
      Sysctls: { 'net.ipv4.ip_unprivileged_port_start': '0' },
      CapabilityAdd: ['CAP_NET_RAW'],
      CapabilityDrop: ['CAP_CHOWN'],
      Ulimits: [{ Name: 'nofile', Soft: 100, Hard: 200 }],
    },
    Resources: {
      Limits: { NanoCPUs: 5e8, MemoryBytes: 33554432, Pids: 50 },
      Reservations: { NanoCPUs: 1e6, MemoryBytes: 4194304 },
    },
    RestartPolicy: { Condition: 'on-failure', Delay: 1e9, MaxAttempts: 3, Window: 6e10 },
    Placement: {
      Constraints: ['node.role==manager', 'node.labels.never==here'],
      Preferences: [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }],
      MaxReplicas: 2,
      Platforms: [{ Architecture: 'amd64', OS: 'linux' }],
    },
    LogDriver: { Name: 'json-file', Options: { 'max-size': '1m' } },
    ForceUpdate: 7,
    Runtime: 'container',
  },
  Mode: { Replicated: { Replicas: 1 } },
  UpdateConfig: {
    Parallelism: 2,
    Delay: 1e9,
    FailureAction: 'rollback',
    Monitor: 2e9,
    MaxFailureRatio: 0.5,
    Order: 'start-first',
  },
  RollbackConfig: {
    Parallelism: 3,
    Delay: 2e9,
    FailureAction: 'continue',
    Monitor: 3e9,
    MaxFailureRatio: 0.25,
    Order: 'stop-first',
  },
  EndpointSpec: {
    Mode: 'vip',
    Ports: [{ Name: 'http', Protocol: 'tcp', TargetPort: 80, PublishedPort: 8090, PublishMode: 'host' }],
  },
};

const list = (filters: string, ...names: string[]): Row => ({
  covers: '1.3 Accepted keys, services',
  call: get(`/services?filters=${filters}`),
  status: 200,
  body: names.map((Name) => ({ Spec: { Name } })),
});

export const services: Row[] = [
  {
    covers: '1.4 POST /services/create',
    call: post('/services/create', spec(), { 'X-Registry-Auth': 'eyJ1c2VybmFtZSI6ICJhIn0=' }),
    status: 201,
    body: { ID: expect.stringMatching(/^[0-9a-z]{25}$/) },
    save: { web: 'ID' },
  },
  {
    covers: '1.2 dup name',
    call: post('/services/create', spec()),
    status: 409,
    message: 'name conflicts with an existing object: service web already exists',
  },
  {
    covers: '1.4 POST /services/create, a service without a name',
    call: post('/services/create', spec({ Name: '' })),
    status: 201,
    save: { unnamed: 'ID' },
  },
  {
    covers: '1.4 POST /services/create, a service without a name',
    call: get('/services/{unnamed}'),
    status: 200,
    body: { Spec: { Name: expect.stringMatching(/^[a-z]+[-_][a-z]+/) } },
  },
  { covers: '1.4 DELETE /services/{id}', call: del('/services/{unnamed}'), status: 200 },
  {
    covers: '1.4 GET /services/{id}',
    call: get('/services/{web}'),
    status: 200,
    body: {
      ID: '{web}',
      Version: { Index: expect.any(Number) },
      CreatedAt: expect.any(String),
      UpdatedAt: expect.any(String),
      Spec: {
        Name: 'web',
        Labels: { 'com.docker.stack.namespace': 'shop' },
        TaskTemplate: { ContainerSpec: { Image: '{image}' }, ForceUpdate: 0, Runtime: 'container' },
        Mode: { Replicated: { Replicas: 2 } },
      },
      Endpoint: { Spec: {} },
    },
    absent: [
      'PreviousSpec',
      'UpdateStatus',
      'ServiceStatus',
      'Spec.TaskTemplate.ContainerSpec.PullOptions',
      'Spec.UpdateConfig',
    ],
  },
  {
    covers: '1.4 GET /services/{id}?insertDefaults',
    call: get('/services/{web}?insertDefaults=true'),
    status: 200,
    body: {
      Spec: {
        TaskTemplate: {
          ContainerSpec: { Image: '{image}', StopGracePeriod: 1e10, DNSConfig: {}, Isolation: 'default' },
          RestartPolicy: { Condition: 'any', Delay: 5e9, MaxAttempts: 0 },
          Placement: {},
          ForceUpdate: 0,
          Runtime: 'container',
        },
        UpdateConfig: { Parallelism: 1, FailureAction: 'pause', Monitor: 5e9, MaxFailureRatio: 0, Order: 'stop-first' },
        RollbackConfig: {
          Parallelism: 1,
          FailureAction: 'pause',
          Monitor: 5e9,
          MaxFailureRatio: 0,
          Order: 'stop-first',
        },
      },
    },
  },
  { covers: '1.3 Reference resolution, by name', call: get('/services/web'), status: 200, body: { ID: '{web}' } },
  { covers: '1.2 not found', call: get('/services/nobody'), status: 404, message: 'service nobody not found' },
  { covers: '1.2 not found', call: del('/services/nobody'), status: 404, message: 'service nobody not found' },
  {
    covers: '1.2 not found',
    call: post('/services/nobody/update?version=1', spec()),
    status: 404,
    message: 'service nobody not found',
  },
  // every field
  {
    covers: '1.4 POST /services/create, every field',
    call: post('/services/create', FULL),
    status: 201,
    save: { full: 'ID' },
  },
  {
    covers: '1.4 GET /services/{id}, every field echoed',
    call: get('/services/{full}'),
    status: 200,
    body: { Spec: FULL },
  },
  {
    covers: '1.4 GET /services/{id}, a reason to wait',
    call: get('/tasks?filters={"service":["full"]}'),
    status: 200,
    eventually: true,
    body: [
      {
        Status: {
          State: 'pending',
          Err: expect.stringContaining('no suitable node (scheduling constraints not satisfied on 2 nodes)'),
        },
      },
    ],
  },
  {
    covers: '1.3 Request body, names of members in any case (docker-py)',
    call: post('/services/create', {
      name: 'lower',
      taskTemplate: { containerSpec: { image: '{image}' } },
      mode: { replicated: { replicas: 0 } },
    }),
    status: 201,
  },
  {
    covers: '1.3 Request body, names of members in any case (docker-py)',
    call: get('/services/lower'),
    status: 200,
    body: {
      Spec: {
        Name: 'lower',
        TaskTemplate: { ContainerSpec: { Image: '{image}' } },
        Mode: { Replicated: { Replicas: 0 } },
      },
    },
  },
  {
    covers: '1.4 POST /services/create, a key newer than the engine',
    call: post(
      '/services/create',
      spec({ Name: 'newer', Mode: { Replicated: { Replicas: 0 } }, TaskTemplate: STARTS_SOON }),
    ),
    status: 201,
    body: { Warnings: [expect.stringContaining('Healthcheck.StartInterval needs an engine of API version 1.44')] },
    swarm: { body: { ID: expect.any(String) }, why: 'swarm mode drops what it does not know and says nothing' },
  },
  {
    covers: '1.4 POST /services/create, a key newer than the engine',
    call: get('/services/newer'),
    status: 200,
    body: { Spec: { TaskTemplate: STARTS_SOON } },
    swarm: { body: { Spec: { Name: 'newer' } }, why: 'swarm mode drops what it does not know and says nothing' },
  },
  { covers: '1.4 DELETE /services/{id}', call: del('/services/newer'), status: 200 },
  { covers: '1.4 DELETE /services/{id}', call: del('/services/lower'), status: 200 },
  {
    covers: '1.4 POST /services/create, generic resources',
    call: post(
      '/services/create',
      spec({ Name: 'gpu', TaskTemplate: { ContainerSpec: { Image: '{image}' }, ...GPUS } }),
    ),
    status: 201,
  },
  {
    covers: '1.4 GET /services/{id}, every field echoed',
    call: get('/services/gpu'),
    status: 200,
    body: { Spec: { TaskTemplate: GPUS } },
  },
  {
    covers: '1.4 GET /services/{id}, a reason to wait',
    call: get('/tasks?filters={"service":["gpu"]}'),
    status: 200,
    eventually: true,
    body: [1, 2].map(() => ({
      Status: { State: 'pending', Err: 'no suitable node (insufficient generic resources on 2 nodes)' },
    })),
    swarm: {
      body: [1, 2].map(() => ({
        Status: { State: 'pending', Err: 'no suitable node (insufficient resources on 2 nodes)' },
      })),
      why: 'the reason names what is short: the same for CPUs and memory',
    },
  },
  { covers: '1.4 DELETE /services/{id}', call: del('/services/gpu'), status: 200 },
  // lists
  list('{"name":["web"]}', 'web'),
  list('{"name":["we"]}', 'web'),
  list('{"id":["{web}"]}', 'web'),
  list('{"label":{"com.docker.stack.namespace=shop":true}}', 'web'),
  list('{"label":["com.docker.stack.namespace"]}', 'web'),
  list('{"label":["tier=front"]}'),
  list('{"mode":["global"]}'),
  list('{"name":["web"],"mode":["replicated"]}', 'web'),
  list('{"name":["web"],"runtime":["container"]}', 'web'),
  {
    covers: '1.3 Accepted keys, services',
    call: get('/services?filters={"wrong":["x"]}'),
    status: 400,
    message: "invalid filter 'wrong'",
    swarm: CAPITAL,
  },
  {
    covers: '1.9 ServiceStatus',
    call: get('/services?status=true&filters={"name":["web"]}'),
    status: 200,
    eventually: true,
    body: [{ ServiceStatus: { RunningTasks: 2, DesiredTasks: 2 } }],
  },
  {
    covers: '1.9 ServiceStatus',
    call: get('/services?filters={"name":["web"]}'),
    status: 200,
    body: [{}],
    absent: ['0.ServiceStatus'],
  },
  // ports
  {
    covers: '1.2 port taken',
    call: post(
      '/services/create',
      spec({
        Name: 'port1',
        EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8095 }] },
        Mode: { Replicated: { Replicas: 0 } },
      }),
    ),
    status: 201,
    save: { port1: 'ID' },
  },
  {
    covers: '1.4 GET /services/{id}, Endpoint',
    call: get('/services/{port1}'),
    status: 200,
    eventually: true,
    body: {
      Endpoint: {
        Spec: {
          Mode: 'vip',
          Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 8095, PublishMode: 'ingress' }],
        },
        Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 8095, PublishMode: 'ingress' }],
        VirtualIPs: [{ NetworkID: expect.any(String), Addr: expect.stringMatching(/^10\.\d+\.\d+\.\d+\/\d+$/) }],
      },
    },
  },
  {
    covers: '1.2 port taken',
    call: post(
      '/services/create',
      spec({ Name: 'port2', EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8095 }] } }),
    ),
    status: 400,
    message: "port '8095' is already in use by service 'port1' ({port1}) as an ingress port",
  },
  {
    covers: '1.2 port taken',
    call: post(
      '/services/create',
      spec({ Name: 'port2', EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8090 }] } }),
    ),
    status: 400,
    message: "port '8090' is already in use by service 'full' ({full}) as a host-published port",
  },
  { covers: '1.4 DELETE /services/{id}', call: del('/services/port1'), status: 200, text: /^$/ },
  {
    covers: '1.4 DELETE /services/{id}',
    call: get('/services/{port1}'),
    status: 404,
    message: 'service {port1} not found',
  },
];
