/**
 * The log of several tasks as it is now, in the order of time: each slot's tasks one after the other, the slots merged. What
 * cannot be had is said at the end.
 *
 * Memory: for each of at most 128 slots at once, what its stream holds (dispatch/streams.ts) and one read's lines; together
 * less than 512 KiB a slot, however slowly the client reads.
 */
import type { Task } from '../../model/objects.ts';
import { LineFormat, type LogFormat } from './format.ts';
import { lineTime, type LogLine } from './lines.ts';
import { merge, type LogSource } from './merge.ts';
import { missingLines, type Missing } from './missing.ts';
import type { LogSink } from './sink.ts';
import { TaskLog, type TaskLogDeps } from './task-log.ts';

/** Slots that are merged; a service with more is told in parts, one after the other. */
const MERGED = 128;
const CHUNK_BYTES = 64 * 1024;

export interface WholeLogDeps extends TaskLogDeps {
  sink: LogSink;
  format: LogFormat;
  /** Why an error is one, as the reader is told. */
  reason(task: Task, error: Error): string;
  hostname: (nodeId: string) => string;
}

/** Writes it all. Rejects with ReaderGone, or with the signal's reason. */
export async function writeWholeLog(deps: WholeLogDeps, tasks: readonly Task[]): Promise<void> {
  const { sink, format, clock } = deps;
  const missing: Missing[] = [];
  const slots = Map.groupBy(tasks, ({ serviceId, slot, nodeId }) => `${serviceId} ${slot === 0 ? nodeId : slot}`);
  const sources = [...slots.values()].map((inSlot) => new SlotLog(deps, inSlot, missing));
  let out: Buffer[] = [];
  let bytes = 0;
  const take = (source: SlotLog, line: LogLine): boolean => {
    bytes += source.format.append(line, out);
    return bytes >= CHUNK_BYTES;
  };
  const flush = async (): Promise<void> => {
    const chunk = Buffer.concat(out);
    out = [];
    bytes = 0;
    await sink.write(chunk);
  };
  for (let at = 0; at < sources.length; at += MERGED) await merge(sources.slice(at, at + MERGED), take, flush);
  deps.signal.throwIfAborted();
  for (const { task, text } of missingLines(missing, deps.hostname))
    await sink.write(new LineFormat(format, task).notice(lineTime(clock.now()), text));
}

/** The tasks of one slot, the oldest first. */
class SlotLog implements LogSource {
  readonly #deps: WholeLogDeps;
  readonly #tasks: Task[];
  readonly #missing: Missing[];
  #log: TaskLog | undefined;
  /** Of the task whose lines `next` gave last. */
  format: LineFormat;

  constructor(deps: WholeLogDeps, tasks: readonly Task[], missing: Missing[]) {
    this.#deps = deps;
    this.#tasks = tasks.toSorted((a, b) => (a.meta.createdAt < b.meta.createdAt ? 1 : -1));
    this.#missing = missing;
    this.format = new LineFormat(deps.format, tasks[0]!);
  }

  async next(): Promise<LogLine[] | undefined> {
    for (;;) {
      const log = (this.#log ??= this.#nextLog());
      if (log === undefined) return undefined;
      try {
        if (!log.isOpen) await log.open();
        const lines = await log.next();
        if (!log.isOpen) this.#log = undefined;
        return lines;
      } catch (error) {
        this.#log = undefined;
        if (this.#deps.signal.aborted) return undefined;
        this.#missing.push({ task: log.task, reason: this.#deps.reason(log.task, error as Error) });
      }
    }
  }

  #nextLog(): TaskLog | undefined {
    const task = this.#tasks.pop();
    if (task === undefined) return undefined;
    this.format = new LineFormat(this.#deps.format, task);
    return new TaskLog(this.#deps, task);
  }
}
