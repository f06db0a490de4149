/** A cluster in a lab that takes part in a bench: driven through the Docker API, so that Drover and Docker Swarm do the same. */
import { DockerClient } from '../src/docker/client.ts';
import { formCluster } from '../src/lab/cluster.ts';
import { socketOf } from '../src/lab/daemons.ts';
import type { Lab } from '../src/lab/lab.ts';
import { down, images, membersOf, registry, up } from '../src/lab/operations.ts';
import { until } from './measure.ts';

export const REPLICAS = 30;

export interface Task {
  DesiredState: string;
  NodeID: string;
  Status: { State: string };
  Spec: { ForceUpdate?: number };
}

export class Contestant {
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
}

/** A fresh lab of three hosts, every engine with the image: no contestant's first round pays for a pull. */
export async function prepared(name: string, parts: 'cluster' | 'engines'): Promise<Contestant> {
  await down(name);
  const lab = await up(name, { hosts: 3, managers: 1, parts }, () => {});
  if (parts === 'engines') await formCluster(membersOf(lab), 1);
  const contestant = new Contestant(lab);
  await images(name);
  contestant.image = `${await registry(name)}/busybox:latest`;
  for (const engine of contestant.engines()) {
    for await (const chunk of await engine.stream('POST', '/images/create', { query: { fromImage: contestant.image } }))
      void chunk;
    engine.close();
  }
  return contestant;
}
