/**
 * Compares what the cluster's store says with what is really there on every host, both ways: what is declared must
 * exist, and what exists must be accounted for. Pure: the facts come from `facts.ts`. Hosts that are off have no facts.
 */
import { parseIPv4, parseSubnet, subnetContains } from '../model/addresses.ts';

export interface ClusterFacts {
  nodes: { id: string; hostname: string; ready: boolean }[];
  services: {
    id: string;
    name: string;
    /** `tcp/8080`, ingress mode only. */
    ports: string[];
    virtualIps: { networkId: string; address: string }[];
  }[];
  tasks: TaskFacts[];
  /** Single containers in overlays, one for each network. */
  attachments: AttachmentFacts[];
  networks: { id: string; name: string; subnet: string; ingress: boolean }[];
}

export interface TaskFacts {
  id: string;
  serviceId: string;
  nodeId: string;
  /** Names as the API shows them. */
  desiredState: string;
  state: string;
  /** Network id → plain address. */
  addresses: Record<string, string>;
}

export interface AttachmentFacts {
  id: string;
  nodeId: string;
  networkId: string;
  address: string;
  /** '' until it is made. */
  containerId: string;
}

export interface HostFacts {
  name: string;
  /** Of its cable: where other hosts send what is for its containers. */
  address: string;
  /** '' when the host is in no cluster. */
  nodeId: string;
  /** Containers with a task label. `addresses`: cluster network id → address. */
  containers: { id: string; taskId: string; running: boolean; addresses: Record<string, string> }[];
  /** Containers without a task label that stand in networks of ours, running or not. */
  attached: { id: string; addresses: Record<string, string> }[];
  /** The engine's networks with our label. */
  engineNetworks: { name: string; networkId: string }[];
  /** Links with our names; `networkId` from their alias, '' if it has none. `addresses` are the link's own. */
  devices: { name: string; networkId: string; addresses: string[] }[];
  /** Our nft tables in the host's own namespace. */
  tables: string[];
  /** Which host the VXLAN device of a network sends to for an address: those with both a forwarding and a neighbour entry. */
  remotes: { networkId: string; address: string; host: string }[];
  /** Published ports these tables answer at, `tcp/8080`. */
  publishedPorts: string[];
  /** Every address that our nft tables hold, and where: `host`, or a task id. */
  balanced: { where: string; addresses: string[] }[];
  /** Devices that our iptables rules name. */
  firewallDevices: string[];
  /** Routing rules besides the kernel's own three. */
  routingRules: string[];
}

/** Observed states in which a task is over: nothing of it runs. */
const OVER = new Set(['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned']);

/** Every difference as a sentence; none when all is as it should be. */
export function differences(cluster: ClusterFacts, hosts: readonly HostFacts[]): string[] {
  return [
    ...portDifferences(cluster),
    ...addressDifferences(cluster),
    ...taskDifferences(cluster, hosts),
    ...hosts.flatMap((host) => [
      ...containerDifferences(cluster, host),
      ...attachedDifferences(cluster, host),
      ...networkDifferences(cluster, host),
      ...ruleDifferences(cluster, host, hosts),
      ...remoteDifferences(cluster, host, hosts),
    ]),
  ];
}

function portDifferences(cluster: ClusterFacts): string[] {
  const owners = groupBy(
    cluster.services.flatMap(({ name, ports }) => ports.map((port) => ({ port, name }))),
    ({ port }) => port,
  );
  return [...owners].flatMap(([port, services]) =>
    services.length < 2 ? [] : [`port ${port} is published by ${services.map(({ name }) => name).join(' and ')}`],
  );
}

/** An address belongs to one task that may still run, to one single container, or to one VIP. */
function addressDifferences(cluster: ClusterFacts): string[] {
  const tasks = cluster.tasks
    .filter((task) => !OVER.has(task.state))
    .flatMap((task) =>
      Object.entries(task.addresses).map(([networkId, address]) => ({ networkId, address, owner: `task ${task.id}` })),
    );
  const vips = cluster.services.flatMap(({ name, virtualIps }) =>
    virtualIps.map((vip) => ({ ...vip, owner: `the VIP of ${name}` })),
  );
  const containers = cluster.attachments.map((each) => ({ ...each, owner: `attachment ${each.id}` }));
  return [
    ...groupBy([...tasks, ...containers, ...vips], ({ networkId, address }) => placeOf(networkId, address)),
  ].flatMap(([address, users]) =>
    users.length < 2 ? [] : [`address ${address} is given to ${users.map(({ owner }) => owner).join(' and ')}`],
  );
}

function placeOf(networkId: string, address: string): string {
  return `${address} in network ${networkId}`;
}

function isReady(cluster: ClusterFacts, nodeId: string): boolean {
  return cluster.nodes.some(({ id, ready }) => id === nodeId && ready);
}

function isRunning(task: TaskFacts): boolean {
  return task.desiredState === 'running' && task.state === 'running';
}

