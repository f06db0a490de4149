/**
 * One overlay on this node: the engine's bridge with this node's own gateway address, the VXLAN device in it, and
 * for every address on another node three lasting entries instead of learning and flooding: which port of the bridge leads
 * to its MAC, which node the VXLAN device sends to for it, and the answer to who asks for the MAC. What stands in the kernel
 * is read once; after that a change costs its own entries.
 *
 * The bridge must not learn what is behind the VXLAN device: when a task gets an address that one on another node had,
 * the bridge would go on looking for it there, and drop what comes from there for it, until the task says something.
 */
import { formatSubnet, macOf, parseSubnet } from '../model/addresses.ts';
import type { NetworkAssignment } from '../model/assignments.ts';
import type { CommandRunner } from './command.ts';
import { CommandFailed, listOf } from './command.ts';
import type { DeviceNames } from './names.ts';
import { deviceNames, engineNetworkName, NETWORK_ID_LABEL, NETWORK_NAME_LABEL, NODE_LABEL } from './names.ts';

/** Bytes a VXLAN header takes from each packet of the underlay. */
const VXLAN_OVERHEAD_BYTES = 50;
const DEFAULT_MTU_BYTES = 1450;
const MTU_OPTION = 'com.docker.network.driver.mtu';

/** The engine as this room needs it: bridge networks by name. */
export interface EngineNetworks {
  /** Creates (or finds, by name) a bridge network and promises its engine id. */
  ensure(network: EngineNetwork): Promise<string>;
  /** The networks with the label `io.drover.node=<node id>`. */
  list(): Promise<{ id: string; name: string; labels: Record<string, string> }[]>;
  /** Removes a network; succeeds if it is gone already, fails while containers are on it. */
  remove(id: string): Promise<void>;
}

export interface EngineNetwork {
  name: string;
  subnet: string;
  gateway: string;
  bridge: string;
  internal: boolean;
  mtu: number;
  labels: Record<string, string>;
  options: Record<string, string>;
}

/** Address → address of the node behind which it is. */
export type Remotes = ReadonlyMap<string, string>;

export interface OverlayDeps {
  nodeId: string;
  dataPathAddress: string;
  engine: EngineNetworks;
  run: CommandRunner;
}

/** The text for `bridge -batch -` and `ip -batch -` that makes `installed` equal `wanted` at these addresses. */
export function forwardingBatch(
  device: string,
  installed: Remotes,
  wanted: Remotes,
  addresses: Iterable<string>,
): { bridge: string[]; neighbours: string[] } {
  const bridge: string[] = [];
  const neighbours: string[] = [];
  for (const address of addresses) {
    const before = installed.get(address);
    const after = wanted.get(address);
    if (before === after) continue;
    const mac = macOf(address);
    if (after === undefined) {
      bridge.push(`fdb del ${mac} dev ${device} self`, `fdb del ${mac} dev ${device} master`);
      neighbours.push(`neigh del ${address} dev ${device}`);
    } else {
      bridge.push(
        `fdb replace ${mac} dev ${device} dst ${after} self permanent`,
        `fdb replace ${mac} dev ${device} master static`,
      );
      neighbours.push(`neigh replace ${address} lladdr ${mac} dev ${device} nud permanent`);
    }
  }
  return { bridge, neighbours };
}

export class Overlay {
  readonly network: NetworkAssignment;
  readonly devices: DeviceNames;
  readonly #deps: OverlayDeps;
  #engineId: string | undefined;
  /** Why there is no VXLAN device; undefined when it stands. */
  #isolated: string | undefined;
  /** What the VXLAN device holds; undefined until read, or when a batch failed half-way. */
  #installed: Map<string, string> | undefined;

  constructor(deps: OverlayDeps, network: NetworkAssignment) {
    this.#deps = deps;
    this.network = network;
    this.devices = deviceNames(deps.nodeId, network.id);
  }

  get engineId(): string | undefined {
    return this.#engineId;
  }

  /** In words, when tasks of this network reach only those on their own node (decision 9). */
  get degraded(): string | undefined {
    return this.#isolated;
  }

