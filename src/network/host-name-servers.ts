/** The name servers that the engine asks for its containers when nobody said others: those of the host. */
import { readFile } from 'node:fs/promises';
import { parseIPv4 } from '../model/addresses.ts';
import { parseResolvConf } from './resolver/upstream.ts';

const RESOLV_CONF = '/etc/resolv.conf';
/** Where the real ones stand when the host's own resolver is systemd's. */
const SYSTEMD_RESOLV_CONF = '/run/systemd/resolve/resolv.conf';
/** The engine's own choice for a host that has none. */
const ENGINE_DEFAULTS = ['8.8.8.8', '8.8.4.4'];

/**
 * Plain IPv4 addresses, at least one. A server on the host's loopback is left out: the engine asks it from the host, where
 * no rule of a container can change it.
 */
export async function hostNameServers(
  read: (path: string) => Promise<string> = (path) => readFile(path, 'utf8'),
): Promise<string[]> {
  for (const path of [RESOLV_CONF, SYSTEMD_RESOLV_CONF]) {
    const text = await read(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '';
      throw error;
    });
    const servers = parseResolvConf(text).filter((server) => parseIPv4(server) !== undefined);
    const others = servers.filter((server) => !server.startsWith('127.'));
    if (others.length > 0) return others;
  }
  return ENGINE_DEFAULTS;
}
