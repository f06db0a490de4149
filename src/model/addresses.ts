/** IPv4 addresses and subnets as numbers and strings; MAC addresses derived from them (decisions-and-traps.md 7). */

export interface Subnet {
  /** First address, as an unsigned 32-bit number. */
  base: number;
  /** Prefix length, 0–32. */
  prefix: number;
}

/** The unsigned 32-bit number of a dotted quad, or undefined if it is none (leading zeros are refused). */
export function parseIPv4(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part)) return undefined;
    const octet = Number(part);
    if (octet > 255) return undefined;
    value = value * 256 + octet;
  }
  return value;
}

export function formatIPv4(value: number): string {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.');
}

/** The subnet of a CIDR such as `10.0.1.0/24`; host bits are cut off. Undefined if it is none. */
export function parseSubnet(cidr: string): Subnet | undefined {
  const [address, length, rest] = cidr.split('/');
  if (address === undefined || length === undefined || rest !== undefined || !/^\d{1,2}$/.test(length))
    return undefined;
  const value = parseIPv4(address);
  const prefix = Number(length);
  if (value === undefined || prefix > 32) return undefined;
  return { base: value - (value % 2 ** (32 - prefix)), prefix };
}

export function formatSubnet(subnet: Subnet): string {
  return `${formatIPv4(subnet.base)}/${subnet.prefix}`;
}

/** How many addresses a subnet has, its first and last included. */
export function subnetSize(subnet: Subnet): number {
  return 2 ** (32 - subnet.prefix);
}

export function subnetContains(subnet: Subnet, address: number): boolean {
  return address >= subnet.base && address < subnet.base + subnetSize(subnet);
}

export function subnetsOverlap(a: Subnet, b: Subnet): boolean {
  return subnetContains(a, b.base) || subnetContains(b, a.base);
}

/** The MAC of whatever has this address in an overlay, task or gateway: 02:42 and the address. */
export function macOf(address: string): string {
  const value = parseIPv4(address);
  if (value === undefined) throw new RangeError(`not an IPv4 address: ${address}`);
  const octets = [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  return ['02', '42', ...octets.map((octet) => octet.toString(16).padStart(2, '0'))].join(':');
}
