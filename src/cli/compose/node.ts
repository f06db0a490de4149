/** A YAML document as a tree that knows where each of its nodes stands, so that every complaint can name its line. */

/** Where something stands. */
export interface Place {
  file: string;
  /** From 1. */
  line: number;
}

interface Common {
  at: Place;
  /** Such as `!reset`; none: the usual one. */
  tag?: string;
}

export interface MapNode extends Common {
  kind: 'map';
  entries: Map<string, Node>;
}

export interface ListNode extends Common {
  kind: 'list';
  items: Node[];
}

export interface ScalarNode extends Common {
  kind: 'scalar';
  text: string;
  /** Without quotes: it may be a number, a truth value or null. */
  plain: boolean;
}

export type Node = MapNode | ListNode | ScalarNode;

/** A file that cannot be meant: says where, what is wrong and what would be right. */
export class ComposeError extends Error {
  override readonly name = 'ComposeError';

  constructor(at: Place, message: string) {
    super(`${at.file}:${at.line}: ${message}`);
  }
}

export function mapNode(at: Place, entries: Iterable<[string, Node]> = []): MapNode {
  return { kind: 'map', at, entries: new Map(entries) };
}

export function listNode(at: Place, items: Node[]): ListNode {
  return { kind: 'list', at, items };
}

/** A text, whatever it looks like. */
export function textNode(at: Place, text: string): ScalarNode {
  return { kind: 'scalar', at, text, plain: false };
}

/** What a scalar is by the rules of Docker's YAML reader: `0440` is octal, `yes` is a text. */
export type ScalarValue = string | number | boolean | null;

export function scalarValue({ text, plain, tag }: ScalarNode): ScalarValue {
  if (!plain || tag === '!!str') return text;
  if (/^(~|null|Null|NULL|)$/.test(text)) return null;
  if (/^(true|True|TRUE)$/.test(text)) return true;
  if (/^(false|False|FALSE)$/.test(text)) return false;
  return numberIn(text) ?? text;
}

/** The number that a plain scalar is, or undefined. */
function numberIn(text: string): number | undefined {
  const [, sign = '', digits = ''] = /^([-+]?)(.*)$/s.exec(text.replaceAll('_', '')) ?? [];
  const by = sign === '-' ? -1 : 1;
  if (/^0[xX][\da-fA-F]+$/.test(digits) || /^0[oO][0-7]+$/.test(digits) || /^0[bB][01]+$/.test(digits))
    return by * Number(digits);
  if (/^0[0-7]+$/.test(digits)) return by * Number.parseInt(digits, 8);
  if (/^(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(digits)) return by * Number(digits);
  if (/^\.(inf|Inf|INF)$/.test(digits)) return by * Infinity;
  return undefined;
}

export function isNull(node: Node | undefined): boolean {
  return node === undefined || (node.kind === 'scalar' && scalarValue(node) === null);
}
