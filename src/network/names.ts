/**
 * What our things are called in the kernel and the engine. Several `droverd` may share one network namespace
 * (decision 9), so every name is a hash of node and network, and everything carries who made it.
 */
import { createHash } from 'node:crypto';
import type { NetworkAssignment } from '../model/assignments.ts';

/** Engine labels that say what a network of ours is (decision 8: the API hides what carries them). */
export const NODE_LABEL = 'io.drover.node';
export const NETWORK_ID_LABEL = 'io.drover.network.id';
export const NETWORK_NAME_LABEL = 'io.drover.network.name';

export interface DeviceNames {
  bridge: string;
  vxlan: string;
  /**
   * Of the VXLAN device. One that the kernel draws is replaced by systemd's udev (`MACAddressPolicy=persistent`) some moments
   * later, and with it go all neighbour entries. It is nobody's address: those of an overlay begin with 02:42.
   */
  vxlanMac: string;
  /** `ifalias` of both, by which leftovers are found. */
  alias: string;
}

/** Device names fit the kernel's 15 characters. */
export function deviceNames(nodeId: string, networkId: string): DeviceNames {
  const hash = shortHash(`${nodeId}/${networkId}`, 10);
  return {
    bridge: `drb${hash}`,
    vxlan: `drv${hash}`,
    vxlanMac: `06:${hash.match(/../g)!.join(':')}`,
    alias: `drover ${nodeId} ${networkId}`,
  };
}

/** The network a device alias of this node names, or undefined if the device is not ours. */
export function networkOfAlias(nodeId: string, alias: string): string | undefined {
  const prefix = `drover ${nodeId} `;
  return alias.startsWith(prefix) ? alias.slice(prefix.length) : undefined;
}

/**
 * A container's default gateway is in the network whose name sorts first (trap 1; moby 20.10 to 27 alike). So
 * the ingress network comes first, because replies to published ports leave that way, and internal ones last.
 */
export function engineNetworkName(
  nodeId: string,
  network: Pick<NetworkAssignment, 'id' | 'ingress' | 'internal'>,
): string {
  const rank = network.ingress ? 0 : network.internal ? 2 : 1;
  return `drover-${rank}-${shortHash(`${nodeId}/${network.id}`, 10)}`;
}

/** The table of this node's published ports in the host's namespace. */
export function hostTableName(nodeId: string): string {
  return `drover_${shortHash(nodeId, 8)}`;
}

/** The comment of this node's rules in the engine's firewall chains. */
export function firewallComment(nodeId: string): string {
  return `drover ${shortHash(nodeId, 8)}`;
}

/** A chain name for a key of any characters: nft allows letters, digits, `_`; at most 31 of them on old kernels. */
export function chainName(key: string): string {
  return `b_${shortHash(key, 16)}`;
}

function shortHash(text: string, length: number): string {
  return createHash('sha256').update(text).digest('hex').slice(0, length);
}
