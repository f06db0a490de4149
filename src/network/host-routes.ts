/** What a host's own routes and addresses take up, so that no overlay is ever laid over them (decision 6). */
import { formatSubnet, parseSubnet } from '../model/addresses.ts';
import { listOf } from './command.ts';
import type { CommandRunner } from './command.ts';

/** Our own bridges and VXLAN devices, by name (names.ts). */
const OUR_DEVICE = /^dr[bv][0-9a-f]{10}$/;

interface Link {
  ifname?: string;
  addr_info?: { local: string; prefixlen: number }[];
}

/** CIDRs of all IPv4 routes but the default one, and of all addresses, of this host; without our own bridges. */
export async function hostRoutes(run: CommandRunner): Promise<string[]> {
  const [routes, links] = await Promise.all([
    listOf<{ dst: string; dev?: string; type?: string }>(run, ['ip', '-j', '-4', 'route', 'show', 'table', 'all']),
    listOf<Link>(run, ['ip', '-j', '-4', 'address', 'show']),
  ]);
  const found = new Set<string>();
  const add = (cidr: string): void => {
    const subnet = parseSubnet(cidr.includes('/') ? cidr : `${cidr}/32`);
    if (subnet !== undefined && subnet.prefix > 0) found.add(formatSubnet(subnet));
  };
  for (const { dst, dev, type } of routes) {
    if (dst === 'default' || OUR_DEVICE.test(dev ?? '') || type === 'broadcast' || type === 'multicast') continue;
    if (type !== 'local') add(dst);
  }
  for (const { ifname, addr_info: addresses } of links) {
    if (ifname === undefined || OUR_DEVICE.test(ifname)) continue;
    for (const { local, prefixlen } of addresses ?? []) add(`${local}/${prefixlen}`);
  }
  return [...found].sort();
}