function taskDifferences(cluster: ClusterFacts, hosts: readonly HostFacts[]): string[] {
  return cluster.tasks.filter(isRunning).flatMap((task) => {
    const host = hosts.find(({ nodeId }) => nodeId === task.nodeId);
    if (host === undefined) return [`task ${task.id} runs on node ${task.nodeId}, which is on no host that is on`];
    const mine = host.containers.filter((container) => container.taskId === task.id && container.running);
    if (mine.length !== 1) return [`task ${task.id} is running, but ${host.name} runs ${mine.length} containers of it`];
    const actual = mine[0]?.addresses ?? {};
    return Object.entries(task.addresses).flatMap(([networkId, address]) =>
      actual[networkId] === address
        ? []
        : [
            `task ${task.id} has ${address} in network ${networkId}, its container on ${host.name} ${actual[networkId] ?? 'none'}`,
          ],
    );
  });
}

function containerDifferences(cluster: ClusterFacts, host: HostFacts): string[] {
  const tasks = new Map(cluster.tasks.map((task) => [task.id, task]));
  return host.containers.flatMap((container) => {
    const task = tasks.get(container.taskId);
    const what = `${host.name}: container ${container.id.slice(0, 12)}`;
    if (task === undefined) return [`${what} is of task ${container.taskId}, which is not in the store`];
    if (task.nodeId !== host.nodeId) return [`${what} is of task ${task.id}, which belongs to node ${task.nodeId}`];
    return container.running && OVER.has(task.state) ? [`${what} runs, but its task ${task.id} is ${task.state}`] : [];
  });
}

/** Both ways: a container has the addresses that its attachments say, and an attachment has its container. */
function attachedDifferences(cluster: ClusterFacts, host: HostFacts): string[] {
  const declared = cluster.attachments.filter(({ nodeId }) => nodeId === host.nodeId);
  const given = new Map(
    declared.map(({ networkId, address, containerId }) => [placeOf(networkId, address), containerId]),
  );
  const present = new Map(
    host.attached.flatMap(({ id, addresses }) =>
      Object.entries(addresses).map(([networkId, address]) => [placeOf(networkId, address), id] as const),
    ),
  );
  return [
    ...[...present].flatMap(([place, id]) =>
      given.get(place) === id
        ? []
        : [
            `${host.name}: container ${id.slice(0, 12)} has ${place}, which the store gives to ${given.get(place) || 'none'}`,
          ],
    ),
    ...[...given]
      .filter(([place]) => !present.has(place))
      .map(([place]) => `${host.name}: an attachment has ${place}, but no container has`),
  ];
}

/** Networks a node needs for its tasks and single containers, and the ones it may have: the ingress network may always stand. */
function networksOf(cluster: ClusterFacts, nodeId: string): { needed: Set<string>; allowed: Set<string> } {
  const here = cluster.tasks.filter((task) => task.nodeId === nodeId);
  const attached = cluster.attachments.filter((each) => each.nodeId === nodeId).map(({ networkId }) => networkId);
  const ingress = cluster.networks.filter((network) => network.ingress).map(({ id }) => id);
  const isPublished = cluster.services.some(({ ports }) => ports.length > 0);
  return {
    needed: new Set([
      ...here.filter(isRunning).flatMap((task) => Object.keys(task.addresses)),
      ...attached,
      ...(isReady(cluster, nodeId) && isPublished ? ingress : []),
    ]),
    allowed: new Set([
      ...here.filter((task) => !OVER.has(task.state)).flatMap((task) => Object.keys(task.addresses)),
      ...attached,
      ...(cluster.nodes.some(({ id }) => id === nodeId) ? ingress : []),
    ]),
  };
}

function networkDifferences(cluster: ClusterFacts, host: HostFacts): string[] {
  const { needed, allowed } = networksOf(cluster, host.nodeId);
  const nameOf = (id: string): string =>
    cluster.networks.find((network) => network.id === id)?.name ?? (id || 'unknown');
  const lines: string[] = [];
  for (const { name, networkId } of host.engineNetworks) {
    if (!allowed.has(networkId))
      lines.push(`${host.name}: engine network ${name} (${nameOf(networkId)}) is used by no task here`);
  }
  for (const { name, networkId } of host.devices) {
    if (!allowed.has(networkId))
      lines.push(`${host.name}: device ${name} (network ${nameOf(networkId)}) is used by no task here`);
  }
  for (const networkId of needed) {
    if (!host.engineNetworks.some((network) => network.networkId === networkId)) {
      lines.push(`${host.name}: network ${nameOf(networkId)} is needed, but its engine has none for it`);
    }
    for (const kind of ['drb', 'drv']) {
      if (!host.devices.some((device) => device.networkId === networkId && device.name.startsWith(kind))) {
        lines.push(`${host.name}: network ${nameOf(networkId)} is needed, but has no device ${kind}…`);
      }
    }
  }
  return lines;
}

