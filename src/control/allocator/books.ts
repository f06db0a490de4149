/**
 * What is given out: addresses, VXLAN ids, subnets, ports. Kept in memory, made from the store at the start and
 * moved on by its events; whatever is taken between a decision and its event is marked at once, and `claim` says it
 * twice without harm. Promises: at any time after an event the books equal those made anew from the store, but for
 * where round-robin goes on.
 */
import { formatIPv4, formatSubnet, parseIPv4, parseSubnet, subnetContains, subnetSize } from '../../model/addresses.ts';
import {
  CLUSTER_ROW,
  type ContainerAttachment,
  type Network,
  type Node,
  type Service,
  type Task,
} from '../../model/objects.ts';
import { TaskState, isTerminal } from '../../model/states.ts';
import type { Event, View } from '../../store/store.ts';
import { AddressPool } from './address-pool.ts';
import { PortPool } from './port-pool.ts';
import { VNIS, addressPlan, chooseSubnet, chooseVni, type Taken } from './subnets.ts';

const NOTHING: ReadonlySet<string> = new Set();

/** Scarce things, by the names under which others wait for them. */
export const PORTS = 'ports';
export const SUBNETS = 'subnets';
export const INGRESS = 'ingress';
export const addressesOf = (networkId: string): string => `addresses/${networkId}`;
/** The same addresses, for nodes: they may take what is kept back from others. */
export const gatewaysOf = (networkId: string): string => `gateways/${networkId}`;

interface Overlay {
  name: string;
  subnet: string;
  vni: number;
  pool: AddressPool;
  /** Nodes with a gateway address here. */
  gateways: Set<string>;
  /** Tasks with an address here that have no node yet. */
  unplaced: Set<string>;
}

export class Books {
  #overlays = new Map<string, Overlay>();
  #vnis = new Set<number>();
  #ports = new PortPool();
  /** CIDR → how many nodes report it. */
  #routes = new Map<string, number>();
  #nodes = 0;
  #pools: { pools: readonly string[]; prefix: number } = { pools: [], prefix: 0 };
  #nextSubnet = 0;
  #nextVni = VNIS.first;
  #ingress: string | undefined;

  /** Forgets everything and reads the store. */
  rebuild(view: View): void {
    this.#overlays = new Map();
    this.#vnis = new Set();
    this.#ports = new PortPool();
    this.#routes = new Map();
    this.#nodes = 0;
    this.#ingress = undefined;
    this.#readCluster(view);
    for (const network of view.networks.all()) this.claimNetwork(network);
    for (const node of view.nodes.all()) {
      this.#nodes += 1;
      this.#countRoutes(node, 1);
      this.claimNode(node);
    }
    for (const service of view.services.all()) this.claimService(service);
    const newest = new Map<string, Task>();
    for (const task of view.tasks.all()) {
      this.claimTask(task);
      for (const { networkId } of task.networks)
        if ((newest.get(networkId)?.meta.createdAt ?? '') < task.meta.createdAt) newest.set(networkId, task);
    }
    for (const attachment of view.attachments.all()) this.claimAttachment(attachment);
    // Where the leader before was: what it took back a moment ago, others may still hold for its last owner's.
    for (const [networkId, { networks }] of newest) {
      const value = parseIPv4(networks.find((each) => each.networkId === networkId)?.address ?? '');
      if (value !== undefined) this.#overlays.get(networkId)?.pool.goOnAfter(value);
    }
  }

