/**
 * The rooms and their arrows (design.md, section 3): a file imports its own room, and the rooms its row names.
 * Tests, with their contract suites and fixtures, may reach further, for they put several rooms together.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

const src = resolve(import.meta.dirname, '../../src');

/** Room → the rooms it may import. `model` may import nothing, and everybody may import it. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  daemon: ['api', 'control', 'dispatch', 'agent', 'engine', 'network', 'pki', 'store', 'journal', 'docker', 'model'],
  cli: ['lab', 'docker', 'model'],
  lab: ['docker', 'model'],
  api: ['store', 'dispatch', 'docker', 'pki', 'model'],
  control: ['store', 'model'],
  dispatch: ['store', 'pki', 'model'],
  agent: ['engine', 'network', 'journal', 'docker', 'model'],
  engine: ['docker', 'model'],
  network: ['model'],
  pki: ['model'],
  store: ['journal', 'model'],
  journal: ['model'],
  docker: [],
  model: [],
  sim: ['control', 'dispatch', 'agent', 'engine', 'store', 'journal', 'model'],
};

const isTest = (file: string) => /\.(test|contract|fixture)\.ts$/.test(file);

function sources(): string[] {
  return readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !isTest(file))
    .sort();
}

function imports(file: string): string[] {
  const text = readFileSync(join(src, file), 'utf8');
  const found = text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*['"](\.[^'"]+)['"]/g);
  return [...found].map(([, path]) => relative(src, resolve(src, dirname(file), path!)));
}

const room = (file: string) => file.split('/')[0]!;

test('every folder of src is a room with a row', () => {
  const folders = readdirSync(src, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(folders.map((folder) => folder.name).filter((name) => !(name in MAY_IMPORT))).toEqual([]);
});

test('arrows point down only', () => {
  const wrong = sources().flatMap((file) =>
    imports(file)
      .filter((target) => room(target) !== room(file) && !MAY_IMPORT[room(file)]?.includes(room(target)))
      .map((target) => `${file} imports ${target}`),
  );
  expect(wrong).toEqual([]);
});

test('the rows themselves have no circle', () => {
  const visit = (name: string, path: readonly string[]): void => {
    expect(path, [...path, name].join(' → ')).not.toContain(name);
    for (const next of MAY_IMPORT[name] ?? []) visit(next, [...path, name]);
  };
  for (const name of Object.keys(MAY_IMPORT)) visit(name, []);
});

test('the model does no input or output', () => {
  const wrong = sources()
    .filter((file) => room(file) === 'model')
    .filter((file) => /from 'node:/.test(readFileSync(join(src, file), 'utf8')));
  expect(wrong).toEqual([]);
});
