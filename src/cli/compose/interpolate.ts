/**
 * Variables in a compose file: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?error}`, `${NAME?error}`,
 * `${NAME:+other}`, `${NAME+other}`, and `$$` for a dollar. With a colon an empty value counts as none. What stands in the
 * place of a value may hold variables itself. Pure.
 */
import { ComposeError, type Node } from './node.ts';

/** The value of a variable; undefined if it is not set. */
export type Lookup = (name: string) => string | undefined;

/** The text is no template, or a value that must be there is missing. */
export class InterpolationError extends Error {
  override readonly name = 'InterpolationError';
}

/** `unset` is called with the name of each variable that has neither a value nor a default: it counts as empty. */
export function interpolate(text: string, lookup: Lookup, unset: (name: string) => void): string {
  let result = '';
  let at = 0;
  for (let dollar = text.indexOf('$'); dollar >= 0; dollar = text.indexOf('$', at)) {
    result += text.slice(at, dollar);
    const next = text[dollar + 1];
    const name = /[A-Za-z_]\w*/y;
    name.lastIndex = dollar + 1;
    const plain = name.exec(text)?.[0];
    if (next === '$') {
      result += '$';
      at = dollar + 2;
    } else if (next === '{') {
      const end = closing(text, dollar + 2);
      if (end === undefined) throw new InterpolationError(`${quoted(text)}: "\${" is never closed: "}" is missing`);
      result += braced(text.slice(dollar + 2, end), lookup, unset);
      at = end + 1;
    } else if (plain === undefined) {
      throw new InterpolationError(`${quoted(text)}: a dollar that begins no variable is written as "$$"`);
    } else {
      result += valueOf(plain, lookup, unset);
      at = dollar + 1 + plain.length;
    }
  }
  return result + text.slice(at);
}

/** Where the brace ends that was opened before `from`. */
function closing(text: string, from: number): number | undefined {
  let depth = 1;
  for (let at = from; at < text.length; at++) {
    if (text.startsWith('$$', at)) at += 1;
    else if (text.startsWith('${', at)) {
      depth += 1;
      at += 1;
    } else if (text[at] === '}' && (depth -= 1) === 0) return at;
  }
  return undefined;
}

function braced(inner: string, lookup: Lookup, unset: (name: string) => void): string {
  const [, name, colon, operator, word = ''] = /^([A-Za-z_]\w*)(?:(:?)([-?+])([^]*))?$/.exec(inner) ?? [];
  if (name === undefined)
    throw new InterpolationError(
      `${quoted(`\${${inner}}`)} is no variable: write \${NAME}, \${NAME:-default}, \${NAME:?error} or \${NAME:+other}`,
    );
  if (operator === undefined) return valueOf(name, lookup, unset);
  const value = lookup(name);
  const there = value !== undefined && (colon !== ':' || value !== '');
  const alternative = (): string => interpolate(word, lookup, unset);
  if (operator === '+') return there ? alternative() : '';
  if (there) return value;
  if (operator === '-') return alternative();
  const why = alternative();
  throw new InterpolationError(`the variable ${name} must be set${why === '' ? '' : `: ${why}`}`);
}

function valueOf(name: string, lookup: Lookup, unset: (name: string) => void): string {
  const value = lookup(name);
  if (value === undefined) unset(name);
  return value ?? '';
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

/** The tree with all variables in its values replaced; keys stay as they are. @throws ComposeError with the path */
export function interpolated(node: Node, lookup: Lookup, unset: (name: string) => void, path = ''): Node {
  if (node.kind === 'list') {
    const items = node.items.map((item, at) => interpolated(item, lookup, unset, `${path}[${at}]`));
    return { ...node, items };
  }
  if (node.kind === 'map') {
    const entries = new Map<string, Node>();
    for (const [key, value] of node.entries)
      entries.set(key, interpolated(value, lookup, unset, path === '' ? key : `${path}.${key}`));
    return { ...node, entries };
  }
  if (!node.text.includes('$')) return node;
  try {
    // What was a text stays one: Docker casts `replicas: $N` where a number is needed, and so do we.
    return { ...node, text: interpolate(node.text, lookup, unset), plain: false };
  } catch (error) {
    if (error instanceof InterpolationError) throw new ComposeError(node.at, `${path}: ${error.message}`);
    throw error;
  }
}
