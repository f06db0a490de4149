/**
 * Rotation of the cluster's root, as Docker Swarm does it. A new root is signed by the present one too. While nodes still trust
 * the present root alone, certificates are issued by the new one and carry that signature, so everybody accepts everybody,
 * old and new. Once every node has such a certificate the new root takes the other's place (control/ca-rotation.ts), and each
 * node changes what it trusts. Which root is to come is decided here, and tried out: what is found wrong has changed nothing.
 */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import type { ClusterRootCa, RootRotation } from '../model/objects.ts';
import { timestamp } from '../model/clock.ts';
import {
  createCertificateRequest,
  createRootCa,
  crossSign,
  issueNodeCertificate,
  issuerOf,
  normalPem,
  type RootCa,
} from './authority.ts';
import {
  isIssuedBy,
  isIssuedUnder,
  lifeOf,
  parseCertificate,
  parseChain,
  type Identity,
  type NodeRole,
} from './identity.ts';
import { createJoinToken } from './token.ts';
import { tryHandshake } from './trial.ts';

/** What a manager tells a node of the authority: PEM certificates. */
export interface Authority {
  /** The root to trust. */
  rootCertificate: string;
  /** Who issues certificates now: the same, but during a rotation. */
  issuerCertificate: string;
  /** The role that a node has now, and its certificate is to say; absent: the one it says. */
  role?: NodeRole;
}

/** What signs certificates now, and what goes with each of them: PEM. */
export interface Signer {
  root: RootCa;
  /** By them those find the way who trust an earlier root: each issued by the next. */
  links: string;
}

/** What a user wants of the root. */
export interface WantedRoot {
  /** PEM, '' for none: a root of the user's own. */
  certificate: string;
  key: string;
  /** A new one even if no certificate is given. */
  force: boolean;
}

/** A root that cannot be the cluster's. The message is Docker's, and for who sent it. */
export class InvalidRootCa extends Error {
  override readonly name = 'InvalidRootCa';
}

const LEAST_LIFE_MS = 365 * 24 * 3_600_000;
const LEAST_RSA_BITS = 2048;
const CURVES = new Set(['prime256v1', 'secp384r1', 'secp521r1']);

/** Who signs now. */
export function signerOf({ certificate, key, crossSigned = '', rotation }: ClusterRootCa): Signer {
  // A node may have missed the end of the rotation before this one: it finds its way by the second link.
  if (rotation !== undefined) return { root: rotation, links: rotation.crossSigned + crossSigned };
  return { root: { certificate, key }, links: crossSigned };
}

/** What nodes are told. */
export function authorityOf(rootCa: ClusterRootCa): Authority {
  return { rootCertificate: rootCa.certificate, issuerCertificate: (rootCa.rotation ?? rootCa).certificate };
}

/** The certificates whose holders are nodes of the cluster if one of these issued theirs: PEM. */
export function countedIssuers({ certificate, rotation, givenUp = [] }: ClusterRootCa): string[] {
  return [certificate, ...(rotation === undefined ? [] : [rotation.certificate]), ...givenUp];
}

/**
 * The next step of a node towards what it was told: to trust that root, which needs a certificate that the root leads to,
 * or to renew its certificate, if another issued it or it says another role. Undefined once both are so. Throws UntrustedCertificate if what it was
 * told is no certificate.
 */
export function stepTowards(identity: Identity, told: Authority): 'trust' | 'renew' | undefined {
  const chain = parseChain(identity.certificate);
  if (identity.rootCertificate !== told.rootCertificate && isIssuedUnder(chain, parseCertificate(told.rootCertificate)))
    return 'trust';
  const { role = identity.role } = told;
  return role === identity.role && isIssuedBy(chain[0]!, parseCertificate(told.issuerCertificate))
    ? undefined
    : 'renew';
}

/**
 * The authority after a user asked for `wanted`: itself if that changes nothing. A certificate that is the present root ends a
 * rotation under way; one that is already to come gets its key anew; any other, and force without one, begins a rotation in
 * the place of one under way. Rejects with InvalidRootCa. `randomBytes` must be fit for secrets.
 */
export async function wantedRootCa(
  rootCa: ClusterRootCa,
  wanted: WantedRoot,
  nowMs: number,
  randomBytes: (size: number) => Buffer,
): Promise<ClusterRootCa> {
  if (wanted.key !== '' && wanted.certificate === '')
    throw new InvalidRootCa('if a signing CA key is provided, the signing CA cert must also be provided');
  if (wanted.certificate === '') {
    return wanted.force ? withRotation(rootCa, await createRootCa(nowMs), randomBytes) : rootCa;
  }
  const next = givenRootCa(wanted.certificate, wanted.key, nowMs);
  if (next.certificate === rootCa.certificate) return withoutRotation(rootCa);
  if (samePublicKey(next.certificate, rootCa.certificate))
    throw new InvalidRootCa('Cannot update to a cert with an identical key');
  if (next.certificate === rootCa.rotation?.certificate) return rootCa;
  const changed = await withRotation(rootCa, next, randomBytes);
  await tryLeaving(next, nowMs);
  return changed;
}

