/**
 * Several logs as one, in the order of time as far as each is in order itself. Promises: nothing is lost or doubled; the lines
 * of one log keep their order; of each log no more is held than what its last `next` gave.
 */
import type { LogLine } from './lines.ts';

/** One log: the next lines of it, or undefined at its end. Must not reject. */
export interface LogSource {
  next(): Promise<LogLine[] | undefined>;
}

/** Later than any time. */
const LAST = '~';

interface Head<S> {
  source: S;
  /** Never used up, except where it stands in `merge` while it is refilled. */
  lines: LogLine[];
  at: number;
}

/** Calls `take` with each line; when it answers that there is enough, waits for `flush`. */
export async function merge<S extends LogSource>(
  sources: readonly S[],
  take: (source: S, line: LogLine) => boolean,
  flush: () => Promise<void>,
): Promise<void> {
  const filled = await Promise.all(
    sources.map(async (source): Promise<Head<S>> => ({ source, lines: await linesOf(source), at: 0 })),
  );
  // Sorted by the time of the first line; the earliest is the last.
  const heads = filled.filter(({ lines }) => lines.length > 0).sort((a, b) => compare(timeOf(b), timeOf(a)));
  for (let head = heads.pop(); head !== undefined; head = heads.pop()) {
    const nextTime = heads.length === 0 ? LAST : timeOf(heads.at(-1)!);
    // As long as it is the earliest it stays where it is.
    while (head.at < head.lines.length && timeOf(head) <= nextTime) {
      if (take(head.source, head.lines[head.at++]!)) await flush();
    }
    if (head.at === head.lines.length) {
      head.lines = await linesOf(head.source);
      head.at = 0;
    }
    if (head.lines.length > 0) insert(heads, head);
  }
  await flush();
}

/** At least one line, or none at the end. */
async function linesOf(source: LogSource): Promise<LogLine[]> {
  for (;;) {
    const lines = await source.next();
    if (lines === undefined) return [];
    if (lines.length > 0) return lines;
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function timeOf(head: Head<unknown>): string {
  return head.lines[head.at]!.at;
}

/** Puts it in its place; among equals behind (so that it comes first), which keeps its run together. */
function insert<S>(heads: Head<S>[], head: Head<S>): void {
  const time = timeOf(head);
  let low = 0;
  let high = heads.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (timeOf(heads[middle]!) >= time) low = middle + 1;
    else high = middle;
  }
  heads.splice(low, 0, head);
}
