import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ClusterRootCa } from '../model/objects.ts';
import {
  createCertificateRequest,
  createRootCa,
  crossSign,
  issueNodeCertificate,
  issuerOf,
  nodeTlsInfo,
  normalPem,
  tlsInfo,
  type RootCa,
} from './authority.ts';
import { identityAtAnyTime, identityOf, parseCertificate, parseChain, verifyChain, type Identity } from './identity.ts';
import { authorityOf, countedIssuers, InvalidRootCa, signerOf, stepTowards, wantedRootCa } from './rotation.ts';
import { parseJoinToken, rootDigest } from './token.ts';
import { tryHandshake } from './trial.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = Date.now();
const subject = { nodeId: 'n'.repeat(25), role: 'worker', clusterId: 'c'.repeat(25) } as const;
const FORCE = { certificate: '', key: '', force: true };

let folder: string;
let first: ClusterRootCa;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'drover-rotation-'));
  first = await createRootCa(NOW);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const change = (rootCa: ClusterRootCa, wanted: Partial<typeof FORCE>) =>
  wantedRootCa(rootCa, { ...FORCE, force: false, ...wanted }, Date.now(), randomBytes);
const rotate = (rootCa: ClusterRootCa) => change(rootCa, { force: true });
/** What the control loop makes of it once every node has renewed. */
const completed = ({ rotation }: ClusterRootCa): ClusterRootCa => {
  const { joinTokens: _, ...rootCa } = rotation!;
  return rootCa;
};

/** A node that trusts `trusted` and has a certificate by who signs for `rootCa`. */
async function nodeOf(rootCa: ClusterRootCa, trusted: { certificate: string } = rootCa): Promise<Identity> {
  const { root, links } = signerOf(rootCa);
  const { key, csr } = await createCertificateRequest();
  const certificate = (await issueNodeCertificate(root, csr, subject, NOW)) + links;
  return identityOf({ certificate, key, rootCertificate: trusted.certificate }, Date.now());
}

let files = 0;
/** A CA as a user makes it with openssl. */
async function userCa(
  options: { key?: string[]; days?: string; more?: string[]; name?: string } = {},
): Promise<RootCa> {
  const {
    key = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
    days = '3650',
    more = [],
    name = '/CN=Our root',
  } = options;
  const [keyFile, certificateFile] = [1, 2].map(() => join(folder, `user-${files++}.pem`)) as [string, string];
  const extensions = more.length > 0 ? more : ['-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      ...key,
      '-nodes',
      '-keyout',
      keyFile,
      '-out',
      certificateFile,
      '-days',
      days,
      '-subj',
      name,
      ...extensions,
    ],
    { stdio: 'pipe' },
  );
  return { certificate: await readFile(certificateFile, 'utf8'), key: await readFile(keyFile, 'utf8') };
}

async function opensslSays(trusted: string, chain: string): Promise<string> {
  const [leaf, ...links] = chain.match(/-----BEGIN[^-]*-----[^-]*-----END[^-]*-----\n/g)!;
  const at = (name: string) => join(folder, name);
  await Promise.all([
    writeFile(at('trusted.pem'), trusted),
    writeFile(at('links.pem'), links.join('')),
    writeFile(at('leaf.pem'), leaf),
  ]);
  const untrusted = links.length === 0 ? [] : ['-untrusted', at('links.pem')];
  const args = ['verify', '-no-CApath', '-x509_strict', '-purpose', 'sslclient', '-CAfile', at('trusted.pem')];
  try {
    return execFileSync('openssl', [...args, ...untrusted, at('leaf.pem')], { stdio: 'pipe' }).toString();
  } catch (error) {
    return (error as { stderr: Buffer }).stderr.toString();
  }
}

