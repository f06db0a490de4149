/** What differs between two specs, field by field, for people to read. Pure. */

export interface FieldChange {
  /** Such as `TaskTemplate.ContainerSpec.Env[LOG_LEVEL]`. */
  path: string;
  /** As people read it; absent: it was not there. */
  before?: string;
  /** … absent: it is gone. */
  after?: string;
}

/** Lists whose members are `NAME=value`: compared by name. */
const KEYED = new Set(['Env']);

/** The fields that differ, in the order of their paths. Absent, null, `{}`, `[]`, `''`, 0 and false are all "nothing said". */
export function specChanges(before: unknown, after: unknown): FieldChange[] {
  const changes: FieldChange[] = [];
  compare('', before, after, changes);
  return changes;
}

function compare(path: string, before: unknown, after: unknown, changes: FieldChange[]): void {
  const was = plain(path, before);
  const is = plain(path, after);
  if (isRecord(was ?? is) && isRecord(was ?? {}) && isRecord(is ?? {})) {
    const keys = new Set([...Object.keys(was ?? {}), ...Object.keys(is ?? {})]);
    const inBrackets = KEYED.has(lastOf(path)) || lastOf(path) === 'Labels';
    for (const key of [...keys].sort())
      compare(joined(path, key, inBrackets), member(was, key), member(is, key), changes);
    return;
  }
  const [old, fresh] = [shown(was), shown(is)];
  if (old === fresh) return;
  changes.push({
    path,
    ...(old === undefined ? {} : { before: old }),
    ...(fresh === undefined ? {} : { after: fresh }),
  });
}

/** A keyed list as a record; what says nothing as undefined. */
function plain(path: string, value: unknown): unknown {
  if (isNothing(value)) return undefined;
  if (!Array.isArray(value) || !KEYED.has(lastOf(path))) return value;
  return Object.fromEntries(
    value.map((entry) => {
      const text = String(entry);
      const at = text.indexOf('=');
      return at < 0 ? [text, '(from the image)'] : [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

function lastOf(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1);
}

function joined(path: string, key: string, inBrackets: boolean): string {
  if (inBrackets) return `${path}[${key}]`;
  return path === '' ? key : `${path}.${key}`;
}

function member(value: unknown, key: string): unknown {
  return isRecord(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}

function shown(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function isNothing(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === 0 || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return isRecord(value) && Object.values(value).every(isNothing);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
