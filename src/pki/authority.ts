/**
 * The cluster's certificate authority: makes the root, signs what nodes ask for. A node's private key never leaves
 * the node: what comes here is a signing request. The only file that knows how certificates are written; reading
 * them is identity.ts. Lifetimes and names are Docker Swarm's (orchestration.md 2.8).
 */
// oxlint-disable-next-line import/no-unassigned-import -- @peculiar/x509 throws on load without it, and it must come first
import 'reflect-metadata';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  type Extension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { createPrivateKey, KeyObject, randomBytes, webcrypto } from 'node:crypto';
import type { CertificateIssuer } from '../model/objects.ts';
import { isIssuedBy, organizationalUnit, parseCertificate, parseChain, type NodeRole } from './identity.ts';

const ECDSA_P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
/** How keys sign that a root may have, by their curve; made here are only those on P-256. RSA is the other kind. */
const ECDSA = new Map([
  ['prime256v1', ECDSA_P256],
  ['secp384r1', { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' }],
  ['secp521r1', { name: 'ECDSA', namedCurve: 'P-521', hash: 'SHA-512' }],
]);
const RSA = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;
const ROOT_LIFE_MS = 20 * YEAR_MS;
/** A certificate begins to hold this long before it was made, for nodes whose clocks lag behind. */
export const BACKDATE_MS = HOUR_MS;
/** 90 days, Docker's NodeCertExpiry. */
export const DEFAULT_NODE_CERTIFICATE_LIFE_MS = 90 * 24 * HOUR_MS;

/** The root in PEM. The key is in PKCS#8 and belongs to managers only. */
export interface RootCa {
  certificate: string;
  key: string;
}

/** What a node makes before it joins: the key stays, the request (PEM, PKCS#10) goes to a manager. */
export interface CertificateRequest {
  key: string;
  csr: string;
}

/** What the authority says of a node in its certificate. */
export interface NodeSubject {
  nodeId: string;
  role: NodeRole;
  clusterId: string;
  /** IP addresses by which other managers dial it: etcd's members check them. Workers need none. */
  addresses?: readonly string[];
}

/** A signing request that cannot be honoured; the message may be shown to who sent it. */
export class InvalidCertificateRequest extends Error {
  override readonly name = 'InvalidCertificateRequest';
}

/** A new self-signed root: P-256, CN `swarm-ca`, good for 20 years from `nowMs`. */
export async function createRootCa(nowMs: number): Promise<RootCa> {
  const keys = await webcrypto.subtle.generateKey(ECDSA_P256, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: ['swarm-ca'] }],
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + ROOT_LIFE_MS),
    signingAlgorithm: ECDSA_P256,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 1, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: pem(certificate), key: privateKeyPem(keys.privateKey) };
}

/** A new P-256 key and a request for a certificate of it. The request names nobody: the manager gives the name. */
export async function createCertificateRequest(): Promise<CertificateRequest> {
  const keys = await webcrypto.subtle.generateKey(ECDSA_P256, true, ['sign', 'verify']);
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: ['swarm-node'] }],
    keys,
    signingAlgorithm: ECDSA_P256,
  });
  return { key: privateKeyPem(keys.privateKey), csr: `${request.toString('pem')}\n` };
}

/**
 * Signs a node's request: CN is the node's id, OU its role, O the cluster, for `lifeMs` from `nowMs`.
 * Only the public key is taken from the request. Rejects with InvalidCertificateRequest if it is no request, its
 * signature does not prove possession of the key, or the key is not on P-256.
 */
export async function issueNodeCertificate(
  root: RootCa,
  csr: string,
  subject: NodeSubject,
  nowMs: number,
  lifeMs: number = DEFAULT_NODE_CERTIFICATE_LIFE_MS,
): Promise<string> {
  const publicKey = await requestedKey(csr);
  const rootCertificate = new X509Certificate(root.certificate);
  const ou = organizationalUnit(subject.role);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ O: [subject.clusterId] }, { OU: [ou] }, { CN: [subject.nodeId] }],
    issuer: rootCertificate.subjectName,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(Math.min(nowMs + lifeMs, rootCertificate.notAfter.getTime())),
    publicKey,
    ...signerWith(root.key),
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
      new SubjectAlternativeNameExtension([
        { type: 'dns', value: ou },
        { type: 'dns', value: subject.nodeId },
        ...(subject.addresses ?? []).map((value) => ({ type: 'ip' as const, value })),
      ]),
      await SubjectKeyIdentifierExtension.create(publicKey),
      new AuthorityKeyIdentifierExtension(await keyIdentifier(rootCertificate)),
    ],
  });
  return pem(certificate);
}

