/**
 * A lab on record: its name, number and hosts, and where its files are. What is written here is what `up` completes
 * after an interruption and what `down` removes.
 */
import { mkdir, readdir, readFile, readlink, rename, rm, rmdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  clearNumbers,
  hostAddress,
  outsideAddress,
  preferredNumbers,
  registryAddress,
  routedSubnets,
} from './addresses.ts';

/** What runs on each host: engines alone, `droverd` beside them, or all of them in one cluster. */
export type Parts = 'engines' | 'daemons' | 'cluster';

interface LabRecord {
  name: string;
  number: number;
  hosts: number;
  parts: Parts;
  /** How many of the hosts, the first ones, manage the cluster; absent in older records: one. */
  managers?: number;
}

/** One host of a lab; all paths are the outer machine's. */
export interface HostPlan {
  lab: string;
  /** `h1`, `h2` … */
  name: string;
  index: number;
  address: string;
  /** The outer end of its cable, a port of the lab's bridge. */
  cable: string;
  bridge: string;
  labNumber: number;
  /** What survives a power cut: the engine's and droverd's data, logs. */
  dir: string;
  /** The host's own /run. */
  runDir: string;
  cgroup: string;
  engineSocket: string;
  droverSocket: string;
}

const BASE = process.env['DROVER_LAB_DIR'] ?? '/var/lib/drover-lab';
const RUN_BASE = '/run/drover-lab';
const CLAIMS = '.numbers';
const NAME = /^[a-z0-9][a-z0-9-]{0,19}$/;

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}

/** A lab and everything that its name, number and host count decide. */
export class Lab {
  readonly name: string;
  readonly number: number;
  readonly hosts: readonly HostPlan[];
  readonly parts: Parts;
  readonly managers: number;

  constructor(record: LabRecord) {
    this.name = record.name;
    this.number = record.number;
    this.parts = record.parts;
    this.managers = record.managers ?? 1;
    this.hosts = Array.from({ length: record.hosts }, (_, at) => this.#plan(at + 1));
  }

  get dir(): string {
    return join(BASE, this.name);
  }

  get runDir(): string {
    return join(RUN_BASE, this.name);
  }

  get bridge(): string {
    return `drl${this.number}`;
  }

  get outside(): string {
    return outsideAddress(this.number);
  }

  get registry(): string {
    return registryAddress(this.number);
  }

  get cgroup(): string {
    return `/drover-lab-${this.name}`;
  }

  #plan(index: number): HostPlan {
    const name = `h${index}`;
    const runDir = join(this.runDir, name);
    return {
      lab: this.name,
      name,
      index,
      address: hostAddress(this.number, index),
      cable: `${this.bridge}h${index}`,
      bridge: this.bridge,
      labNumber: this.number,
      dir: join(this.dir, name),
      runDir,
      cgroup: `${this.cgroup}/${name}`,
      engineSocket: join(runDir, 'engine.sock'),
      droverSocket: join(runDir, 'drover.sock'),
    };
  }

  /** The host of that name; throws a sentence for the user if there is none. */
  host(name: string): HostPlan {
    const host = this.hosts.find((candidate) => candidate.name === name);
    if (host === undefined)
      throw new Error(`No such host: ${name} (lab ${this.name} has ${this.hosts.map((h) => h.name).join(', ')})`);
    return host;
  }
}