async function withRotation(
  rootCa: ClusterRootCa,
  next: RootCa,
  randomBytes: (size: number) => Buffer,
): Promise<ClusterRootCa> {
  const rotation: RootRotation = {
    ...next,
    crossSigned: await crossSign(next.certificate, rootCa),
    issuer: issuerOf(next.certificate),
    joinTokens: {
      worker: createJoinToken(next.certificate, randomBytes),
      manager: createJoinToken(next.certificate, randomBytes),
    },
  };
  const changed = { ...withoutRotation(rootCa), rotation };
  await tryOut(changed, 'nodes would not accept what it issues');
  return changed;
}

/** A root that can issue for nodes, but not sign another root, would be the cluster's for good. */
async function tryLeaving(next: RootCa, nowMs: number): Promise<void> {
  const later = await createRootCa(nowMs);
  const rotation = { ...later, crossSigned: await crossSign(later.certificate, next) };
  const unused = { issuer: issuerOf(later.certificate), joinTokens: { worker: '', manager: '' } };
  await tryOut({ ...next, rotation: { ...rotation, ...unused } }, 'no other root could take its place later');
}

/** Before anything changes: do ends that trust the present root, and the next, accept what is issued from now on? */
async function tryOut(rootCa: ClusterRootCa, otherwise: string): Promise<void> {
  const { root, links } = signerOf(rootCa);
  const { key, csr } = await createCertificateRequest();
  const subject = { nodeId: 't'.repeat(25), role: 'manager', clusterId: 't'.repeat(25) } as const;
  // Handshakes go by the clock of the process.
  const certificate = await issueNodeCertificate(root, csr, subject, Date.now());
  try {
    for (const trusted of [rootCa.certificate, root.certificate])
      await tryHandshake({ certificate: certificate + links, key }, trusted);
  } catch (error) {
    const why = (error as Error).message.replace(/;.*/, '');
    throw new InvalidRootCa(`error while validating Root CA Certificate: ${otherwise}: ${why}`, { cause: error });
  }
}

function withoutRotation({ rotation, ...rootCa }: ClusterRootCa): ClusterRootCa {
  const issuer = issuerOf(rootCa.certificate);
  if (rotation === undefined) return { ...rootCa, issuer };
  return { ...rootCa, issuer, givenUp: [...(rootCa.givenUp ?? []), rotation.certificate] };
}

/** A root that a user gave, in normal form. Throws InvalidRootCa with Docker's words, as far as they are not Go's. */
function givenRootCa(certificatePem: string, keyPem: string, nowMs: number): RootCa {
  const certificate = givenCertificate(certificatePem, nowMs);
  if (keyPem === '')
    throw new InvalidRootCa(
      'there must be at least one valid, reachable external CA corresponding to the desired CA certificate ' +
        '(external certificate authorities are not supported yet: give the key of the certificate)',
    );
  const key = givenKey(keyPem);
  checkKeyKind(certificate.publicKey);
  if (!certificate.checkPrivateKey(key)) throw new InvalidRootCa('certificate key mismatch');
  return {
    certificate: normalPem(certificate.toString()),
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

function givenCertificate(pem: string, nowMs: number): X509Certificate {
  let certificates: X509Certificate[];
  try {
    certificates = parseChain(pem);
  } catch (error) {
    throw new InvalidRootCa(`invalid root certificates: ${(error as Error).message}`, { cause: error });
  }
  const [certificate] = certificates as [X509Certificate];
  if (certificates.length > 1)
    throw new InvalidRootCa('the desired CA certificate cannot contain multiple certificates');
  const invalid = (why: string) => new InvalidRootCa(`error while validating Root CA Certificate: ${why}`);
  if (!certificate.ca) throw invalid('it is not a certificate of a CA');
  if (!isIssuedBy(certificate, certificate)) throw invalid('it is not self-signed');
  const { fromMs, untilMs } = lifeOf(certificate);
  if (nowMs < fromMs || nowMs > untilMs)
    throw invalid(`it has expired or is not yet valid: it holds from ${timestamp(fromMs)} until ${timestamp(untilMs)}`);
  if (untilMs < nowMs + LEAST_LIFE_MS) throw new InvalidRootCa('CA certificate expires too soon');
  return certificate;
}

function givenKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw new InvalidRootCa(`malformed private key: ${(error as Error).message}`, { cause: error });
  }
}

function checkKeyKind({ asymmetricKeyType: kind, asymmetricKeyDetails: details = {} }: KeyObject): void {
  if (kind === 'rsa') {
    if ((details.modulusLength ?? 0) < LEAST_RSA_BITS) throw new InvalidRootCa('unsupported RSA key parameters');
  } else if (kind === 'ec') {
    if (!CURVES.has(details.namedCurve ?? '')) throw new InvalidRootCa('unsupported ECDSA key parameters');
  } else throw new InvalidRootCa('unknown or unsupported certificate public key algorithm');
}

function samePublicKey(one: string, other: string): boolean {
  return parseCertificate(one).publicKey.equals(parseCertificate(other).publicKey);
}