/**
 * The root certificate `next` as the root `by` signs it: the same name, key, times and extensions. Whoever trusts `by`
 * trusts what `next` issued, if this certificate comes with it.
 */
export async function crossSign(next: string, by: RootCa): Promise<string> {
  const [template, issuer] = [new X509Certificate(next), new X509Certificate(by.certificate)];
  const kept = template.extensions.filter(
    (extension: Extension) => !(extension instanceof AuthorityKeyIdentifierExtension),
  );
  // By it alone tells OpenSSL this certificate from the self-signed one, when both roots have the same name.
  const named = kept.some((extension) => extension instanceof SubjectKeyIdentifierExtension);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: template.subjectName,
    issuer: issuer.subjectName,
    notBefore: template.notBefore,
    notAfter: template.notAfter,
    publicKey: template.publicKey,
    ...signerWith(by.key),
    extensions: [
      ...kept,
      ...(named ? [] : [new SubjectKeyIdentifierExtension(await keyIdentifier(template))]),
      new AuthorityKeyIdentifierExtension(await keyIdentifier(issuer)),
    ],
  });
  return pem(certificate);
}

/** A PEM certificate as this file writes them, whatever spaces and line ends it came with. */
export function normalPem(certificate: string): string {
  return pem(new X509Certificate(certificate));
}

/** What certificates issued by this one say of their issuer. */
export function issuerOf(rootCertificate: string): CertificateIssuer {
  const root = new X509Certificate(rootCertificate);
  return {
    subject: Buffer.from(root.subjectName.toArrayBuffer()).toString('base64'),
    publicKey: Buffer.from(root.publicKey.rawData).toString('base64'),
  };
}

/** A root and an issuer in the words of Docker's API: the subject is the raw DER name, the key its SPKI, both in base64. */
export interface TlsInfo {
  trustRoot: string;
  certIssuerSubject: string;
  certIssuerPublicKey: string;
}

/** What Docker's API shows of a cluster whose nodes trust the one root and get certificates by the other, or the same. */
export function tlsInfo(rootCertificate: string, issuerCertificate = rootCertificate): TlsInfo {
  const { subject, publicKey } = issuerOf(issuerCertificate);
  return { trustRoot: rootCertificate, certIssuerSubject: subject, certIssuerPublicKey: publicKey };
}

/** What Docker's API shows of a node: the root it trusts, and who issued its certificate (PEM, a chain). */
export function nodeTlsInfo(identity: { certificate: string; rootCertificate: string }): TlsInfo {
  const [certificate, ...links] = parseChain(identity.certificate);
  const byRoot = isIssuedBy(certificate!, parseCertificate(identity.rootCertificate));
  const issuer = byRoot ? undefined : links[0]?.toString();
  return tlsInfo(identity.rootCertificate, issuer);
}

function signerWith(privateKey: string): {
  signingAlgorithm: { name: string; hash: string };
  signingKey: webcrypto.CryptoKey;
} {
  const key = createPrivateKey(privateKey);
  const signingAlgorithm = key.asymmetricKeyType === 'ec' ? ECDSA.get(key.asymmetricKeyDetails?.namedCurve ?? '') : RSA;
  if (signingAlgorithm === undefined) throw new TypeError('a root whose key is on a curve that nothing is signed with');
  return { signingAlgorithm, signingKey: key.toCryptoKey(signingAlgorithm, false, ['sign']) };
}

/** In hex. What the certificate says counts: there are several ways to make one of a key. */
async function keyIdentifier(certificate: X509Certificate): Promise<string> {
  const said = certificate.getExtension(SubjectKeyIdentifierExtension);
  return (said ?? (await SubjectKeyIdentifierExtension.create(certificate.publicKey))).keyId;
}

async function requestedKey(csr: string): Promise<webcrypto.CryptoKey> {
  let request: Pkcs10CertificateRequest;
  let publicKey: webcrypto.CryptoKey;
  let proven: boolean;
  try {
    request = new Pkcs10CertificateRequest(csr);
    publicKey = await request.publicKey.export(ECDSA_P256, ['verify']);
    proven = await request.verify();
  } catch (error) {
    throw new InvalidCertificateRequest('not a certificate request with a key on P-256', { cause: error });
  }
  if (!proven) throw new InvalidCertificateRequest('the signature of the certificate request is not that of its key');
  return publicKey;
}

function privateKeyPem(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString();
}

function pem(certificate: X509Certificate): string {
  return `${certificate.toString('pem')}\n`;
}

/** 127 random bits, in hex; the first byte keeps it positive and of one length. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes.toString('hex');
}
