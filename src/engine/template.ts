/**
 * The placeholders of Swarm's service templates, such as `web-{{.Task.Slot}}`, allowed in hostname, environment and
 * mounts. Only plain values are known, no functions; whatever else stands between braces is an error that names it.
 */
import { shownSlot, taskName } from '../model/objects.ts';
import { isUnclosed, labelAsked, PLACEHOLDER, type PlaceholderName } from '../model/placeholders.ts';
import type { TaskAssignment } from '../model/assignments.ts';
import type { TaskPlace } from './engine.ts';

export class TemplateError extends Error {
  constructor(template: string, reason: string) {
    super(`bad template ${JSON.stringify(template)}: ${reason}`);
    this.name = 'TemplateError';
  }
}

/** Replaces every placeholder of a text. @throws TemplateError */
export type Expand = (template: string) => string;

/** The value of what stands between braces; undefined if that is not known. */
export type Lookup = (inside: string) => string | undefined;

/** The expansion for one task on one node. */
export function templateFor(task: TaskAssignment, node: TaskPlace['node']): Expand {
  const lookup = valuesFor(task, node);
  return (template) =>
    expandWith(template, lookup, (placeholder) => {
      const reason = placeholder === undefined ? 'a {{ has no }}' : `${placeholder} is not known here`;
      return new TemplateError(template, reason);
    });
}

/**
 * `template` with every placeholder replaced. Throws what `fault` makes of one that is not known, or of nothing: a
 * placeholder that never closes.
 */
export function expandWith(template: string, lookup: Lookup, fault: (placeholder?: string) => Error): string {
  if (!template.includes('{{')) return template;
  const expanded = template.replace(PLACEHOLDER, (placeholder: string, inside: string) => {
    const value = lookup(inside.trim());
    if (value === undefined) throw fault(placeholder);
    return value;
  });
  if (isUnclosed(template)) throw fault();
  return expanded;
}

/** The plain values of one task on one node. A label that is not set is nothing, as in Swarm. */
export function valuesFor(task: TaskAssignment, node: TaskPlace['node']): Lookup {
  const known: Record<PlaceholderName, string> = {
    '.Service.ID': task.serviceId,
    '.Service.Name': task.serviceName,
    '.Node.ID': node.id,
    '.Node.Hostname': node.hostname,
    '.Node.Platform.OS': node.platform.os,
    '.Node.Platform.Architecture': node.platform.architecture,
    '.Task.ID': task.id,
    '.Task.Name': taskName(task),
    // A global task has no slot: its node takes the place, as in its name.
    '.Task.Slot': task.slot === 0 ? task.nodeId : String(shownSlot(task)),
  };
  const values = new Map(Object.entries(known));
  return (name) => {
    const label = labelAsked(name);
    return label === undefined ? values.get(name) : (task.serviceLabels[label] ?? '');
  };
}
