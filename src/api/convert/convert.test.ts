import { describe, expect, test } from 'vitest';
import { taskName, type Task } from '../../model/objects.ts';
import type { ServiceMode } from '../../model/specs.ts';
import { TaskState } from '../../model/states.ts';
import { aNode, anOverlay, aService, aTask, AT } from '../api.fixture.ts';
import { networkJson, verboseNetworkJson } from './network.ts';
import { nodeJson } from './node.ts';
import { serviceJson, serviceStatus, withDefaults } from './service.ts';
import { taskJson } from './task.ts';
import { swarmInfoJson } from './cluster.ts';

const overlay = anOverlay('net1');
const networkOf = (id: string) => (id === overlay.id ? overlay : undefined);
const META_JSON = { Version: { Index: 1 }, CreatedAt: AT, UpdatedAt: AT };

describe('a service', () => {
  test('as little as there is to say', () => {
    expect(serviceJson(aService('web'), networkOf)).toEqual({
      ID: 'web',
      ...META_JSON,
      Spec: aService('web').spec,
      Endpoint: { Spec: {} },
    });
  });

  test('with endpoint, update, previous spec and status', () => {
    const port = { protocol: 'tcp', targetPort: 80, publishedPort: 8080, publishMode: 'ingress' } as const;
    const service = aService('web', {
      previousSpec: { ...aService('web').spec, Labels: { old: '' } },
      endpoint: {
        spec: { Ports: [{ TargetPort: 80 }] },
        ports: [port],
        virtualIps: [{ networkId: 'net1', address: '10.0.16.5' }],
      },
      updateStatus: { state: 'paused', startedAt: AT, message: 'why' },
    });
    expect(serviceJson(service, networkOf, { tasks: [] })).toMatchObject({
      PreviousSpec: { Labels: { old: '' } },
      Endpoint: {
        Spec: { Mode: 'vip', Ports: [{ TargetPort: 80 }] },
        Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080, PublishMode: 'ingress' }],
        VirtualIPs: [{ NetworkID: 'net1', Addr: '10.0.16.5/20' }],
      },
      UpdateStatus: { State: 'paused', StartedAt: AT, Message: 'why' },
      ServiceStatus: { RunningTasks: 0, DesiredTasks: 2, CompletedTasks: 0 },
    });
  });

  test('credentials for the registry are never shown, neither in the service nor in its tasks', () => {
    const spec = {
      ...aService('web').spec,
      TaskTemplate: { ContainerSpec: { Image: 'x', PullOptions: { RegistryAuth: 'c2VjcmV0' } } },
    };
    const shown = [
      serviceJson(aService('web', { spec, previousSpec: spec }), networkOf, { defaults: true }),
      taskJson(aTask('t', 'web'), { id: 'web@1', serviceId: 'web', version: 1, spec }, networkOf),
    ];
    expect(JSON.stringify(shown)).not.toContain('c2VjcmV0');
    expect(JSON.stringify(shown)).toContain('"Image":"x"');
  });

  test('defaults fill what was left out and nothing else', () => {
    const spec = withDefaults({ ...aService('web').spec, UpdateConfig: { Parallelism: 0, Delay: 7 } });
    expect(spec.UpdateConfig).toEqual({
      Parallelism: 0,
      Delay: 7,
      FailureAction: 'pause',
      Monitor: 5e9,
      MaxFailureRatio: 0,
      Order: 'stop-first',
    });
    expect(spec.TaskTemplate).toMatchObject({
      ContainerSpec: { Image: 'busybox', StopGracePeriod: 10e9 },
      RestartPolicy: { Condition: 'any', Delay: 5e9, MaxAttempts: 0 },
      Runtime: 'container',
    });
    expect(spec.EndpointSpec).toEqual({ Mode: 'vip' });
  });

  test.each([
    ['running and wanted', {}, 1],
    ['running, to be stopped', { desiredState: TaskState.SHUTDOWN }, 0],
    ['not yet running', { status: { timestamp: AT, state: TaskState.STARTING, message: '' } }, 0],
  ])('counts a task that is %s', (_, over, RunningTasks) => {
    expect(serviceStatus(aService('web'), [aTask('t', 'web', over)])).toEqual({
      RunningTasks,
      DesiredTasks: 2,
      CompletedTasks: 0,
    });
  });

  test('a global service wants as many tasks as it has nodes', () => {
    const service = aService('web', { spec: { ...aService('web').spec, Mode: { Global: {} } } });
    const on = (id: string, nodeId: string, over: Partial<Task> = {}) => aTask(id, 'web', { nodeId, ...over });
    const gone = on('c', 'n3', { desiredState: TaskState.SHUTDOWN });
    const comes = on('d', 'n1', { status: { timestamp: AT, state: TaskState.STARTING, message: '' } });
    const tasks = [on('a', 'n1'), on('b', 'n2'), gone, comes];
    expect(serviceStatus(service, tasks)).toMatchObject({ RunningTasks: 2, DesiredTasks: 2 });
  });
});

