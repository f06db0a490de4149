/** When a rotation of the root CA, or one that was given up, is over: what nodes say of themselves decides. Pure. */
import type { CertificateIssuer, Cluster, Node } from './objects.ts';

/** By whom every node's certificate has to be issued before anything ends; undefined if there is nothing to end. */
export function awaitedIssuer({ rootCa }: Pick<Cluster, 'rootCa'>): CertificateIssuer | undefined {
  return rootCa.rotation?.issuer ?? (rootCa.givenUp === undefined ? undefined : rootCa.issuer);
}

/** Whether the node has said that this issuer issued its certificate. */
export function hasIssuer({ description }: Pick<Node, 'description'>, issuer: CertificateIssuer): boolean {
  return (
    description?.tls.certIssuerSubject === issuer.subject && description.tls.certIssuerPublicKey === issuer.publicKey
  );
}