function ruleDifferences(cluster: ClusterFacts, host: HostFacts, hosts: readonly HostFacts[]): string[] {
  const isNode = cluster.nodes.some(({ id }) => id === host.nodeId);
  const declared = new Set(isNode ? cluster.services.flatMap(({ ports }) => ports) : []);
  const present = new Set(host.publishedPorts);
  const devices = new Set(host.devices.map(({ name }) => name));
  return [
    ...(isNode
      ? []
      : host.tables.map((table) => `${host.name}: nft table ${table} stands, but the host is in no cluster`)),
    ...(isReady(cluster, host.nodeId)
      ? [...declared]
          .filter((port) => !present.has(port))
          .map((port) => `${host.name}: published port ${port} is not answered`)
      : []),
    ...[...present]
      .filter((port) => !declared.has(port))
      .map((port) => `${host.name}: port ${port} is answered, but no service publishes it`),
    ...host.firewallDevices
      .filter((device) => !devices.has(device))
      .map((device) => `${host.name}: a firewall rule names ${device}, which does not exist`),
    ...host.routingRules.map((rule) => `${host.name}: routing rule left over: ${rule}`),
    ...host.balanced.flatMap(({ where, addresses }) =>
      staleAddresses(cluster, hosts, addresses).map(
        (address) => `${host.name}: nft rules of ${where} lead to ${address}, which nothing has`,
      ),
    ),
  ];
}

/** Both ways: what is on another host has its entry in each VXLAN device of its network, and an entry leads to something. */
function remoteDifferences(cluster: ClusterFacts, host: HostFacts, hosts: readonly HostFacts[]): string[] {
  if (!isReady(cluster, host.nodeId)) return [];
  const here = new Set(host.devices.filter(({ name }) => name.startsWith('drv')).map(({ networkId }) => networkId));
  const others = hosts.filter((other) => other.nodeId !== '' && other.nodeId !== host.nodeId);
  const expected = new Map<string, HostFacts>();
  for (const other of others) {
    const placed = [
      ...cluster.tasks
        .filter((task) => task.nodeId === other.nodeId && isRunning(task))
        .flatMap(({ addresses }) => Object.entries(addresses)),
      ...cluster.attachments
        .filter(({ nodeId, containerId }) => nodeId === other.nodeId && containerId !== '')
        .map(({ networkId, address }) => [networkId, address] as const),
      ...gatewaysOf(other),
    ];
    for (const [networkId, address] of placed)
      if (here.has(networkId)) expected.set(placeOf(networkId, address), other);
  }
  const actual = new Map(host.remotes.map((each) => [placeOf(each.networkId, each.address), each.host]));
  const live = new Set(
    [
      ...cluster.tasks.filter((task) => !OVER.has(task.state)).flatMap(({ addresses }) => Object.entries(addresses)),
      ...cluster.attachments.map(({ networkId, address }) => [networkId, address] as const),
      ...hosts.flatMap(gatewaysOf),
    ].map(([networkId, address]) => placeOf(networkId, address)),
  );
  // The gateways of a host that is off are not known here.
  const known = new Set(hosts.map(({ address }) => address));
  return [
    ...[...expected].flatMap(([place, { name, address }]) =>
      actual.get(place) === address
        ? []
        : [
            `${host.name}: ${place} is on ${name}, and is looked for ${actual.has(place) ? `at ${actual.get(place)}` : 'nowhere'}`,
          ],
    ),
    ...[...actual]
      .filter(([place, at]) => known.has(at) && !live.has(place))
      .map(([place, at]) => `${host.name}: ${place} is looked for at ${at}, and nothing has it`),
  ];
}

function gatewaysOf({ devices }: HostFacts): (readonly [networkId: string, address: string])[] {
  return devices
    .filter(({ name }) => name.startsWith('drb'))
    .flatMap(({ networkId, addresses }) => addresses.map((address) => [networkId, address] as const));
}

/** Addresses inside overlays that are no live task's, no single container's, no VIP, no gateway and no name of the subnet itself. */
function staleAddresses(cluster: ClusterFacts, hosts: readonly HostFacts[], addresses: readonly string[]): string[] {
  const live = new Set([
    ...cluster.tasks.filter((task) => !OVER.has(task.state)).flatMap((task) => Object.values(task.addresses)),
    ...cluster.services.flatMap(({ virtualIps }) => virtualIps.map(({ address }) => address)),
    ...cluster.attachments.map(({ address }) => address),
    ...cluster.networks.map(({ subnet }) => subnet.split('/')[0] ?? ''),
    ...hosts.flatMap(({ devices }) => devices.flatMap((device) => device.addresses)),
  ]);
  const overlays = cluster.networks.map(({ subnet }) => parseSubnet(subnet)).filter((subnet) => subnet !== undefined);
  return [...new Set(addresses)].filter((address) => {
    const value = parseIPv4(address);
    return value !== undefined && !live.has(address) && overlays.some((subnet) => subnetContains(subnet, value));
  });
}

function groupBy<Item>(items: readonly Item[], keyOf: (item: Item) => string): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}
