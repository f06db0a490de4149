/**
 * Crash loops: a slot whose tasks fail quickly, one after the other, is restarted less and less often. The first restarts
 * come after the policy's delay, as in Docker; each further one after twice the time of the one before, up to a bound.
 * A task that ran for a while, or ended well, ends the loop. Pure.
 */
import type { Task, TaskStatus } from './objects.ts';
import type { Labels } from './specs.ts';
import { parseDuration } from './durations.ts';
import { TaskState } from './states.ts';

/** `off`, or the longest delay between restarts. */
export const BACKOFF_LABEL = 'drover.restart.backoff';
/** A task that fails sooner after it began to run (and to be healthy) has failed quickly. */
const STEADY_MS = 60_000;
/** So many restarts in a row come after the plain delay. */
const UNSLOWED = 3;
const DEFAULT_MOST_MS = 60_000;
/** What doubles where the policy knows no delay. */
const LEAST_MS = 100;

/** Milliseconds that a value of the label allows at most, 0 for `off`; undefined if it says neither. */
export function parseBackoff(text: string): number | undefined {
  return text === 'off' ? 0 : parseDuration(text) || undefined;
}

/** The longest delay between restarts in milliseconds; 0: they are never slowed. */
export function longestDelayMs(labels: Labels): number {
  return parseBackoff(labels[BACKOFF_LABEL] ?? '') ?? DEFAULT_MOST_MS;
}

/** How many quick failures in a row a slot has seen, now that this task of it ended by itself. */
export function quickFailuresAfter({ quickFailures = 0, status }: Pick<Task, 'quickFailures' | 'status'>): number {
  return failedQuickly(status) ? quickFailures + 1 : 0;
}

/** Both moments are of the node's clock. */
function failedQuickly({ state, timestamp, runningSince }: TaskStatus): boolean {
  if (state !== TaskState.FAILED && state !== TaskState.REJECTED) return false;
  return runningSince === undefined || Date.parse(timestamp) - Date.parse(runningSince) < STEADY_MS;
}

/** Milliseconds before the next start: `delayMs`, the policy's, or longer after many quick failures. Never shorter. */
export function restartDelayMs(delayMs: number, quickFailures: number, mostMs: number): number {
  if (quickFailures <= UNSLOWED) return delayMs;
  const grown = Math.max(delayMs, LEAST_MS) * 2 ** Math.min(quickFailures - UNSLOWED, 30);
  return Math.max(delayMs, Math.min(grown, mostMs));
}

/** Why a task waits to be started, if that is because of a crash loop; undefined otherwise. */
export function crashLoop(task: Pick<Task, 'desiredState' | 'startAfter' | 'quickFailures'>): string | undefined {
  const { desiredState, startAfter, quickFailures = 0 } = task;
  if (desiredState !== TaskState.READY || startAfter === undefined || quickFailures <= UNSLOWED) return undefined;
  return `crash loop: ${quickFailures} quick failures in a row; not started before ${startAfter}`;
}
