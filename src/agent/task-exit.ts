/** What the end of a container means for its task, in the words Swarm's users know. */
import type { ContainerStatus } from '../engine/engine.ts';
import { TaskState } from '../model/states.ts';

const UNHEALTHY = 'dockerexec: unhealthy container';
/** Longer last words of a health check are cut. */
const MAX_LAST_WORDS = 200;
const UNPRINTABLE = /\p{Cc}+/gu;
export const HOST_RESTARTED = 'the host was restarted';

export interface Ending {
  state: typeof TaskState.COMPLETE | typeof TaskState.FAILED;
  /** Absent with COMPLETE. */
  error?: string;
}

/** That the health check said no, and what it said last, on one line. */
export function unhealthyBecause(output: string): string {
  const line =
    output
      .trimEnd()
      .split(/[\r\n]+/)
      .at(-1)
      ?.replace(UNPRINTABLE, ' ')
      .trim() ?? '';
  if (line === '') return UNHEALTHY;
  return `${UNHEALTHY}: ${line.length > MAX_LAST_WORDS ? `${line.slice(0, MAX_LAST_WORDS)}…` : line}`;
}

/** `cause`: why it ended, if that was not its own doing; it then counts as failed even with exit code 0. */
export function endingOf(container: ContainerStatus, cause = ''): Ending {
  const { exitCode } = container;
  const why = cause || container.error || (container.oomKilled ? 'out of memory' : '');
  if (exitCode === 0) return cause === '' ? { state: TaskState.COMPLETE } : { state: TaskState.FAILED, error: cause };
  return { state: TaskState.FAILED, error: `task: non-zero exit (${exitCode})${why === '' ? '' : `: ${why}`}` };
}
