/** Every route of the API, with bodies that it takes. */

/** In a body: the name of the object that the path means. */
export const ITS_NAME = '@name';

const SERVICE = {
  Name: 'fresh',
  Labels: { tier: 'front' },
  TaskTemplate: {
    ContainerSpec: {
      Image: 'busybox:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef',
      Labels: { a: 'b' },
      Command: ['sh'],
      Args: ['-c', 'sleep 1'],
      Hostname: '{{.Node.Hostname}}-{{.Task.Slot}}',
      Env: ['A=1', 'B={{.Service.Name}}'],
      Dir: '/srv',
      User: '1:1',
      Groups: ['1'],
      Init: true,
      StopSignal: 'SIGTERM',
      TTY: false,
      ReadOnly: false,
      Mounts: [
        {
          Type: 'volume',
          Source: 'data',
          Target: '/data',
          VolumeOptions: { Labels: { x: 'y' }, DriverConfig: { Name: 'local', Options: { o: 'ro' } } },
        },
        { Type: 'tmpfs', Target: '/tmp', TmpfsOptions: { SizeBytes: 1e6, Mode: 511 } },
        { Type: 'bind', Source: '/etc', Target: '/host', ReadOnly: true, BindOptions: { Propagation: 'rprivate' } },
      ],
      StopGracePeriod: 10e9,
      Healthcheck: { Test: ['CMD-SHELL', 'true'], Interval: 1e9, Timeout: 1e9, StartPeriod: 1e9, Retries: 3 },
      Hosts: ['10.1.1.1 a b'],
      DNSConfig: { Nameservers: ['8.8.8.8'], Search: ['x.y'], Options: ['ndots:2'] },
      Privileges: { NoNewPrivileges: true },
      Sysctls: { 'net.core.somaxconn': '1024' },
      CapabilityAdd: ['CAP_NET_ADMIN'],
      CapabilityDrop: ['ALL'],
      Ulimits: [{ Name: 'nofile', Soft: 10, Hard: 20 }],
    },
    Resources: {
      Limits: { NanoCPUs: 1e8, MemoryBytes: 1e8, Pids: 10 },
      Reservations: { NanoCPUs: 1e7, MemoryBytes: 1e7 },
    },
    RestartPolicy: { Condition: 'any', Delay: 1e9, MaxAttempts: 3, Window: 1e9 },
    Placement: {
      Constraints: ['node.role!=manager', 'node.labels.zone == a'],
      Preferences: [{ Spread: { SpreadDescriptor: 'node.labels.zone' } }],
      MaxReplicas: 2,
      Platforms: [{ Architecture: 'amd64', OS: 'linux' }],
    },
    Networks: [{ Target: 'net1', Aliases: ['alias'], DriverOpts: { a: 'b' } }],
    LogDriver: { Name: 'json-file', Options: { 'max-size': '1m' } },
    ForceUpdate: 0,
    Runtime: 'container',
  },
  Mode: { Replicated: { Replicas: 2 } },
  UpdateConfig: {
    Parallelism: 1,
    Delay: 1e9,
    FailureAction: 'pause',
    Monitor: 1e9,
    MaxFailureRatio: 0.5,
    Order: 'stop-first',
  },
  RollbackConfig: { Parallelism: 1, FailureAction: 'continue', Order: 'stop-first' },
  EndpointSpec: {
    Mode: 'vip',
    Ports: [
      { Name: 'web', Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080, PublishMode: 'ingress' },
      { Protocol: 'udp', TargetPort: 53, PublishMode: 'host', PublishedPort: 5353 },
      { TargetPort: 81 },
    ],
  },
};

const STACKED = { 'com.docker.stack.namespace': 'shop' };
const SMALL_SERVICE = { Name: 'svc1', TaskTemplate: { ContainerSpec: { Image: 'nginx' } }, Mode: { Global: {} } };

