/**
 * Drover against the same engine calls made bare, and against Docker Swarm (the engines' own swarm mode, the same lab
 * without droverd): 30 replicas until the API says RUNNING, and a lost host until its tasks run elsewhere. Makes two labs of
 * three hosts and takes them away. `--rounds N` (default 5); `--only replicas|host`.
 */
import { parseArgs } from 'node:util';
import { DockerClient } from '../src/docker/client.ts';
import { formCluster } from '../src/lab/cluster.ts';
import { socketOf } from '../src/lab/daemons.ts';
import { powerOff } from '../src/lab/host.ts';
import type { Lab } from '../src/lab/lab.ts';
import { down, images, membersOf, registry, startHost, up } from '../src/lab/operations.ts';
import { compare, timed, until } from './measure.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, only: { type: 'string' } } });
const rounds = Number(values.rounds);
const REPLICAS = 30;
const quiet = () => {};

interface Task {
  DesiredState: string;
  NodeID: string;
  Status: { State: string };
}

class Contestant {
  readonly lab: Lab;
  readonly client: DockerClient;
  image = '';

  constructor(lab: Lab) {
    this.lab = lab;
    this.client = new DockerClient({ socketPath: socketOf(lab.hosts[0]!, lab.parts) });
  }

  async create(name: string): Promise<void> {
    await this.client.request('POST', '/services/create', {
      body: {
        Name: name,
        TaskTemplate: {
          ContainerSpec: { Image: this.image, Command: ['sleep', '100000'], Init: true, StopGracePeriod: 1e9 },
        },
        Mode: { Replicated: { Replicas: REPLICAS } },
      },
    });
  }

  /** Tasks of the service that run as wanted. */
  async running(name: string): Promise<Task[]> {
    const filters = JSON.stringify({ service: { [name]: true }, 'desired-state': { running: true } });
    const tasks = await this.client.request<Task[]>('GET', '/tasks', { query: { filters } });
    return tasks.filter((task) => task.Status.State === 'running');
  }

  async remove(name: string): Promise<void> {
    await this.client.request('DELETE', `/services/${name}`);
    const engines = this.engines();
    await until('the containers go', async () => {
      const lists = await Promise.all(
        engines.map((engine) => engine.request<unknown[]>('GET', '/containers/json', { query: { all: true } })),
      );
      return lists.every((list) => list.length === 0);
    });
    for (const engine of engines) engine.close();
  }

  engines(): DockerClient[] {
    return this.lab.hosts.map((host) => new DockerClient({ socketPath: host.engineSocket }));
  }

  async replicas(): Promise<number> {
    const time = await timed(async () => {
      await this.create('bench');
      await until('30 tasks run', async () => (await this.running('bench')).length === REPLICAS);
    });
    await this.remove('bench');
    return time;
  }

  /** From the moment the cable is out until everything runs on the others; then the host comes back. */
  async lostHost(): Promise<number> {
    await this.create('bench');
    await until('30 tasks run', async () => (await this.running('bench')).length === REPLICAS);
    const lost = this.lab.hosts.at(-1)!;
    const nodes = await this.client.request<{ ID: string; Description: { Hostname: string } }[]>('GET', '/nodes');
    const lostId = nodes.find((node) => node.Description.Hostname === lost.name)!.ID;
    const time = await timed(async () => {
      await powerOff(lost);
      await until('30 tasks run elsewhere', async () => {
        const tasks = await this.running('bench');
        return tasks.length === REPLICAS && tasks.every((task) => task.NodeID !== lostId);
      });
    });
    await startHost(this.lab, lost);
    await until('the host is back', async () => {
      const list = await this.client.request<{ ID: string; Status: { State: string } }[]>('GET', '/nodes');
      return list.find((node) => node.ID === lostId)?.Status.State === 'ready';
    });
    await this.remove('bench');
    return time;
  }
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

async function prepared(name: string, parts: 'cluster' | 'engines'): Promise<Contestant> {
  await down(name);
  const lab = await up(name, 3, parts, quiet);
  if (parts === 'engines') await formCluster(membersOf(lab));
  const contestant = new Contestant(lab);
  await images(name);
  contestant.image = `${await registry(name)}/busybox:latest`;
  // Every engine has the image, so that no contestant's first round pays for a pull.
  for (const engine of contestant.engines()) {
    for await (const chunk of await engine.stream('POST', '/images/create', { query: { fromImage: contestant.image } }))
      void chunk;
    engine.close();
  }
  return contestant;
}

const labs = { drover: 'bench-drover', swarm: 'bench-swarm' };
try {
  const drover = await prepared(labs.drover, 'cluster');
  const swarm = await prepared(labs.swarm, 'engines');
  if (values.only !== 'host') {
    await compare('30 replicas until RUNNING', rounds, {
      'bare engine calls': () => bare(drover),
      Drover: () => drover.replicas(),
      'Docker Swarm': () => swarm.replicas(),
    });
  }
  if (values.only !== 'replicas') {
    await compare('a host loses power until 30 tasks run on the other two', Math.min(rounds, 3), {
      'Docker Swarm': () => swarm.lostHost(),
      Drover: () => drover.lostHost(),
    });
  }
} finally {
  await down(labs.drover);
  await down(labs.swarm);
}
process.exit(0);
