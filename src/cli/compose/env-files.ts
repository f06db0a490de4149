/** Files of variables: `.env` beside a compose file, by compose's rules, and `env_file` of services, by Docker's. Pure. */
import { interpolate, InterpolationError, type Lookup } from './interpolate.ts';

/** A line that cannot be meant; the message names file and line. */
export class EnvFileError extends Error {
  override readonly name = 'EnvFileError';
}

const ENTRY =
  /^[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*(?:=[ \t]*("(?:\\[^]|[^"\\])*"|'[^']*'|[^\n]*?))?(?:[ \t]+#[^\n]*|[ \t]*)$/my;

/**
 * The variables of a `.env`. Quotes are taken off; in double quotes `\n` is a line break; all but what stands in single
 * quotes may use variables, those before it included. A name without `=` says nothing. @throws EnvFileError
 */
export function parseDotEnv(text: string, file: string, outer: Lookup): Map<string, string> {
  const values = new Map<string, string>();
  const lookup: Lookup = (name) => outer(name) ?? values.get(name);
  const source = text.replaceAll('\r\n', '\n').replace(/^\uFEFF/, '');
  let at = 0;
  while (at < source.length) {
    const blank = /[ \t]*(?:#[^\n]*)?(?:\n|$)/y;
    blank.lastIndex = at;
    const skipped = blank.exec(source)?.[0];
    if (skipped !== undefined && skipped !== '') {
      at += skipped.length;
      continue;
    }
    ENTRY.lastIndex = at;
    const found = ENTRY.exec(source);
    const line = source.slice(0, at).split('\n').length;
    if (found === null) throw new EnvFileError(`${file}:${line}: a line such as NAME=value is needed here`);
    const [all, name = '', raw] = found;
    try {
      if (raw !== undefined) values.set(name, unquoted(raw, lookup));
    } catch (error) {
      if (error instanceof InterpolationError) throw new EnvFileError(`${file}:${line}: ${error.message}`);
      throw error;
    }
    at += all.length + 1;
  }
  return values;
}

function unquoted(raw: string, lookup: Lookup): string {
  if (raw.startsWith("'") && raw.endsWith("'") && raw.length > 1) return raw.slice(1, -1);
  const ignore = (): void => {};
  if (!raw.startsWith('"') || !raw.endsWith('"') || raw.length < 2) return interpolate(raw, lookup, ignore);
  const text = raw.slice(1, -1).replace(/\\([^])/g, (both, char: string) => {
    if (char === 'n') return '\n';
    if (char === 't') return '\t';
    if (char === 'r') return '\r';
    if (char === '$') return '$$';
    return char === '"' || char === '\\' ? char : both;
  });
  return interpolate(text, lookup, ignore);
}

/**
 * The entries of an `env_file` as `docker stack deploy` reads them: the value is all behind the first `=`, quotes
 * included; a name alone takes its value from the client's environment, and is left out if it has none there.
 * @throws EnvFileError
 */
export function parseEnvFile(text: string, file: string, lookup: Lookup): [string, string][] {
  const entries: [string, string][] = [];
  const lines = text.replace(/^\uFEFF/, '').split('\n');
  for (const [at, line] of lines.entries()) {
    const entry = line.replace(/\r$/, '').trimStart();
    if (entry === '' || entry.startsWith('#')) continue;
    const [name = ''] = entry.split('=', 1);
    if (name === '' || /\s/.test(name))
      throw new EnvFileError(`${file}:${at + 1}: "${name}" is no name of a variable: it has blanks, or is empty`);
    const value = entry.includes('=') ? entry.slice(name.length + 1) : lookup(name);
    if (value !== undefined) entries.push([name, value]);
  }
  return entries;
}
