/**
 * The log of several tasks as it grows: those that are there, and those that come. Lines come in the order of their task, and
 * among tasks as they arrive. A node that goes away is said once, and its tasks go on where they were when it is back.
 *
 * Memory: less than 512 KiB for each of at most 512 tasks that run, and for eight at a time of those that have ended.
 */
import { NodeAway } from '../../dispatch/streams.ts';
import { ChannelBroken, ChannelRefused } from '../../dispatch/streams-channel.ts';
import type { Task } from '../../model/objects.ts';
import { isTerminal, TaskState } from '../../model/states.ts';
import type { Store } from '../../store/store.ts';
import { LineFormat } from './format.ts';
import { lineTime } from './lines.ts';
import { missingLines, type Missing } from './missing.ts';
import { hasLog, type LogSelection } from './selection.ts';
import { ReaderGone } from './sink.ts';
import { TaskLog } from './task-log.ts';
import type { WholeLogDeps } from './whole-log.ts';

const FOLLOWED = 512;
const ENDED_AT_ONCE = 8;
const RETRY_MS = 1_000;
/** What is missing is gathered for so long: a node that is away is away for all its tasks. */
const GATHER_MS = 250;

export class FollowedLog {
  readonly #deps: WholeLogDeps;
  readonly #store: Store;
  readonly #selection: LogSelection;
  readonly #seen = new Set<string>();
  /** Tasks that had ended when they were first seen, and wait for their turn. */
  readonly #ended: Task[] = [];
  #running = 0;
  #endedRunning = 0;
  #missing: Missing[] = [];
  #gathering = false;
  /** What was said of nodes and tasks and still holds. */
  readonly #said = new Set<string>();
  readonly #over = Promise.withResolvers<void>();

  constructor(deps: WholeLogDeps, store: Store, selection: LogSelection) {
    this.#deps = deps;
    this.#store = store;
    this.#selection = selection;
  }

  /** Settles when no more can come. Rejects with ReaderGone, or with the signal's reason. */
  async run(): Promise<void> {
    const { signal } = this.#deps;
    const aborted = (): void => this.#over.reject(signal.reason);
    signal.addEventListener('abort', aborted, { once: true });
    const stop = this.#store.watch((events) => {
      let touched = false;
      for (const event of events) {
        touched ||= event.table === 'services';
        if (event.table !== 'tasks' || !this.#selection.has((event.after ?? event.before)!)) continue;
        touched = true;
        if (event.after !== undefined) this.#consider(event.after);
      }
      if (touched) this.#endIfOver();
    });
    try {
      for (const task of this.#store.view((view) => this.#selection.tasks(view))) this.#consider(task);
      this.#endIfOver();
      await this.#over.promise;
      await this.#say();
    } finally {
      stop();
      signal.removeEventListener('abort', aborted);
    }
  }

  #consider(task: Task): void {
    if (this.#seen.has(task.id) || !hasLog(task)) return;
    this.#seen.add(task.id);
    if (isTerminal(task.status.state)) {
      this.#ended.push(task);
      this.#nextEnded();
    } else if (this.#running - this.#endedRunning >= FOLLOWED) {
      this.#lacks(task, `more than ${FOLLOWED} tasks are not followed at once`);
    } else this.#start(task);
  }

  #nextEnded(): void {
    while (this.#endedRunning < ENDED_AT_ONCE) {
      const task = this.#ended.shift();
      if (task === undefined) return;
      this.#endedRunning += 1;
      this.#start(task, () => {
        this.#endedRunning -= 1;
        this.#nextEnded();
      });
    }
  }

  #start(task: Task, done: () => void = () => {}): void {
    this.#running += 1;
    this.#follow(task).then(
      () => {
        this.#running -= 1;
        done();
        this.#endIfOver();
      },
      (error: unknown) => this.#over.reject(error),
    );
  }

  /** Settles when the task's log has been told to its end. Rejects if the reader has gone. */
  async #follow(task: Task): Promise<void> {
    const log = new TaskLog(this.#deps, task);
    const format = new LineFormat(this.#deps.format, task);
    for (;;) {
      // A log that is opened before its container runs ends at once, and not for good.
      const state = this.#now(task)?.status.state ?? TaskState.ORPHANED;
      try {
        await log.open();
        this.#said.delete(task.nodeId);
        await this.#copy(log, format);
        if (state >= TaskState.RUNNING) return;
      } catch (error) {
        if (error instanceof ReaderGone || this.#deps.signal.aborted) throw error;
        if (!this.#mayGoOn(task, error as Error)) return;
      }
      await this.#pause();
      if (this.#now(task) === undefined) return;
    }
  }

  async #copy(log: TaskLog, format: LineFormat): Promise<void> {
    while (log.isOpen) {
      const out: Buffer[] = [];
      for (const line of await log.next()) format.append(line, out);
      await this.#deps.sink.write(Buffer.concat(out));
    }
  }

  /** Whether it is worth another try; says what is missing meanwhile, or for good. */
  #mayGoOn(task: Task, error: Error): boolean {
    const away = error instanceof NodeAway || error instanceof ChannelBroken;
    const refused = error instanceof ChannelRefused ? error.status : 0;
    const now = this.#now(task);
    // The container is about to be made, or was removed with its task.
    if (refused === 404 && (now === undefined || !isTerminal(now.status.state))) return now !== undefined;
    this.#lacks(task, this.#deps.reason(task, error));
    return away || refused === 503;
  }

  #lacks(task: Task, reason: string): void {
    if (this.#said.has(`${task.nodeId} ${task.id}`) && this.#said.has(task.nodeId)) return;
    this.#said.add(task.nodeId).add(`${task.nodeId} ${task.id}`);
    this.#missing.push({ task, reason });
    if (this.#gathering) return;
    this.#gathering = true;
    this.#deps.clock.after(GATHER_MS, () => {
      this.#gathering = false;
      this.#say().catch((error: unknown) => this.#over.reject(error));
    });
  }

  async #say(): Promise<void> {
    const { sink, format, clock, hostname } = this.#deps;
    const lines = missingLines(this.#missing, hostname);
    this.#missing = [];
    for (const { task, text } of lines)
      await sink.write(new LineFormat(format, task).notice(lineTime(clock.now()), text));
  }

  #now(task: Task): Task | undefined {
    return this.#store.view((view) => view.tasks.get(task.id));
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => void this.#deps.clock.after(RETRY_MS, resolve));
  }

  #endIfOver(): void {
    if (this.#running === 0 && this.#store.view((view) => this.#selection.isOver(view))) this.#over.resolve();
  }
}
