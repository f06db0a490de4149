/**
 * The `filters` query of Docker's lists: reading it in both of its forms, and what matches. Pure.
 * Within one key the values are alternatives, but for labels, which must all match; all keys must match.
 */
import { badRequest } from './errors.ts';
import type { Labels } from '../model/specs.ts';

/** Key → values, as given. */
export type Filters = ReadonlyMap<string, readonly string[]>;

/**
 * Reads `{"label":{"a=b":true}}` or the older `{"label":["a=b"]}`.
 * @throws ApiError 400 for anything else, and for a key that is not in `accepted` (if given).
 */
export function parseFilters(text: string | undefined, accepted?: readonly string[]): Filters {
  const filters = new Map<string, string[]>();
  if (text === undefined || text === '') return filters;
  for (const [key, values] of Object.entries(filterObject(text))) {
    if (accepted !== undefined && !accepted.includes(key)) throw badRequest(`invalid filter '${key}'`);
    const list = Array.isArray(values) ? values.map(String) : enabledKeys(values);
    if (list.length > 0) filters.set(key, list);
  }
  return filters;
}

/** True if the key is absent, or `matches` holds for one of its values. */
export function some(filters: Filters, key: string, matches: (value: string) => boolean): boolean {
  const values = filters.get(key);
  return values === undefined || values.some(matches);
}

/** True if `text` begins with one of the values of `key`, or the key is absent. */
export function startsWith(filters: Filters, key: string, text: string): boolean {
  return some(filters, key, (value) => text.startsWith(value));
}

/** True if one of the values of `key` is found anywhere in `text`, or the key is absent: how engines match networks. */
export function contains(filters: Filters, key: string, text: string): boolean {
  return some(filters, key, (value) => text.includes(value));
}

/** True if `labels` has all labels that `key` names, as `name` or `name=value`. */
export function hasLabels(filters: Filters, key: string, labels: Labels): boolean {
  return (filters.get(key) ?? []).every((wanted) => {
    const at = wanted.indexOf('=');
    const name = at < 0 ? wanted : wanted.slice(0, at);
    return Object.hasOwn(labels, name) && (at < 0 || labels[name] === wanted.slice(at + 1));
  });
}

/** True unless `labels` has one of the labels that `key` names (`label!`). */
export function lacksLabels(filters: Filters, key: string, labels: Labels): boolean {
  return (filters.get(key) ?? []).every((unwanted) => !hasLabels(new Map([[key, [unwanted]]]), key, labels));
}

/** The one truth value of a key; undefined if absent. @throws ApiError 400 */
export function booleanFilter(filters: Filters, key: string): boolean | undefined {
  const values = filters.get(key);
  if (values === undefined) return undefined;
  const [value] = values;
  if (values.length === 1 && ['1', 'true'].includes(value ?? '')) return true;
  if (values.length === 1 && ['0', 'false'].includes(value ?? '')) return false;
  throw badRequest(`invalid filter '${key}=[${values.join(' ')}]'`);
}

function filterObject(text: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw badRequest('invalid filter: the filters are no JSON');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw badRequest('invalid filter: the filters must be a JSON object such as {"label":{"a=b":true}}');
  }
  return { ...parsed };
}

function enabledKeys(values: unknown): string[] {
  if (typeof values !== 'object' || values === null)
    throw badRequest('invalid filter: values must be an object or a list');
  return Object.entries(values).flatMap(([value, enabled]) => (enabled === true ? [value] : []));
}
