/**
 * A lab for one test file: real engines, real daemons, the real docker client. `Lab.up` brings it up under a name of its
 * own, `await lab.down()` takes everything away again. Nothing here sleeps to wait: `eventually` asks until the answer is there.
 */
import { execFile, type ExecFileException } from 'node:child_process';
import { request } from 'node:http';
import { resolve } from 'node:path';
import { socketOf } from '../../src/lab/daemons.ts';
import { enter, poweredOn } from '../../src/lab/host.ts';
import { listLabs, openLab } from '../../src/lab/lab.ts';

const CLONE = resolve(import.meta.dirname, '../../bin/drover');

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. Rejects only if it cannot be started or does not end in time. */
export function run(
  file: string,
  args: string[],
  options: { env?: NodeJS.ProcessEnv; timeoutMs?: number; input?: string } = {},
): Promise<Result> {
  return new Promise((done, fail) => {
    const child = execFile(
      file,
      args,
      { env: { ...process.env, ...options.env }, timeout: options.timeoutMs ?? 120_000, maxBuffer: 64 << 20 },
      (error: ExecFileException | null, stdout, stderr) => {
        if (error !== null && typeof error.code !== 'number') {
          fail(new Error(`${file} ${args.join(' ')}: ${error.message}\n${stdout}${stderr}`, { cause: error }));
        } else done({ code: Number(error?.code ?? 0), stdout, stderr });
      },
    );
    child.stdin?.end(options.input);
  });
}

/** As `run`, but a program that fails is an error that shows what it said. */
export async function succeed(file: string, args: string[], options?: Parameters<typeof run>[2]): Promise<string> {
  const result = await run(file, args, options);
  if (result.code !== 0) {
    throw new Error(`${[file, ...args].join(' ')} ended with ${result.code}\n${result.stdout}${result.stderr}`);
  }
  return result.stdout;
}

const POLL_MS = 100;

/** Asks `probe` until it answers with something other than undefined or false. An error of the probe counts as no answer yet. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined | false>,
  withinMs = 120_000,
): Promise<T> {
  const end = performance.now() + withinMs;
  let last: unknown = 'nothing yet';
  for (;;) {
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer;
      last = answer;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) {
      throw new Error(
        `${what}: not within ${withinMs} ms; last: ${last instanceof Error ? last.message : String(last)}`,
      );
    }
    await new Promise((next) => setTimeout(next, POLL_MS));
  }
}

export interface HttpAnswer {
  status: number;
  headers: NodeJS.Dict<string | string[]>;
  body: string;
}

/** GET over a connection of its own. */
export function get(url: string, timeoutMs = 5000): Promise<HttpAnswer> {
  return new Promise((done, fail) => {
    const call = request(url, { agent: false, timeout: timeoutMs }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', fail);
      response.on('end', () =>
        done({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() }),
      );
    });
    call.on('timeout', () => call.destroy(new Error(`${url}: no answer within ${timeoutMs} ms`)));
    call.on('error', fail);
    call.end();
  });
}

export class Lab {
  readonly name: string;
  readonly #program: string;
  #registry = '';

  private constructor(name: string, program: string) {
    this.name = name;
    this.#program = program;
  }

  /**
   * Starts from nothing: a lab of that name that an interrupted run left behind goes first. `drover` is the program that
   * makes it, and whose `droverd` it runs: this clone's unless said.
   */
  static async up(
    name: string,
    options: {
      hosts?: number;
      managers?: number;
      bare?: boolean;
      enginesOnly?: boolean;
      images?: boolean;
      drover?: string;
      /** When nothing of it is there. */
      prepare?: () => Promise<unknown>;
    } = {},
  ): Promise<Lab> {
    const lab = new Lab(name, options.drover ?? CLONE);
    if ((await listLabs()).some((left) => left.name === name)) await lab.drover('down');
    await options.prepare?.();
    await lab.drover(
      'up',
      '--hosts',
      String(options.hosts ?? 3),
      '--managers',
      String(options.managers ?? 1),
      ...(options.bare ? ['--bare'] : []),
      ...(options.enginesOnly ? ['--engines-only'] : []),
    );
    if (options.images ?? true) {
      await lab.drover('images');
      lab.#registry = (await openLab(name)).registry;
    }
    return lab;
  }

  async down(): Promise<void> {
    await this.drover('down');
  }

  /** `drover lab … --name <this lab>`; resolves with what it printed. */
  drover(...args: string[]): Promise<string> {
    return succeed(this.#program, ['lab', args[0]!, '--name', this.name, ...args.slice(1)], { timeoutMs: 300_000 });
  }

  image(name: string): string {
    return `${this.#registry}/${name}`;
  }

  get registry(): string {
    return this.#registry;
  }

  // What the lab has on record is read here and not asked of `drover lab`, whose start costs more than most calls of a test.

  async socket(host: string): Promise<string> {
    const lab = await openLab(this.name);
    return `unix://${socketOf(lab.host(host), lab.parts)}`;
  }

  async engineSocket(host: string): Promise<string> {
    return `unix://${(await openLab(this.name)).host(host).engineSocket}`;
  }

  async address(host: string): Promise<string> {
    return (await openLab(this.name)).host(host).address;
  }

  /** The docker client against a host's droverd; succeeds or throws. Resolves with its output, trimmed. */
  async docker(host: string, ...args: string[]): Promise<string> {
    return (await succeed('docker', args, { env: await this.#env(host) })).trim();
  }

  /** The docker client, whatever it ends with. */
  async tryDocker(host: string, ...args: string[]): Promise<Result> {
    return run('docker', args, { env: await this.#env(host) });
  }

  /** The docker client against the engine behind a host's droverd. */
  async engine(host: string, ...args: string[]): Promise<string> {
    const env = { DOCKER_HOST: await this.engineSocket(host), DOCKER_CONTEXT: undefined };
    return (await succeed('docker', args, { env })).trim();
  }

  /** Runs a program inside a host; succeeds or throws. Resolves with what it printed. */
  async exec(host: string, ...command: string[]): Promise<string> {
    const [nsenter = '', ...prefix] = enter(await poweredOn((await openLab(this.name)).host(host)));
    return succeed(nsenter, [...prefix, ...command]);
  }

  /** Names of nodes that run a RUNNING, wanted task of the service, one entry a task. */
  async runningOn(service: string): Promise<string[]> {
    const out = await this.docker(
      'h1',
      'service',
      'ps',
      service,
      '--filter',
      'desired-state=running',
      '--format',
      '{{.Node}} {{.CurrentState}}',
    );
    return out
      .split('\n')
      .filter((line) => / Running /.test(line))
      .map((line) => line.split(' ')[0]!);
  }

  /** Waits until exactly `count` tasks of the service run. */
  async converged(service: string, count: number, withinMs?: number): Promise<string[]> {
    return eventually(
      `${service}: ${count} tasks running`,
      async () => {
        const nodes = await this.runningOn(service);
        return nodes.length === count && nodes;
      },
      withinMs,
    );
  }

  async #env(host: string): Promise<NodeJS.ProcessEnv> {
    return { DOCKER_HOST: await this.socket(host), DOCKER_CONTEXT: undefined };
  }
}
