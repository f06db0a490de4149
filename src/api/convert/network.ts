/** An overlay as Docker's API shows it: in lists and inspect, with its peers and services when verbose. Pure. */
import {
  taskName,
  type ContainerAttachment,
  type Network,
  type Node,
  type Service,
  type Task,
} from '../../model/objects.ts';
import { macOf } from '../../model/addresses.ts';

export function networkJson(network: Network): Record<string, unknown> {
  const { spec } = network;
  return {
    Name: spec.Name,
    Id: network.id,
    Created: network.meta.createdAt,
    Scope: 'swarm',
    Driver: spec.Driver,
    EnableIPv4: true,
    EnableIPv6: spec.EnableIPv6,
    IPAM: ipamJson(network),
    Internal: spec.Internal,
    Attachable: spec.Attachable,
    Ingress: spec.Ingress,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: null,
    Options: optionsJson(network),
    Labels: spec.Labels,
  };
}

export interface NetworkUse {
  nodes: readonly Node[];
  services: readonly Service[];
  tasks: readonly Task[];
  attachments: readonly ContainerAttachment[];
}

/** `docker network inspect --verbose`: the nodes and the services with an address in it. */
export function verboseNetworkJson(network: Network, use: NetworkUse): Record<string, unknown> {
  const peers = use.nodes.filter((node) => node.gateways[network.id] !== undefined);
  const services = use.services.map((service) => [service.spec.Name, serviceInNetwork(network, service, use)]);
  return {
    ...networkJson(network),
    Peers: peers.map((node) => ({
      Name: node.description?.hostname ?? node.id,
      IP: node.description?.dataPathAddress ?? node.status.address,
    })),
    Services: Object.fromEntries([...services, ...containersInNetwork(use)]),
  };
}

/** The shorter form inside of a task's NetworksAttachments. */
export function networkReference(network: Network): object {
  const { spec, meta } = network;
  return {
    ID: network.id,
    Version: { Index: meta.version },
    CreatedAt: meta.createdAt,
    UpdatedAt: meta.updatedAt,
    Spec: {
      Name: spec.Name,
      Labels: spec.Labels,
      DriverConfiguration: { Name: spec.Driver },
      ...(spec.Ingress ? { Ingress: true } : {}),
      ...(spec.Attachable ? { Attachable: true } : {}),
      IPAMOptions: { Driver: { Name: 'default' } },
      Scope: 'swarm',
    },
    DriverState: { Name: spec.Driver, Options: optionsJson(network) },
    IPAMOptions: { Driver: { Name: network.spec.IPAM.Driver }, Configs: ipamConfigs(network) },
  };
}

/** The user's configuration, and the subnet that was chosen where they gave none. */
function ipamJson(network: Network): object {
  const { IPAM: ipam } = network.spec;
  return { Driver: ipam.Driver, Options: ipam.Options ?? null, Config: ipamConfigs(network) };
}

function ipamConfigs(network: Network): object[] {
  const [config = {}] = network.spec.IPAM.Config;
  const subnet = network.allocation?.subnet ?? config.Subnet;
  return subnet === undefined ? [] : [{ ...config, Subnet: subnet }];
}

function optionsJson(network: Network): Record<string, string> {
  const vni = network.allocation?.vni;
  const chosen: Record<string, string> =
    vni === undefined ? {} : { 'com.docker.network.driver.overlay.vxlanid_list': String(vni) };
  return { ...chosen, ...network.spec.Options };
}

/** Containers that are no tasks, as Swarm shows them: those of the service without a name. */
function containersInNetwork({ nodes, attachments }: NetworkUse): [string, object][] {
  const hosts = new Map(nodes.map((node) => [node.id, node.description?.dataPathAddress ?? '']));
  const Tasks = attachments.flatMap(({ address, container, nodeId }) => {
    if (address === undefined || container?.running !== true) return [];
    const Info = { 'Host IP': hosts.get(nodeId) ?? '' };
    return [{ Name: container.name, EndpointID: macOf(address), EndpointIP: address, Info }];
  });
  return Tasks.length === 0 ? [] : [['', { VIP: '<nil>', Ports: [], LocalLBIndex: 0, Tasks }]];
}

function serviceInNetwork(network: Network, service: Service, use: NetworkUse): object {
  const vip = service.endpoint?.virtualIps.find(({ networkId }) => networkId === network.id)?.address ?? '';
  const tasks = use.tasks.filter((task) => task.serviceId === service.id);
  const node = new Map(use.nodes.map((each) => [each.id, each]));
  return {
    VIP: vip,
    // Clients decode a list of strings here, unlike everywhere else.
    Ports: (service.endpoint?.ports ?? []).map(
      ({ targetPort, publishedPort }) => `Target: ${targetPort}, Publish: ${publishedPort}`,
    ),
    LocalLBIndex: 0,
    Tasks: tasks.flatMap((task) => {
      const address = task.networks.find(({ networkId }) => networkId === network.id)?.address;
      if (address === undefined) return [];
      const host = node.get(task.nodeId)?.description?.dataPathAddress ?? '';
      return [{ Name: taskName(task), EndpointID: macOf(address), EndpointIP: address, Info: { 'Host IP': host } }];
    }),
  };
}
