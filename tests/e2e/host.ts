/** One host of a lab from the inside: its daemons by their processes, further ones of a test's own, and what is left on it. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { findDaemon, startDaemon, stopDaemon, type Daemon } from '../../src/lab/daemons.ts';
import { enter, poweredOn } from '../../src/lab/host.ts';
import { openLab, type HostPlan } from '../../src/lab/lab.ts';
import { succeed, type Lab } from './lab.ts';
import { Stream } from './stream.ts';

const droverd = resolve(import.meta.dirname, '../../bin/droverd');

export class Host {
  readonly name: string;
  readonly plan: HostPlan;

  private constructor(name: string, plan: HostPlan) {
    this.name = name;
    this.plan = plan;
  }

  static async open(lab: Lab, name: string): Promise<Host> {
    return new Host(name, (await openLab(lab.name)).host(name));
  }

  get dataDir(): string {
    return join(this.plan.dir, 'drover');
  }

  async stop(daemon: Daemon, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await stopDaemon(this.plan, daemon, signal);
  }

  /** Resolves when the daemon answers. */
  async start(daemon: Daemon): Promise<void> {
    await startDaemon(this.plan, daemon, 'cluster');
  }

  /** The daemon's process as this machine sees it. */
  async pid(daemon: Daemon): Promise<number> {
    const running = await findDaemon(this.plan, await poweredOn(this.plan), daemon);
    if (running === undefined) throw new Error(`${daemon} does not run on ${this.name}`);
    return running.pid;
  }

  /** The words the lab starts the daemon with. */
  async command(daemon: Daemon): Promise<string[]> {
    const words = (await readFile(`/proc/${await this.pid(daemon)}/cmdline`, 'utf8')).split('\0').slice(0, -1);
    return daemon === 'engine' ? words : [droverd, ...words.slice(words.findIndex((word) => word.startsWith('--')))];
  }

  /** How many sockets the daemon holds. */
  async sockets(daemon: Daemon): Promise<number> {
    const dir = `/proc/${await this.pid(daemon)}/fd`;
    // One that is closed between the two looks is none.
    const targets = await Promise.all((await readdir(dir)).map((fd) => readlink(join(dir, fd)).catch(() => '')));
    return targets.filter((target) => target.startsWith('socket:')).length;
  }

  /** Runs a program inside the host, with all its namespaces; its output can be read while it runs. */
  async spawn(command: string[]): Promise<Stream> {
    const [nsenter = '', ...prefix] = enter(await poweredOn(this.plan));
    return new Stream(nsenter, [...prefix, ...command]);
  }

  /** Another droverd on this host, in the foreground. */
  droverd(...flags: string[]): Promise<InHost> {
    return this.foreground([droverd, ...flags]);
  }

  async foreground(command: string[]): Promise<InHost> {
    const stream = await this.spawn(['sh', '-c', 'echo "pid $$"; exec "$@"', 'sh', ...command]);
    const pid = (await stream.until(/^pid (\d+)$/m))[1]!;
    return {
      stream,
      // Of no other process: its parent, which waits for it here, has not seen its end yet.
      signal: async (name) => void (await this.succeed('kill', '-s', name, pid)),
    };
  }

  async succeed(...command: string[]): Promise<string> {
    const [nsenter = '', ...prefix] = enter(await poweredOn(this.plan));
    return succeed(nsenter, [...prefix, ...command]);
  }

  /** Everything of Drover's that stands on this host, a line each; empty when nothing does. */
  async leftovers(): Promise<string[]> {
    const engine = (...args: string[]) =>
      succeed('docker', args, { env: { DOCKER_HOST: `unix://${this.plan.engineSocket}`, DOCKER_CONTEXT: undefined } });
    const [containers, networks, links, tables, rules, processes] = await Promise.all([
      engine('ps', '-a', '--filter', 'label=com.docker.swarm.task.id', '--format', 'container {{.Names}}'),
      engine('network', 'ls', '--filter', 'label=io.drover.node', '--format', 'network {{.Name}}'),
      this.succeed('ip', '-o', 'link'),
      this.succeed('nft', 'list', 'tables'),
      this.succeed('iptables-save'),
      this.succeed('ps', '-e', '-o', 'args'),
    ]);
    const all = [containers, networks, links, tables, rules, processes].join('\n').split('\n');
    return all
      .filter((line) => /^(container|network) |: dr[bv]|table .*drover|drover \w{8}|network\/resolver/.test(line))
      .map((line) => line.trim());
  }
}

export interface InHost {
  stream: Stream;
  /** `TERM`, `KILL`, … to that very process. */
  signal: (name: string) => Promise<void>;
}
