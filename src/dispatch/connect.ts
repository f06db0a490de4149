/** Dialling a manager: its address, the HTTP/2 connection, and the check of who answers. */
import { connect, type ClientHttp2Session } from 'node:http2';
import { X509Certificate } from 'node:crypto';
import type { DetailedPeerCertificate, PeerCertificate } from 'node:tls';
import type { Clock } from '../model/clock.ts';
import { parseCertificate, UntrustedCertificate, verifyChain } from '../pki/identity.ts';
import { MAX_MANAGER_FRAME_BYTES } from './messages.ts';

export const DEFAULT_PORT = 2377;

/** How a dialler knows managers. */
export interface Trust {
  rootCertificate: string;
  /** Absent while the cluster is known by its root alone. */
  clusterId?: string;
}

/** Who dials, if it already is a node. */
export type Credentials = Pick<Trust, 'rootCertificate'> & { clusterId: string; certificate: string; key: string };

/** A certificate, the links of two rotations, a root. */
const MAX_LINKS = 4;
const STREAM_WINDOW_BYTES = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024;

/** Whether this can be the address of a manager: a host name or IP, perhaps with a port. */
export function isAddress(address: string): boolean {
  const url = `https://${withPort(address)}`;
  return URL.canParse(url) && new URL(url).pathname === '/' && new URL(url).username === '';
}

/** `host:port` of what a user or a manager gave; the port may be left out, IPv6 stands in brackets. */
export function withPort(address: string): string {
  return /^(\[.*\]|[^:]*):\d+$/.test(address) ? address : `${address}:${DEFAULT_PORT}`;
}

/**
 * Begins to dial. The connection fails unless a manager of the trusted cluster answers, and unless its host does within
 * `reachMs`, if that is given. Errors come as its `error` event, which the caller must listen to.
 */
export function dialManager(
  address: string,
  trust: Trust,
  clock: Clock,
  own?: Credentials,
  reachMs?: number,
): ClientHttp2Session {
  const root = parseCertificate(trust.rootCertificate);
  const connection = dial(address, {
    ca: trust.rootCertificate,
    ...(own === undefined ? {} : { cert: own.certificate, key: own.key }),
    checkServerIdentity: (_host, shown) => {
      try {
        const node = verifyChain(chainOf(shown), [root], clock.now());
        if (node.role !== 'manager') throw new UntrustedCertificate('who answers is not a manager');
        if (trust.clusterId !== undefined && node.clusterId !== trust.clusterId) {
          throw new UntrustedCertificate('who answers is a manager of another cluster');
        }
        return undefined;
      } catch (error) {
        return error as Error;
      }
    },
  });
  if (reachMs !== undefined) {
    const late = clock.after(reachMs, () => {
      if (connection.socket.connecting) connection.destroy(new Error(`the host does not answer within ${reachMs} ms`));
    });
    connection.once('close', () => late.cancel());
  }
  return connection;
}

/** The certificate that was shown, and what came with it; or the links up to a root that is trusted. */
function chainOf(shown: PeerCertificate): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let link: PeerCertificate | undefined = shown;
  while (link !== undefined && chain.length < MAX_LINKS) {
    chain.push(new X509Certificate(link.raw));
    const next: PeerCertificate | undefined = (link as Partial<DetailedPeerCertificate>).issuerCertificate;
    link = next === link ? undefined : next;
  }
  return chain;
}

/** Begins to dial whoever answers. Only for asking for a root that is then checked against a token. */
export function dialAnyone(address: string): ClientHttp2Session {
  return dial(address, { rejectUnauthorized: false });
}

function dial(address: string, options: Parameters<typeof connect>[1]): ClientHttp2Session {
  const connection = connect(`https://${withPort(address)}`, {
    minVersion: 'TLSv1.3',
    servername: 'swarm-manager',
    // With the small default windows one stream reaches a third of this throughput.
    settings: { initialWindowSize: STREAM_WINDOW_BYTES, enablePush: false },
    maxSessionMemory: (2 * MAX_MANAGER_FRAME_BYTES) / 1_000_000,
    ...options,
  });
  connection.once('connect', () => {
    // The event comes even to one that was destroyed a moment ago.
    if (!connection.destroyed) connection.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  });
  return connection;
}
