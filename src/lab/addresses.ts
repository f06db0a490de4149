/** Which /24 of 10.77.0.0/16 a lab takes, and who has which address in it. Pure, but for the look at the routes. */
import { parseIPv4, parseSubnet, subnetsOverlap } from '../model/addresses.ts';
import type { Subnet } from '../model/addresses.ts';
import { run } from './processes.ts';

/** How many labs there can be, and how many hosts in one (.254 is the outer machine and its registry). */
export const LAB_COUNT = 256;
export const MAX_HOSTS = 253;
export const REGISTRY_PORT = 5000;

export function labSubnet(number: number): Subnet {
  return { base: (10 << 24) + (77 << 16) + (number << 8), prefix: 24 };
}

/** Address of the `index`-th host, counted from 1. */
export function hostAddress(number: number, index: number): string {
  return `10.77.${number}.${index}`;
}

/** The outer machine on the lab's bridge: the client outside, and the registry. */
export function outsideAddress(number: number): string {
  return `10.77.${number}.254`;
}

export function registryAddress(number: number): string {
  return `${outsideAddress(number)}:${REGISTRY_PORT}`;
}

/** The numbers to try for a lab of this name, best first: 0 for `default`, else one that the name alone decides. */
export function preferredNumbers(name: string): number[] {
  // FNV-1a: any hash that spreads short names will do.
  let hash = 0x811c9dc5;
  for (const char of name) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  const first = name === 'default' ? 0 : 1 + (hash % (LAB_COUNT - 1));
  return Array.from({ length: LAB_COUNT }, (_, step) => (first + step) % LAB_COUNT);
}

/** The numbers, in the given order, whose subnet overlaps nothing that is routed. */
export function clearNumbers(numbers: readonly number[], routed: readonly Subnet[]): number[] {
  return numbers.filter((number) => !routed.some((subnet) => subnetsOverlap(subnet, labSubnet(number))));
}

/** Reads a destination as `ip route` writes it: a CIDR, a bare address, or `default`, which hinders no lab. */
export function parseDestination(text: string): Subnet | undefined {
  const address = parseIPv4(text);
  return address === undefined ? parseSubnet(text) : { base: address, prefix: 32 };
}

/** What this machine has IPv4 routes to, the default route left out. */
export async function routedSubnets(): Promise<Subnet[]> {
  const routes: unknown = JSON.parse(await run('ip', ['-4', '-json', 'route', 'show', 'table', 'all']));
  if (!Array.isArray(routes)) throw new TypeError('ip route printed no list');
  return routes.flatMap((route: { dst?: string }) => parseDestination(route.dst ?? '') ?? []);
}
