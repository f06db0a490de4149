/** A program whose output is read while it runs: `docker logs -f`, `docker events`, an attached container, a daemon. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';

const WITHIN_MS = 120_000;

export class Stream {
  /** All that came so far: standard output and error in one. */
  output = '';
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #command: string;
  /** Resolves with the exit code, or the signal's name, when the program has ended and all its output is here. */
  readonly ended: Promise<number | NodeJS.Signals>;

  constructor(file: string, args: string[], env: NodeJS.ProcessEnv = {}) {
    this.#command = [file, ...args].join(' ');
    this.#child = spawn(file, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
    for (const from of [this.#child.stdout, this.#child.stderr]) {
      from.setEncoding('utf8').on('data', (chunk: string) => (this.output += chunk));
    }
    // A program that has ended reads no more; what it ended with is told by `ended`.
    this.#child.stdin.on('error', () => {});
    this.ended = new Promise((done, fail) => {
      this.#child.once('error', fail);
      this.#child.once('close', (code: number | null, signal: NodeJS.Signals | null) =>
        done(code ?? signal ?? 'SIGKILL'),
      );
    });
  }

  /** Resolves with the match once the output has it; rejects with the output if the program ends, or takes too long. */
  async until(pattern: RegExp): Promise<RegExpMatchArray> {
    const over = this.ended.then((code) => `ended with ${code}`);
    const late = AbortSignal.timeout(WITHIN_MS);
    for (;;) {
      const match = pattern.exec(this.output);
      if (match !== null) return match;
      const more = Promise.race([once(this.#child.stdout, 'data'), once(this.#child.stderr, 'data')]).then(
        () => undefined,
      );
      const ended = await Promise.race([
        more,
        over,
        once(late, 'abort').then(() => `has not said it in ${WITHIN_MS} ms`),
      ]);
      if (ended !== undefined && !pattern.test(this.output)) {
        throw new Error(`${this.#command}: ${ended}, not a word of ${String(pattern)}:\n${this.output}`);
      }
    }
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Says all there is to say: the program sees the end of its input. */
  end(text = ''): void {
    this.#child.stdin.end(text);
  }

  /** Ends the program with a signal, if it still runs. */
  async stop(signal: NodeJS.Signals = 'SIGINT'): Promise<number | NodeJS.Signals> {
    this.#child.kill(signal);
    return this.ended;
  }
}
