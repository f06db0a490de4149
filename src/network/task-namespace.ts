/**
 * A running task's network namespace, held by an open descriptor: process ids are reused, descriptors are not (trap
 * 4). All changes inside it are made one after the other.
 */
import type { FileHandle } from 'node:fs/promises';
import { open, readFile, stat } from 'node:fs/promises';
import { parseIPv4, parseSubnet } from '../model/addresses.ts';
import type { CommandRunner } from './command.ts';

export class TaskNamespace {
  readonly #handle: FileHandle;
  readonly #run: CommandRunner;
  readonly #routes: string;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(handle: FileHandle, run: CommandRunner, routes: string) {
    this.#handle = handle;
    this.#run = run;
    this.#routes = routes;
  }

  /**
   * Takes hold of the namespace of a process. `stillOurs` is asked once it is held, and says whether that process
   * is the task's even now; undefined if it is not, or if it has ended.
   */
  static async hold(
    pid: number,
    run: CommandRunner,
    stillOurs: () => Promise<boolean> = async () => true,
  ): Promise<TaskNamespace | undefined> {
    const handle = await unlessEnded(open(`/proc/${pid}/ns/net`, 'r'));
    if (handle === undefined) return undefined;
    let held: TaskNamespace | undefined;
    try {
      const routes = await unlessEnded(readFile(`/proc/${pid}/net/route`, 'utf8'));
      if (routes !== undefined && (await stillOurs())) held = new TaskNamespace(handle, run, routes);
      return held;
    } finally {
      if (held === undefined) await handle.close();
    }
  }

  /** False once the process it was taken from has ended. */
  async belongsTo(pid: number): Promise<boolean> {
    const [mine, its] = await Promise.all([this.#handle.stat(), unlessEnded(stat(`/proc/${pid}/ns/net`))]);
    return its?.ino === mine.ino;
  }

  /** The interface that stands in this subnet, as it was when the namespace was taken hold of. */
  deviceIn(cidr: string): string | undefined {
    const subnet = parseSubnet(cidr);
    if (subnet === undefined) return undefined;
    for (const line of this.#routes.split('\n').slice(1)) {
      const [device, destination, gateway] = line.split('\t');
      if (destination === undefined || gateway !== '00000000' || fromKernelHex(destination) !== subnet.base) continue;
      return device;
    }
    return undefined;
  }

  /** Runs `change` after all earlier ones; its commands run inside the namespace. */
  exclusively<R>(change: (run: CommandRunner) => Promise<R>): Promise<R> {
    const inside: CommandRunner = (argv, options) =>
      this.#run(['nsenter', `--net=/proc/${process.pid}/fd/${this.#handle.fd}`, ...argv], options);
    const result = this.#last.then(() => change(inside));
    this.#last = result.catch(() => {});
    return result;
  }

  /** Lets go, after all changes under way. */
  async release(): Promise<void> {
    await this.#last;
    await this.#handle.close();
  }
}

/** What was read of a process; undefined if that has ended, which the engine may not know for some milliseconds more. */
async function unlessEnded<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}

/** $@: backends. `conntrack` ends with 1 where there is nothing to forget. */
const CHANGE = `nft -f -
for backend; do
  said=$(conntrack -D -p udp --reply-src "$backend" 2>&1) && continue
  case $said in *' 0 flow entries'*) ;; *) printf '%s\\n' "$said" >&2; exit 1 ;; esac
done`;

/**
 * Puts nft rules in force, and makes conntrack forget the UDP flows towards backends that have gone: without connections,
 * nothing else would ever move their clients to another (trap 6). One process, for what starts it costs more than all it does.
 */
export async function changeRules(run: CommandRunner, rules: string, gone: readonly string[]): Promise<void> {
  await run(gone.length === 0 ? ['nft', '-f', '-'] : ['sh', '-ec', CHANGE, 'drover', ...gone], { input: rules });
}

/** /proc/net/route prints addresses as little-endian hexadecimal. */
function fromKernelHex(hex: string): number | undefined {
  const octets = hex.match(/../g)?.reverse() ?? [];
  return parseIPv4(octets.map((octet) => parseInt(octet, 16)).join('.'));
}
