/** What the end of a container means for its task, in the words Swarm's users know. */
import type { ContainerStatus } from '../engine/engine.ts';
import { TaskState } from '../model/states.ts';

export const UNHEALTHY = 'dockerexec: unhealthy container';
export const HOST_RESTARTED = 'the host was restarted';

export interface Ending {
  state: typeof TaskState.COMPLETE | typeof TaskState.FAILED;
  /** Absent with COMPLETE. */
  error?: string;
}

/** `cause`: why it ended, if that was not its own doing; it then counts as failed even with exit code 0. */
export function endingOf(container: ContainerStatus, cause = ''): Ending {
  const { exitCode } = container;
  const why = cause || container.error || (container.oomKilled ? 'out of memory' : '');
  if (exitCode === 0) return cause === '' ? { state: TaskState.COMPLETE } : { state: TaskState.FAILED, error: cause };
  return { state: TaskState.FAILED, error: `task: non-zero exit (${exitCode})${why === '' ? '' : `: ${why}`}` };
}