describe('a cross-signed root', () => {
  test('is the new root by the old one: name, key and times are kept, and openssl finds the way from either', async () => {
    const next = await createRootCa(NOW + HOUR);
    const crossed = new X509Certificate(await crossSign(next.certificate, first));
    const self = new X509Certificate(next.certificate);
    expect(crossed.subject).toBe(self.subject);
    expect(crossed.publicKey.equals(self.publicKey)).toBe(true);
    expect([crossed.validFrom, crossed.validTo]).toEqual([self.validFrom, self.validTo]);
    expect(crossed.verify(new X509Certificate(first.certificate).publicKey)).toBe(true);
    expect(crossed.ca).toBe(true);
    expect(crossed.serialNumber).not.toBe(self.serialNumber);
  });

  test.each([
    ['made here', async () => createRootCa(NOW)],
    ['EC P-256', async () => userCa()],
    ['EC P-384', async () => userCa({ key: ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'] })],
    ['EC P-521', async () => userCa({ key: ['ec', '-pkeyopt', 'ec_paramgen_curve:P-521'] })],
    ['RSA 2048', async () => userCa({ key: ['rsa:2048'] })],
    ['of the same name', async () => userCa({ name: '/CN=swarm-ca' })],
  ])('%s: from and to it, nodes of old and new accept each other at every moment', async (_, make) => {
    const next = await make();
    const rotating = await change(first, next);
    const [old, early, late] = [
      await nodeOf(first),
      await nodeOf(rotating),
      await nodeOf(completed(rotating), rotating.rotation),
    ];
    for (const [trusted, node] of [
      [first, old],
      [first, early],
      [rotating.rotation!, early],
      [rotating.rotation!, late],
      // Who has missed the end: it still trusts the first root alone.
      [first, late],
    ] as const) {
      expect(await opensslSays(trusted.certificate, node.certificate)).toMatch(/OK/);
      await tryHandshake(node, trusted.certificate);
      expect(verifyChain(parseChain(node.certificate), [parseCertificate(trusted.certificate)], Date.now())).toEqual(
        subject,
      );
    }
    expect(await opensslSays(rotating.rotation!.certificate, old.certificate)).toMatch(/verification failed/);
    // And on from there to another one.
    const again = await rotate(completed(rotating));
    const third = await nodeOf(again);
    for (const trusted of [rotating.rotation!, again.rotation!]) await tryHandshake(third, trusted.certificate);
  });
});

describe('what counts, who signs, what nodes are told', () => {
  test('step by step through a rotation', async () => {
    expect(signerOf(first)).toEqual({ root: { certificate: first.certificate, key: first.key }, links: '' });
    expect(authorityOf(first)).toEqual({ rootCertificate: first.certificate, issuerCertificate: first.certificate });
    expect(countedIssuers(first)).toEqual([first.certificate]);

    const rotating = await rotate(first);
    const next = rotating.rotation!;
    expect(rotating.certificate).toBe(first.certificate);
    expect(rotating.issuer).toEqual(issuerOf(first.certificate));
    expect(next.issuer).toEqual(issuerOf(next.certificate));
    expect(signerOf(rotating)).toEqual({ root: next, links: next.crossSigned });
    expect(authorityOf(rotating)).toEqual({ rootCertificate: first.certificate, issuerCertificate: next.certificate });
    expect(countedIssuers(rotating)).toEqual([first.certificate, next.certificate]);
    const { worker, manager } = next.joinTokens;
    expect([worker, manager].map((token) => parseJoinToken(token).rootDigest)).toEqual([
      rootDigest(next.certificate),
      rootDigest(next.certificate),
    ]);
    expect(worker).not.toBe(manager);

    const after = completed(rotating);
    expect(signerOf(after)).toEqual({
      root: { certificate: next.certificate, key: next.key },
      links: next.crossSigned,
    });
    expect(countedIssuers(after)).toEqual([next.certificate]);
    // While the next is under way, both links go with what is issued.
    const twice = await rotate(after);
    expect(signerOf(twice).links).toBe(twice.rotation!.crossSigned + next.crossSigned);
    await tryHandshake(await nodeOf(twice), first.certificate);
  });

  test('a node renews, trusts, and rests; an order that asks for both is taken in two steps', async () => {
    const rotating = await rotate(first);
    const after = completed(rotating);
    const [told, toldAfter] = [authorityOf(rotating), authorityOf(after)];
    const [old, renewed] = [await nodeOf(first), await nodeOf(rotating)];
    const trusting = identityAtAnyTime({ ...renewed, rootCertificate: after.certificate });
    expect(stepTowards(old, authorityOf(first))).toBeUndefined();
    expect(stepTowards(old, told)).toBe('renew');
    expect(stepTowards(renewed, told)).toBeUndefined();
    expect(stepTowards(renewed, toldAfter)).toBe('trust');
    expect(stepTowards(trusting, toldAfter)).toBeUndefined();
    // The first root would be trusted no more by a certificate that it alone issued.
    expect(stepTowards(old, toldAfter)).toBe('renew');
    // Given up: back to the first root.
    expect(stepTowards(renewed, authorityOf(first))).toBe('renew');
    expect(() => stepTowards(old, { ...told, issuerCertificate: 'nonsense' })).toThrow('not a PEM certificate');
    expect(nodeTlsInfo(old)).toEqual(tlsInfo(first.certificate));
    expect(nodeTlsInfo(renewed)).toEqual(tlsInfo(first.certificate, rotating.rotation!.certificate));
    expect(nodeTlsInfo(trusting)).toEqual(tlsInfo(after.certificate));
  });

  test('a chain counts only if each link is a CA that issued the one before, and all of them hold', async () => {
    const rotating = await rotate(first);
    const [node, other] = [await nodeOf(rotating), await nodeOf(rotating)];
    const [leaf, link] = parseChain(node.certificate) as [X509Certificate, X509Certificate];
    const root = parseCertificate(first.certificate);
    expect(verifyChain([leaf, link], [root], NOW)).toEqual(subject);
    for (const chain of [[leaf], [leaf, leaf, link], [leaf, parseCertificate(other.certificate), link], []])
      expect(() => verifyChain(chain, [root], NOW)).toThrow('not of this cluster');
    expect(() => verifyChain([link], [root], NOW)).toThrow('not that of a node');
    expect(() => verifyChain([leaf, link], [root], NOW + 91 * DAY)).toThrow('has expired');
  });
});

describe('what a user asks for', () => {
  test('nothing: nothing changes', async () => {
    expect(await change(first, {})).toBe(first);
    const rotating = await rotate(first);
    expect(await change(rotating, {})).toBe(rotating);
  });

  test('another one while one is under way takes its place; what was issued meanwhile counts on', async () => {
    const one = await rotate(first);
    const two = await rotate(one);
    expect(two.certificate).toBe(first.certificate);
    expect(two.rotation!.certificate).not.toBe(one.rotation!.certificate);
    expect(countedIssuers(two)).toEqual([first.certificate, two.rotation!.certificate, one.rotation!.certificate]);
    await tryHandshake(await nodeOf(one), first.certificate);
    expect(countedIssuers(completed(two))).toEqual([two.rotation!.certificate]);
  });

  test('the present root ends one under way; the one that is to come already, changes nothing', async () => {
    const one = await rotate(first);
    const { certificate, key } = one.rotation!;
    expect(await change(one, { certificate, key })).toBe(one);
    const back = await change(one, { certificate: first.certificate, key: first.key, force: true });
    expect(back).toEqual({
      certificate: first.certificate,
      key: first.key,
      issuer: issuerOf(first.certificate),
      givenUp: [certificate],
    });
    expect(countedIssuers(back)).toEqual([first.certificate, certificate]);
  });

  test('a root is known again whatever its line ends, and its key may come in any form', async () => {
    const { certificate, key } = await userCa({ key: ['rsa:2048'] });
    const pkcs1 = execFileSync('openssl', ['rsa', '-traditional'], { input: key, stdio: 'pipe' }).toString();
    expect(pkcs1).toMatch(/BEGIN RSA PRIVATE KEY/);
    const rotating = await change(first, {
      certificate: `# ours\r\n${certificate.replaceAll('\n', '\r\n')}`,
      key: pkcs1,
    });
    expect(rotating.rotation).toMatchObject({ certificate: normalPem(certificate) });
    expect(rotating.rotation!.key).toMatch(/^-----BEGIN PRIVATE KEY-----/);
    expect(await change(rotating, { certificate, key })).toBe(rotating);
  });

  const ed25519 = () => generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  test.each<[string, string | RegExp, () => Promise<Partial<typeof FORCE>>]>([
    [
      'a key alone',
      'if a signing CA key is provided, the signing CA cert must also be provided',
      async () => ({ key: first.key }),
    ],
    [
      'a certificate alone',
      /^there must be at least one valid, reachable external CA corresponding to the desired CA certificate \(.*not supported yet/,
      async () => ({ certificate: (await userCa()).certificate }),
    ],
    ['no PEM', 'invalid root certificates: not a PEM certificate', async () => ({ ...first, certificate: 'nonsense' })],
    [
      'a damaged certificate',
      'invalid root certificates: not a PEM certificate',
      async () => ({ ...first, certificate: first.certificate.replace(/\n.*\n/, '\nAAAA\n') }),
    ],
    ['no key', /^malformed private key: /, async () => ({ ...(await userCa()), key: 'nonsense' })],
    ['another key', 'certificate key mismatch', async () => ({ ...(await userCa()), key: first.key })],
    ['a key of another kind', 'certificate key mismatch', async () => ({ ...(await userCa()), key: ed25519() })],
    [
      'a bundle',
      'the desired CA certificate cannot contain multiple certificates',
      async () => ({ ...first, certificate: first.certificate + (await userCa()).certificate }),
    ],
    [
      'no CA',
      'error while validating Root CA Certificate: it is not a certificate of a CA',
      async () => userCa({ more: ['-addext', 'basicConstraints=critical,CA:FALSE'] }),
    ],
    [
      'a certificate by another CA',
      'error while validating Root CA Certificate: it is not self-signed',
      async () => {
        const { certificate, key } = await createRootCa(NOW);
        return { certificate: await crossSign(certificate, first), key };
      },
    ],
    [
      'one that has expired',
      /^error while validating Root CA Certificate: it has expired or is not yet valid: it holds from .* until /,
      async () => createRootCa(NOW - 21 * 365 * DAY),
    ],
    [
      'one that is yet to hold',
      /^error while validating Root CA Certificate: it has expired or is not yet valid/,
      async () => createRootCa(NOW + DAY),
    ],
    ['one that ends within a year', 'CA certificate expires too soon', async () => userCa({ days: '300' })],
    ['an RSA key that is too short', 'unsupported RSA key parameters', async () => userCa({ key: ['rsa:1024'] })],
    [
      'a curve that TLS does not sign with',
      'unsupported ECDSA key parameters',
      async () => userCa({ key: ['ec', '-pkeyopt', 'ec_paramgen_curve:secp256k1'] }),
    ],
    [
      'a key that only signs otherwise',
      'unknown or unsupported certificate public key algorithm',
      async () => userCa({ key: ['ed25519'] }),
    ],
    [
      'names that nodes do not have',
      /^error while validating Root CA Certificate: nodes would not accept what it issues: permitted subtree violation/,
      async () => userCa({ more: ['-addext', 'nameConstraints=critical,permitted;DNS:example.org'] }),
    ],
    [
      'a purpose that is not theirs',
      /^error while validating Root CA Certificate: nodes would not accept what it issues: /,
      async () => userCa({ more: ['-addext', 'extendedKeyUsage=serverAuth'] }),
    ],
  ])('%s is refused', async (_, message, make) => {
    const asked = change(first, await make());
    await expect(asked).rejects.toThrow(message);
    await expect(asked).rejects.toBeInstanceOf(InvalidRootCa);
  });

  test('the key of the present root, under another certificate, is refused', async () => {
    await writeFile(join(folder, 'same.key'), first.key);
    const args = ['req', '-x509', '-key', join(folder, 'same.key'), '-days', '3650', '-subj', '/CN=again'];
    const certificate = execFileSync('openssl', args, { stdio: 'pipe' }).toString();
    await expect(change(first, { certificate, key: first.key })).rejects.toThrow(
      'Cannot update to a cert with an identical key',
    );
  });

  test('a root after which no other could come is refused', async () => {
    const narrow = await userCa({
      more: ['-addext', 'basicConstraints=critical,CA:TRUE,pathlen:0', '-addext', 'keyUsage=critical,keyCertSign'],
    });
    await expect(change(first, narrow)).rejects.toThrow(
      'error while validating Root CA Certificate: no other root could take its place later: path length constraint exceeded',
    );
  });
});