  /** Promises the engine's network and the bridge, and the VXLAN device where one can be made. */
  async ensure(): Promise<void> {
    const { network, devices } = this;
    const { run, engine, nodeId } = this.#deps;
    const mtu = await this.#mtu();
    this.#engineId = await engine.ensure({
      name: engineNetworkName(nodeId, network),
      subnet: canonical(network.subnet),
      gateway: network.gateway,
      bridge: devices.bridge,
      internal: network.internal,
      mtu,
      labels: {
        [NODE_LABEL]: nodeId,
        [NETWORK_ID_LABEL]: network.id,
        [NETWORK_NAME_LABEL]: network.name,
      },
      options: { ...network.options, [MTU_OPTION]: String(mtu) },
    });
    await run([
      'ip',
      'link',
      'set',
      'dev',
      devices.bridge,
      'address',
      macOf(network.gateway),
      'alias',
      devices.alias,
      'up',
    ]);
    await this.#ensureVxlan(mtu);
  }

  /** Makes the entries of these addresses (all, if none are given) what `remotes` says. */
  async forward(remotes: Remotes, addresses?: Iterable<string>): Promise<void> {
    if (this.#isolated !== undefined) return;
    const known = this.#installed;
    const installed = known ?? (await this.#read());
    const scope =
      known === undefined || addresses === undefined ? new Set([...installed.keys(), ...remotes.keys()]) : addresses;
    const { bridge, neighbours } = forwardingBatch(this.devices.vxlan, installed, remotes, scope);
    // As they are now: while the commands run, an address may move, and its entry is then still to be made.
    const meant = Array.from(scope, (address) => [address, remotes.get(address)] as const);
    this.#installed = undefined;
    await this.#batch(bridge, neighbours);
    for (const [address, remote] of meant) {
      if (remote === undefined) installed.delete(address);
      else installed.set(address, remote);
    }
    this.#installed = installed;
  }

  /** Takes both devices and the engine's network away; fails while containers are on it. */
  async remove(): Promise<void> {
    await deleteLink(this.#deps.run, this.devices.vxlan);
    this.#installed = undefined;
    if (this.#engineId !== undefined) await this.#deps.engine.remove(this.#engineId);
    this.#engineId = undefined;
    await deleteLink(this.#deps.run, this.devices.bridge);
  }

  async #ensureVxlan(mtu: number): Promise<void> {
    const { run, dataPathAddress } = this.#deps;
    const { vxlan, vxlanMac, bridge, alias } = this.devices;
    const { vni, dataPathPort } = this.network;
    try {
      const steps = [
        `link set dev ${vxlan} alias "${alias}" master ${bridge} up`,
        `link set dev ${vxlan} type bridge_slave learning off`,
      ];
      if (!(await vxlanStands(run, vxlan, vni, dataPathAddress, dataPathPort))) {
        await deleteLink(run, vxlan);
        this.#installed = undefined;
        const kind = `vxlan id ${vni} local ${dataPathAddress} dstport ${dataPathPort} nolearning proxy`;
        steps.unshift(`link add ${vxlan} address ${vxlanMac} mtu ${mtu} type ${kind}`);
      }
      // In one process, which outlives us: a device without the alias is nobody's, and would keep its VNI from all others.
      await run(['ip', '-batch', '-'], { input: steps.join('\n') });
      this.#isolated = undefined;
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error;
      await deleteLink(run, vxlan);
      this.#isolated = `network ${this.network.name} reaches only tasks on this node: ${error.message}`;
    }
  }

  /** What the user said, else the usual 1450, less where the underlay carries less. */
  async #mtu(): Promise<number> {
    const asked = Number(this.network.options[MTU_OPTION]);
    if (Number.isInteger(asked) && asked > 0) return asked;
    const show = ['ip', '-j', '-4', 'address', 'show', 'to', this.#deps.dataPathAddress];
    const links = await listOf<{ mtu?: number; ifname?: string }>(this.#deps.run, show);
    const underlay = links.find((link) => link.mtu !== undefined && link.ifname !== 'lo')?.mtu;
    return underlay === undefined ? DEFAULT_MTU_BYTES : Math.min(DEFAULT_MTU_BYTES, underlay - VXLAN_OVERHEAD_BYTES);
  }

  /** What is there in full. An entry without the others is from a batch that was cut off: it goes, to be made anew if it is wanted. */
  async #read(): Promise<Map<string, string>> {
    const { run } = this.#deps;
    const { vxlan } = this.devices;
    const permanent = ['ip', '-j', '-4', 'neigh', 'show', 'dev', vxlan, 'nud', 'permanent'];
    const [fdb, neighbours] = await Promise.all([
      listOf<{ mac: string; dst?: string; state?: string }>(run, ['bridge', '-j', 'fdb', 'show', 'dev', vxlan]),
      listOf<{ dst: string; lladdr?: string }>(run, permanent),
    ]);
    const remoteOf = new Map(fdb.flatMap(({ mac, dst }) => (dst === undefined ? [] : [[mac, dst]])));
    const ports = new Set(fdb.flatMap(({ mac, dst, state }) => (dst === undefined && state === 'static' ? [mac] : [])));
    const installed = new Map<string, string>();
    const bridge: string[] = [];
    const ip: string[] = [];
    for (const { dst, lladdr = '' } of neighbours) {
      const remote = lladdr === macOf(dst) && ports.has(lladdr) ? remoteOf.get(lladdr) : undefined;
      if (remote === undefined) ip.push(`neigh del ${dst} dev ${vxlan}`);
      else installed.set(dst, remote);
    }
    const whole = new Set([...installed.keys()].map(macOf));
    for (const mac of remoteOf.keys()) if (!whole.has(mac)) bridge.push(`fdb del ${mac} dev ${vxlan} self`);
    for (const mac of ports) if (!whole.has(mac)) bridge.push(`fdb del ${mac} dev ${vxlan} master`);
    await this.#batch(bridge, ip);
    return installed;
  }

  async #batch(bridge: readonly string[], ip: readonly string[]): Promise<void> {
    const { run } = this.#deps;
    if (bridge.length > 0) await run(['bridge', '-batch', '-'], { input: bridge.join('\n') });
    if (ip.length > 0) await run(['ip', '-batch', '-'], { input: ip.join('\n') });
  }
}

/** Deletes a device; it may be gone already. */
export async function deleteLink(run: CommandRunner, device: string): Promise<void> {
  try {
    await run(['ip', 'link', 'delete', 'dev', device]);
  } catch (error) {
    if (!(error instanceof CommandFailed && /Cannot find device|does not exist/.test(error.stderr))) throw error;
  }
}

interface VxlanLink {
  ifname?: string;
  linkinfo?: { info_data?: { id?: number; local?: string; port?: number } };
}

async function vxlanStands(
  run: CommandRunner,
  device: string,
  vni: number,
  local: string,
  port: number,
): Promise<boolean> {
  const links = await listOf<VxlanLink>(run, ['ip', '-j', '-d', 'link', 'show', 'type', 'vxlan']);
  const data = links.find((link) => link.ifname === device)?.linkinfo?.info_data;
  return data?.id === vni && data.local === local && data.port === port;
}

function canonical(cidr: string): string {
  const subnet = parseSubnet(cidr);
  if (subnet === undefined) throw new RangeError(`not a subnet: ${cidr}`);
  return formatSubnet(subnet);
}
