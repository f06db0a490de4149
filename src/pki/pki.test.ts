import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createCertificateRequest, createRootCa, issueNodeCertificate, tlsInfo, type RootCa } from './authority.ts';
import { loadIdentity, removeIdentity, saveIdentity } from './files.ts';
import {
  CertificateNotCurrent,
  identityAtAnyTime,
  identityOf,
  parseCertificate,
  verifyCertificate,
} from './identity.ts';
import { createJoinToken, parseJoinToken, roleOfToken, rootDigest } from './token.ts';

const NOW = Date.UTC(2026, 5, 1, 12);
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const subject = { nodeId: 'n'.repeat(25), role: 'worker', clusterId: 'c'.repeat(25) } as const;

let root: RootCa;
let other: RootCa;
let folder: string;

beforeAll(async () => {
  [root, other] = await Promise.all([createRootCa(NOW), createRootCa(NOW)]);
  folder = await mkdtemp(join(tmpdir(), 'drover-pki-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function nodeOf(ca: RootCa, role: 'worker' | 'manager' = 'worker') {
  const request = await createCertificateRequest();
  const certificate = await issueNodeCertificate(ca, request.csr, { ...subject, role }, NOW);
  return { certificate, key: request.key, rootCertificate: ca.certificate };
}

describe('the authority', () => {
  test('its root is a P-256 certificate of swarm-ca for 20 years', () => {
    const certificate = new X509Certificate(root.certificate);
    expect(certificate.subject).toBe('CN=swarm-ca');
    expect(certificate.ca).toBe(true);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.checkPrivateKey(createPrivateKey(root.key))).toBe(true);
    expect(certificate.publicKey.asymmetricKeyDetails).toEqual({ namedCurve: 'prime256v1' });
    expect(certificate.validToDate.getTime() - NOW).toBe(20 * 365 * DAY);
  });

  test.each(['worker', 'manager'] as const)(
    'a %s certificate carries id, role and cluster, for 90 days',
    async (role) => {
      const certificate = new X509Certificate((await nodeOf(root, role)).certificate);
      expect(certificate.subject.split('\n')).toEqual([
        `O=${subject.clusterId}`,
        `OU=swarm-${role}`,
        `CN=${subject.nodeId}`,
      ]);
      expect(certificate.subjectAltName).toBe(`DNS:swarm-${role}, DNS:${subject.nodeId}`);
      expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
      expect(certificate.ca).toBe(false);
      expect(certificate.validFromDate.getTime()).toBe(NOW - HOUR);
      expect(certificate.validToDate.getTime()).toBe(NOW + 90 * DAY);
    },
  );

  test('openssl agrees with the chain', async () => {
    await writeFile(join(folder, 'root.pem'), root.certificate);
    const args = ['verify', '-no-CApath', '-x509_strict', '-purpose', 'sslclient', '-attime', String(NOW / 1000)];
    await writeFile(join(folder, 'node.pem'), (await nodeOf(root)).certificate);
    const said = execFileSync('openssl', [...args, '-CAfile', join(folder, 'root.pem'), join(folder, 'node.pem')]);
    expect(said.toString()).toMatch(/OK/);
  });

  test('refuses what is no request, what is not P-256, and what is not signed by its key', async () => {
    const bad = async (csr: string) => issueNodeCertificate(root, csr, subject, NOW);
    await expect(bad('nonsense')).rejects.toThrow('not a certificate request');
    const rsa = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
      publicKeyEncoding: { type: 'spki', format: 'pem' },
    });
    await writeFile(join(folder, 'rsa.key'), rsa.privateKey);
    const rsaCsr = execFileSync('openssl', [
      'req',
      '-new',
      '-key',
      join(folder, 'rsa.key'),
      '-subj',
      '/CN=x',
    ]).toString();
    await expect(bad(rsaCsr)).rejects.toThrow('not a certificate request with a key on P-256');
    const { csr } = await createCertificateRequest();
    const der = Buffer.from(csr.replace(/-----.*-----|\s/g, ''), 'base64');
    der[der.length - 1]! ^= 1;
    const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    await expect(bad(forged)).rejects.toThrow('the signature of the certificate request');
  });

  test('shows itself as Docker does: raw subject and public key in base64', () => {
    const info = tlsInfo(root.certificate);
    expect(info.trustRoot).toBe(root.certificate);
    const subject = Buffer.from(info.certIssuerSubject, 'base64');
    // SEQUENCE { SET { SEQUENCE { OID 2.5.4.3, "swarm-ca" } } }
    expect(subject.subarray(0, -10).toString('hex')).toBe('30133111300f0603550403');
    expect(subject.subarray(-8).toString()).toBe('swarm-ca');
    const spki = new X509Certificate(root.certificate).publicKey.export({ type: 'spki', format: 'der' });
    expect(info.certIssuerPublicKey).toBe(spki.toString('base64'));
  });
});

