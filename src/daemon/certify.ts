/** How a node comes by its first certificate: as the first manager of a cluster by itself, else from the managers. */
import type { JoinRequest } from '../api/cluster-control.ts';
import { NoCertificate, requestCertificate, type JoinRequest as Asked } from '../dispatch/request-certificate.ts';
import { createCertificateRequest, issueNodeCertificate, type RootCa } from '../pki/authority.ts';
import { identityOf, type Identity } from '../pki/identity.ts';

/** The certificate of a cluster's first manager, which has its root: it holds from `nowMs` on, for `lifeMs`. */
export async function ownIdentity(
  rootCa: RootCa,
  ids: { nodeId: string; clusterId: string; addresses: string[] },
  { nowMs, lifeMs }: { nowMs: number; lifeMs: number },
): Promise<Identity> {
  const { key, csr } = await createCertificateRequest();
  const certificate = await issueNodeCertificate(rootCa, csr, { ...ids, role: 'manager' }, nowMs, lifeMs);
  return identityOf({ certificate, key, rootCertificate: rootCa.certificate }, nowMs);
}

/**
 * Asks each manager in turn; a refusal counts, one that cannot be reached gives way to the next.
 *
 * @throws InvalidToken, NoCertificate
 */
export async function joinIdentity(
  { remoteAddrs, joinToken: token, availability }: Pick<JoinRequest, 'remoteAddrs' | 'joinToken' | 'availability'>,
  self: Omit<Asked, 'address' | 'token' | 'availability'>,
): Promise<Identity> {
  let failure: unknown;
  for (const { host, port } of remoteAddrs) {
    try {
      return await requestCertificate({ ...self, address: `${host}:${port}`, token, availability });
    } catch (error) {
      if (!(error instanceof NoCertificate) || error.status !== undefined) throw error;
      failure = error;
    }
  }
  throw failure;
}
