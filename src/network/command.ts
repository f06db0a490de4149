/**
 * Runs the programs that change the kernel's network (`ip`, `bridge`, `nft`, `iptables`, `conntrack`). Injected
 * everywhere, so that a test can put a namespace in front of each command, or no kernel behind it.
 */
import { spawn } from 'node:child_process';

/** Longest time one command may take, in milliseconds; they take 3–120 ms. */
const COMMAND_TIMEOUT_MS = 15_000;

export interface CommandOptions {
  /** Written to the command's standard input. */
  input?: string;
}

/** Promises the standard output. Rejects with `CommandFailed` if the command ends with anything but 0. */
export type CommandRunner = (argv: readonly string[], options?: CommandOptions) => Promise<string>;

export class CommandFailed extends Error {
  readonly exitCode: number | null;
  readonly stderr: string;

  constructor(argv: readonly string[], exitCode: number | null, stderr: string) {
    const reason = stderr.trim().split('\n').slice(0, 4).join('; ');
    super(`${argv.join(' ')}: ${reason === '' ? `ended with ${String(exitCode)}` : reason}`);
    this.name = 'CommandFailed';
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

/** What a command prints as a JSON list, such as `ip -j`; `T` is what its manual says of the elements. */
export async function listOf<T>(run: CommandRunner, argv: readonly string[]): Promise<T[]> {
  const text = await run(argv);
  // `ip` prints nothing at all instead of an empty list.
  const list: T[] = text.trim() === '' ? [] : JSON.parse(text);
  return list;
}

/** A runner that puts `prefix` before every command (such as `nsenter --net=…`). */
export function spawnRunner(prefix: readonly string[] = []): CommandRunner {
  return (argv, options = {}) =>
    new Promise((resolve, reject) => {
      const [file, ...args] = [...prefix, ...argv];
      if (file === undefined) throw new RangeError('a command needs a name');
      const child = spawn(file, args, { stdio: 'pipe', timeout: COMMAND_TIMEOUT_MS, killSignal: 'SIGKILL' });
      let stdout = '';
      let stderr = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
      child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
      child.on('error', reject);
      child.on('close', (code) => {
        if (code === 0) resolve(stdout);
        else reject(new CommandFailed(argv, code, stderr));
      });
      // A command that ends before it has read everything says why in its own words; EPIPE would hide them.
      child.stdin.on('error', () => {});
      child.stdin.end(options.input ?? '');
    });
}
