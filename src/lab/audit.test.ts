import { describe, expect, test } from 'vitest';
import type { ClusterFacts, HostFacts, TaskFacts } from './audit.ts';
import { differences } from './audit.ts';

const INGRESS = 'net-ingress';
const APP = 'net-app';

function task(id: string, nodeId: string, addresses: Record<string, string>, more: Partial<TaskFacts> = {}): TaskFacts {
  return { id, serviceId: 'web', nodeId, desiredState: 'running', state: 'running', addresses, ...more };
}

function cluster(): ClusterFacts {
  return {
    nodes: [
      { id: 'n1', hostname: 'h1', ready: true },
      { id: 'n2', hostname: 'h2', ready: true },
    ],
    services: [{ id: 'web', name: 'web', ports: ['tcp/8080'], virtualIps: [{ networkId: APP, address: '10.0.1.2' }] }],
    tasks: [
      task('t1', 'n1', { [APP]: '10.0.1.5', [INGRESS]: '10.0.0.5' }),
      task('t0', 'n1', { [APP]: '10.0.1.4' }, { desiredState: 'shutdown', state: 'failed' }),
    ],
    attachments: [{ id: 'a1', nodeId: 'n1', networkId: APP, address: '10.0.1.9', containerId: 'single' }],
    networks: [
      { id: INGRESS, name: 'ingress', subnet: '10.0.0.0/24', ingress: true },
      { id: APP, name: 'app', subnet: '10.0.1.0/24', ingress: false },
    ],
  };
}

function host(name: string, nodeId: string, networks: string[]): HostFacts {
  return {
    name,
    address: `10.77.0.${name.slice(1)}`,
    nodeId,
    containers: [],
    attached: [],
    engineNetworks: networks.map((networkId) => ({ name: `drover-${networkId}`, networkId })),
    devices: networks.flatMap((networkId) => [
      { name: `drb${networkId}`, networkId, addresses: [] },
      { name: `drv${networkId}`, networkId, addresses: [] },
    ]),
    tables: ['drover_1'],
    publishedPorts: ['tcp/8080'],
    remotes: [],
    balanced: [{ where: 'the host', addresses: ['10.0.0.5', '10.0.0.0'] }],
    firewallDevices: [],
    routingRules: [],
  };
}

/** A cluster in which all is as it should be: one task on h1, none on h2. */
function sound(): { cluster: ClusterFacts; h1: HostFacts; h2: HostFacts } {
  const h1 = host('h1', 'n1', [INGRESS, APP]);
  h1.containers = [
    { id: 'c1', taskId: 't1', running: true, addresses: { [APP]: '10.0.1.5', [INGRESS]: '10.0.0.5' } },
    { id: 'c0', taskId: 't0', running: false, addresses: {} },
  ];
  h1.attached = [{ id: 'single', addresses: { [APP]: '10.0.1.9' } }];
  const h2 = host('h2', 'n2', [INGRESS]);
  h2.remotes = [{ networkId: INGRESS, address: '10.0.0.5', host: h1.address }];
  return { cluster: cluster(), h1, h2 };
}

type World = ReturnType<typeof sound>;

