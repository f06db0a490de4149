/** Gathers what `audit.ts` compares: the store through a manager's API, and every host's engine, links, rules and tables. */
import type { ClusterFacts, HostFacts } from './audit.ts';
import { callJson } from './api.ts';
import { enter, enterNetwork, powerOf } from './host.ts';
import type { HostPlan, Lab } from './lab.ts';
import { run } from './processes.ts';
import type { ProcessId } from './processes.ts';

const TASK_LABEL = 'com.docker.swarm.task.id';
const NETWORK_LABEL = 'io.drover.network.id';
const OUR_LINK = /^dr[bv][0-9a-f]+$/;
const OUR_TABLE = /^drover/;
/** Priorities of the kernel's own rules: local, main, default. */
const KERNEL_RULES = new Set([0, 32766, 32767]);

interface Info {
  Swarm: { NodeID: string; ControlAvailable: boolean };
}

const NOTHING: ClusterFacts = { nodes: [], services: [], tasks: [], attachments: [], networks: [] };

/** The facts of a lab; its hosts that are off are left out. A daemon that does not answer makes it fail. */
export async function gatherFacts(lab: Lab): Promise<{ cluster: ClusterFacts; hosts: HostFacts[] }> {
  const hosts: HostFacts[] = [];
  let manager: string | undefined;
  for (const host of lab.hosts) {
    const power = await powerOf(host);
    if (power === undefined) continue;
    const { Swarm } = await callJson<Info>(host.droverSocket, 'GET', '/info');
    if (Swarm.ControlAvailable) manager ??= host.droverSocket;
    hosts.push(await hostFacts(host, power, Swarm.NodeID));
  }
  return { cluster: manager === undefined ? NOTHING : await clusterFacts(manager), hosts };
}

interface ApiNode {
  ID: string;
  Description?: { Hostname?: string };
  Status: { State: string };
}

interface ApiService {
  ID: string;
  Spec: { Name: string };
  Endpoint?: {
    Ports?: { Protocol: string; PublishedPort: number; PublishMode: string }[];
    VirtualIPs?: { NetworkID: string; Addr?: string }[];
  };
}

interface ApiTask {
  ID: string;
  ServiceID: string;
  NodeID?: string;
  DesiredState: string;
  Status: { State: string };
  NetworksAttachments?: { Network: { ID: string }; Addresses?: string[] }[] | null;
}

interface ApiAttachment extends ApiTask {
  Status: { State: string; ContainerStatus?: { ContainerID: string } };
}

const ATTACHMENTS = JSON.stringify({ runtime: ['attachment'] });

interface ApiNetwork {
  Id: string;
  Name: string;
  Scope: string;
  Ingress: boolean;
  Labels?: Record<string, string> | null;
  IPAM: { Config?: { Subnet?: string }[] | null };
}

function withoutPrefix(cidr: string): string {
  return cidr.split('/')[0] ?? '';
}

async function clusterFacts(socket: string): Promise<ClusterFacts> {
  const [nodes, services, tasks, attachments, networks] = await Promise.all([
    callJson<ApiNode[]>(socket, 'GET', '/nodes'),
    callJson<ApiService[]>(socket, 'GET', '/services'),
    callJson<ApiTask[]>(socket, 'GET', '/tasks'),
    callJson<ApiAttachment[]>(socket, 'GET', '/tasks', { query: { filters: ATTACHMENTS } }),
    callJson<ApiNetwork[]>(socket, 'GET', '/networks'),
  ]);
  return {
    nodes: nodes.map((node) => ({
      id: node.ID,
      hostname: node.Description?.Hostname ?? '',
      ready: node.Status.State === 'ready',
    })),
    services: services.map(({ ID, Spec, Endpoint }) => ({
      id: ID,
      name: Spec.Name,
      ports: (Endpoint?.Ports ?? [])
        .filter((port) => port.PublishMode === 'ingress')
        .map((port) => `${port.Protocol}/${port.PublishedPort}`),
      virtualIps: (Endpoint?.VirtualIPs ?? []).map((vip) => ({
        networkId: vip.NetworkID,
        address: withoutPrefix(vip.Addr ?? ''),
      })),
    })),
    tasks: tasks.map((task) => ({
      id: task.ID,
      serviceId: task.ServiceID,
      nodeId: task.NodeID ?? '',
      desiredState: task.DesiredState,
      state: task.Status.State,
      addresses: Object.fromEntries(
        (task.NetworksAttachments ?? []).flatMap(({ Network, Addresses }) =>
          Addresses?.[0] === undefined ? [] : [[Network.ID, withoutPrefix(Addresses[0])] as const],
        ),
      ),
    })),
    attachments: attachments.flatMap(({ ID, NodeID = '', Status, NetworksAttachments }) =>
      (NetworksAttachments ?? []).map(({ Network, Addresses }) => ({
        id: ID,
        nodeId: NodeID,
        networkId: Network.ID,
        address: withoutPrefix(Addresses?.[0] ?? ''),
        containerId: Status.ContainerStatus?.ContainerID ?? '',
      })),
    ),
    networks: networks
      .filter((network) => network.Scope === 'swarm')
      .map((network) => ({
        id: network.Id,
        name: network.Name,
        subnet: network.IPAM.Config?.[0]?.Subnet ?? '',
        ingress: network.Ingress,
      })),
  };
}

