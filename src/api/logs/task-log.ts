/** One task's log, line by line, from the node that runs or ran it. */
import { NodeAway, type StreamOpener } from '../../dispatch/streams.ts';
import type { Channel } from '../../dispatch/streams-channel.ts';
import type { Clock } from '../../model/clock.ts';
import type { Task } from '../../model/objects.ts';
import { LogLines, secondsAt, type LogLine } from './lines.ts';
import { engineQuery, type LogQuery } from './query.ts';

export interface TaskLogDeps {
  streams: StreamOpener;
  clock: Clock;
  query: LogQuery;
  /** Aborted when the reader has gone. */
  signal: AbortSignal;
}

/** An engine that has more to say and says nothing for so long hangs; one that follows may be silent for ever. */
const SILENCE_MS = 60_000;

export class TaskLog {
  readonly task: Task;
  readonly #deps: TaskLogDeps;
  #lines: LogLines | undefined;
  #channel: Channel | undefined;
  #data: AsyncGenerator<Buffer, void, undefined> | undefined;
  /** The time of the last line given, and how many of that time were. */
  #last: { at: string; count: number } | undefined;
  /** Lines of that time that come a second time after a break. */
  #again = 0;

  constructor(deps: TaskLogDeps, task: Task) {
    this.#deps = deps;
    this.task = task;
  }

  /** Begins, or goes on behind the last line after a break. Rejects with NodeAway, ChannelRefused */
  async open(): Promise<void> {
    const { streams, query, signal } = this.#deps;
    const since = this.#last && secondsAt(this.#last.at);
    // What was asked from the end was asked of the log as it was then.
    const wish = since === undefined ? engineQuery(query) : { ...engineQuery(query, since), tail: 'all' };
    this.#again = this.#last?.count ?? 0;
    const request = { kind: 'read', what: 'logs', taskId: this.task.id, query: wish } as const;
    const { channel, tty } = await streams.open(this.task.nodeId, request, { signal });
    this.#channel = channel;
    this.#lines = new LogLines(tty);
    this.#data = channel.data();
  }

  get isOpen(): boolean {
    return this.#data !== undefined;
  }

  /** The next lines, perhaps none; after the last it is no longer open. Rejects with what broke it off: it may be opened again. */
  async next(): Promise<LogLine[]> {
    const lines = this.#lines!;
    try {
      const { value: chunk } = await this.#within(this.#data!.next());
      if (chunk !== undefined) return this.#fresh(lines.push(chunk));
      this.#data = undefined;
      return this.#fresh(lines.end());
    } catch (error) {
      this.#channel?.destroy();
      this.#data = undefined;
      throw error;
    }
  }

  /** Without those that were given before a break. */
  #fresh(lines: LogLine[]): LogLine[] {
    const kept = this.#again === 0 ? lines : lines.filter((line) => !this.#isRepeated(line));
    for (const { at } of kept) {
      if (this.#last?.at === at) this.#last.count += 1;
      else this.#last = { at, count: 1 };
    }
    return kept;
  }

  #isRepeated({ at }: LogLine): boolean {
    if (this.#again === 0 || at > this.#last!.at) {
      this.#again = 0;
      return false;
    }
    if (at === this.#last!.at) this.#again -= 1;
    return true;
  }

  async #within<R>(next: Promise<R>): Promise<R> {
    const { clock, query } = this.#deps;
    if (query.follow) return next;
    const late = Promise.withResolvers<never>();
    const message = `its log broke off: nothing came for ${SILENCE_MS / 1000} s`;
    const timer = clock.after(SILENCE_MS, () => late.reject(new NodeAway(message)));
    try {
      return await Promise.race([next, late.promise]);
    } finally {
      timer.cancel();
    }
  }
}
