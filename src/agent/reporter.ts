/**
 * Statuses on their way to a manager. Promises: what happens in one turn of the event loop goes in one batch, with the
 * newest status of each task. What a session ends without bringing over, the agent finds missing in the facts that the
 * next session begins with, and adds again.
 */
import type { Log } from '../model/clock.ts';
import type { TaskStatus } from '../model/objects.ts';
import type { ReportStatus } from './ports.ts';

export class Reporter {
  readonly #report: ReportStatus;
  readonly #log: Log;
  /** For the next batch, by task id. */
  readonly #unsent = new Map<string, TaskStatus>();

  constructor(deps: { report: ReportStatus; log: Log }) {
    this.#report = deps.report;
    this.#log = deps.log;
  }

  add(taskId: string, status: TaskStatus): void {
    if (this.#unsent.size === 0) setImmediate(() => void this.#send());
    this.#unsent.set(taskId, status);
  }

  async #send(): Promise<void> {
    const batch = [...this.#unsent].map(([taskId, status]) => ({ taskId, status }));
    this.#unsent.clear();
    try {
      await this.#report(batch);
    } catch (error) {
      this.#log.debug({ tasks: batch.length, error: String(error) }, 'no manager has taken the status reports yet');
    }
  }
}
