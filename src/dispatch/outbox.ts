/**
 * Status reports on their way to the manager: one batch under way, and the newest report of each task waiting for the
 * next. So batches grow by themselves when the manager is slow, and a task that changes often costs one place.
 */
import type { TaskStatusReport } from '../model/assignments.ts';
import { REPORT_LIMITS } from './usual-reports.ts';

/** The session ended before the manager had stored a report. After the next `replace`, report again. */
export class SessionLost extends Error {
  override readonly name = 'SessionLost';
}

/** Times the greatest report, far less than a frame. */
const MAX_BATCH = 100;

interface Waiting {
  turn: number;
  resolve(): void;
  reject(error: Error): void;
}

export class Outbox {
  readonly #send: (number: number, reports: TaskStatusReport[]) => void;
  readonly #pending = new Map<string, { turn: number; report: TaskStatusReport }>();
  #waiting: Waiting[] = [];
  /** Counts calls of `add`. */
  #turn = 0;
  #number = 0;
  #underWay = false;
  #failed: SessionLost | undefined;

  constructor(send: (number: number, reports: TaskStatusReport[]) => void) {
    this.#send = send;
  }

  /** Resolves once these, or later ones of the same tasks, are stored. Rejects with SessionLost. */
  add(reports: readonly TaskStatusReport[]): Promise<void> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    if (reports.length === 0) return Promise.resolve();
    const turn = ++this.#turn;
    for (const report of reports) this.#pending.set(report.taskId, { turn, report: shortened(report) });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ turn, resolve, reject });
    if (!this.#underWay) this.#next();
    return promise;
  }

  /** The manager has stored a batch. */
  stored(number: number): void {
    if (number !== this.#number || !this.#underWay) return;
    this.#underWay = false;
    let oldest = Infinity;
    for (const { turn } of this.#pending.values()) oldest = Math.min(oldest, turn);
    const done = this.#waiting.filter((waiting) => waiting.turn < oldest);
    this.#waiting = this.#waiting.filter((waiting) => waiting.turn >= oldest);
    if (this.#pending.size > 0) this.#next();
    for (const waiting of done) waiting.resolve();
  }

  /** The session is over: nothing more will be stored. */
  fail(message: string): void {
    this.#failed ??= new SessionLost(message);
    for (const waiting of this.#waiting) waiting.reject(this.#failed);
    this.#waiting = [];
    this.#pending.clear();
  }

  #next(): void {
    const batch: TaskStatusReport[] = [];
    for (const [taskId, { report }] of this.#pending) {
      this.#pending.delete(taskId);
      if (batch.push(report) === MAX_BATCH) break;
    }
    this.#underWay = true;
    this.#send(++this.#number, batch);
  }
}

/** What an engine says can be of any length; a manager takes so much of it. */
function shortened({ taskId, status }: TaskStatusReport): TaskStatusReport {
  const cut = (text: string) => text.slice(0, REPORT_LIMITS.text);
  const error = status.error === undefined ? {} : { error: cut(status.error) };
  return { taskId, status: { ...status, message: cut(status.message), ...error } };
}