interface ApiContainer {
  Id: string;
  State: string;
  Labels: Record<string, string>;
  NetworkSettings: {
    Networks: Record<string, { NetworkID: string; IPAddress: string; IPAMConfig?: { IPv4Address?: string } | null }>;
  };
}

async function hostFacts(host: HostPlan, power: ProcessId, nodeId: string): Promise<HostFacts> {
  const inHost = (...words: string[]): Promise<string> => {
    const [nsenter = '', ...prefix] = enterNetwork(power);
    return run(nsenter, [...prefix, ...words]);
  };
  const [all, networks, links, neighbours, forwarding, rules, tables, firewall] = await Promise.all([
    callJson<ApiContainer[]>(host.engineSocket, 'GET', '/containers/json', { query: { all: '1' } }),
    callJson<ApiNetwork[]>(host.engineSocket, 'GET', '/networks'),
    inHost('ip', '-details', '-json', 'address', 'show'),
    inHost('ip', '-json', '-4', 'neigh', 'show', 'nud', 'permanent'),
    inHost('bridge', '-json', 'fdb', 'show'),
    inHost('ip', '-json', 'rule', 'show'),
    inHost('nft', '-j', 'list', 'ruleset'),
    inHost('iptables', '-w', '-S'),
  ]);
  const networkIds = new Map(networks.map((network) => [network.Id, network.Labels?.[NETWORK_LABEL]]));
  const ours = ourTables(tables);
  const devices = parseLinks(links);
  const containers = all.filter((container) => container.Labels[TASK_LABEL] !== undefined);
  const attached = all.flatMap((container) => {
    const addresses = attachedAddresses(container, networks);
    const isTask = container.Labels[TASK_LABEL] !== undefined;
    return isTask || Object.keys(addresses).length === 0 ? [] : [{ container, addresses }];
  });
  const running = [...containers, ...attached.map(({ container }) => container)].filter(
    (container) => container.State === 'running',
  );
  return {
    name: host.name,
    address: host.address,
    nodeId,
    containers: containers.map((container) => ({
      id: container.Id,
      taskId: container.Labels[TASK_LABEL] ?? '',
      running: container.State === 'running',
      addresses: Object.fromEntries(
        Object.values(container.NetworkSettings.Networks).flatMap(({ NetworkID, IPAddress }) => {
          const id = networkIds.get(NetworkID);
          return id === undefined ? [] : [[id, IPAddress] as const];
        }),
      ),
    })),
    attached: attached.map(({ container, addresses }) => ({ id: container.Id, addresses })),
    engineNetworks: networks.flatMap((network) => {
      const networkId = network.Labels?.[NETWORK_LABEL];
      return networkId === undefined ? [] : [{ name: network.Name, networkId }];
    }),
    devices,
    remotes: parseRemotes(devices, neighbours, forwarding),
    tables: ours.names,
    publishedPorts: ours.ports,
    balanced: [
      { where: 'the host', addresses: ours.addresses },
      ...(await Promise.all(running.map((container) => taskTables(host, power, container)))),
    ],
    firewallDevices: firewallDevices(firewall),
    routingRules: parseRules(rules),
  };
}

/** A container's addresses in networks of ours, those it was given for good if it does not run: cluster network id → address. */
function attachedAddresses({ NetworkSettings }: ApiContainer, networks: readonly ApiNetwork[]): Record<string, string> {
  return Object.fromEntries(
    Object.entries(NetworkSettings.Networks).flatMap(([name, { IPAMConfig, IPAddress }]) => {
      const networkId = networks.find((network) => network.Name === name)?.Labels?.[NETWORK_LABEL];
      return networkId === undefined ? [] : [[networkId, IPAMConfig?.IPv4Address || IPAddress] as const];
    }),
  );
}