  /** Moves the books on by one committed change; returns the scarce things there may be more of now. */
  apply(event: Event, view: View): ReadonlySet<string> {
    // Nearly all events are of tasks that have nothing from the books.
    if (event.table === 'tasks' && takesNothing(event.before) && takesNothing(event.after)) return NOTHING;
    const freed = new Set<string>();
    switch (event.table) {
      case 'clusters':
        this.#readCluster(view);
        freed.add(SUBNETS);
        break;
      case 'networks':
        if (event.before !== undefined && event.after === undefined) this.#releaseNetwork(event.before, freed);
        if (event.after !== undefined) {
          this.claimNetwork(event.after);
          if (event.before?.allocation === undefined && event.after.allocation !== undefined) {
            freeAddresses(event.after.id, freed);
            if (event.after.spec.Ingress) freed.add(INGRESS);
          }
        }
        break;
      case 'nodes':
        this.#applyNode(event.before, event.after, freed);
        break;
      case 'services':
        if (event.before !== undefined) this.#releaseService(event.before, event.after, freed);
        if (event.after !== undefined) this.claimService(event.after);
        break;
      case 'tasks':
        if (event.before !== undefined) this.#releaseTask(event.before, event.after, freed);
        if (event.after !== undefined) this.claimTask(event.after);
        break;
      case 'attachments': {
        const { before, after } = event;
        if (before?.address !== undefined && before.address !== after?.address)
          this.#releaseAddress(before.networkId, before.address, freed);
        if (after !== undefined) this.claimAttachment(after);
        break;
      }
      case 'serviceSpecs':
      case 'stackDeploys':
      case 'stackRevisions':
        break;
    }
    return freed;
  }

  /** The allocated ingress network, if there is one. */
  get ingress(): string | undefined {
    return this.#ingress;
  }

