/**
 * The move of a swarm's state from the database of its only manager to etcd, which a second manager sets off, with `kill -9`
 * of the first one's droverd and etcd in the middle of it.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { findEtcdOn } from '../../src/journal/member/process.ts';
import { Host } from './host.ts';
import { eventually, type Lab } from './lab.ts';
import { SwarmView } from './swarm-view.ts';
import { checkKept, Writer } from './writer.ts';

const PER_SECOND = 20;
const LOOK_MS = 2;
const BEGINS_MS = 30_000;

/**
 * Makes a swarm of these two hosts, in none before, promotes the second, kills `afterMs` after the move has begun, and checks
 * what has become of it: both are managers, nothing acknowledged is lost, no container noticed. They are in no swarm afterwards.
 * Resolves with how far the move had come.
 */
export async function checkKilledMove(
  lab: Lab,
  [one, two]: readonly [string, string],
  afterMs: number,
): Promise<string> {
  const host = await Host.open(lab, one);
  const swarm = new SwarmView(lab, [one, two]);
  await makeSwarm(lab, one, two);
  const before = await swarm.containers();
  expect(before).toHaveLength(2);
  const writer = new Writer([await lab.socket(one)], { perSecond: PER_SECOND, prefix: 'w' });
  let reached: string;
  try {
    const daemon = await host.pid('droverd');
    await lab.docker(one, 'node', 'promote', two);
    await begun(host);
    await new Promise((next) => setTimeout(next, afterMs));
    reached = await kill(host, daemon);
    await host.start('droverd');
    await swarm.settled([one, two]);
  } finally {
    await writer.stop();
  }
  for (const each of [one, two]) await checkKept(lab, each, writer);
  expect(writer.wrong).toEqual([]);
  expect(writer.acknowledged.length).toBeGreaterThan(0);
  expect(await swarm.containers()).toEqual(before);
  expect(existsSync(join(host.dataDir, 'state.db'))).toBe(false);
  for (const each of [two, one]) await lab.docker(each, 'swarm', 'leave', '--force');
  return reached;
}

async function makeSwarm(lab: Lab, one: string, two: string): Promise<void> {
  const address = await lab.address(one);
  await lab.docker(one, 'swarm', 'init', '--advertise-addr', address);
  const token = await lab.docker(one, 'swarm', 'join-token', '-q', 'worker');
  await lab.docker(
    two,
    'swarm',
    'join',
    '--token',
    token,
    '--advertise-addr',
    await lab.address(two),
    `${address}:2377`,
  );
  await lab.docker(one, 'service', 'create', '--detach', '--name', 'kept', '--replicas', '2', lab.image('web:1'));
  await eventually('both containers run', async () => {
    const replicas = await lab.docker(one, 'service', 'ls', '--format', '{{.Replicas}}');
    return replicas === '2/2';
  });
}

/** Waits, closely, for the first sign of the move. */
async function begun(host: Host): Promise<void> {
  const end = performance.now() + BEGINS_MS;
  while (!existsSync(memberFile(host))) {
    if (performance.now() > end) throw new Error(`the state of ${host.name} does not begin to move`);
    await new Promise((next) => setTimeout(next, LOOK_MS));
  }
}

/** Kills both, droverd first, and tells how far they were. */
async function kill(host: Host, daemon: number): Promise<string> {
  process.kill(daemon, 'SIGKILL');
  const { name, phase } = JSON.parse(readFileSync(memberFile(host), 'utf8')) as { name: string; phase: string };
  const etcd = await findEtcdOn(join(host.dataDir, 'etcd', name));
  if (etcd !== undefined) process.kill(etcd.pid, 'SIGKILL');
  await eventually('droverd has ended', async () => !existsSync(`/proc/${daemon}`));
  const { keeper } = JSON.parse(readFileSync(join(host.dataDir, 'cluster.json'), 'utf8')) as { keeper?: string };
  if (phase !== 'running') return `etcd is ${phase}`;
  if (keeper === undefined) return 'etcd runs, the state is in the database';
  return existsSync(join(host.dataDir, 'state.db'))
    ? 'the state is in etcd, the database still there'
    : 'the state is in etcd';
}

function memberFile(host: Host): string {
  return join(host.dataDir, 'etcd', 'member.json');
}