describe('a job', () => {
  const spec = (Mode: ServiceMode) => ({ ...aService('job').spec, Mode });
  const job = (Mode: ServiceMode) =>
    aService('job', { spec: spec(Mode), jobStatus: { iteration: 2, lastExecution: AT } });
  const replicated = job({ ReplicatedJob: { MaxConcurrent: 3, TotalCompletions: 5 } });
  const task = (slot: number, state: TaskState, over: Partial<Task> = {}) => {
    const status = { timestamp: AT, state, message: '' };
    const nodeId = `node${slot}`;
    return aTask(`t${slot}`, 'job', {
      slot,
      jobIteration: 2,
      desiredState: TaskState.COMPLETE,
      status,
      nodeId,
      ...over,
    });
  };
  const tasks = [
    task(1, TaskState.COMPLETE),
    task(2, TaskState.COMPLETE, { jobIteration: 1 }),
    task(2, TaskState.RUNNING),
    task(3, TaskState.FAILED, { desiredState: TaskState.SHUTDOWN }),
    task(3, TaskState.READY, { desiredState: TaskState.READY }),
    task(4, TaskState.COMPLETE, { desiredState: TaskState.SHUTDOWN }),
    task(4, TaskState.COMPLETE),
  ];

  test('shows which run it is, and counts that one alone', () => {
    expect(serviceJson(replicated, () => undefined)).toMatchObject({
      JobStatus: { JobIteration: { Index: 2 }, LastExecution: AT },
    });
    expect(serviceStatus(replicated, tasks)).toEqual({ RunningTasks: 1, DesiredTasks: 3, CompletedTasks: 2 });
    const global = tasks.map((one) => ({ ...one, slot: 0 }));
    expect(serviceStatus(job({ GlobalJob: {} }), global)).toEqual({
      RunningTasks: 1,
      DesiredTasks: 2,
      CompletedTasks: 2,
    });
  });

  test('has no update policies among its defaults', () => {
    expect(withDefaults(replicated.spec)).not.toHaveProperty('UpdateConfig');
    expect(withDefaults(replicated.spec)).not.toHaveProperty('RollbackConfig');
  });

  test('counts its slots from 0, which Docker leaves out', () => {
    const version = { id: 'job@1', serviceId: 'job', version: 1, spec: replicated.spec };
    const shown = (one: Task) => taskJson(one, version, () => undefined);
    expect(shown(task(2, TaskState.RUNNING))).toMatchObject({
      Slot: 1,
      JobIteration: { Index: 2 },
      DesiredState: 'complete',
    });
    expect(shown(task(1, TaskState.RUNNING))).not.toHaveProperty('Slot');
    expect(shown(task(0, TaskState.RUNNING))).not.toHaveProperty('Slot');
    expect(taskName(task(1, TaskState.RUNNING))).toBe('job.0.t1');
    expect(taskName(task(0, TaskState.RUNNING))).toBe('job.node0.t0');
  });
});

describe('a task', () => {
  test('in a crash loop says why it waits', () => {
    const waits = { desiredState: TaskState.READY, startAfter: AT, quickFailures: 4 };
    expect(taskJson(aTask('t', 'web', waits), undefined, () => undefined)).toMatchObject({
      Status: { Err: `crash loop: 4 quick failures in a row; not started before ${AT}` },
    });
  });

  const version = { id: 'web@1', serviceId: 'web', version: 1, spec: aService('web').spec };

  test('in all its parts', () => {
    const task = aTask('t1', 'web', {
      status: {
        timestamp: AT,
        state: TaskState.FAILED,
        message: 'm',
        error: 'e',
        container: { id: 'c', pid: 0, exitCode: 3 },
      },
      networks: [{ networkId: 'net1', address: '10.0.16.7', aliases: [] }],
    });
    expect(taskJson(task, version, networkOf)).toMatchObject({
      ID: 't1',
      ...META_JSON,
      Spec: version.spec.TaskTemplate,
      ServiceID: 'web',
      Slot: 1,
      NodeID: 'node1',
      Status: {
        Timestamp: AT,
        State: 'failed',
        Message: 'm',
        Err: 'e',
        ContainerStatus: { ContainerID: 'c', PID: 0, ExitCode: 3 },
        PortStatus: {},
      },
      DesiredState: 'running',
      NetworksAttachments: [
        { Network: { ID: 'net1', Spec: { Name: 'net1-name', Scope: 'swarm' } }, Addresses: ['10.0.16.7/20'] },
      ],
    });
  });

  test('without slot and node if it has none', () => {
    const shown = taskJson(aTask('t1', 'web', { slot: 0, nodeId: '' }), version, networkOf);
    expect(shown).not.toHaveProperty('Slot');
    expect(shown).not.toHaveProperty('NodeID');
    expect(shown).not.toHaveProperty('NetworksAttachments');
  });
});

