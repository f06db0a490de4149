/** Reading certificates: who a node is, and whether the cluster's authority says so. Writes and signs nothing. */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { timestamp } from '../model/clock.ts';
import type { NodeSpec } from '../model/specs.ts';

export type NodeRole = NodeSpec['Role'];

/** Who a certificate says its holder is. */
export interface CertifiedNode {
  nodeId: string;
  role: NodeRole;
  clusterId: string;
}

/** All a node needs to prove who it is: PEM texts, and what the certificate says. */
export interface Identity extends CertifiedNode {
  /** The certificate, then what connects it to a root that others may trust: each issued by the next. */
  certificate: string;
  /** PKCS#8. */
  key: string;
  rootCertificate: string;
}

/** A certificate that proves nothing here; the message says why and may be shown to its holder. */
export class UntrustedCertificate extends Error {
  override readonly name = 'UntrustedCertificate';
}

/** When a certificate holds: from `fromMs` to `untilMs`, both included, in milliseconds since the epoch. */
export interface Life {
  fromMs: number;
  untilMs: number;
}

/**
 * A certificate that is right but not now. The message names the certificate's time and that of the clock which was
 * asked, because either may be wrong.
 */
export class CertificateNotCurrent extends UntrustedCertificate {
  readonly life: Life;
  readonly nowMs: number;

  constructor(life: Life, nowMs: number, whoseClock = 'the clock here') {
    const bounds =
      nowMs < life.fromMs
        ? `is not valid yet: it holds from ${timestamp(life.fromMs)}`
        : `has expired: it held until ${timestamp(life.untilMs)}`;
    super(`the certificate ${bounds}, and ${whoseClock} says ${timestamp(nowMs)}`);
    this.life = life;
    this.nowMs = nowMs;
  }
}

const OUS = { manager: 'swarm-manager', worker: 'swarm-worker' } as const;
const ID = /^[0-9a-z]{25}$/;

/** The OU of a role's certificates. */
export function organizationalUnit(role: NodeRole): string {
  return OUS[role];
}

/** When a certificate holds. */
export function lifeOf(certificate: X509Certificate): Life {
  return { fromMs: certificate.validFromDate.getTime(), untilMs: certificate.validToDate.getTime() };
}

/**
 * Who the holder of `certificate` is, if one of `roots` issued it and it holds at `nowMs`. Throws
 * UntrustedCertificate otherwise; CertificateNotCurrent if only the time is wrong. Possession of its key is for TLS to prove.
 */
export function verifyCertificate(
  certificate: X509Certificate,
  roots: X509Certificate | readonly X509Certificate[],
  nowMs: number,
): CertifiedNode {
  return verifyChain([certificate], roots instanceof X509Certificate ? [roots] : roots, nowMs);
}

/** As `verifyCertificate`, of the first of `chain`: one of `roots` issued it, or the next, which is held to the same. */
export function verifyChain(
  chain: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  nowMs: number,
): CertifiedNode {
  const { node, links } = issuedNode(chain, roots);
  for (const link of links) checkTime(link, nowMs);
  return node;
}

/** Whether `issuer` issued the certificate itself. By signature, not by name: the root of every cluster is called swarm-ca. */
export function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

/** Whether a root leads to the first of `chain`, whatever the time. */
export function isIssuedUnder(chain: readonly X509Certificate[], root: X509Certificate): boolean {
  return linksTo(chain, [root]) !== undefined;
}

function checkTime(certificate: X509Certificate, nowMs: number): void {
  const life = lifeOf(certificate);
  if (nowMs < life.fromMs || nowMs > life.untilMs) throw new CertificateNotCurrent(life, nowMs);
}

/** Who the holder is, if one of `roots` leads to it, whatever the time, and by which links. Throws UntrustedCertificate. */
function issuedNode(
  chain: readonly X509Certificate[],
  roots: readonly X509Certificate[],
): { node: CertifiedNode; links: readonly X509Certificate[] } {
  const links = linksTo(chain, roots);
  if (links === undefined) throw new UntrustedCertificate('the certificate is not of this cluster');
  return { node: certifiedNode(links[0]!), links };
}

/** As much of `chain`, from its first certificate, as it takes to come to one that a root issued; undefined: none did. */
function linksTo(
  chain: readonly X509Certificate[],
  roots: readonly X509Certificate[],
): readonly X509Certificate[] | undefined {
  for (const [i, link] of chain.entries()) {
    if (roots.some((root) => isIssuedBy(link, root))) return chain.slice(0, i + 1);
    const next = chain[i + 1];
    if (next === undefined || !next.ca || !isIssuedBy(link, next)) return undefined;
  }
  return undefined;
}

/** What a node keeps on its disk of its identity: PEM texts. */
export type IdentityParts = Pick<Identity, 'certificate' | 'key' | 'rootCertificate'>;

/**
 * Puts together what a node was given. Throws UntrustedCertificate if the parts do not belong together, and
 * CertificateNotCurrent if they do but not at `nowMs`.
 */
export function identityOf(parts: IdentityParts, nowMs: number): Identity {
  const identity = identityAtAnyTime(parts);
  checkTime(parseCertificate(parts.certificate), nowMs);
  return identity;
}

/** As `identityOf`, whatever the time: a node whose certificate has expired still knows who it is. */
export function identityAtAnyTime(parts: IdentityParts): Identity {
  const chain = parseChain(parts.certificate);
  const { node } = issuedNode(chain, [parseCertificate(parts.rootCertificate)]);
  if (!chain[0]!.checkPrivateKey(parsePrivateKey(parts.key))) {
    throw new UntrustedCertificate('the certificate is not that of the private key');
  }
  return { ...node, ...parts };
}

const PEM_BLOCK = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** Reads PEM certificates that follow each other: at least one. Throws UntrustedCertificate if there is none, or one is none. */
export function parseChain(pem: string): X509Certificate[] {
  return (pem.match(PEM_BLOCK) ?? ['']).map((block) => parseCertificate(block));
}

/** Reads one PEM certificate, the first if there are several. Throws UntrustedCertificate if it is none. */
export function parseCertificate(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw new UntrustedCertificate('not a PEM certificate', { cause: error });
  }
}

function parsePrivateKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new UntrustedCertificate('not a PEM private key', { cause: error });
  }
}

function certifiedNode(certificate: X509Certificate): CertifiedNode {
  const subject = new Map(certificate.subject.split('\n').map((line) => cut(line)));
  const nodeId = subject.get('CN') ?? '';
  const clusterId = subject.get('O') ?? '';
  const ou = subject.get('OU');
  const role = ou === OUS.manager ? 'manager' : ou === OUS.worker ? 'worker' : undefined;
  if (role === undefined || !ID.test(nodeId) || !ID.test(clusterId)) {
    throw new UntrustedCertificate('the certificate is not that of a node');
  }
  return { nodeId, role, clusterId };
}

function cut(line: string): [string, string] {
  const at = line.indexOf('=');
  return [line.slice(0, at), line.slice(at + 1)];
}