describe('identities', () => {
  test('a certificate of the cluster says who its holder is', async () => {
    const files = await nodeOf(root, 'manager');
    expect(identityOf(files, NOW)).toEqual({ ...subject, role: 'manager', ...files });
  });

  test('what another authority signed, what holds no more or not yet, and the root itself, are not trusted', async () => {
    const rootCertificate = parseCertificate(root.certificate);
    const certificate = parseCertificate((await nodeOf(root)).certificate);
    const foreign = parseCertificate((await nodeOf(other)).certificate);
    expect(() => verifyCertificate(foreign, rootCertificate, NOW)).toThrow('not of this cluster');
    expect(() => verifyCertificate(certificate, rootCertificate, NOW + 91 * DAY)).toThrow(
      'the certificate has expired: it held until 2026-08-30T12:00:00.000Z, and the clock here says 2026-08-31T12:00:00.000Z',
    );
    expect(() => verifyCertificate(certificate, rootCertificate, NOW - 2 * HOUR)).toThrow(
      'the certificate is not valid yet: it holds from 2026-06-01T11:00:00.000Z, and the clock here says 2026-06-01T10:00:00.000Z',
    );
    expect(() => verifyCertificate(rootCertificate, rootCertificate, NOW)).toThrow('not that of a node');
    const key = (await createCertificateRequest()).key;
    expect(() =>
      identityOf({ certificate: certificate.toString(), key, rootCertificate: root.certificate }, NOW),
    ).toThrow('not that of the private key');
  });

  test('one whose certificate has expired still knows who it is, and a part of another does not fit', async () => {
    const files = await nodeOf(root);
    expect(() => identityOf(files, NOW + 91 * DAY)).toThrow(CertificateNotCurrent);
    expect(identityAtAnyTime(files)).toEqual({ ...subject, ...files });
    expect(() => identityAtAnyTime({ ...files, rootCertificate: other.certificate })).toThrow('not of this cluster');
    const { key } = await nodeOf(root);
    expect(() => identityAtAnyTime({ ...files, key })).toThrow('not that of the private key');
  });

  test('a renewal that breaks off anywhere leaves a certificate and its key', async () => {
    const [old, next] = [await nodeOf(root), await nodeOf(root)];
    const dataDir = join(folder, 'broken-off');
    const at = (name: string) => join(dataDir, 'certificates', name);
    // The states on the disk between two renames, and within a write.
    const states: [string, () => Promise<void>, typeof old][] = [
      ['half a certificate', () => writeFile(at('swarm-node.crt.new'), next.certificate.slice(0, 99)), old],
      ['the certificate waits', () => writeFile(at('swarm-node.crt.new'), next.certificate), old],
      ['the key waits too', () => writeFile(at('swarm-node.key.new'), next.key), old],
      ['the key is there', () => rename(at('swarm-node.key.new'), at('swarm-node.key')), next],
    ];
    await saveIdentity(dataDir, old);
    for (const [what, happens, expected] of states) {
      await happens();
      expect(await loadIdentity(dataDir), what).toEqual(expected);
    }
    expect(await readdir(join(dataDir, 'certificates'))).toEqual([
      'swarm-node.crt',
      'swarm-node.key',
      'swarm-root-ca.crt',
    ]);
    await saveIdentity(dataDir, old);
    expect(await loadIdentity(dataDir)).toEqual(old);
  });

  test('are kept in three files, the key for root only, and can be forgotten', async () => {
    const dataDir = join(folder, 'data');
    expect(await loadIdentity(dataDir)).toBeUndefined();
    const files = await nodeOf(root);
    await saveIdentity(dataDir, files);
    await saveIdentity(dataDir, files);
    expect(await loadIdentity(dataDir)).toEqual(files);
    expect((await stat(join(dataDir, 'certificates', 'swarm-node.key'))).mode & 0o777).toBe(0o600);
    expect(await readFile(join(dataDir, 'certificates', 'swarm-root-ca.crt'), 'utf8')).toBe(root.certificate);
    await removeIdentity(dataDir);
    expect(await loadIdentity(dataDir)).toBeUndefined();
  });
});

describe('join tokens', () => {
  test('carry the digest of the root and a secret, always 50 and 25 digits', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        const token = createJoinToken(root.certificate, () => Buffer.from(bytes));
        expect(token).toMatch(/^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/);
        expect(parseJoinToken(token).rootDigest).toBe(rootDigest(root.certificate));
      }),
    );
  });

  test('the digest does not hang on line ends', () => {
    expect(rootDigest(root.certificate.replaceAll('\n', '\r\n'))).toBe(rootDigest(root.certificate));
    expect(rootDigest(other.certificate)).not.toBe(rootDigest(root.certificate));
  });

  test.each([
    '',
    'x',
    'SWMTKN-1-abc-def',
    `SWMTKN-2-${'a'.repeat(50)}-${'b'.repeat(25)}`,
    `SWMTKN-1-${'z'.repeat(50)}-${'b'.repeat(25)}`,
  ])('what is no token is refused: %s', (text) => expect(() => parseJoinToken(text)).toThrow('invalid join token'));

  test('the secret says the role, and only the exact secret does', () => {
    const [worker, manager, stranger] = [1, 2, 3].map(() => createJoinToken(root.certificate, randomBytes));
    const tokens = { worker: worker!, manager: manager! };
    expect(roleOfToken(worker!, tokens)).toBe('worker');
    expect(roleOfToken(` ${manager!}\n`, tokens)).toBe('manager');
    expect(roleOfToken(stranger!, tokens)).toBeUndefined();
    expect(roleOfToken(worker!.slice(0, -1), tokens)).toBeUndefined();
  });
});