/** The lab of that name, or undefined if there is none. */
export async function findLab(name: string): Promise<Lab | undefined> {
  try {
    const record: LabRecord = JSON.parse(await readFile(join(BASE, name, 'lab.json'), 'utf8'));
    return new Lab(record);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** The lab of that name; throws a sentence for the user if there is none. */
export async function openLab(name: string): Promise<Lab> {
  const lab = await findLab(name);
  if (lab === undefined) throw new Error(`No such lab: ${name} (drover lab up makes one)`);
  return lab;
}

/** All labs on record, by name. */
export async function listLabs(): Promise<Lab[]> {
  const labs = await Promise.all((await entries(BASE)).sort().map(findLab));
  return labs.filter((lab) => lab !== undefined);
}

async function entries(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/**
 * Puts a lab on record, or adds hosts, managers and parts to the one there is; never takes any away.
 * Throws if `parts` would turn bare engines into hosts with `droverd` or back: they run with different settings.
 */
export async function recordLab(
  name: string,
  { hosts, parts, managers }: { hosts: number; parts: Parts; managers: number },
): Promise<Lab> {
  if (!NAME.test(name)) throw new Error(`invalid lab name "${name}": up to 20 of a-z, 0-9 and -, not starting with -`);
  const existing = await findLab(name);
  if (existing !== undefined && (existing.parts === 'engines') !== (parts === 'engines')) {
    throw new Error(
      `lab ${name} was made ${existing.parts === 'engines' ? 'with' : 'without'} --engines-only; remove it first: drover lab down --name ${name}`,
    );
  }
  const record: LabRecord = {
    name,
    number: existing?.number ?? (await claimNumber(name)),
    hosts: Math.max(hosts, existing?.hosts.length ?? 0),
    parts: existing?.parts === 'cluster' ? 'cluster' : parts,
    managers: Math.max(managers, existing?.managers ?? 1),
  };
  const lab = new Lab(record);
  await mkdir(lab.dir, { recursive: true });
  const file = join(lab.dir, 'lab.json');
  await writeFile(`${file}.new`, JSON.stringify(record, null, 2));
  await rename(`${file}.new`, file);
  return lab;
}

/** Takes a number that no other lab and no route has. A symbolic link claims it: made in one step, owner included. */
async function claimNumber(name: string): Promise<number> {
  const [held] = await claimsOf(name);
  if (held !== undefined) return Number(held);
  for (const number of clearNumbers(preferredNumbers(name), await routedSubnets())) {
    if (await claim(String(number), name)) return number;
  }
  throw new Error('no free subnet for the lab: every 10.77.N.0/24 is routed already or taken by another lab');
}

/** False: another lab has it. */
async function claim(number: string, name: string): Promise<boolean> {
  const claims = join(BASE, CLAIMS);
  for (;;) {
    await mkdir(claims, { recursive: true });
    try {
      await symlink(name, join(claims, number));
      return true;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
      // Another lab, the last one until now, went away just then and took the directory with it.
      if (!isMissing(error)) throw error;
    }
  }
}

/** The numbers that a lab of this name has claimed. Other labs may come and go meanwhile. */
async function claimsOf(name: string): Promise<string[]> {
  const claims = join(BASE, CLAIMS);
  const held: string[] = [];
  for (const number of await entries(claims)) {
    try {
      if ((await readlink(join(claims, number))) === name) held.push(number);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
  return held;
}

/** Removes a lab's files; its processes and devices must be gone. */
export async function forgetLab(lab: Lab): Promise<void> {
  await rm(lab.runDir, { recursive: true, force: true });
  // The record goes last: an interrupted removal can be taken up again.
  for (const entry of await entries(lab.dir)) {
    if (entry !== 'lab.json') await rm(join(lab.dir, entry), { recursive: true, force: true });
  }
  await rm(lab.dir, { recursive: true, force: true });
}

/** Gives a lab's number back, and removes the directories that no lab needs any more. */
export async function releaseNumber(name: string): Promise<void> {
  for (const number of await claimsOf(name)) await rm(join(BASE, CLAIMS, number));
  for (const dir of [join(BASE, CLAIMS), BASE, RUN_BASE]) await removeIfEmpty(dir);
}

async function removeIfEmpty(dir: string): Promise<void> {
  try {
    await rmdir(dir);
  } catch (error) {
    const expected =
      isMissing(error) ||
      (error instanceof Error && 'code' in error && (error.code === 'ENOTEMPTY' || error.code === 'EBUSY'));
    if (!expected) throw error;
  }
}
