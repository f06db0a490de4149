/**
 * Unlock keys of locked managers (`--autolock`), in Docker Swarm's form: `SWMKEY-1-<43 digits of base 64, without padding>`,
 * for 32 random bytes.
 */
const PREFIX = 'SWMKEY-1-';
const KEY_BYTES = 32;
const FORM = /^SWMKEY-1-[A-Za-z0-9+/]{43}$/;

/** The text is not an unlock key; the message, Docker's, is for who typed it. */
export class InvalidUnlockKey extends Error {
  override readonly name = 'InvalidUnlockKey';
}

/** A new unlock key. `randomBytes` must be fit for secrets (node:crypto's). */
export function createUnlockKey(randomBytes: (size: number) => Buffer): string {
  return PREFIX + randomBytes(KEY_BYTES).toString('base64').replace(/=+$/, '');
}

/** The 32 bytes that an unlock key stands for. @throws InvalidUnlockKey */
export function parseUnlockKey(text: string): Buffer {
  const trimmed = text.trim();
  if (!FORM.test(trimmed)) throw new InvalidUnlockKey('invalid key string');
  return Buffer.from(trimmed.slice(PREFIX.length), 'base64');
}
