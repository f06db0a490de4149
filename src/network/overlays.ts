/** All overlays of this node: made, changed and removed as the facts say; what an earlier life left is found again. */
import type { NetworkAssignment } from '../model/assignments.ts';
import { listOf } from './command.ts';
import type { CommandRunner } from './command.ts';
import type { Facts } from './facts.ts';
import { NETWORK_ID_LABEL, networkOfAlias } from './names.ts';
import type { EngineNetworks, OverlayDeps } from './overlay.ts';
import { deleteLink, Overlay } from './overlay.ts';

export class Overlays {
  readonly #deps: OverlayDeps;
  readonly #facts: Facts;
  readonly #overlays = new Map<string, Overlay>();

  constructor(deps: OverlayDeps, facts: Facts) {
    this.#deps = deps;
    this.#facts = facts;
  }

  get(networkId: string): Overlay | undefined {
    return this.#overlays.get(networkId);
  }

  all(): Iterable<Overlay> {
    return this.#overlays.values();
  }

  /** Makes one network what the facts say, or takes it away. */
  async update(networkId: string): Promise<void> {
    const network = this.#facts.network(networkId)?.network;
    const standing = this.#overlays.get(networkId);
    if (standing !== undefined && (network === undefined || shapeOf(network) !== shapeOf(standing.network))) {
      await standing.remove();
      this.#overlays.delete(networkId);
    }
    if (network === undefined) return;
    const overlay = this.#overlays.get(networkId) ?? new Overlay(this.#deps, network);
    // Kept from the first attempt on, so that what it made is removed even if it never came to its end.
    this.#overlays.set(networkId, overlay);
    await overlay.ensure();
    if (network.ingress) await letIngressPass(this.#deps.run, overlay.devices.bridge);
  }

  /** Makes forwarding entries right: of these addresses, or of all. */
  async forward(networkId: string, addresses?: ReadonlySet<string>): Promise<void> {
    const overlay = this.#overlays.get(networkId);
    const remotes = this.#facts.network(networkId)?.remotes;
    if (overlay?.engineId !== undefined && remotes !== undefined) await overlay.forward(remotes, addresses);
  }

  /** Removes networks and devices of this node that the facts do not know: left by an earlier life. */
  async removeLeftovers(): Promise<void> {
    const { engine, run, nodeId } = this.#deps;
    const known = (networkId: string | undefined): boolean =>
      networkId !== undefined && this.#facts.network(networkId)?.network !== undefined;
    const devices = await ourDevices(run, nodeId);
    const gone = devices.filter((device) => !known(device.networkId));
    for (const { name } of gone.filter((device) => device.kind === 'vxlan')) await deleteLink(run, name);
    await removeEngineNetworks(engine, known);
    for (const { name } of gone.filter((device) => device.kind === 'bridge')) await deleteLink(run, name);
  }
}

/** What cannot be changed on a network that stands; names and labels can. */
function shapeOf({ subnet, gateway, vni, dataPathPort, ingress, internal, options }: NetworkAssignment): string {
  const sorted = Object.keys(options)
    .sort()
    .map((key) => [key, options[key]]);
  return JSON.stringify([subnet, gateway, vni, dataPathPort, ingress, internal, sorted]);
}

async function removeEngineNetworks(
  engine: EngineNetworks,
  known: (networkId: string | undefined) => boolean,
): Promise<void> {
  for (const { id, labels } of await engine.list()) if (!known(labels[NETWORK_ID_LABEL])) await engine.remove(id);
}

interface OurDevice {
  name: string;
  kind: 'vxlan' | 'bridge';
  networkId: string;
}

async function ourDevices(run: CommandRunner, nodeId: string): Promise<OurDevice[]> {
  const links = await listOf<{ ifname?: string; ifalias?: string }>(run, ['ip', '-j', 'link', 'show']);
  return links.flatMap(({ ifname, ifalias }) => {
    const networkId = networkOfAlias(nodeId, ifalias ?? '');
    if (ifname === undefined || networkId === undefined) return [];
    return [{ name: ifname, kind: ifname.startsWith('drv') ? 'vxlan' : 'bridge', networkId } as const];
  });
}

/** Published ports are routed; and what this host asks itself at 127.0.0.1 may leave by the bridge. */
async function letIngressPass(run: CommandRunner, bridge: string): Promise<void> {
  await run(['sysctl', '-qw', 'net.ipv4.ip_forward=1', `net.ipv4.conf.${bridge}.route_localnet=1`]);
}
