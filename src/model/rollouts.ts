/**
 * What a service's labels say of how a new version goes in, beyond Docker's update config. Pure. The API refuses values
 * that cannot be read (api/validate/drover-labels.ts); here one counts as not given.
 */
import { parseDuration } from './durations.ts';
import type { Labels } from './specs.ts';

export const ROLLOUT = {
  deadline: 'drover.update.progress-deadline',
  canary: 'drover.update.canary',
  confirm: 'drover.update.confirm',
} as const;

const DEFAULT_DEADLINE_MS = 600_000;

/** How long a new task may take to arrive before it counts as failed, in milliseconds. */
export function progressDeadlineMsOf(labels: Labels): number {
  return parseDuration(labels[ROLLOUT.deadline] ?? '') || DEFAULT_DEADLINE_MS;
}

/** How many of `slots` an update replaces before it waits for a word; undefined: it does not wait. */
export function canariesOf(labels: Labels, slots: number): number | undefined {
  const canary = parseCanary(labels[ROLLOUT.canary] ?? '');
  if (canary === undefined) return undefined;
  return 'count' in canary ? canary.count : Math.ceil((slots * canary.percent) / 100);
}

/** `2` or `20%`: at least one, at most all of them; undefined if it is neither. */
export function parseCanary(text: string): { count: number } | { percent: number } | undefined {
  const [, digits = '', sign = ''] = /^(\d{1,7})(%?)$/.exec(text) ?? [];
  const amount = Number(digits);
  if (digits === '' || amount === 0) return undefined;
  if (sign === '') return { count: amount };
  return amount <= 100 ? { percent: amount } : undefined;
}

/** True if an update keeps the old tasks, stopped, until somebody confirms it. */
export function asksForConfirm(labels: Labels): boolean {
  return parseSwitch(labels[ROLLOUT.confirm] ?? '') ?? false;
}

/** `true` or `false`; undefined if it is neither. */
export function parseSwitch(text: string): boolean | undefined {
  return text === 'true' ? true : text === 'false' ? false : undefined;
}
