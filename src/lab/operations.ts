/** What `drover lab` does, one function a command, on top of hosts, daemons, cluster and registry. */
import { access } from 'node:fs/promises';
import { constants } from 'node:fs';
import { join } from 'node:path';
import { differences } from './audit.ts';
import { formCluster } from './cluster.ts';
import type { Member } from './cluster.ts';
import { daemonsOf, findDaemon, socketOf, startDaemon, stopDaemon } from './daemons.ts';
import type { Daemon } from './daemons.ts';
import { gatherFacts } from './facts.ts';
import { isCabled, poweredOn, powerOf, powerOff, powerOn, raiseBridge, removeBridge, removeCgroups } from './host.ts';
import { findLab, forgetLab, openLab, recordLab, releaseNumber } from './lab.ts';
import type { HostPlan, Lab, Parts } from './lab.ts';
import { buildImages } from './images.ts';
import { searchPath } from './processes.ts';
import { startRegistry, stopRegistry } from './registry.ts';

/** Tells the user what goes on, a line at a time. */
export type Progress = (line: string) => void;

/** Programs the lab needs, and the Debian package of each. */
const PROGRAMS: Readonly<Record<string, string>> = {
  dockerd: 'docker.io',
  containerd: 'docker.io',
  iptables: 'iptables',
  ip: 'iproute2',
  nft: 'nftables',
  tini: 'tini',
  nsenter: 'util-linux',
  unshare: 'util-linux',
};

/** Throws a sentence for the user if this machine or user cannot run a lab; `programs` maps names to Debian packages. */
export async function checkMachine(programs: Readonly<Record<string, string>> = PROGRAMS): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('the lab makes network namespaces and engines: run it as root (sudo)');
  const missing: string[] = [];
  for (const [program, debianPackage] of Object.entries(programs))
    if (!(await isOnPath(program))) missing.push(debianPackage);
  if (missing.length > 0)
    throw new Error(
      `the lab needs programs that are not installed: apt-get install ${[...new Set(missing)].join(' ')}`,
    );
}

async function isOnPath(program: string): Promise<boolean> {
  for (const dir of searchPath().split(':')) {
    try {
      await access(join(dir, program), constants.X_OK);
      return true;
    } catch {
      // Not in this directory: the next one may have it.
    }
  }
  return false;
}

/** Makes a lab, or brings up what is missing of it: a host that is a worker already stays one. */
export async function up(
  name: string,
  wanted: { hosts: number; parts: Parts; managers: number },
  progress: Progress,
): Promise<Lab> {
  await checkMachine();
  const lab = await recordLab(name, wanted);
  await raiseBridge(lab);
  if (await wasRegistryStarted(lab)) await startRegistry(lab);
  await Promise.all(lab.hosts.map((host) => startHost(lab, host)));
  progress(`hosts that are on: ${lab.hosts.length}; ready on each: ${daemonsOf(lab.parts).join(' and ')}`);
  if (lab.parts === 'cluster') {
    await formCluster(membersOf(lab), lab.managers);
    const managers = lab.hosts.slice(0, lab.managers).map(({ name }) => name);
    progress(
      `one cluster: ${managers.join(', ')} ${managers.length === 1 ? 'manages' : 'manage'} it, all nodes are ready`,
    );
  }
  return lab;
}

async function wasRegistryStarted(lab: Lab): Promise<boolean> {
  try {
    await access(join(lab.dir, 'registry'));
    return true;
  } catch {
    // Nobody asked for it yet.
    return false;
  }
}

export function membersOf(lab: Lab): Member[] {
  return lab.hosts.map((host) => ({ name: host.name, address: host.address, socket: socketOf(host, lab.parts) }));
}

/** Turns a host on and starts its daemons, as far as they do not run. */
export async function startHost(lab: Lab, host: HostPlan): Promise<void> {
  await powerOn(host);
  for (const daemon of daemonsOf(lab.parts)) await startDaemon(host, daemon, lab.parts);
}

/** Stops a daemon with a signal and starts it again; resolves when it answers. */
export async function restartDaemon(lab: Lab, host: HostPlan, daemon: Daemon, signal: NodeJS.Signals): Promise<void> {
  await poweredOn(host);
  await stopDaemon(host, daemon, signal);
  await startDaemon(host, daemon, lab.parts);
}

/** Removes a lab with everything that belongs to it; resolves to false if there is none of that name. */
export async function down(name: string): Promise<boolean> {
  const lab = await findLab(name);
  if (lab !== undefined) {
    await Promise.all(lab.hosts.map(powerOff));
    await stopRegistry(lab);
    await removeBridge(lab);
    await removeCgroups(lab.cgroup);
    await forgetLab(lab);
  }
  // Also for a lab that was interrupted before it was on record, or after.
  await releaseNumber(name);
  return lab !== undefined;
}

export interface HostState {
  host: HostPlan;
  /** `cut`: on, but its cable is pulled. */
  power: 'on' | 'off' | 'cut';
  running: Daemon[];
}

/** How each host of a lab is. */
export async function survey(lab: Lab): Promise<HostState[]> {
  return Promise.all(
    lab.hosts.map(async (host): Promise<HostState> => {
      const power = await powerOf(host);
      if (power === undefined) return { host, power: 'off', running: [] };
      const running: Daemon[] = [];
      for (const daemon of daemonsOf(lab.parts))
        if ((await findDaemon(host, power, daemon)) !== undefined) running.push(daemon);
      return { host, power: (await isCabled(host)) ? 'on' : 'cut', running };
    }),
  );
}

/** Starts the lab's registry, if need be; its `address:port`. */
export async function registry(name: string): Promise<string> {
  await checkMachine({ 'docker-registry': 'docker-registry' });
  return startRegistry(await openLab(name));
}

/** Programs that go into the images or store them, and the Debian package of each. */
const IMAGE_PROGRAMS: Readonly<Record<string, string>> = {
  'docker-registry': 'docker-registry',
  busybox: 'busybox-static',
  'redis-server': 'redis-server',
  'tini-static': 'tini',
};

/** Builds and pushes the example images, as far as they are not there; resolves with what was built. */
export async function images(name: string): Promise<string[]> {
  await checkMachine(IMAGE_PROGRAMS);
  return buildImages(await openLab(name));
}

/** What is on the hosts and not in the store, or the other way round, as sentences; empty when all is as it should be. */
export async function audit(name: string): Promise<string[]> {
  const lab = await openLab(name);
  if (lab.parts === 'engines') throw new Error(`lab ${name} has engines only: there is no store to compare them with`);
  const { cluster, hosts } = await gatherFacts(lab);
  return differences(cluster, hosts);
}
