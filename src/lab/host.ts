/**
 * A host: network, mount, PID, UTS and IPC namespaces that live as long as their first process, and a cable to the lab's
 * bridge. One SIGKILL of that first process is a power cut: the kernel ends every process of the host, and its
 * devices, mounts and namespaces with them.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { macOf } from '../model/addresses.ts';
import type { HostPlan, Lab } from './lab.ts';
import { isRunning, parseStat, plainEnvironment, run, stop } from './processes.ts';
import type { ProcessId } from './processes.ts';

/**
 * The first process, before it becomes `tini`. It reads its own PID while /proc is still the outer one, tells it, and
 * goes on only when told that it is on record: if the command that makes the host dies, so does this.
 * ip_forward is inherited from the outer machine; real hosts have 0 until dockerd sets it and makes FORWARD drop.
 * /etc/docker is the host's own because the engine keeps its identity there. `$1` name, `$2` /run, `$3` /etc/docker.
 */
const FIRST_PROCESS = `set -e
read -r stat </proc/self/stat
mount -t proc proc /proc
mount --bind "$2" /run
mount --bind "$3" /etc/docker
echo "$1" >/proc/sys/kernel/hostname
echo 0 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
echo "$stat"
read -r go
exec </dev/null >/dev/null 2>&1
exec tini -- sleep infinity`;

const NAMESPACES = ['--net', '--mount', '--pid', '--uts', '--ipc'];
const STOP_MS = 10_000;