  /** A subnet and VXLAN id for a network, marked as taken; or why there is none, in words. */
  takeNetwork(network: Network): { allocation: { subnet: string; vni: number } } | { error: string } {
    const chosen = chooseSubnet(network.spec, this.#standing(), this.#pools, this.#nextSubnet);
    if ('error' in chosen) return chosen;
    const vni = chooseVni(this.#vnis, this.#nextVni);
    if (vni === undefined) return { error: 'all VXLAN identifiers are in use' };
    const allocation = { subnet: formatSubnet(chosen.subnet), vni };
    this.claimNetwork({ ...network, allocation });
    return { allocation };
  }

  /**
   * How many addresses services may still take in a network; 0 if it has no subnet yet.
   * One address is kept back for each task without a node, as long as some node lacks a gateway: else a small
   * network could fill up with tasks that no node has the gateway to run.
   */
  room(networkId: string): number {
    const overlay = this.#overlays.get(networkId);
    if (overlay === undefined) return 0;
    return Math.max(0, overlay.pool.free - Math.min(overlay.unplaced.size, this.#gatewaysToCome(overlay)));
  }

  /** How many addresses are free, those kept back included. */
  free(networkId: string): number {
    return this.#overlays.get(networkId)?.pool.free ?? 0;
  }

  /** As `room`, for one more task. */
  roomForTask(networkId: string): boolean {
    const overlay = this.#overlays.get(networkId);
    return (
      overlay !== undefined && overlay.pool.free > Math.min(overlay.unplaced.size + 1, this.#gatewaysToCome(overlay))
    );
  }

  /** The next free address of a network, marked as taken; undefined if there is none. */
  takeAddress(networkId: string): string | undefined {
    const address = this.#overlays.get(networkId)?.pool.take();
    return address === undefined ? undefined : formatIPv4(address);
  }

  /** Takes this very address of a network; returns why it cannot be had, in words, or undefined. */
  takeWanted(network: Network, address: string): string | undefined {
    const { pool, subnet = '' } = this.#overlays.get(network.id) ?? {};
    const range = parseSubnet(subnet);
    const value = parseIPv4(address);
    if (pool === undefined || range === undefined || value === undefined) return this.whyNoAddress(network);
    if (!subnetContains(range, value))
      return `Invalid address ${address}: It does not belong to any of this network's subnets`;
    if (!pool.isFree(value)) return 'Address already in use';
    pool.claim(value);
    return undefined;
  }

  /** Why a network has no address to give, in words. */
  whyNoAddress(network: Network): string {
    const overlay = this.#overlays.get(network.id);
    if (overlay === undefined)
      return `network ${network.spec.Name} has no subnet${network.allocationError ? `: ${network.allocationError}` : ' yet'}`;
    const { capacity, free } = overlay.pool;
    const kept = free > 0 ? ` or kept for the gateways of nodes` : '';
    return `network ${overlay.name} is full: all ${capacity} addresses of ${overlay.subnet} are in use${kept}`;
  }

  get ports(): PortPool {
    return this.#ports;
  }

  claimNetwork(network: Network): void {
    if (network.allocation === undefined || this.#overlays.has(network.id)) return;
    const subnet = parseSubnet(network.allocation.subnet);
    if (subnet === undefined)
      throw new Error(`network ${network.id} is stored with the subnet ${network.allocation.subnet}`);
    const { range, gateway } = addressPlan(network.spec, subnet);
    this.#overlays.set(network.id, {
      name: network.spec.Name,
      subnet: network.allocation.subnet,
      vni: network.allocation.vni,
      pool: new AddressPool(subnet, range, [gateway]),
      gateways: new Set(),
      unplaced: new Set(),
    });
    this.#vnis.add(network.allocation.vni);
    this.#nextVni = network.allocation.vni + 1;
    if (!network.spec.IPAM.Config.some((config) => config.Subnet)) this.#nextSubnet = subnet.base + subnetSize(subnet);
    if (network.spec.Ingress) this.#ingress = network.id;
  }

  claimNode(node: Node): void {
    for (const [networkId, address] of Object.entries(node.gateways)) {
      this.#claimAddress(networkId, address);
      this.#overlays.get(networkId)?.gateways.add(node.id);
    }
  }

  claimService(service: Service): void {
    for (const { networkId, address } of service.endpoint?.virtualIps ?? []) this.#claimAddress(networkId, address);
    for (const port of meshPorts(service)) this.#ports.claim(port.protocol, port.publishedPort, service.id);
  }

  claimTask(task: Task): void {
    if (isTerminal(task.status.state)) return;
    for (const { networkId, address } of task.networks) {
      this.#claimAddress(networkId, address);
      if (task.status.state < TaskState.ASSIGNED) this.#overlays.get(networkId)?.unplaced.add(task.id);
    }
  }

  claimAttachment({ networkId, address }: ContainerAttachment): void {
    if (address !== undefined) this.#claimAddress(networkId, address);
  }

  /** Everything in the books, for comparing two. */
  contents(): object {
    const overlays = [...this.#overlays].map(([id, overlay]) => ({
      id,
      vni: overlay.vni,
      subnet: overlay.subnet,
      inUse: overlay.pool.inUse(),
      free: overlay.pool.free,
      gateways: [...overlay.gateways].sort(),
      unplaced: [...overlay.unplaced].sort(),
    }));
    return {
      overlays: overlays.sort((a, b) => (a.id < b.id ? -1 : 1)),
      vnis: [...this.#vnis].sort((a, b) => a - b),
      ports: this.#ports.inUse(),
      routes: [...this.#routes].sort(([a], [b]) => (a < b ? -1 : 1)),
      nodes: this.#nodes,
      ingress: this.#ingress,
    };
  }

  #standing(): Taken[] {
    const standing: Taken[] = [];
    for (const overlay of this.#overlays.values()) {
      const subnet = parseSubnet(overlay.subnet);
      if (subnet !== undefined) standing.push({ subnet, what: `network ${overlay.name}` });
    }
    for (const route of this.#routes.keys()) {
      const subnet = parseSubnet(route);
      // A default route covers everything and says nothing of what a host really uses.
      if (subnet !== undefined && subnet.prefix > 0) standing.push({ subnet, what: "a node's own routes" });
    }
    return standing;
  }

  #gatewaysToCome(overlay: Overlay): number {
    return Math.max(0, this.#nodes - overlay.gateways.size);
  }

  #claimAddress(networkId: string, address: string): void {
    const value = parseIPv4(address);
    if (value !== undefined) this.#overlays.get(networkId)?.pool.claim(value);
  }

  #releaseAddress(networkId: string, address: string, freed: Set<string>): void {
    const value = parseIPv4(address);
    const overlay = this.#overlays.get(networkId);
    if (value === undefined || overlay === undefined) return;
    overlay.pool.release(value);
    freeAddresses(networkId, freed);
  }

  #releaseNetwork(network: Network, freed: Set<string>): void {
    const overlay = this.#overlays.get(network.id);
    if (overlay === undefined) return;
    this.#overlays.delete(network.id);
    this.#vnis.delete(overlay.vni);
    if (this.#ingress === network.id) this.#ingress = undefined;
    freed.add(SUBNETS);
  }

  #applyNode(before: Node | undefined, after: Node | undefined, freed: Set<string>): void {
    if (before === undefined) this.#nodes += 1;
    if (after === undefined) {
      this.#nodes -= 1;
      for (const networkId of this.#overlays.keys()) freed.add(addressesOf(networkId));
    }
    if (before?.description?.routes !== after?.description?.routes) {
      if (before !== undefined) this.#countRoutes(before, -1);
      if (after !== undefined) this.#countRoutes(after, 1);
      freed.add(SUBNETS);
    }
    if (before?.gateways === after?.gateways) return;
    for (const [networkId, address] of Object.entries(before?.gateways ?? {})) {
      if (after?.gateways[networkId] === address) continue;
      this.#releaseAddress(networkId, address, freed);
      this.#overlays.get(networkId)?.gateways.delete(before!.id);
    }
    if (after !== undefined) this.claimNode(after);
  }

  #releaseService(before: Service, after: Service | undefined, freed: Set<string>): void {
    if (before.endpoint === after?.endpoint) return;
    const kept = new Set((after?.endpoint?.virtualIps ?? []).map((vip) => `${vip.networkId}/${vip.address}`));
    for (const { networkId, address } of before.endpoint?.virtualIps ?? []) {
      if (!kept.has(`${networkId}/${address}`)) this.#releaseAddress(networkId, address, freed);
    }
    const stays = new Set(
      after === undefined ? [] : meshPorts(after).map((port) => `${port.protocol}/${port.publishedPort}`),
    );
    for (const { protocol, publishedPort } of meshPorts(before)) {
      if (stays.has(`${protocol}/${publishedPort}`)) continue;
      this.#ports.release(protocol, publishedPort, before.id);
      freed.add(PORTS);
    }
  }

