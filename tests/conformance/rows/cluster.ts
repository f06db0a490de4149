/** The cluster itself: init, inspect, update, tokens, a second node (docker-api.md 1.4, 1.5). */
import { expect } from 'vitest';
import { docker, get, post, type Row } from '../row.ts';

const ID = expect.stringMatching(/^[0-9a-z]{25}$/);
const TOKEN = expect.stringMatching(/^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/);
const WORKER =
  "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.";
const TWICE =
  'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.';

const INIT = {
  ListenAddr: '0.0.0.0:2377',
  AdvertiseAddr: '{address}',
  DataPathPort: 4790,
  DefaultAddrPool: ['10.90.0.0/16'],
  SubnetSize: 24,
  Availability: 'active',
  Spec: { Labels: { a: 'b' } },
};

export const cluster: Row[] = [
  { covers: '1.4 POST /swarm/init', call: post('/swarm/init', INIT), status: 200, body: ID, save: { self: '' } },
  { covers: '1.2 init twice', call: post('/swarm/init', INIT), status: 503, message: TWICE },
  {
    covers: '1.2 join twice',
    call: post('/swarm/join', {
      ListenAddr: '0.0.0.0:2377',
      RemoteAddrs: ['{address2}:2377'],
      JoinToken: `SWMTKN-1-${'0'.repeat(50)}-${'0'.repeat(25)}`,
    }),
    status: 503,
    message: TWICE,
  },
  {
    covers: '1.4 GET /swarm',
    call: get('/swarm'),
    status: 200,
    eventually: true,
    body: {
      ID,
      Version: { Index: expect.any(Number) },
      CreatedAt: expect.stringMatching(/^\d{4}-/),
      UpdatedAt: expect.stringMatching(/^\d{4}-/),
      Spec: {
        Name: 'default',
        Labels: { a: 'b' },
        Orchestration: { TaskHistoryRetentionLimit: 5 },
        Raft: {
          SnapshotInterval: 10000,
          KeepOldSnapshots: 0,
          LogEntriesForSlowFollowers: 500,
          ElectionTick: 10,
          HeartbeatTick: 1,
        },
        Dispatcher: { HeartbeatPeriod: 5e9 },
        CAConfig: { NodeCertExpiry: 7776e12 },
        TaskDefaults: {},
        EncryptionConfig: { AutoLockManagers: false },
      },
      TLSInfo: {
        TrustRoot: expect.stringMatching(/^-----BEGIN CERTIFICATE-----/),
        CertIssuerSubject: expect.stringMatching(/^[\w+/=]+$/),
        CertIssuerPublicKey: expect.stringMatching(/^[\w+/=]+$/),
      },
      RootRotationInProgress: false,
      DefaultAddrPool: ['10.90.0.0/16'],
      SubnetSize: 24,
      DataPathPort: 4790,
      JoinTokens: { Worker: TOKEN, Manager: TOKEN },
    },
    save: { swarmVersion: 'Version.Index', workerToken: 'JoinTokens.Worker', managerToken: 'JoinTokens.Manager' },
  },
  {
    covers: '1.1 Ping, header Swarm',
    call: get('/_ping'),
    status: 200,
    headers: { Swarm: 'active/manager' },
    swarm: { headers: {}, why: 'engine 20.10 does not know the header yet; newer engines send it' },
  },
  {
    covers: '1.7 /info.Swarm',
    call: get('/info'),
    status: 200,
    eventually: true,
    body: {
      Swarm: {
        NodeID: '{self}',
        NodeAddr: '{address}',
        LocalNodeState: 'active',
        ControlAvailable: true,
        Error: '',
        RemoteManagers: [{ NodeID: '{self}', Addr: '{address}:2377' }],
        Nodes: 1,
        Managers: 1,
        Cluster: {
          DefaultAddrPool: ['10.90.0.0/16'],
          SubnetSize: 24,
          DataPathPort: 4790,
          RootRotationInProgress: false,
        },
      },
    },
    absent: ['Swarm.Cluster.JoinTokens'],
  },
  {
    covers: '1.7 docker info',
    call: docker('info'),
    status: 0,
    text: /Swarm: active\n {2}NodeID: \w{25}\n {2}Is Manager: true\n {2}ClusterID: \w{25}\n {2}Managers: 1\n {2}Nodes: 1\n[\s\S]*Data Path Port: 4790\n[\s\S]*Task History Retention Limit: 5\n[\s\S]*Expiry Duration: 3 months/,
  },
  // swarm update
  {
    covers: '1.4 POST /swarm/update, version',
    call: post('/swarm/update?version=x', {}),
    status: 400,
    message: /invalid swarm version 'x'/,
  },
  {
    covers: '1.2 stale version',
    call: post('/swarm/update?version=99999999', { Name: 'default' }),
    status: 500,
    message: 'update out of sequence',
  },
  {
    covers: '1.3 Limits, cluster spec name',
    call: post('/swarm/update?version={swarmVersion}', { Name: 'other' }),
    status: 400,
    message: /default/,
  },
  {
    covers: '1.3 Limits, certificate expiry',
    call: post('/swarm/update?version={swarmVersion}', { Name: 'default', CAConfig: { NodeCertExpiry: 60e9 } }),
    status: 400,
    message: 'minimum certificate expiry time is: 1h0m0s',
  },
  {
    covers: '1.5 swarm update',
    call: docker(
      'swarm',
      'update',
      '--task-history-limit',
      '2',
      '--cert-expiry',
      '48h',
      '--dispatcher-heartbeat',
      '7s',
      '--max-snapshots',
      '3',
      '--snapshot-interval',
      '500',
    ),
    status: 0,
    text: /Swarm updated/,
  },
  {
    covers: '1.5 swarm update',
    call: get('/swarm'),
    status: 200,
    body: {
      Spec: {
        Labels: { a: 'b' },
        Orchestration: { TaskHistoryRetentionLimit: 2 },
        Raft: { KeepOldSnapshots: 3, SnapshotInterval: 500, ElectionTick: 10 },
        Dispatcher: { HeartbeatPeriod: 7e9 },
        CAConfig: { NodeCertExpiry: 1728e11 },
      },
      JoinTokens: { Worker: '{workerToken}', Manager: '{managerToken}' },
    },
  },
  {
    covers: '1.5 join-token --rotate',
    call: docker('swarm', 'join-token', '--rotate', '-q', 'worker'),
    status: 0,
    text: /^SWMTKN-1-/,
  },
  {
    covers: '1.5 join-token --rotate',
    call: get('/swarm'),
    status: 200,
    body: { JoinTokens: { Worker: TOKEN, Manager: '{managerToken}' } },
    save: { rotatedToken: 'JoinTokens.Worker', clusterId: 'ID' },
  },
  {
    covers: '1.5 join with a token that was rotated',
    on: 'h2',
    call: docker('swarm', 'join', '--token', '{workerToken}', '{address}:2377'),
    status: 1,
    text: /A valid join token is necessary to join this cluster/,
  },
  {
    covers: '1.5 swarm join',
    on: 'h2',
    call: docker('swarm', 'join', '--token', '{rotatedToken}', '--advertise-addr', '{address2}', '{address}:2377'),
    status: 0,
    text: /^This node joined a swarm as a worker\.$/m,
  },
  {
    covers: '1.5 join-token',
    call: docker('swarm', 'join-token', 'worker'),
    status: 0,
    text: /docker swarm join --token SWMTKN-1-\S+ [\d.]+:2377/,
  },
  { covers: '1.5 swarm ca', call: docker('swarm', 'ca'), status: 0, text: /^-----BEGIN CERTIFICATE-----/ },
  {
    covers: '1.4 GET /swarm/unlockkey',
    call: get('/swarm/unlockkey'),
    status: 200,
    body: { UnlockKey: '' },
  },
  {
    covers: '1.5 swarm update --autolock',
    call: docker('swarm', 'update', '--autolock=true'),
    status: 0,
    text: /^Swarm updated\.\n[\s\S]*^ {4}SWMKEY-1-[\w+/]{43}$/m,
  },
  {
    covers: '1.5 unlock-key',
    call: docker('swarm', 'unlock-key', '--rotate', '-q'),
    status: 0,
    text: /^SWMKEY-1-[\w+/]{43}\n$/,
  },
  {
    covers: '1.5 swarm update --autolock',
    call: docker('swarm', 'update', '--autolock=false'),
    status: 0,
    text: /^Swarm updated\.\s*$/,
  },
  {
    covers: '1.2 unlock, not locked',
    call: post('/swarm/unlock', { UnlockKey: 'SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' }),
    status: 409,
    message: 'swarm is not locked',
  },
  {
    covers: '1.2 leave manager no force',
    call: post('/swarm/leave'),
    status: 503,
    message:
      /^You are attempting to leave the swarm on a node that is participating as a manager\. Removing the last manager erases all current state of the swarm\. Use `--force` to ignore this message\./,
  },
  // the worker's side
  ...[get('/services'), get('/nodes'), get('/swarm'), get('/tasks'), get('/secrets')].map((call): Row => ({
    covers: '1.2 Worker',
    on: 'h2',
    call,
    status: 503,
    message: WORKER,
  })),
  {
    covers: '1.7 /info.Swarm',
    on: 'h2',
    call: get('/info'),
    status: 200,
    eventually: true,
    body: {
      Swarm: {
        NodeID: ID,
        NodeAddr: '{address2}',
        LocalNodeState: 'active',
        ControlAvailable: false,
        RemoteManagers: [{ NodeID: '{self}', Addr: '{address}:2377' }],
      },
    },
    absent: ['Swarm.Cluster', 'Swarm.Nodes'],
    save: { worker: 'Swarm.NodeID' },
  },
  {
    covers: '1.1 Ping, header Swarm',
    on: 'h2',
    call: get('/_ping'),
    status: 200,
    headers: { Swarm: 'active/worker' },
    swarm: { headers: {}, why: 'engine 20.10 does not know the header yet; newer engines send it' },
  },
];
