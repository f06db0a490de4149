/**
 * Join tokens, in Docker Swarm's form: `SWMTKN-1-<digest>-<secret>`. The digest lets who joins check the cluster
 * before it trusts it; the secret lets the cluster check who joins, and says as what. The digest is the SHA-256 of the
 * root certificate's DER, not of its PEM, so that line ends cannot change it; 50 digits of base 36. The secret is 16
 * random bytes; 25 digits of base 36.
 */
import { createHash, timingSafeEqual, X509Certificate } from 'node:crypto';
import type { NodeRole } from './identity.ts';

const FORM = /^SWMTKN-1-([0-9a-z]{50})-([0-9a-z]{25})$/;
const DIGEST_DIGITS = 50;
const SECRET_DIGITS = 25;
const SECRET_BYTES = 16;

export interface JoinToken {
  /** Hex SHA-256 of the root certificate's DER. */
  rootDigest: string;
  secret: string;
}

/** The text is not a join token; the message is for who typed it. */
export class InvalidToken extends Error {
  override readonly name = 'InvalidToken';
}

/** A new token for the cluster of this root. `randomBytes` must be fit for secrets (node:crypto's). */
export function createJoinToken(rootCertificate: string, randomBytes: (size: number) => Buffer): string {
  const digest = BigInt(`0x${rootDigest(rootCertificate)}`)
    .toString(36)
    .padStart(DIGEST_DIGITS, '0');
  const secret = BigInt(`0x${randomBytes(SECRET_BYTES).toString('hex')}`)
    .toString(36)
    .padStart(SECRET_DIGITS, '0');
  return `SWMTKN-1-${digest}-${secret}`;
}

/** Takes a token apart. Throws InvalidToken. */
export function parseJoinToken(text: string): JoinToken {
  const match = FORM.exec(text.trim());
  if (match === null) {
    throw new InvalidToken('invalid join token: it should look like SWMTKN-1-<50 characters>-<25 characters>');
  }
  const digest = fromBase36(match[1]!).toString(16).padStart(64, '0');
  if (digest.length > 64) throw new InvalidToken('invalid join token: its digest is too large');
  return { rootDigest: digest, secret: match[2]! };
}

/** The digest of a root as tokens carry it, in hex. Throws if `rootCertificate` is not PEM. */
export function rootDigest(rootCertificate: string): string {
  return createHash('sha256').update(new X509Certificate(rootCertificate).raw).digest('hex');
}

/** What `token` lets a node join as, or undefined if it is neither token. Takes the same time whichever it is. */
export function roleOfToken(token: string, tokens: { worker: string; manager: string }): NodeRole | undefined {
  const given = hash(token.trim());
  const manager = timingSafeEqual(given, hash(tokens.manager));
  const worker = timingSafeEqual(given, hash(tokens.worker));
  return manager ? 'manager' : worker ? 'worker' : undefined;
}

/** Of equal length whatever came, as timingSafeEqual asks. */
function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function fromBase36(digits: string): bigint {
  let value = 0n;
  for (const digit of digits) value = value * 36n + BigInt(parseInt(digit, 36));
  return value;
}