  #releaseTask(before: Task, after: Task | undefined, freed: Set<string>): void {
    if (isTerminal(before.status.state)) return;
    const gone = after === undefined || isTerminal(after.status.state);
    const placed = gone || after.status.state >= TaskState.ASSIGNED;
    for (const { networkId, address } of before.networks) {
      if (gone) this.#releaseAddress(networkId, address, freed);
      if (placed && this.#overlays.get(networkId)?.unplaced.delete(before.id)) freed.add(addressesOf(networkId));
    }
  }

  #readCluster(view: View): void {
    const cluster = view.clusters.get(CLUSTER_ROW);
    this.#pools = { pools: cluster?.defaultAddressPool ?? [], prefix: cluster?.subnetSize ?? 0 };
  }

  #countRoutes(node: Node, by: 1 | -1): void {
    for (const route of node.description?.routes ?? []) {
      const count = (this.#routes.get(route) ?? 0) + by;
      if (count > 0) this.#routes.set(route, count);
      else this.#routes.delete(route);
    }
  }
}

function takesNothing(task: Task | undefined): boolean {
  return task === undefined || task.networks.length === 0;
}

function freeAddresses(networkId: string, freed: Set<string>): void {
  freed.add(gatewaysOf(networkId));
  freed.add(addressesOf(networkId));
}

/** The ports a service has in the routing mesh. */
function meshPorts(service: Service) {
  return (service.endpoint?.ports ?? []).filter((port) => port.publishMode === 'ingress' && port.publishedPort > 0);
}
