/** Versions and states only move forward, and what a task is never changes. Pure. */
import type { Node, Service, Task } from '../../model/objects.ts';
import { taskStateName } from '../../model/states.ts';
import type { Event } from '../../store/store.ts';

/** What is wrong with one change of a row; undefined: nothing. */
export function backwards(event: Event): string | undefined {
  if (event.before === undefined || event.after === undefined) return undefined;
  if (event.table === 'tasks') return taskBackwards(event.before, event.after);
  if (event.table === 'services') return serviceBackwards(event.before, event.after);
  if (event.table === 'nodes') return nodeBackwards(event.before, event.after);
  return undefined;
}

function taskBackwards(before: Task, after: Task): string | undefined {
  const named = (what: string, was: unknown, is: unknown) =>
    `task ${before.id} of ${before.serviceName}: ${what} went from ${String(was)} to ${String(is)}`;
  const [was, is] = [before.status.state, after.status.state];
  if (is < was) return named('its observed state', taskStateName(was), taskStateName(is));
  if (after.desiredState < before.desiredState)
    return named('its desired state', taskStateName(before.desiredState), taskStateName(after.desiredState));
  if (before.nodeId !== '' && after.nodeId !== before.nodeId) return named('its node', before.nodeId, after.nodeId);
  for (const field of ['serviceId', 'slot', 'specVersion'] as const)
    if (after[field] !== before[field]) return named(field, before[field], after[field]);
  return undefined;
}

function serviceBackwards(before: Service, after: Service): string | undefined {
  // Not `specVersion`: a rollback goes back to that of the spec it restores.
  if (after.meta.version < before.meta.version)
    return `service ${before.spec.Name}: its version went from ${before.meta.version} to ${after.meta.version}`;
  if (after.spec !== before.spec && JSON.stringify(after.spec) !== JSON.stringify(before.spec)) {
    if (after.meta.version === before.meta.version)
      return `service ${before.spec.Name}: its spec changed, and its version did not`;
  }
  return undefined;
}

function nodeBackwards(before: Node, after: Node): string | undefined {
  if (after.meta.version < before.meta.version)
    return `node ${before.id}: its version went from ${before.meta.version} to ${after.meta.version}`;
  return undefined;
}