const FILE = { Name: 'target', UID: '0', GID: '0', Mode: 292 };
const WITH_PAYLOADS = {
  Name: 'with-payloads',
  TaskTemplate: {
    ContainerSpec: {
      Image: 'nginx',
      Secrets: [{ SecretID: 'sec1', SecretName: 'sec1', File: FILE }],
      Configs: [{ ConfigID: 'conf1', ConfigName: 'conf1', File: FILE }],
    },
  },
  Mode: { Replicated: { Replicas: 1 } },
};

const NETWORK = {
  Name: 'fresh-net',
  CheckDuplicate: true,
  Driver: 'overlay',
  Scope: 'swarm',
  Internal: false,
  Attachable: true,
  Ingress: false,
  ConfigOnly: false,
  EnableIPv6: false,
  IPAM: {
    Driver: 'default',
    Options: {},
    Config: [{ Subnet: '10.200.0.0/24', IPRange: '10.200.0.128/25', Gateway: '10.200.0.1', AuxiliaryAddresses: {} }],
  },
  Options: { 'com.docker.network.driver.mtu': '1400' },
  Labels: { a: 'b' },
};

const SWARM_SPEC = {
  Name: 'default',
  Labels: { a: 'b' },
  Orchestration: { TaskHistoryRetentionLimit: 3 },
  Raft: { SnapshotInterval: 1, KeepOldSnapshots: 1, LogEntriesForSlowFollowers: 1, ElectionTick: 10, HeartbeatTick: 1 },
  Dispatcher: { HeartbeatPeriod: 5e9 },
  CAConfig: { NodeCertExpiry: 7_776_000_000_000_000, ExternalCAs: [], ForceRotate: 0 },
  TaskDefaults: { LogDriver: { Name: 'json-file' } },
  EncryptionConfig: { AutoLockManagers: false },
};

const SWARM_INIT = {
  ListenAddr: '0.0.0.0:2377',
  AdvertiseAddr: '10.0.0.1:2377',
  DataPathAddr: '10.0.0.1',
  DataPathPort: 4789,
  DefaultAddrPool: ['10.20.0.0/16'],
  SubnetSize: 24,
  ForceNewCluster: false,
  AutoLockManagers: false,
  Availability: 'active',
  Spec: SWARM_SPEC,
};

const SWARM_JOIN = {
  ListenAddr: '0.0.0.0:2377',
  AdvertiseAddr: 'eth0',
  DataPathAddr: '',
  RemoteAddrs: ['10.0.0.1:2377'],
  JoinToken: 'SWMTKN-1-49nj1cmql0jkz5s954yi3oex3nedyz0fb0xx14ie39trti4wxv-8vxv8rssmk743ojnwacrr2e7c',
  Availability: 'active',
};

const NODE = { Name: 'n', Labels: { zone: 'a' }, Role: 'worker', Availability: 'active' };
const CONTAINER = {
  Image: 'busybox',
  HostConfig: { NetworkMode: 'net1' },
  NetworkingConfig: { EndpointsConfig: { bridge: {} } },
};
const CONNECT = { Container: 'c', EndpointConfig: {} };
const BLOB = { Name: 'fresh', Data: 'aGVsbG8=', Labels: {}, Driver: { Name: 'x' }, Templating: { Name: 'golang' } };