/** The host's first process, or undefined while the host is off. */
export async function powerOf(host: HostPlan): Promise<ProcessId | undefined> {
  let recorded: string;
  try {
    recorded = await readFile(powerFile(host), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
  const id = parseStat(recorded);
  return id !== undefined && (await isRunning(id)) ? id : undefined;
}

/** As `powerOf`; throws a sentence for the user while the host is off. */
export async function poweredOn(host: HostPlan): Promise<ProcessId> {
  const power = await powerOf(host);
  if (power === undefined) throw new Error(`host ${host.name} is off (drover lab start ${host.name} starts it)`);
  return power;
}

function powerFile(host: HostPlan): string {
  return join(host.dir, 'power');
}

/** The words that carry a command into all namespaces of a host. */
export function enter(power: ProcessId): string[] {
  return ['nsenter', '--target', String(power.pid), ...NAMESPACES, '--'];
}

/** The words that carry a command into the network namespace alone, with the outer machine's programs and files. */
export function enterNetwork(power: ProcessId): string[] {
  return ['nsenter', `--net=/proc/${power.pid}/ns/net`, '--'];
}

/**
 * Makes the lab's bridge with the outer machine's address on it, unless it stands. Its MAC is its own: left to itself, a
 * bridge takes the lowest of its ports', so that a lost host would take the MAC of the registry with it, and the others
 * would go on sending to the old one.
 */
export async function raiseBridge(lab: Lab): Promise<void> {
  if (!(await linkExists(lab.bridge))) await run('ip', ['link', 'add', lab.bridge, 'type', 'bridge']);
  await run('ip', ['link', 'set', lab.bridge, 'address', macOf(lab.outside)]);
  await run('ip', ['address', 'replace', `${lab.outside}/24`, 'dev', lab.bridge]);
  await run('ip', ['link', 'set', lab.bridge, 'up']);
  // Where an engine ever ran on the outer machine, its FORWARD policy would drop what the bridge carries.
  const filter = '/proc/sys/net/bridge/bridge-nf-call-iptables';
  try {
    await writeFile(filter, '0');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}

export async function removeBridge(lab: Lab): Promise<void> {
  await deleteLink(lab.bridge);
}

/** Deletes a link, if it is there: the kernel takes a cable away by itself some time after its host has ended. */
async function deleteLink(name: string): Promise<void> {
  try {
    if (await linkExists(name)) await run('ip', ['link', 'delete', name]);
  } catch (error) {
    if (await linkExists(name)) throw error;
  }
}

async function linkExists(name: string): Promise<boolean> {
  return (await readdir('/sys/class/net')).includes(name);
}

/** Turns a host on and plugs it in, as far as it is not; the lab's bridge must stand. */
export async function powerOn(host: HostPlan): Promise<ProcessId> {
  const running = await powerOf(host);
  if (running !== undefined) {
    await plugIn(host, running);
    return running;
  }
  await clearAfterPowerCut(host);
  const etcDocker = join(host.dir, 'etc-docker');
  for (const dir of [host.dir, host.runDir, etcDocker, '/etc/docker']) await mkdir(dir, { recursive: true });
  const power = await startFirstProcess(host, etcDocker);
  await plugIn(host, power);
  return power;
}

async function startFirstProcess(host: HostPlan, etcDocker: string): Promise<ProcessId> {
  const namespaces = [...NAMESPACES, '--fork', '--propagation', 'private'];
  const child = spawn('unshare', [...namespaces, 'sh', '-c', FIRST_PROCESS, 'sh', host.name, host.runDir, etcDocker], {
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: plainEnvironment(),
  });
  try {
    await once(child, 'spawn');
    const lines = createInterface({ input: child.stdout });
    const [line = '']: string[] = await Promise.race([once(lines, 'line'), once(lines, 'close')]);
    const power = parseStat(line);
    if (power === undefined) throw new Error(`host ${host.name} did not start: ${(await text(child.stderr)).trim()}`);
    await writeFile(`${powerFile(host)}.new`, `${line}\n`);
    await rename(`${powerFile(host)}.new`, powerFile(host));
    await new Promise<void>((resolve) => child.stdin.end('go\n', () => resolve()));
    return power;
  } finally {
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
    child.unref();
  }
}

/**
 * The cable: a veth pair whose inner end is the host's eth0. The MAC follows from the address, so that neighbours still
 * know the host after a power cut. Every step may have been done before.
 */
async function plugIn(host: HostPlan, power: ProcessId): Promise<void> {
  if (!(await linkExists(host.cable))) {
    const inner = ['peer', 'name', 'eth0', 'address', macOf(host.address), 'netns', String(power.pid)];
    await run('ip', ['link', 'add', host.cable, 'type', 'veth', ...inner]);
  }
  const [nsenter = '', ...prefix] = enterNetwork(power);
  await run(nsenter, [...prefix, 'ip', 'address', 'replace', `${host.address}/24`, 'dev', 'eth0']);
  await run(nsenter, [...prefix, 'ip', 'link', 'set', 'eth0', 'up']);
  await run('ip', ['link', 'set', host.cable, 'master', host.bridge, 'up']);
}

/** Pulls the cable (`down`) or plugs it in again (`up`); the host's own addresses and routes stay. */
export async function setCable(host: HostPlan, state: 'up' | 'down'): Promise<void> {
  await run('ip', ['link', 'set', host.cable, state]);
}

/** True while the cable is plugged in. */
export async function isCabled(host: HostPlan): Promise<boolean> {
  if (!(await linkExists(host.cable))) return false;
  // IFF_UP is the lowest bit of the flags.
  return (Number(await readFile(`/sys/class/net/${host.cable}/flags`, 'utf8')) & 1) === 1;
}

/** A power cut: nobody hears from the host again, not even a FIN. Resolves when its last process is gone. */
export async function powerOff(host: HostPlan): Promise<void> {
  const power = await powerOf(host);
  if (await linkExists(host.cable)) await setCable(host, 'down');
  // The kernel holds the first process back until every other process of its namespace has ended.
  if (power !== undefined) await stop(power, 'SIGKILL', STOP_MS);
  await clearAfterPowerCut(host);
}

/** What a reboot clears by itself on a real host, /run and the control groups, and what is left of the cable. */
async function clearAfterPowerCut(host: HostPlan): Promise<void> {
  await deleteLink(host.cable);
  await rm(powerFile(host), { force: true });
  await rm(host.runDir, { recursive: true, force: true });
  await removeCgroups(host.cgroup);
}

/** Removes a control group and those below it from every hierarchy; its processes must be gone. */
export async function removeCgroups(path: string): Promise<void> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' '));
  for (const [, mountPoint, type] of mounts) {
    if (mountPoint !== undefined && (type === 'cgroup' || type === 'cgroup2')) await removeTree(mountPoint + path);
  }
}

async function removeTree(dir: string): Promise<void> {
  try {
    const entries = await readdir(dir, { withFileTypes: true });
    for (const entry of entries) if (entry.isDirectory()) await removeTree(join(dir, entry.name));
    await rmdir(dir);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}

/** Runs a command in a host with this terminal; returns its exit code. */
export async function execIn(host: HostPlan, command: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const [nsenter = '', ...prefix] = enter(await poweredOn(host));
  const child = spawn(nsenter, [...prefix, ...command], { stdio: 'inherit', env });
  const forward = (name: NodeJS.Signals): void => void child.kill(name);
  // The terminal sends SIGINT to the command itself: this process only has to outlive it.
  const ignore = (): void => {};
  process.on('SIGTERM', forward).on('SIGINT', ignore);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, name) => resolve(code ?? 128 + (name === null ? 0 : constants.signals[name])));
    });
  } finally {
    process.off('SIGTERM', forward).off('SIGINT', ignore);
  }
}

/** The last lines of a log, for an error message. */
export async function logTail(path: string, lines = 15): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trimEnd().split('\n').slice(-lines).join('\n');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '(no log)';
    throw error;
  }
}