/** The addresses in our tables inside the network namespace of a running task or single container. */
async function taskTables(
  host: HostPlan,
  power: ProcessId,
  container: ApiContainer,
): Promise<{ where: string; addresses: string[] }> {
  const taskId = container.Labels[TASK_LABEL];
  const where = taskId === undefined ? `container ${container.Id.slice(0, 12)}` : `task ${taskId}`;
  const { State } = await callJson<{ State: { Pid: number } }>(
    host.engineSocket,
    'GET',
    `/containers/${container.Id}/json`,
  );
  if (State.Pid === 0) return { where, addresses: [] };
  const [nsenter = '', ...prefix] = enter(power);
  const listed = await run(nsenter, [
    ...prefix,
    'nsenter',
    '--target',
    String(State.Pid),
    '--net',
    '--',
    'nft',
    '-j',
    'list',
    'ruleset',
  ]);
  return { where, addresses: ourTables(listed).addresses };
}

/** Our links in the output of `ip -details -json address` (without details it hides the alias): an alias `drover NODE NETWORK` says what for. */
export function parseLinks(text: string): HostFacts['devices'] {
  const links: { ifname?: string; ifalias?: string; addr_info?: { family: string; local: string }[] }[] =
    JSON.parse(text);
  return links
    .filter(({ ifname }) => ifname !== undefined && OUR_LINK.test(ifname))
    .map(({ ifname = '', ifalias = '', addr_info: addresses = [] }) => ({
      name: ifname,
      networkId: ifalias.split(' ')[2] ?? '',
      addresses: addresses.filter(({ family }) => family === 'inet').map(({ local }) => local),
    }));
}

/** What our VXLAN devices hold, from the outputs of `ip -json neigh` and `bridge -json fdb`: pairs that fit together. */
export function parseRemotes(
  devices: HostFacts['devices'],
  neighbours: string,
  forwarding: string,
): HostFacts['remotes'] {
  const networks = new Map(devices.map(({ name, networkId }) => [name, networkId]));
  const entries: { ifname?: string; mac?: string; dst?: string }[] = JSON.parse(forwarding || '[]');
  // The bridge lists a port's addresses too, without a destination.
  const hosts = new Map(
    entries.flatMap(({ ifname, mac, dst }) => (dst === undefined ? [] : [[`${ifname} ${mac}`, dst]])),
  );
  const known: { dev?: string; dst?: string; lladdr?: string }[] = JSON.parse(neighbours || '[]');
  return known.flatMap(({ dev = '', dst, lladdr }) => {
    const networkId = networks.get(dev);
    const host = hosts.get(`${dev} ${lladdr}`);
    return networkId === undefined || dst === undefined || host === undefined
      ? []
      : [{ networkId, address: dst, host }];
  });
}

/** Rules in the output of `ip -json rule` that the kernel did not bring along. */
export function parseRules(text: string): string[] {
  const rules: { priority: number }[] = JSON.parse(text);
  return rules.filter(({ priority }) => !KERNEL_RULES.has(priority)).map((rule) => JSON.stringify(rule));
}

/** Our devices that our rules in the output of `iptables -S` name. */
export function firewallDevices(text: string): string[] {
  const ours = text.split('\n').filter((line) => line.includes('--comment "drover'));
  return [
    ...new Set(ours.flatMap((line) => [...line.matchAll(/ -[io] (dr[bv][0-9a-f]+)/g)].map((match) => match[1] ?? ''))),
  ];
}

interface NftItem {
  table?: { name: string };
  map?: { table: string; name: string; elem?: unknown[] };
  [kind: string]: { table?: string; name?: string; elem?: unknown[] } | undefined;
}

/** Our tables in the output of `nft -j list ruleset`: names, ports of their map `targets`, and every address in them. */
export function ourTables(text: string): { names: string[]; ports: string[]; addresses: string[] } {
  const { nftables }: { nftables: NftItem[] } = JSON.parse(text);
  const names = nftables.flatMap(({ table }) =>
    table !== undefined && OUR_TABLE.test(table.name) ? [table.name] : [],
  );
  const parts = nftables.filter((item) =>
    Object.values(item).some((part) => part?.table !== undefined && OUR_TABLE.test(part.table)),
  );
  const keys = parts.flatMap(({ map }) => (map?.name === 'targets' ? (map.elem ?? []) : []));
  return {
    names,
    ports: keys.flatMap((element) => portOf(element) ?? []),
    addresses: [...new Set(JSON.stringify(parts).match(/\b\d{1,3}(?:\.\d{1,3}){3}\b/g))],
  };
}

/** `tcp/8080` of a map element whose key is protocol and port. */
function portOf(element: unknown): string | undefined {
  const [key] = Array.isArray(element) ? (element as unknown[]) : [];
  if (typeof key !== 'object' || key === null || !('concat' in key) || !Array.isArray(key.concat)) return undefined;
  const [protocol, port] = key.concat as unknown[];
  return typeof protocol === 'string' && typeof port === 'number' ? `${protocol}/${port}` : undefined;
}
