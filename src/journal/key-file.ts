/**
 * The data keys of a cluster's journal, in a file beside it (0600): JSON, the newest key last, each with an id that sealed
 * rows name, so that a later key can take over while older rows still open. A key is random and never leaves this file.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
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

  toJSON(): object {
    return { id: this.id, key: this.#key.toString('base64') };
  }
}

/** The keys of the file, the newest last; undefined if there is no file. @throws JournalDamaged */
export function readKeys(path: string): DataKey[] | undefined {
  if (!existsSync(path)) return undefined;
  try {
    const { keys }: { keys: { id: string; key: string }[] } = JSON.parse(readFileSync(path, 'utf8'));
    const read = keys.map(({ id, key }) => new DataKey(id, Buffer.from(key, 'base64')));
    if (read.length === 0 || keys.some(({ key }) => Buffer.from(key, 'base64').length !== KEY_BYTES))
      throw new Error('it holds no key');
    return read;
  } catch (error) {
    // A parser's message quotes what it read: that may be a piece of a key.
    const reason = error instanceof SyntaxError || error instanceof TypeError ? 'it is not its JSON' : String(error);
    throw new JournalDamaged(
      `${path}, which holds the key of the cluster's state, cannot be read (${reason}): put it back from a backup; it was left untouched`,
    );
  }
}

/** Puts the keys into the file, on the disk before it returns; after a crash it is the old file or the new one. */
export function writeKeys(path: string, keys: readonly DataKey[]): void {
  const fd = openSync(`${path}.new`, 'w', PRIVATE);
  try {
    writeSync(fd, `${JSON.stringify({ keys })}\n`);
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