/** What is wrong, how to make it so, and the sentences for it. */
const FAULTS: [string, (world: World) => void, string[]][] = [
  [
    'a container is missing',
    ({ h1 }) => void h1.containers.shift(),
    ['task t1 is running, but h1 runs 0 containers of it'],
  ],
  [
    'two containers of one task',
    ({ h1 }) => void h1.containers.push({ ...h1.containers[0]!, id: 'c2' }),
    ['task t1 is running, but h1 runs 2 containers of it'],
  ],
  [
    'the container has another address',
    ({ h1 }) => (h1.containers[0]!.addresses[APP] = '10.0.1.9'),
    ['task t1 has 10.0.1.5 in network net-app, its container on h1 10.0.1.9'],
  ],
  [
    'an attachment that no container has',
    ({ h1 }) => (h1.attached = []),
    ['h1: an attachment has 10.0.1.9 in network net-app, but no container has'],
  ],
  [
    'a single container that the store does not know, at the address of another',
    ({ h1 }) => void h1.attached.push({ id: 'other', addresses: { [APP]: '10.0.1.8' } }),
    ['h1: container other has 10.0.1.8 in network net-app, which the store gives to none'],
  ],
  [
    'an address given to a task and a single container',
    ({ cluster }) => (cluster.attachments[0]!.address = '10.0.1.5'),
    [
      'address 10.0.1.5 in network net-app is given to task t1 and attachment a1',
      'h1: container single has 10.0.1.9 in network net-app, which the store gives to none',
      'h1: an attachment has 10.0.1.5 in network net-app, but no container has',
    ],
  ],
  [
    'the container is not on the network',
    ({ h1 }) => delete h1.containers[0]!.addresses[INGRESS],
    ['task t1 has 10.0.0.5 in network net-ingress, its container on h1 none'],
  ],
  [
    'a container of a forgotten task',
    ({ h2 }) => void h2.containers.push({ id: 'c9', taskId: 'gone', running: false, addresses: {} }),
    ['h2: container c9 is of task gone, which is not in the store'],
  ],
  [
    'a container on the wrong host',
    ({ h2 }) => void h2.containers.push({ id: 'c9', taskId: 't1', running: false, addresses: {} }),
    ['h2: container c9 is of task t1, which belongs to node n1'],
  ],
  [
    'a container outlives its task',
    ({ h1 }) => (h1.containers[1]!.running = true),
    ['h1: container c0 runs, but its task t0 is failed'],
  ],
  [
    'one address given twice',
    ({ cluster }) => void cluster.tasks.push(task('t2', 'n2', { [APP]: '10.0.1.5' }, { state: 'starting' })),
    ['address 10.0.1.5 in network net-app is given to task t1 and task t2'],
  ],
  [
    'a task has the VIP',
    ({ cluster }) => void cluster.tasks.push(task('t2', 'n2', { [APP]: '10.0.1.2' }, { state: 'preparing' })),
    ['address 10.0.1.2 in network net-app is given to task t2 and the VIP of web'],
  ],
  [
    'one port published twice',
    ({ cluster }) => void cluster.services.push({ id: 's2', name: 'other', ports: ['tcp/8080'], virtualIps: [] }),
    ['port tcp/8080 is published by web and other'],
  ],
  [
    'a running task on a host that is off',
    ({ cluster }) => void cluster.tasks.push(task('t3', 'n3', {})),
    ['task t3 runs on node n3, which is on no host that is on'],
  ],
  [
    'a network nobody uses any more',
    ({ h2 }) => {
      h2.engineNetworks.push({ name: 'drover-1-x', networkId: APP });
      h2.devices.push({ name: 'drb0', networkId: APP, addresses: [] });
    },
    [
      'h2: engine network drover-1-x (app) is used by no task here',
      'h2: device drb0 (network app) is used by no task here',
    ],
  ],
  [
    'a device that names no network',
    ({ h2 }) => void h2.devices.push({ name: 'drv0', networkId: '', addresses: [] }),
    ['h2: device drv0 (network unknown) is used by no task here'],
  ],
  [
    'the VXLAN device is missing',
    ({ h1 }) => (h1.devices = h1.devices.filter(({ name }) => name !== `drv${APP}`)),
    ['h1: network app is needed, but has no device drv…'],
  ],
  [
    'a published port is not answered',
    ({ h2 }) => (h2.publishedPorts = []),
    ['h2: published port tcp/8080 is not answered'],
  ],
  [
    'a port nobody publishes is answered',
    ({ h2 }) => void h2.publishedPorts.push('udp/53'),
    ['h2: port udp/53 is answered, but no service publishes it'],
  ],
  [
    'rules lead to a dead task',
    ({ h2 }) => void h2.balanced.push({ where: 'task t1', addresses: ['10.0.1.4', '192.168.0.1'] }),
    ['h2: nft rules of task t1 lead to 10.0.1.4, which nothing has'],
  ],
  [
    'no way to a task on another host',
    ({ h2 }) => (h2.remotes = []),
    ['h2: 10.0.0.5 in network net-ingress is on h1, and is looked for nowhere'],
  ],
  [
    'a way to where a task is not',
    ({ h2 }) => (h2.remotes[0]!.host = '10.77.0.3'),
    ['h2: 10.0.0.5 in network net-ingress is on h1, and is looked for at 10.77.0.3'],
  ],
  [
    'a way to what is no more',
    ({ h2 }) => void h2.remotes.push({ networkId: INGRESS, address: '10.0.0.4', host: '10.77.0.1' }),
    ['h2: 10.0.0.4 in network net-ingress is looked for at 10.77.0.1, and nothing has it'],
  ],
  [
    'a firewall rule without its device',
    ({ h1 }) => (h1.firewallDevices = [`drb${APP}`, 'drbdead']),
    ['h1: a firewall rule names drbdead, which does not exist'],
  ],
  [
    'a routing rule',
    ({ h1 }) => (h1.routingRules = ['{"priority":7}']),
    ['h1: routing rule left over: {"priority":7}'],
  ],
];

describe('the audit', () => {
  test('finds nothing where all is as it should be', () => {
    const { cluster, h1, h2 } = sound();
    expect(differences(cluster, [h1, h2])).toEqual([]);
  });

  test.each(FAULTS)('%s', (_name, spoil, expected) => {
    const world = sound();
    spoil(world);
    expect(differences(world.cluster, [world.h1, world.h2])).toEqual(expected);
  });

  test('a gateway address on a bridge is nothing stale', () => {
    const { cluster, h1, h2 } = sound();
    h2.devices[0]!.addresses = ['10.0.0.3'];
    h1.balanced.push({ where: 'the host', addresses: ['10.0.0.3'] });
    h1.remotes.push({ networkId: INGRESS, address: '10.0.0.3', host: h2.address });
    expect(differences(cluster, [h1, h2])).toEqual([]);
  });

  test('a host that left the cluster has nothing of it left', () => {
    const { h2 } = sound();
    const found = differences({ nodes: [], services: [], tasks: [], attachments: [], networks: [] }, [
      { ...h2, nodeId: '' },
    ]);
    expect(found).toEqual([
      'h2: engine network drover-net-ingress (net-ingress) is used by no task here',
      'h2: device drbnet-ingress (network net-ingress) is used by no task here',
      'h2: device drvnet-ingress (network net-ingress) is used by no task here',
      'h2: nft table drover_1 stands, but the host is in no cluster',
      'h2: port tcp/8080 is answered, but no service publishes it',
    ]);
  });
});
