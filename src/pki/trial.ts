/**
 * Whether TLS itself accepts what an authority issues, tried out before a cluster is to live by it. The extensions and names of
 * a root that a user made can forbid it in many ways, and OpenSSL alone knows all of them.
 */
import { once } from 'node:events';
import { duplexPair } from 'node:stream';
import { connect, createServer } from 'node:tls';

/** PEM texts of one side: a certificate with the links that go with it, and its key. */
export interface Shown {
  certificate: string;
  key: string;
}

/**
 * Two ends that both show `shown` shake hands in memory, trusting `rootCertificate` alone. Rejects with why one does not accept
 * the other; by the clock of the process, as every handshake.
 */
export async function tryHandshake({ certificate, key }: Shown, rootCertificate: string): Promise<void> {
  const [here, there] = duplexPair();
  const context = { cert: certificate, key, ca: rootCertificate, minVersion: 'TLSv1.3' } as const;
  const server = createServer({ ...context, requestCert: true, rejectUnauthorized: true });
  const refused = once(server, 'tlsClientError').then(([error]) => Promise.reject(error as Error));
  const accepted = once(server, 'secureConnection');
  server.emit('connection', there);
  const client = connect({ ...context, socket: here, checkServerIdentity: () => undefined });
  // With TLS 1.3 it may hear that it was refused after it has connected: the other end says the same, and why.
  client.on('error', () => {});
  try {
    await Promise.race([Promise.all([once(client, 'secureConnect'), accepted]), refused]);
  } finally {
    client.destroy();
    there.destroy();
  }
}
