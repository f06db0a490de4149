/**
 * Facts as they go over the wire. A spec is the larger part of a task's fact and the same object for every task of its version,
 * so it is written out once and not once per task. Pure.
 */
import type { AssignmentChange } from '../model/assignments.ts';

/** Of objects that are never changed, and that many facts share: their JSON. It goes when they go. */
const texts = new WeakMap<object, string>();

/** The JSON of a fact: what `JSON.stringify` would say, but for the order of a task's fields. */
export function factText(change: AssignmentChange): string {
  if (change.kind !== 'task' || change.value === null) return JSON.stringify(change);
  const { serviceLabels, spec } = change.value;
  const key = JSON.stringify(change.key);
  // Left out by being undefined, which is quicker than a copy without them. The last brace stays open for the rest.
  const value = JSON.stringify({ ...change.value, serviceLabels: undefined, spec: undefined }).slice(0, -1);
  const shared = `"serviceLabels":${sharedText(serviceLabels)},"spec":${sharedText(spec)}`;
  return `{"kind":"task","key":${key},"value":${value},${shared}}}`;
}

function sharedText(shared: object): string {
  let text = texts.get(shared);
  if (text === undefined) {
    text = JSON.stringify(shared);
    texts.set(shared, text);
  }
  return text;
}