/** Every route, with bodies that it takes (none: it takes none). What makes services comes more than once. */
export const ROUTES: [method: string, path: string, ...bodies: unknown[]][] = [
  ['GET', '/_ping'],
  ['HEAD', '/_ping'],
  ['GET', '/version'],
  ['GET', '/info'],
  ['GET', '/events'],
  ['GET', '/distribution/:any/json'],
  ['GET', '/system/df'],
  ['POST', '/containers/create', CONTAINER],
  ['GET', '/containers/json'],
  ['GET', '/containers/:any/json'],
  ['GET', '/networks'],
  ['GET', '/networks/:network'],
  ['POST', '/networks/create', NETWORK],
  ['POST', '/networks/create', NETWORK, { Name: 'plain', Driver: 'overlay' }],
  ['DELETE', '/networks/:network'],
  ['POST', '/networks/:network/connect', CONNECT],
  ['POST', '/networks/:network/disconnect', CONNECT],
  ['POST', '/networks/prune'],
  ['GET', '/nodes'],
  ['GET', '/nodes/:node'],
  ['POST', '/nodes/:node/update', NODE, { ...NODE, Role: 'manager', Availability: 'drain' }],
  ['DELETE', '/nodes/:node'],
  ['GET', '/services'],
  ['GET', '/services/:service'],
  ['POST', '/services/create', SERVICE, SMALL_SERVICE],
  ['POST', '/services/create', SERVICE, SMALL_SERVICE],
  ['POST', '/services/create', { ...SMALL_SERVICE, Name: 'other', EndpointSpec: SERVICE.EndpointSpec }],
  [
    'POST',
    '/services/create',
    { ...SMALL_SERVICE, Name: 'shop_web', Labels: { ...STACKED, 'drover.depends-on': 'db:service_healthy,svc1' } },
  ],
  ['POST', '/services/:service/update', { ...SMALL_SERVICE, Name: ITS_NAME, Labels: STACKED }],
  [
    'POST',
    '/services/:service/update',
    { ...SERVICE, Name: ITS_NAME },
    { ...SMALL_SERVICE, Name: ITS_NAME, Mode: { Replicated: { Replicas: 3 } } },
  ],
  ['POST', '/services/:service/update', SERVICE, { ...SMALL_SERVICE, Name: ITS_NAME }],
  [
    'POST',
    '/services/create',
    { ...SMALL_SERVICE, Name: 'job', Mode: { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 3 } } },
  ],
  ['POST', '/services/create', { ...SMALL_SERVICE, Name: 'everywhere', Mode: { GlobalJob: {} } }],
  ['DELETE', '/services/:service'],
  ['POST', '/drover/services/:service/promote'],
  ['POST', '/drover/services/:service/abort'],
  ['POST', '/drover/services/:service/confirm'],
  ['GET', '/services/:service/logs'],
  ['GET', '/drover/cluster/backup'],
  ['POST', '/drover/cluster/restore'],
  ['GET', '/drover/rebalance'],
  ['POST', '/drover/rebalance'],
  ['POST', '/drover/rebalance?dryRun=true'],
  ['GET', '/drover/stacks'],
  ['GET', '/drover/stacks/:any/history'],
  ['GET', '/drover/stacks/:any/history/1'],
  ['POST', '/drover/stacks/:any/rollback'],
  ['POST', '/drover/stacks/shop/rollback?revision=1'],
  ['GET', '/tasks'],
  ['GET', '/tasks/:task'],
  ['GET', '/tasks/:task/logs'],
  ['GET', '/drover/tasks/:task/top'],
  ['GET', '/drover/tasks/:task/stats'],
  ['POST', '/drover/tasks/:task/exec', { Cmd: ['sh', '-c', 'true'], Tty: false, AttachStdin: true, User: 'x' }],
  ['GET', '/swarm'],
  ['POST', '/swarm/init', SWARM_INIT],
  ['POST', '/swarm/join', SWARM_JOIN],
  ['POST', '/swarm/leave'],
  ['POST', '/swarm/update', SWARM_SPEC],
  ['POST', '/swarm/unlock', { UnlockKey: 'x' }],
  ['GET', '/swarm/unlockkey'],
  ...['secret', 'config'].flatMap((kind): [string, string, ...unknown[]][] => [
    ['GET', `/${kind}s`],
    ['GET', `/${kind}s/:${kind}`],
    ['POST', `/${kind}s/create`, BLOB, { Name: 'plain', Data: 'aGVsbG8=', Templating: { Name: 'golang' } }],
    ['POST', `/${kind}s/:${kind}/update`, { Name: ITS_NAME, Labels: { a: 'b' } }, BLOB],
    ['DELETE', `/${kind}s/:${kind}`],
    ['POST', `/drover/${kind}s/:${kind}/rotate`, { Data: 'bmV4dA==' }, { Data: 'bGF0ZXI=' }],
    ['POST', `/drover/${kind}s/prune`],
  ]),
  ['POST', '/services/create', WITH_PAYLOADS],
  ['POST', '/session'],
  ['PUT', '/services/:service'],
  ['GET', '/:any'],
];
