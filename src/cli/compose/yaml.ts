/**
 * Reads a compose file's YAML into a tree that knows its lines. The `yaml` package reads the text; here are only what is
 * Drover's: scalars stay as they are written (node.ts says what they mean), merge keys, and what such files do not need.
 */
import { isAlias, isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseAllDocuments } from 'yaml';
import type { Alias, ParsedNode, Scalar, YAMLMap } from 'yaml';
import { ComposeError, listNode, mapNode, textNode, type MapNode, type Node, type Place } from './node.ts';

/** Deeper than any file of people, and shallow enough for whatever walks the tree. */
const MAX_DEPTH = 100;
/** Aliases copy nothing, but what walks the tree sees them spelt out: a bound against the "billion laughs". */
const MAX_NODES = 100_000;
const MERGE_KEY = '<<';

/** The one document in `text`; an empty one is null. @throws ComposeError */
export function parseYaml(text: string, file: string): Node {
  const lineCounter = new LineCounter();
  const place = (offset: number): Place => ({ file, line: Math.max(1, lineCounter.linePos(offset).line) });
  // Everything is a text to begin with: what `0440` or `yes` means is for Docker's rules to say, not YAML's.
  const options = { schema: 'failsafe', lineCounter, prettyErrors: false, logLevel: 'silent' } as const;
  const [document, second] = Array.from(parseAllDocuments(text, options));
  if (second !== undefined)
    throw new ComposeError(place(second.range[0]), 'a compose file is one document: nothing may follow another "---"');
  const [problem] = document?.errors ?? [];
  if (problem !== undefined) throw new ComposeError(place(problem.pos[0]), problem.message);
  if (document?.contents == null) return nothing({ file, line: 1 });
  return new Converter(place).node(document.contents, { file, line: 1 });
}

class Converter {
  readonly #place: (offset: number) => Place;
  readonly #anchors = new Map<string, unknown>();
  #nodes = 0;
  #depth = 0;

  constructor(place: (offset: number) => Place) {
    this.#place = place;
  }

  /** `around` is where the node belongs, for one that is not written out. */
  node(from: unknown, around: Place): Node {
    const at = hasRange(from) ? this.#place(from.range[0]) : around;
    if ((this.#nodes += 1) > MAX_NODES) throw new ComposeError(at, `more than ${MAX_NODES} values, aliases spelt out`);
    if (++this.#depth > MAX_DEPTH) throw new ComposeError(at, `nested deeper than ${MAX_DEPTH} levels`);
    try {
      return this.#convert(from, at);
    } finally {
      this.#depth -= 1;
    }
  }

  #convert(from: unknown, at: Place): Node {
    if (isAlias(from)) return this.#alias(from, at);
    if (isNode(from) && from.anchor !== undefined) this.#anchors.set(from.anchor, from);
    if (isMap(from)) return { ...this.#map(from, at), ...tagOf(from) };
    if (isSeq(from))
      return {
        ...listNode(
          at,
          from.items.map((item) => this.node(item, at)),
        ),
        ...tagOf(from),
      };
    if (!isScalar(from)) return nothing(at);
    return { ...textNode(at, textOf(from)), plain: from.type === 'PLAIN', ...tagOf(from) };
  }

  #alias(alias: Alias, at: Place): Node {
    const target = this.#anchors.get(alias.source);
    if (target === undefined) throw new ComposeError(at, `there is no anchor &${alias.source} before this`);
    return this.node(target, at);
  }

  #map(map: YAMLMap, at: Place): MapNode {
    const own = mapNode(at);
    const merged: Node[] = [];
    for (const pair of map.items) {
      if (!isPair(pair) || !isScalar(pair.key)) throw new ComposeError(at, 'a key is a text, with a colon behind it');
      const keyAt = hasRange(pair.key) ? this.#place(pair.key.range[0]) : at;
      const value = this.node(pair.value, keyAt);
      const key = textOf(pair.key);
      if (key === MERGE_KEY && pair.key.type === 'PLAIN') merged.push(value);
      else own.entries.set(key, value);
    }
    for (const value of merged) mergeInto(own, value);
    return own;
  }
}

/** Puts the members of a mapping, or of several, under those that are there. */
function mergeInto(map: MapNode, from: Node): void {
  const sources = from.kind === 'list' ? from.items : [from];
  for (const source of sources) {
    if (source.kind !== 'map') throw new ComposeError(source.at, '"<<" takes a mapping, or a list of mappings');
    for (const [key, value] of source.entries) if (!map.entries.has(key)) map.entries.set(key, value);
  }
}

/** Without a schema every value is a text; null is what was left out. */
function textOf({ value }: Scalar): string {
  return typeof value === 'string' ? value : '';
}

function nothing(at: Place): Node {
  return { ...textNode(at, ''), plain: true };
}

function tagOf({ tag }: { tag?: string }): { tag?: string } {
  return tag === undefined ? {} : { tag: tag.replace('tag:yaml.org,2002:', '!!') };
}

function hasRange(node: unknown): node is ParsedNode {
  return typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range);
}
