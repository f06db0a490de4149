/**
 * The data keys of a cluster's journal, in a file beside it (0600): JSON, the newest key last, each with an id that sealed
 * rows name, so that a later key can take over while older rows still open. The file may be locked (`--autolock`): then the
 * keys in it are encrypted with the cluster's unlock key, which people keep, and which is on no manager's disk in the clear.
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { JournalDamaged } from './journal.ts';

const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const ID_BYTES = 4;
const PRIVATE = 0o600;

/** What opens and seals: AES-256-GCM under one key. */
export class DataKey {
  readonly id: string;
  readonly #key: Buffer;

  constructor(id: string, key: Buffer) {
    this.id = id;
    this.#key = key;
  }

  static random(): DataKey {
    return new DataKey(randomBytes(ID_BYTES).toString('hex'), randomBytes(KEY_BYTES));
  }

  /** `text` sealed for the place called `context`, as base64: it opens there only. */
  seal(text: string, context: string): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#key, nonce).setAAD(Buffer.from(context));
    const sealed = Buffer.concat([nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return sealed.toString('base64');
  }

  /** What `seal` was given. @throws Error if it was sealed by another key, for another place, or is damaged */
  open(sealed: string, context: string): string {
    const bytes = Buffer.from(sealed, 'base64');
    if (bytes.length < NONCE_BYTES + TAG_BYTES) throw new Error('it is too short');
    const decipher = createDecipheriv(CIPHER, this.#key, bytes.subarray(0, NONCE_BYTES))
      .setAAD(Buffer.from(context))
      .setAuthTag(bytes.subarray(-TAG_BYTES));
    const text = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES));
    return Buffer.concat([text, decipher.final()]).toString('utf8');
  }

  toJSON(): { id: string; key: string } {
    return { id: this.id, key: this.#key.toString('base64') };
  }
}

/** The file is locked, and no unlock key was given. Nothing was changed. */
export class KeyFileLocked extends Error {
  override readonly name = 'KeyFileLocked';
}

/** The file is locked with another unlock key. Nothing was changed. */
export class WrongUnlockKey extends Error {
  override readonly name = 'WrongUnlockKey';
}

/**
 * The key file of a data directory, and the unlock key it is locked with as long as this process knows it: an unlock key is
 * never written down. Locked, the file holds the same keys encrypted.
 */
export class KeyFile {
  readonly path: string;
  #unlockKey: Buffer | undefined;

  /** `unlockKey`: 32 bytes; undefined: the file is not locked, or nobody has unlocked it. */
  constructor(path: string, unlockKey?: Buffer) {
    this.path = path;
    this.#unlockKey = unlockKey;
  }

  exists(): boolean {
    return existsSync(this.path);
  }

