/**
 * Drover against the same engine calls made bare, and against Docker Swarm (the engines' own swarm mode, the same lab
 * without droverd): 30 replicas until the API says RUNNING, and a lost host until its tasks run elsewhere. Makes two labs of
 * three hosts and takes them away. `--rounds N` (default 5); `--only replicas|host`.
 */
import { parseArgs } from 'node:util';
import type { DockerClient } from '../src/docker/client.ts';
import { powerOff } from '../src/lab/host.ts';
import { down, startHost } from '../src/lab/operations.ts';
import { prepared, REPLICAS, type Contestant } from './contestant.ts';
import { compare, timed, until } from './measure.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, only: { type: 'string' } } });
const rounds = Number(values.rounds);

async function replicas(contestant: Contestant): Promise<number> {
  const time = await timed(async () => {
    await contestant.create('bench');
    await until('30 tasks run', async () => (await contestant.running('bench')).length === REPLICAS);
  });
  await contestant.remove('bench');
  return time;
}

/** From the moment the cable is out until everything runs on the others; then the host comes back. */
async function lostHost(contestant: Contestant): Promise<number> {
  await contestant.create('bench');
  await until('30 tasks run', async () => (await contestant.running('bench')).length === REPLICAS);
  const lost = contestant.lab.hosts.at(-1)!;
  const nodes = await contestant.client.request<{ ID: string; Description: { Hostname: string } }[]>('GET', '/nodes');
  const lostId = nodes.find((node) => node.Description.Hostname === lost.name)!.ID;
  const time = await timed(async () => {
    await powerOff(lost);
    await until('30 tasks run elsewhere', async () => {
      const tasks = await contestant.running('bench');
      return tasks.length === REPLICAS && tasks.every((task) => task.NodeID !== lostId);
    });
  });
  await startHost(contestant.lab, lost);
  await until('the host is back', async () => {
    const list = await contestant.client.request<{ ID: string; Status: { State: string } }[]>('GET', '/nodes');
    return list.find((node) => node.ID === lostId)?.Status.State === 'ready';
  });
  await contestant.remove('bench');
  return time;
}

/** The same containers by the same engine calls, all at once, ten on each host. */
async function bare(contestant: Contestant): Promise<number> {
  const engines = contestant.engines();
  const ids = new Map<DockerClient, string[]>(engines.map((engine) => [engine, []]));
  const time = await timed(async () => {
    await Promise.all(
      Array.from({ length: REPLICAS }, async (_, i) => {
        const engine = engines[i % engines.length]!;
        const body = { Image: contestant.image, Entrypoint: ['sleep', '100000'], HostConfig: { Init: true } };
        const { Id } = await engine.request<{ Id: string }>('POST', '/containers/create', { body });
        await engine.request('POST', `/containers/${Id}/start`);
        await engine.request('GET', `/containers/${Id}/json`);
        ids.get(engine)!.push(Id);
      }),
    );
  });
  await Promise.all(
    [...ids].flatMap(([engine, list]) =>
      list.map((id) => engine.request('DELETE', `/containers/${id}`, { query: { force: true } })),
    ),
  );
  for (const engine of engines) engine.close();
  return time;
}

const labs = { drover: 'bench-drover', swarm: 'bench-swarm' };
try {
  const drover = await prepared(labs.drover, 'cluster');
  const swarm = await prepared(labs.swarm, 'engines');
  if (values.only !== 'host') {
    await compare('30 replicas until RUNNING', rounds, {
      'bare engine calls': () => bare(drover),
      Drover: () => replicas(drover),
      'Docker Swarm': () => replicas(swarm),
    });
  }
  if (values.only !== 'replicas') {
    await compare('a host loses power until 30 tasks run on the other two', Math.min(rounds, 3), {
      'Docker Swarm': () => lostHost(swarm),
      Drover: () => lostHost(drover),
    });
  }
} finally {
  await down(labs.drover);
  await down(labs.swarm);
}
process.exit(0);
