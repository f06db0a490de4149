/** docs/scale.md, of which the commands write the tables: what stands between two marks is theirs, the rest is people's. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const PAGE = join(import.meta.dirname, '../../docs/scale.md');

/** The lines between the marks of `section`. Throws if the page does not have them. */
export function sectionOf(section: string): string[] {
  const { lines, from, to } = find(section);
  return lines.slice(from, to);
}

/** Puts these lines between the marks of `section`. */
export function writeSection(section: string, content: readonly string[]): void {
  const { lines, from, to } = find(section);
  writeFileSync(PAGE, [...lines.slice(0, from), ...content, ...lines.slice(to)].join('\n'));
}

function find(section: string): { lines: string[]; from: number; to: number } {
  const lines = readFileSync(PAGE, 'utf8').split('\n');
  const from = lines.indexOf(`<!-- ${section}: written by the command -->`) + 1;
  const to = lines.indexOf(`<!-- ${section}: end -->`);
  if (from === 0 || to < from) throw new Error(`docs/scale.md has no section ${section}`);
  return { lines, from, to };
}

/** A row of a table in Markdown. */
export function row(cells: readonly (string | number)[]): string {
  return `| ${cells.join(' | ')} |`;
}

/** 1234567 as 1,234,567. */
export function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}
