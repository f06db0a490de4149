/**
 * How confidential rows are encrypted, for every keeper alike. A sealed value is `sealed:<key id>:<base64>`, bound to its
 * row's key, so that it opens nowhere else. Without the key that a row names it is not opened, and nothing is changed.
 */
import { JournalDamaged, JournalUnavailable, type Change } from './journal.ts';
import { DataKey, type KeyFile } from './key-file.ts';

const SEALED = /^sealed:([0-9a-f]+):/;

export interface RowSealOptions {
  /** Names the keeper to people, such as the path of its file. */
  name: string;
  keyFile: KeyFile;
  /** Whether the row of that key is confidential. */
  isConfidential: (key: string) => boolean;
}

export class RowSeal {
  readonly #options: RowSealOptions;
  readonly #mayMakeKey: boolean;
  #keys: readonly DataKey[] | undefined;

  /** `mayMakeKey`: the first row that needs a key makes it. Not where others have to have the same. */
  constructor(options: RowSealOptions, { mayMakeKey = false } = {}) {
    this.#options = options;
    this.#mayMakeKey = mayMakeKey;
  }

  /**
   * The value of a row as the store has it, and whether it was sealed or had no need to be.
   *
   * @throws JournalDamaged, naming the row or the key file; KeyFileLocked, WrongUnlockKey
   */
  open(key: string, value: string): { value: string; asItShouldBe: boolean } {
    if (!this.#options.isConfidential(key)) return { value, asItShouldBe: true };
    const match = SEALED.exec(value);
    if (match === null) return { value, asItShouldBe: false };
    const [prefix, id] = match;
    const { name, keyFile } = this.#options;
    const dataKey = this.#known().find((candidate) => candidate.id === id);
    if (dataKey === undefined) {
      const trouble = keyFile.exists() ? 'holds other keys' : 'is missing';
      throw new JournalDamaged(
        `${name} is encrypted with the key ${id}, and ${keyFile.path}, where it belongs, ${trouble}: put it back from a backup; nothing was changed`,
      );
    }
    try {
      return { value: dataKey.open(value.slice(prefix.length), key), asItShouldBe: true };
    } catch (error) {
      throw new JournalDamaged(
        `${name} is damaged: its row ${key} cannot be decrypted with the key ${id} of ${keyFile.path}; nothing was changed`,
        { cause: error },
      );
    }
  }

  /** The changes of one transaction as the store has them. @throws as `open` */
  openAll(changes: readonly Change[]): Change[] {
    return changes.map(({ key, value }) => ({ key, value: value === null ? null : this.open(key, value).value }));
  }

  /**
   * A change as the keeper is to have it; its value is made when it is first read, because that is when the row below is
   * written out. Reading it throws JournalUnavailable if there is no key and none can be made.
   */
  seal(change: Change): Change {
    return this.#options.isConfidential(change.key) ? new SealedChange(change, () => this.#key()) : change;
  }

  /** The keys of the file, as they were when it was first looked at. */
  #known(): readonly DataKey[] {
    this.#keys ??= this.#options.keyFile.read();
    return this.#keys ?? [];
  }

  /** The newest key. */
  #key(): DataKey {
    const newest = this.#known().at(-1);
    if (newest !== undefined) return newest;
    const { keyFile } = this.#options;
    if (!this.#mayMakeKey)
      throw new JournalUnavailable(
        `${keyFile.path}, the key of the cluster's state, is missing: put it back from a backup; nothing was changed`,
      );
    const first = DataKey.random();
    try {
      keyFile.write([first]);
    } catch (error) {
      throw new JournalUnavailable(
        `${keyFile.path}, the key of the cluster's state, cannot be written (${(error as Error).message}); nothing was changed, try again later`,
        { cause: error },
      );
    }
    this.#keys = [first];
    return first;
  }
}

class SealedChange implements Change {
  readonly #change: Change;
  readonly #dataKey: () => DataKey;
  #sealed: string | null | undefined;

  constructor(change: Change, dataKey: () => DataKey) {
    this.#change = change;
    this.#dataKey = dataKey;
  }

  get key(): string {
    return this.#change.key;
  }

  /** The same however often it is read: a keeper may measure it, and try again with it. */
  get value(): string | null {
    this.#sealed ??= this.#seal(this.#change.value);
    return this.#sealed;
  }

  #seal(value: string | null): string | null {
    if (value === null) return null;
    const dataKey = this.#dataKey();
    return `sealed:${dataKey.id}:${dataKey.seal(value, this.key)}`;
  }
}
