/**
 * The placeholders of Swarm's service templates, such as `web-{{.Task.Slot}}`: which there are and how they are written.
 * Only plain values are known, no functions. Pure.
 */

export const PLACEHOLDER_NAMES = [
  '.Service.ID',
  '.Service.Name',
  '.Node.ID',
  '.Node.Hostname',
  '.Node.Platform.OS',
  '.Node.Platform.Architecture',
  '.Task.ID',
  '.Task.Name',
  '.Task.Slot',
] as const;

export type PlaceholderName = (typeof PLACEHOLDER_NAMES)[number];

export const PLACEHOLDER = /\{\{(.*?)\}\}/gs;

const LABEL = /^\.Service\.Labels\.([^\s]+)$/;
const INDEXED_LABEL = /^index\s+\.Service\.Labels\s+"([^"]*)"$/;

/** The label of the service that `.Service.Labels.x` or `index .Service.Labels "x"` asks for, or undefined. */
export function labelAsked(inside: string): string | undefined {
  return LABEL.exec(inside)?.[1] ?? INDEXED_LABEL.exec(inside)?.[1];
}

/** True if a `{{` of the template never closes. */
export function isUnclosed(template: string): boolean {
  // A value may hold braces of its own, so this looks at the template, not at what became of it.
  return template.replace(PLACEHOLDER, '').includes('{{');
}

/** What is wrong with a template, in words, or undefined if nothing is. */
export function templateFault(template: string): string | undefined {
  for (const [placeholder, inside = ''] of template.matchAll(PLACEHOLDER)) {
    const name = inside.trim();
    if (labelAsked(name) === undefined && !PLACEHOLDER_NAMES.some((known) => known === name))
      return `${placeholder} is not known here`;
  }
  return isUnclosed(template) ? 'a {{ has no }}' : undefined;
}
