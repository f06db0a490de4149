/** Which subnet and VXLAN id a network gets. Pure decisions; an overlay never overlaps another or a host's routes (decision 6). */
import {
  formatSubnet,
  parseIPv4,
  parseSubnet,
  subnetContains,
  subnetSize,
  subnetsOverlap,
  type Subnet,
} from '../../model/addresses.ts';
import type { NetworkSpec } from '../../model/specs.ts';

/** VXLAN ids: from where Docker Swarm begins too, so that no VLAN id is met, up to the last of 24 bits. */
export const VNIS = { first: 4097, last: 2 ** 24 - 1 };

/** The ingress network holds a gateway of every node and an endpoint of every task with a published port. */
const INGRESS_PREFIX = 16;
/** Of a pool no larger than that, it takes one part in 2 to the power of this, or the size of the others. */
const INGRESS_SHARE_BITS = 4;
/** Room for a node's gateway and a task, besides the network's own first, last and nominal gateway address. */
const LONGEST_PREFIX = 29;

/** Something that already stands where a new subnet might; `what` names it in the sentence of a refusal. */
export interface Taken {
  subnet: Subnet;
  what: string;
}

export interface SubnetPolicy {
  /** CIDRs to cut from. */
  pools: readonly string[];
  prefix: number;
}

/**
 * The subnet for a network: the user's, or the next free one of the pools at or after address `from` (so that one
 * just released rests a while). The error is in words for users.
 */
export function chooseSubnet(
  spec: NetworkSpec,
  taken: readonly Taken[],
  policy: SubnetPolicy,
  from = 0,
): { subnet: Subnet } | { error: string } {
  const user = spec.IPAM.Config.find((config) => config.Subnet);
  if (user?.Subnet !== undefined) return checkUserSubnet(user.Subnet, user, taken);
  const pools = policy.pools.map(parseSubnet).filter((pool) => pool !== undefined);
  for (const prefix of spec.Ingress ? [ingressPrefix(pools, policy.prefix), policy.prefix] : [policy.prefix]) {
    const subnet = firstFree(pools, prefix, taken, from) ?? firstFree(pools, prefix, taken, 0);
    if (subnet !== undefined) return { subnet };
  }
  return { error: `no free /${policy.prefix} subnet is left in the address pools (${policy.pools.join(', ')})` };
}

/** Pools of the user may be small: the ingress network leaves most of them to the others. */
function ingressPrefix(pools: readonly Subnet[], prefix: number): number {
  const largest = Math.min(...pools.map((pool) => pool.prefix));
  return Math.max(INGRESS_PREFIX, Math.min(largest + INGRESS_SHARE_BITS, prefix));
}

/** The range addresses are given from, and the one that is kept for who asks the network for its gateway. */
export function addressPlan(spec: NetworkSpec, subnet: Subnet): { range: Subnet; gateway: number } {
  const config = spec.IPAM.Config.find((candidate) => candidate.Subnet);
  const range = config?.IPRange ? parseSubnet(config.IPRange) : undefined;
  const gateway = config?.Gateway ? parseIPv4(config.Gateway) : undefined;
  return { range: range ?? subnet, gateway: gateway ?? subnet.base + 1 };
}

function checkUserSubnet(
  cidr: string,
  config: { IPRange?: string; Gateway?: string },
  taken: readonly Taken[],
): { subnet: Subnet } | { error: string } {
  const subnet = parseSubnet(cidr);
  if (subnet === undefined) return { error: `subnet ${cidr} is not an IPv4 subnet` };
  if (subnet.prefix > LONGEST_PREFIX)
    return { error: `subnet ${cidr} is too small for an overlay: the smallest is a /${LONGEST_PREFIX}` };
  if (config.IPRange) {
    const range = parseSubnet(config.IPRange);
    if (range === undefined || range.prefix < subnet.prefix || !subnetContains(subnet, range.base)) {
      return { error: `IP range ${config.IPRange} does not lie in subnet ${cidr}` };
    }
  }
  if (config.Gateway) {
    const gateway = parseIPv4(config.Gateway);
    if (gateway === undefined || !subnetContains(subnet, gateway)) {
      return { error: `gateway ${config.Gateway} does not lie in subnet ${cidr}` };
    }
  }
  const other = taken.find((candidate) => subnetsOverlap(candidate.subnet, subnet));
  if (other !== undefined) return { error: `subnet ${cidr} overlaps ${formatSubnet(other.subnet)} of ${other.what}` };
  return { subnet };
}

function firstFree(
  pools: readonly Subnet[],
  prefix: number,
  taken: readonly Taken[],
  from: number,
): Subnet | undefined {
  const size = 2 ** (32 - prefix);
  for (const pool of pools) {
    const end = pool.base + subnetSize(pool);
    let base = Math.max(pool.base, Math.ceil(from / size) * size);
    while (base + size <= end) {
      const candidate = { base, prefix };
      const other = taken.find(({ subnet }) => subnetsOverlap(subnet, candidate));
      if (other === undefined) return candidate;
      base = Math.max(base + size, Math.ceil((other.subnet.base + subnetSize(other.subnet)) / size) * size);
    }
  }
  return undefined;
}

/** The next VXLAN id at or after `from` that is not in use, going round; undefined if all are. */
export function chooseVni(inUse: ReadonlySet<number>, from: number, range = VNIS): number | undefined {
  const count = range.last - range.first + 1;
  if (inUse.size >= count) return undefined;
  for (let i = 0; i < count; i++) {
    const vni = range.first + ((Math.max(from, range.first) - range.first + i) % count);
    if (!inUse.has(vni)) return vni;
  }
  return undefined;
}