describe('a node', () => {
  const address = '10.0.0.1:2377';
  const byLeader = { nodeId: 'n', leadership: { leading: true } };

  test('a manager', () => {
    expect(
      nodeJson(aNode('n', { manager: { address, leader: true, reachability: 'reachable' } }), byLeader),
    ).toMatchObject({
      ID: 'n',
      Spec: { Role: 'worker' },
      Description: {
        Hostname: 'host-n',
        Platform: { Architecture: 'x86_64', OS: 'linux' },
        Resources: { NanoCPUs: 2e9 },
        TLSInfo: { TrustRoot: 'root' },
      },
      Status: { State: 'ready', Addr: '10.77.0.2' },
      ManagerStatus: { Leader: true, Reachability: 'reachable', Addr: address },
    });
  });

  test.each([
    ['n leads', { nodeId: 'other', leadership: { leading: false, leader: { nodeId: 'n', address } } }, 'leads'],
    ['another leads', { nodeId: 'other', leadership: { leading: true } }, 'unreachable'],
    ['nobody is known to lead', { nodeId: 'other', leadership: { leading: false } }, 'unknown'],
    ['nobody is known to lead, as n itself says', { nodeId: 'n', leadership: { leading: false } }, 'reachable'],
  ])('of a manager whose row is of an earlier time: %s', (_, asked, shown) => {
    const earlier = { address, leader: shown !== 'leads', reachability: 'unreachable' as const };
    const now = shown === 'leads' ? { Leader: true, Reachability: 'reachable' } : { Reachability: shown };
    expect(nodeJson(aNode('n', { manager: earlier }), asked)).toHaveProperty('ManagerStatus', {
      ...now,
      Addr: address,
    });
  });

  test('one that was never heard of can still be read through', () => {
    const { description: _, ...node } = aNode('n');
    expect(nodeJson(node, byLeader)).toMatchObject({ Description: { Platform: {}, Resources: {}, Engine: {} } });
    expect(nodeJson(node, byLeader)).not.toHaveProperty('ManagerStatus');
  });
});

describe('a network', () => {
  test('shows the subnet it was given', () => {
    expect(networkJson(overlay)).toMatchObject({
      Id: 'net1',
      Name: 'net1-name',
      Scope: 'swarm',
      Driver: 'overlay',
      IPAM: { Driver: 'default', Config: [{ Subnet: '10.0.16.0/20' }] },
      Options: { 'com.docker.network.driver.overlay.vxlanid_list': '4097' },
    });
    const { allocation: _, ...waiting } = overlay;
    expect(networkJson(waiting)).toMatchObject({ IPAM: { Config: [] } });
  });

  test('with peers and services when verbose', () => {
    const task = aTask('t1', 'web', {
      nodeId: 'n1',
      networks: [{ networkId: 'net1', address: '10.0.16.7', aliases: [] }],
    });
    const port = { protocol: 'tcp', targetPort: 80, publishedPort: 8080, publishMode: 'ingress' } as const;
    const use = {
      nodes: [aNode('n1', { gateways: { net1: '10.0.16.2' } }), aNode('n2')],
      services: [aService('web', { endpoint: { spec: {}, ports: [port], virtualIps: [] } })],
      tasks: [task],
      attachments: [],
    };
    expect(verboseNetworkJson(overlay, use)).toMatchObject({
      Peers: [{ Name: 'host-n1', IP: '10.77.0.2' }],
      Services: {
        web: {
          Ports: ['Target: 80, Publish: 8080'],
          Tasks: [{ Name: 'web.1.t1', EndpointIP: '10.0.16.7', Info: { 'Host IP': '10.77.0.2' } }],
        },
      },
    });
  });
});

test('outside of a cluster the Swarm section says only that', () => {
  const state = {
    localNodeState: 'inactive',
    nodeId: '',
    nodeAddress: '',
    manager: false,
    error: '',
    degraded: [],
    remoteManagers: [],
  } as const;
  expect(swarmInfoJson({ ...state, remoteManagers: [] }, undefined, [])).toEqual({
    NodeID: '',
    NodeAddr: '',
    LocalNodeState: 'inactive',
    ControlAvailable: false,
    Error: '',
    RemoteManagers: null,
  });
});
