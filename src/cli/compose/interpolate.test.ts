import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EnvFileError, parseDotEnv, parseEnvFile } from './env-files.ts';
import { interpolate, InterpolationError } from './interpolate.ts';

const VALUES = new Map([
  ['A', 'a'],
  ['EMPTY', ''],
  ['B_2', 'b'],
]);
const lookup = (name: string): string | undefined => VALUES.get(name);

describe('interpolation', () => {
  test.each([
    ['plain', 'plain'],
    ['$A-$B_2.', 'a-b.'],
    ['${A}${B_2}', 'ab'],
    ['$$A $${A}', '$A ${A}'],
    ['$UNSET|${UNSET}', '|'],
    ['${UNSET:-d}', 'd'],
    ['${UNSET-d}', 'd'],
    ['${EMPTY:-d}', 'd'],
    ['${EMPTY-d}', ''],
    ['${A:-d}${A-d}', 'aa'],
    ['${A:+x}${A+x}', 'xx'],
    ['${UNSET:+x}${UNSET+x}', ''],
    ['${EMPTY:+x}', ''],
    ['${EMPTY+x}', 'x'],
    ['${A:?no}${A?no}', 'aa'],
    ['${EMPTY?no}', ''],
    ['${UNSET:-${A}}', 'a'],
    ['${UNSET:-x${UNSET2-${B_2}}y}z', 'xbyz'],
    ['${UNSET:-$$}', '$'],
    ['${UNSET:-}', ''],
    ['${UNSET:-http://x:80/?a=b}', 'http://x:80/?a=b'],
    ['${A:+$B_2}', 'b'],
  ])('%s', (text, result) => {
    expect(interpolate(text, lookup, () => {})).toBe(result);
  });

  test.each([
    ['${UNSET?}', 'the variable UNSET must be set'],
    ['${UNSET?why not}', 'the variable UNSET must be set: why not'],
    ['${EMPTY:?see $A}', 'the variable EMPTY must be set: see a'],
    ['${A', '"${A": "${" is never closed: "}" is missing'],
    ['costs 5$', '"costs 5$": a dollar that begins no variable is written as "$$"'],
    ['$1', '"$1": a dollar that begins no variable is written as "$$"'],
    ['${}', '"${}" is no variable: write ${NAME}, ${NAME:-default}, ${NAME:?error} or ${NAME:+other}'],
    ['${A!x}', '"${A!x}" is no variable: write ${NAME}, ${NAME:-default}, ${NAME:?error} or ${NAME:+other}'],
  ])('%s is refused', (text, message) => {
    expect(() => interpolate(text, lookup, () => {})).toThrow(new InterpolationError(message));
  });

  test('names what is not set, but not where a default stands', () => {
    const unset: string[] = [];
    interpolate('$X ${Y} ${Z:-d} ${A:-$W} ${Q+x}', lookup, (name) => unset.push(name));
    expect(unset).toEqual(['X', 'Y']);
  });

  test('a text with its dollars doubled comes out as it was', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(interpolate(text.replaceAll('$', '$$$$'), lookup, () => {})).toBe(text);
      }),
    );
  });
});

describe('.env', () => {
  test.each([
    ['A=1', { A: '1' }],
    ['A=1\r\nB=2\r\n', { A: '1', B: '2' }],
    ['# c\n\n  export A = x y  # c\nB=x#y', { A: 'x y', B: 'x#y' }],
    ['A="x # y" # c', { A: 'x # y' }],
    ["A='$B'\nB=b", { A: '$B', B: 'b' }],
    ['A=a\nB="$A\\n${A}\\$A"\nC=${A}c', { A: 'a', B: 'a\na$A', C: 'ac' }],
    ['A="two\nlines"\nB=2', { A: 'two\nlines', B: '2' }],
    ['A=\nB=""\nC', { A: '', B: '' }],
    ['A=$OUTER', { A: 'out' }],
    ['', {}],
    ['A=b=c', { A: 'b=c' }],
  ])('%j', (text, values) => {
    const outer = (name: string): string | undefined => (name === 'OUTER' ? 'out' : undefined);
    expect(Object.fromEntries(parseDotEnv(text, '.env', outer))).toEqual(values);
  });

  test.each([
    ['A=1\n-x', '.env:2: a line such as NAME=value is needed here'],
    ['A=1\nB=${', '.env:2: "${": "${" is never closed: "}" is missing'],
  ])('%j is refused', (text, message) => {
    expect(() => parseDotEnv(text, '.env', () => undefined)).toThrow(new EnvFileError(message));
  });
});

describe('env_file', () => {
  test('as docker reads it', () => {
    const text = '\uFEFF# c\n A="q" # no comment\nB=a=b\nEMPTY=\nKNOWN\nUNKNOWN\n\n';
    const known = (name: string): string | undefined => (name === 'KNOWN' ? 'k' : undefined);
    expect(parseEnvFile(text, 'f', known)).toEqual([
      ['A', '"q" # no comment'],
      ['B', 'a=b'],
      ['EMPTY', ''],
      ['KNOWN', 'k'],
    ]);
    expect(() => parseEnvFile('A=1\nB C=2', 'f', known)).toThrow('f:2: "B C" is no name of a variable');
  });
});
