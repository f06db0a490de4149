/** The daemons of a host, its engine and its `droverd`: started in its namespaces, found again by their PID files. */
import { access, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatSubnet } from '../model/addresses.ts';
import { labSubnet } from './addresses.ts';
import { answers } from './api.ts';
import { enter, logTail, poweredOn } from './host.ts';
import type { HostPlan, Parts } from './lab.ts';
import { findProcess, isRunning, startInBackground, stop, waitUntil } from './processes.ts';
import type { ProcessId } from './processes.ts';

export type Daemon = 'engine' | 'droverd';

const READY_MS = 60_000;
const STOP_MS = 30_000;
const DROVERD = fileURLToPath(new URL('../../bin/droverd', import.meta.url));

/** The daemons that a host of such a lab runs, in the order in which they start. */
export function daemonsOf(parts: Parts): Daemon[] {
  return parts === 'engines' ? ['engine'] : ['engine', 'droverd'];
}

/** The socket a client of the lab uses: droverd's, or the engine's where there is no droverd. */
export function socketOf(host: HostPlan, parts: Parts): string {
  return parts === 'engines' ? host.engineSocket : host.droverSocket;
}

/** The command of a daemon as the host sees it: its /run is `host.runDir` outside. */
function commandOf(daemon: Daemon, host: HostPlan, parts: Parts): string[] {
  if (daemon === 'droverd') {
    const flags = {
      // Not the settings of this machine's own droverd, if it has one.
      '--config': '',
      '--host': 'unix:///run/drover.sock',
      '--engine': 'unix:///run/engine.sock',
      '--data-dir': join(host.dir, 'drover'),
      '--listen-addr': '0.0.0.0:2377',
      '--log-level': 'debug',
      '--log-format': 'json',
    };
    return [DROVERD, ...Object.entries(flags).flat()];
  }
  const flags = {
    '--host': 'unix:///run/engine.sock',
    '--data-root': join(host.dir, 'engine'),
    '--exec-root': '/run/docker',
    '--pidfile': '/run/dockerd.pid',
    '--insecure-registry': formatSubnet(labSubnet(host.labNumber)),
    '--cgroup-parent': host.cgroup,
    // The systemd driver asks a systemd that this host does not run.
    '--exec-opt': 'native.cgroupdriver=cgroupfs',
  };
  // Docker Swarm refuses a live-restore engine; everybody else wants containers to outlive the engine.
  return ['dockerd', ...Object.entries(flags).flat(), ...(parts === 'engines' ? [] : ['--live-restore'])];
}

export function logOf(host: HostPlan, daemon: Daemon): string {
  return join(host.dir, `${daemon}.log`);
}

/** The daemon's process, or undefined while it (or its host) does not run. */
export async function findDaemon(host: HostPlan, power: ProcessId, daemon: Daemon): Promise<ProcessId | undefined> {
  return findProcess(pidFileOf(host, daemon), power);
}

function pidFileOf(host: HostPlan, daemon: Daemon): string {
  return join(host.runDir, `${daemon}.stat`);
}

/** True once a started daemon has written its PID file. */
async function isOnRecord(host: HostPlan, daemon: Daemon): Promise<boolean> {
  try {
    await access(pidFileOf(host, daemon));
    return true;
  } catch {
    // Its shell has not come that far.
    return false;
  }
}

/** Starts a daemon in its host unless it runs, and resolves when it answers; throws with the end of its log if not. */
export async function startDaemon(host: HostPlan, daemon: Daemon, parts: Parts): Promise<void> {
  const power = await poweredOn(host);
  if ((await findDaemon(host, power, daemon)) === undefined) {
    await rm(pidFileOf(host, daemon), { force: true });
    await mkdir(join(host.dir, daemon === 'engine' ? 'engine' : 'drover'), { recursive: true });
    const background = {
      command: commandOf(daemon, host, parts),
      pidFile: `/run/${daemon}.stat`,
      log: logOf(host, daemon),
    };
    await startInBackground({ ...background, enter: enter(power) });
  }
  await ready(host, power, daemon);
}

async function ready(host: HostPlan, power: ProcessId, daemon: Daemon): Promise<void> {
  const socket = daemon === 'engine' ? host.engineSocket : host.droverSocket;
  const trouble = async (what: string): Promise<string> =>
    `${daemon} on ${host.name} ${what}; its log (${logOf(host, daemon)}) ends with:\n${await logTail(logOf(host, daemon))}`;
  let seen: ProcessId | undefined;
  await waitUntil(
    async () => {
      if (await answers(socket)) return true;
      // In this order: a daemon that writes its record between the two looks has not ended.
      const recorded = await isOnRecord(host, daemon);
      seen ??= await findDaemon(host, power, daemon);
      const ended = seen === undefined ? recorded : !(await isRunning(seen));
      if (ended) throw new Error(await trouble('ended before it was ready'));
      return false;
    },
    READY_MS,
    () => trouble(`did not answer within ${READY_MS / 1000} s`),
  );
}

/** Ends a daemon with a signal, if it runs, and resolves when it is gone. */
export async function stopDaemon(host: HostPlan, daemon: Daemon, name: NodeJS.Signals): Promise<void> {
  const running = await findDaemon(host, await poweredOn(host), daemon);
  if (running !== undefined) await stop(running, name, STOP_MS);
}