  /** As `readKeys`, with the unlock key that is known here. */
  read(): DataKey[] | undefined {
    return readKeys(this.path, this.#unlockKey);
  }

  /** As `writeKeys`: locked, if this knows an unlock key. */
  write(keys: readonly DataKey[]): void {
    writeKeys(this.path, keys, this.#unlockKey);
  }

  /** Whether it can be read with no other unlock key than is known here. @throws JournalDamaged */
  isLocked(): boolean {
    try {
      this.read();
      return false;
    } catch (error) {
      if (error instanceof KeyFileLocked || error instanceof WrongUnlockKey) return true;
      throw error;
    }
  }

  /** Takes the unlock key to be right if it opens the file. @throws WrongUnlockKey, JournalDamaged */
  unlock(unlockKey: Buffer): void {
    readKeys(this.path, unlockKey);
    this.#unlockKey = unlockKey;
  }

  /** Forgets the unlock key. */
  forget(): void {
    this.#unlockKey = undefined;
  }

  /** Whether the file is, or would be, locked with that key; undefined: not locked. */
  isLockedWith(unlockKey: Buffer | undefined): boolean {
    if (unlockKey === undefined || this.#unlockKey === undefined) return unlockKey === this.#unlockKey;
    return unlockKey.equals(this.#unlockKey);
  }

  /**
   * Locks it with another unlock key, or (undefined) with none; whole or not at all, whatever crashes. Without a file, the
   * first one will be locked like this. @throws KeyFileLocked, WrongUnlockKey, JournalDamaged, or why it cannot be written
   */
  lockWith(unlockKey: Buffer | undefined): void {
    const keys = this.read();
    if (keys !== undefined) writeKeys(this.path, keys, unlockKey);
    this.#unlockKey = unlockKey;
  }
}

/** What a locked file has in the place of its keys. The digest tells a damaged file from a wrong unlock key. */
interface LockedKeys {
  locked: string;
  sha256: string;
}

/** What the locked keys are bound to. */
const LOCKED_CONTEXT = 'drover state keys';

const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex');

/**
 * The keys of the file, the newest last; undefined if there is no file.
 *
 * @throws KeyFileLocked if it is locked and no key was given, WrongUnlockKey if that is another, JournalDamaged
 */
export function readKeys(path: string, unlockKey?: Buffer): DataKey[] | undefined {
  return existsSync(path) ? parseKeys(path, readFileSync(path, 'utf8'), unlockKey) : undefined;
}

/** As `readKeys`, of what such a file holds; `name` is for the words of an error. */
export function parseKeys(name: string, text: string, unlockKey?: Buffer): DataKey[] {
  try {
    const file: { keys: WrittenKey[] } | LockedKeys = JSON.parse(text);
    const keys = 'locked' in file ? openLocked(name, file, unlockKey) : file.keys;
    const read = keys.map(({ id, key }) => new DataKey(id, Buffer.from(key, 'base64')));
    if (read.length === 0 || keys.some(({ key }) => Buffer.from(key, 'base64').length !== KEY_BYTES))
      throw new Error('it holds no key');
    return read;
  } catch (error) {
    if (error instanceof KeyFileLocked || error instanceof WrongUnlockKey) throw error;
    // A parser's message quotes what it read: that may be a piece of a key.
    const reason = error instanceof SyntaxError || error instanceof TypeError ? 'it is not its JSON' : String(error);
    throw new JournalDamaged(
      `${name}, which holds the key of the cluster's state, cannot be read (${reason}): put it back from a backup; it was left untouched`,
    );
  }
}

interface WrittenKey {
  id: string;
  key: string;
}

function openLocked(name: string, { locked, sha256 }: LockedKeys, unlockKey: Buffer | undefined): WrittenKey[] {
  if (digestOf(locked) !== sha256) throw new Error('its checksum is wrong');
  if (unlockKey === undefined) throw new KeyFileLocked(`${name} is locked: its unlock key is needed`);
  let text: string;
  try {
    text = new DataKey('', unlockKey).open(locked, LOCKED_CONTEXT);
  } catch (error) {
    throw new WrongUnlockKey(`${name} is locked with another unlock key`, { cause: error });
  }
  return JSON.parse(text);
}

/** What a key file holds: the keys, locked if an unlock key is given. */
export function keysText(keys: readonly DataKey[], unlockKey?: Buffer): string {
  if (unlockKey === undefined) return `${JSON.stringify({ keys })}\n`;
  const locked = new DataKey('', unlockKey).seal(JSON.stringify(keys), LOCKED_CONTEXT);
  return `${JSON.stringify({ locked, sha256: digestOf(locked) } satisfies LockedKeys)}\n`;
}

/**
 * Puts the keys into the file, on the disk before it returns; after a crash it is the old file or the new one. With an
 * unlock key (32 bytes) the file is locked: whoever reads it needs the same.
 */
export function writeKeys(path: string, keys: readonly DataKey[], unlockKey?: Buffer): void {
  writeKeyFile(path, keysText(keys, unlockKey));
}

/** As `writeKeys`, of text that `keysText` or such a file gave. */
export function writeKeyFile(path: string, text: string): void {
  const fd = openSync(`${path}.new`, 'w', PRIVATE);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.new`, path);
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
