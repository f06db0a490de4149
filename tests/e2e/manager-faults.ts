/** What may befall the manager that leads, how that is known to have struck, and how it ends. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setCable } from '../../src/lab/host.ts';
import { Host } from './host.ts';
import { eventually, succeed, type Lab } from './lab.ts';

export interface Fault {
  begin(host: string): Promise<unknown>;
  /** The host's agent is soon back, or never away: its containers stay. */
  isQuiet?: boolean;
  /** Waits until it has struck; by then others may lead. */
  struck?(host: string): Promise<unknown>;
  end(host: string): Promise<unknown>;
}

/** droverd and etcd, as the host sees them. */
const BOTH = "$(pgrep -f '[d]aemon/main') $(pgrep -x etcd)";

/**
 * A disk of its own under droverd's data on each of these hosts, so that it can be full: two pieces of etcd's log (64 MB each,
 * taken in advance), its database, and room. To be called when no droverd runs there.
 */
export async function giveDisks(dirs: readonly string[]): Promise<void> {
  for (const dir of dirs) {
    await mkdir(dir, { recursive: true });
    await succeed('mount', ['-t', 'tmpfs', '-o', 'size=320m', 'tmpfs', dir]);
  }
}

/** Takes the disks away, also what an interrupted run has left. */
export async function takeDisks(dirs: readonly string[]): Promise<void> {
  const unmount = 'for dir; do ! mountpoint -q "$dir" || umount -l "$dir"; done';
  await succeed('sh', ['-c', unmount, 'sh', ...dirs]);
}

/** `dataDir`: where droverd's data of a host lies, on a disk of its own. */
export function managerFaults(lab: Lab, dataDir: (host: string) => string): Record<string, Fault> {
  const signal = (name: string) => (host: string) => lab.exec(host, 'sh', '-c', `kill -${name} ${BOTH}`);
  const cable = (state: 'up' | 'down') => async (host: string) => setCable((await Host.open(lab, host)).plan, state);
  return {
    'killed daemons': {
      isQuiet: true,
      begin: signal('KILL'),
      end: async (host) => (await Host.open(lab, host)).start('droverd'),
    },
    'cut off': { begin: cable('down'), end: cable('up') },
    paused: { begin: signal('STOP'), end: signal('CONT') },
    'disk full': {
      isQuiet: true,
      // To the last byte: etcd has room in its log, but its database grows with every commit of new rows.
      begin: (host) => {
        const fill = (name: string, block: string) =>
          `dd if=/dev/zero of=${join(dataDir(host), name)} bs=${block} 2>/dev/null`;
        return succeed('sh', ['-c', `${fill('filler', '64k')}; ${fill('filler-rest', '512')}; true`]);
      },
      struck: (host) =>
        eventually(`etcd of ${host} has met its full disk`, async () => {
          const warnings = await lab.docker(host, 'info', '--format', '{{json .Warnings}}');
          return /this manager's etcd does not run: .*is full/.test(warnings);
        }),
      end: (host) => succeed('rm', ['-f', ...['filler', 'filler-rest'].map((name) => join(dataDir(host), name))]),
    },
  };
}
