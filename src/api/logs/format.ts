/**
 * Lines of a service's log as Docker's clients read them: one frame each, `[time ][details ]message` (docker-api.md 1.8).
 * The docker client takes each frame for exactly one line, and its node, service and task from the details.
 */
import type { Task } from '../../model/objects.ts';
import type { LogLine } from './lines.ts';

export interface LogFormat {
  timestamps: boolean;
  details: boolean;
  /** True: no frames, as from a terminal. */
  raw: boolean;
}

const SPACE = 0x20;

/** Writes the lines of one task. */
export class LineFormat {
  readonly #format: LogFormat;
  readonly #own: string[];
  readonly #ownText: Buffer;

  constructor(format: LogFormat, task: Pick<Task, 'id' | 'serviceId' | 'nodeId'>) {
    this.#format = format;
    this.#own = [
      `com.docker.swarm.node.id=${encodeURIComponent(task.nodeId)}`,
      `com.docker.swarm.service.id=${encodeURIComponent(task.serviceId)}`,
      `com.docker.swarm.task.id=${encodeURIComponent(task.id)}`,
    ];
    this.#ownText = Buffer.from(`${this.#own.join(',')} `);
  }

  /** Appends a line's bytes to `out` and returns how many they are. */
  append(line: LogLine, out: Buffer[]): number {
    const { timestamps, details, raw } = this.#format;
    const parts: Buffer[] = [];
    if (timestamps) parts.push(Buffer.from(`${line.at} `, 'latin1'));
    let message = line.rest;
    if (details) {
      const space = message.indexOf(SPACE);
      parts.push(space <= 0 ? this.#ownText : this.#withDriver(message.toString('latin1', 0, space)));
      message = message.subarray(space + 1);
    }
    parts.push(message);
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    if (!raw) out.push(header(line.stream, bytes));
    out.push(...parts);
    return raw ? bytes : bytes + 8;
  }

  /** A line of our own, on stderr: what a reader must know of this task's log. */
  notice(at: string, text: string): Buffer {
    const out: Buffer[] = [];
    const end = this.#format.raw ? '\r\n' : '\n';
    this.append({ at, stream: 2, rest: Buffer.from(`${this.#format.details ? ' ' : ''}${text}${end}`) }, out);
    return Buffer.concat(out);
  }

  /** What the log driver adds to each line, with ours, sorted. */
  #withDriver(attributes: string): Buffer {
    const all = [...attributes.split(','), ...this.#own].sort();
    return Buffer.from(`${all.join(',')} `, 'latin1');
  }
}

function header(stream: number, bytes: number): Buffer {
  const head = Buffer.allocUnsafe(8);
  head.writeUInt32BE(stream * 0x1_00_00_00, 0);
  head.writeUInt32BE(bytes, 4);
  return head;
}
