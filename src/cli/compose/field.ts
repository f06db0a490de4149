/** A value of a compose file with its path, read as what it should be; what it is not is said with file, line and path. */
import { parseDuration } from '../../model/durations.ts';
import { ComposeError, isNull, scalarValue, type MapNode, type Node } from './node.ts';

export class Field {
  readonly node: Node;
  /** Such as `services.web.ports[0].target`. */
  readonly path: string;

  constructor(node: Node, path: string) {
    this.node = node;
    this.path = path;
  }

  fail(message: string): never {
    throw new ComposeError(this.node.at, `${this.path}: ${message}`);
  }

  /** A member of a mapping; undefined if it is not there or null. */
  get(key: string): Field | undefined {
    const node = this.asMap().entries.get(key);
    return node === undefined || isNull(node) ? undefined : new Field(node, this.#below(key));
  }

  has(key: string): boolean {
    return this.asMap().entries.has(key);
  }

  /** The members of a mapping, those that are null included. */
  members(): [string, Field][] {
    return [...this.asMap().entries].map(([key, node]) => [key, new Field(node, this.#below(key))]);
  }

  asMap(): MapNode {
    return this.node.kind === 'map' ? this.node : this.fail(`a mapping (key: value) is needed, not ${this.#shown()}`);
  }

  get isMap(): boolean {
    return this.node.kind === 'map';
  }

  get isList(): boolean {
    return this.node.kind === 'list';
  }

  get isNull(): boolean {
    return isNull(this.node);
  }

  items(): Field[] {
    if (this.node.kind !== 'list') return this.fail(`a list is needed, not ${this.#shown()}`);
    return this.node.items.map((item, at) => new Field(item, `${this.path}[${at}]`));
  }

  /** A text; a number as Docker writes it. */
  text(): string {
    if (this.node.kind !== 'scalar') return this.fail(`a text is needed, not ${this.#shown()}`);
    const value = scalarValue(this.node);
    if (typeof value === 'boolean' || value === null)
      return this.fail(`a text is needed, not ${this.node.text || 'nothing'}: put it in quotes if it is one`);
    return String(value);
  }

  texts(): string[] {
    return this.items().map((item) => item.text());
  }

  /** A mapping of texts; a member that is null becomes ''. */
  labels(): Record<string, string> {
    return Object.fromEntries(this.members().map(([key, field]) => [key, field.isNull ? '' : field.text()]));
  }

  oneOf<const T extends string>(...words: readonly T[]): T {
    const text = this.text();
    return words.find((word) => word === text) ?? this.fail(`"${text}" is none of ${words.join(', ')}`);
  }

  boolean(): boolean {
    if (this.node.kind === 'scalar') {
      const value = scalarValue(this.node);
      if (typeof value === 'boolean') return value;
      if (!this.node.plain && /^(y|yes|true|on)$/i.test(this.node.text)) return true;
      if (!this.node.plain && /^(n|no|false|off)$/i.test(this.node.text)) return false;
    }
    return this.fail(`true or false is needed, not ${this.#shown()}`);
  }

  /** A whole number, from `least` up. */
  integer(least = 0): number {
    const value = this.number();
    if (!Number.isSafeInteger(value) || value < least)
      return this.fail(`a whole number from ${least} up is needed, not ${this.#shown()}`);
    return value;
  }

  number(): number {
    if (this.node.kind !== 'scalar') return this.fail(`a number is needed, not ${this.#shown()}`);
    const value = scalarValue({ ...this.node, plain: true });
    return typeof value === 'number' ? value : this.fail(`a number is needed, not ${this.#shown()}`);
  }

  /** In nanoseconds; written as in Go, `1m30s`. */
  durationNs(): number {
    const ms = parseDuration(this.text());
    return ms === undefined
      ? this.fail(`a duration such as 30s or 1m30s is needed, not ${this.#shown()}`)
      : Math.round(ms * 1e6);
  }

  /** Written as a number of bytes, or such as `64M`, `1.5g`. */
  bytes(): number {
    const bytes = parseBytes(this.text());
    return bytes ?? this.fail(`a number of bytes such as 512M or 2g is needed, not ${this.#shown()}`);
  }

  /** In billionths of a processor. */
  nanoCpus(): number {
    const text = this.text();
    if (!/^(\d+\.?\d{0,9}|\.\d{1,9})$/.test(text))
      return this.fail(`a number of processors such as 0.5 is needed, not ${this.#shown()}`);
    return Math.round(Number(text) * 1e9);
  }

  #below(key: string): string {
    return this.path === '' ? key : `${this.path}.${key}`;
  }

  #shown(): string {
    if (this.node.kind !== 'scalar') return this.node.kind === 'map' ? 'a mapping' : 'a list';
    return this.node.text === '' ? 'nothing' : `"${this.node.text}"`;
  }
}

const SIZES = ['', 'k', 'm', 'g', 't', 'p'];

/** Bytes of `64M`, `1.5gb`, `2GiB`, `1024`, by powers of 1024; or undefined. */
export function parseBytes(text: string): number | undefined {
  const [, amount, unit = ''] = /^(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?$/i.exec(text) ?? [];
  if (amount === undefined) return undefined;
  return Math.trunc(Number(amount) * 1024 ** SIZES.indexOf(unit.toLowerCase()));
}
