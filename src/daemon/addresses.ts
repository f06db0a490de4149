/** Which address a node listens on and which it tells others: rules and error texts are Docker's (docker-api.md 1.2). */
import { isIPv4 } from 'node:net';
import type { NetworkInterfaceInfo } from 'node:os';

export type Interfaces = NodeJS.Dict<NetworkInterfaceInfo[]>;

/** An address cannot be chosen or is none. Status 400. */
export class AddressError extends Error {
  override readonly name = 'AddressError';
}

export interface Endpoint {
  host: string;
  port: number;
}

export const DEFAULT_PORT = 2377;

/** `host`, `host:port` or an interface's name with or without a port. Throws AddressError. */
export function parseEndpoint(text: string, interfaces: Interfaces, defaultPort = DEFAULT_PORT): Endpoint {
  const [name = '', portText, rest] = text.split(':');
  const port = portText === undefined || portText === '' ? defaultPort : Number(portText);
  if (rest !== undefined || !Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new AddressError(
      `invalid address ${text}: expected an IPv4 address or an interface, as in 10.0.0.5:2377 or eth0:2377`,
    );
  }
  return { host: resolveHost(name, interfaces), port };
}

/** The IPv4 address `name` is, or the only one an interface of that name has. Throws AddressError. */
export function resolveHost(name: string, interfaces: Interfaces): string {
  if (isIPv4(name)) return name;
  const addresses = interfaces[name];
  if (addresses === undefined) {
    throw new AddressError(`invalid address ${name}: it is neither an IPv4 address nor an interface of this host`);
  }
  const own = addresses.filter((address) => address.family === 'IPv4').map((address) => address.address);
  if (own.length === 1) return own[0]!;
  throw new AddressError(
    own.length === 0
      ? `interface ${name} has no IPv4 address`
      : `interface ${name} has more than one IPv4 address (${own.join(' and ')})`,
  );
}

/** The only address this host has beside loopback and bridges of containers. Throws AddressError if there are several. */
export function onlyAddress(interfaces: Interfaces): string {
  const found = Object.entries(interfaces)
    .filter(([name]) => !/^(lo$|docker|br-|veth|dr[bv])/.test(name))
    .flatMap(([name, addresses]) =>
      (addresses ?? []).filter((a) => a.family === 'IPv4' && !a.internal).map((a) => ({ name, address: a.address })),
    );
  if (found.length === 1) return found[0]!.address;
  if (found.length === 0) throw new AddressError("could not find the system's IP address");
  const list = found.map(({ name, address }) => `${address} on ${name}`).join(' and ');
  throw new AddressError(
    `could not choose an IP address to advertise since this system has multiple addresses (${list})`,
  );
}

/** What a user asks for; what is left out is chosen. */
export interface WantedAddresses {
  listenAddr: { host: string; port?: number } | undefined;
  advertiseAddr: { host: string; port?: number } | undefined;
  /** IP or interface. */
  dataPathAddr: string | undefined;
}

export interface ChosenAddresses {
  /** host:port */
  listenAddress: string;
  advertiseAddress: string;
  advertisePort: number;
  dataPathAddress: string;
}

/**
 * What to listen on and what to tell others: the request's, else the flags', else the only address there is. Throws
 * AddressError.
 */
export function chooseAddresses(
  wanted: WantedAddresses,
  flags: { listenAddr: string; advertiseAddr: string; dataPathAddr: string },
  interfaces: Interfaces,
): ChosenAddresses {
  const listen = wanted.listenAddr ?? parseEndpoint(flags.listenAddr, interfaces);
  const listenPort = listen.port ?? DEFAULT_PORT;
  const listenHost = resolveHost(listen.host, interfaces);
  const advertise =
    wanted.advertiseAddr ??
    (flags.advertiseAddr === '' ? undefined : parseEndpoint(flags.advertiseAddr, interfaces, listenPort));
  const otherwise = () => (listenHost === '0.0.0.0' ? onlyAddress(interfaces) : listenHost);
  const advertiseAddress = advertise === undefined ? otherwise() : resolveHost(advertise.host, interfaces);
  const dataPath = wanted.dataPathAddr ?? flags.dataPathAddr;
  return {
    listenAddress: `${listenHost}:${listenPort}`,
    advertiseAddress,
    advertisePort: advertise?.port ?? listenPort,
    dataPathAddress: dataPath === '' ? advertiseAddress : resolveHost(dataPath, interfaces),
  };
}
