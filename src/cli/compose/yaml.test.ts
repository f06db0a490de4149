import { describe, expect, test } from 'vitest';
import { scalarValue, type Node } from './node.ts';
import { parseYaml } from './yaml.ts';

/** What a tree says, as plain values; tags as keys. */
function plain(node: Node): unknown {
  const value =
    node.kind === 'scalar'
      ? scalarValue(node)
      : node.kind === 'list'
        ? node.items.map(plain)
        : Object.fromEntries([...node.entries].map(([key, member]) => [key, plain(member)]));
  return node.tag === undefined || node.tag.startsWith('!!') ? value : { [node.tag]: value };
}

const read = (text: string): unknown => plain(parseYaml(text, 'f.yml'));

describe('what it reads', () => {
  test.each([
    ['', null],
    ['# only\n# comments\n', null],
    ['---\na: 1\n...\n', { a: 1 }],
    ['%YAML 1.2\n---\na: b # c\n', { a: 'b' }],
    ['a:\n  b: x\n  c:\n    d: y\ne: z', { a: { b: 'x', c: { d: 'y' } }, e: 'z' }],
    [
      'a:\n- x\n- y: 1\n  z: 2\n-\n  - deep\n- - twice\n  - again',
      { a: ['x', { y: 1, z: 2 }, ['deep'], ['twice', 'again']] },
    ],
    ['a:\n  -   k: 1\n      l: 2\n  - ', { a: [{ k: 1, l: 2 }, null] }],
    ['a: [x, "y, z", {k: v, n: }, [1, 2],]', { a: ['x', 'y, z', { k: 'v', n: null }, [1, 2]] }],
    ['a: [\n  x, # c\n  y\n]\nb: {k: v,\n  l: w}', { a: ['x', 'y'], b: { k: 'v', l: 'w' } }],
    ['a: [p: 1, q]', { a: [{ p: 1 }, 'q'] }],
    ['test: ["CMD", "curl", "http://localhost:80/"]', { test: ['CMD', 'curl', 'http://localhost:80/'] }],
    ['"a b": 1\n\'c: d\': 2\ne f: 3\n8080: 4', { 'a b': 1, 'c: d': 2, 'e f': 3, 8080: 4 }],
    ['a: this is\n  one\n\n  text\nb: 1', { a: 'this is one\ntext', b: 1 }],
    [
      'a: http://x:80/#y\nb: x:y\nc: -1x\nd: ::1\ne: a-b',
      { a: 'http://x:80/#y', b: 'x:y', c: '-1x', d: '::1', e: 'a-b' },
    ],
    ['a: "x\\ty\\u263a \\"q\\" \\\n  z\n\n  p"', { a: 'x\ty\u263a "q" z\np' }],
    ["a: 'it''s\n  here'", { a: "it's here" }],
    ['a: |\n  one\n    two\n\n  three\n\nb: 1', { a: 'one\n  two\n\nthree\n', b: 1 }],
    ['a: |-\n  x\nb: |+\n  y\n\nc: |2\n    z\n', { a: 'x', b: 'y\n\n', c: '  z\n' }],
    ['a: >\n  one\n  two\n\n  three\n    deep\n  back\nb: >-\n  x', { a: 'one two\nthree\n  deep\nback\n', b: 'x' }],
    ['a: |\n\n  x\nb:\n  - |\n    y\n  - z', { a: '\nx\n', b: ['y\n', 'z'] }],
    ['x: &a {k: 1, l: 2}\ny: *a\nz:\n  <<: *a\n  l: 3', { x: { k: 1, l: 2 }, y: { k: 1, l: 2 }, z: { k: 1, l: 3 } }],
    [
      'x: &a\n  k: 1\ny: &b {k: 2, m: 3}\nz: {<<: [*a, *b], n: 4}',
      { x: { k: 1 }, y: { k: 2, m: 3 }, z: { n: 4, k: 1, m: 3 } },
    ],
    ['a: &x text\nb: *x', { a: 'text', b: 'text' }],
    ['a: !reset null\nb: !override\n  - x\nc: !!str 1', { a: { '!reset': null }, b: { '!override': ['x'] }, c: '1' }],
    ['a: 1\r\nb: 2\r\n', { a: 1, b: 2 }],
  ])('%j', (text, value) => {
    expect(read(text)).toEqual(value);
  });

  test.each([
    ['0440', 288],
    ['0o17', 15],
    ['0x1F', 31],
    ['1_000', 1000],
    ['-2', -2],
    ['1.50', 1.5],
    ['1e3', 1000],
    ['true', true],
    ['False', false],
    ['yes', 'yes'],
    ['on', 'on'],
    ['~', null],
    ['null', null],
    ['22:22', '22:22'],
    ['1.2.3', '1.2.3'],
    ['"1"', '1'],
    ['09', 9],
    ['1m', '1m'],
  ])('%s as Docker reads it', (text, value) => {
    expect(read(`a: ${text}`)).toEqual({ a: value });
  });
});

describe('what it refuses, with the line', () => {
  test.each([
    ['a: b: c', 'f.yml:1: Nested mappings are not allowed in compact mappings'],
    ['a:\n\t- b', 'f.yml:2: Tabs are not allowed as indentation'],
    ['a: 1\nb: [1,\n 2', 'f.yml:3: Flow sequence in block collection must be sufficiently indented and end with a ]'],
    ['a: {b: 1]', 'f.yml:1: Flow map in block collection must be sufficiently indented and end with a }'],
    ['a: 1\nb: 2\na: 3', 'f.yml:3: Map keys must be unique'],
    ['a: "x', 'f.yml:1: Missing closing "quote'],
    ['a:\n  b: 1\n   c: 2', 'f.yml:2: Nested mappings are not allowed in compact mappings'],
    ['a:\n    b: 1\n  c: 2', 'f.yml:3: All mapping items must start at the same column'],
    ['a: 1\nb: *x', 'f.yml:2: there is no anchor &x before this'],
    ['a: - 1', 'f.yml:1: Unexpected block-seq-ind on same line with key'],
    ['a: @x', 'f.yml:1: Plain value cannot start with reserved character @'],
    ['- a\nb: 1', 'f.yml:2: Unexpected scalar at node end'],
    ['a: "x" y', 'f.yml:1: Unexpected scalar at node end'],
    ['a: "\\q"', 'f.yml:1: Invalid escape sequence \\q'],
    ['a: 1\n---\nb: 2', 'f.yml:2: a compose file is one document: nothing may follow another "---"'],
    ['? [a]\n: b', 'f.yml:1: a key is a text, with a colon behind it'],
    ['a: 1\nb\nc: 2', 'f.yml:2: Implicit map keys need to be followed by map values'],
    ['a: {<<: 1}', 'f.yml:1: "<<" takes a mapping, or a list of mappings'],
    ['a: | x\n  y', 'f.yml:1: Not a YAML token: x'],
  ])('%j', (text, message) => {
    expect(() => read(text)).toThrow(expect.objectContaining({ message }));
  });

  test('what would grow without bound', () => {
    const laughs = Array.from(
      { length: 9 },
      (_, at) => `a${at + 1}: &a${at + 1} [${Array(10).fill(`*a${at}`).join()}]`,
    );
    expect(() => read(`a0: &a0 x\n${laughs.join('\n')}`)).toThrow('more than 100000 values');
    expect(() => read(`${'['.repeat(101)}${']'.repeat(101)}`)).toThrow('nested deeper than 100 levels');
    expect(() => read('- '.repeat(101))).toThrow('nested deeper than 100 levels');
  });
});
