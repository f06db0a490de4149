/**
 * A rolling update of 30 tasks, until the old are gone and the new are RUNNING: Drover against Docker Swarm on the same
 * engines, and against the bare stop, create and start of the same containers. One at a time, and ten at a time.
 * Makes two labs of three hosts and takes them away. `--rounds N` (default 3); `--only one|ten`.
 */
import { parseArgs } from 'node:util';
import type { DockerClient } from '../src/docker/client.ts';
import { down } from '../src/lab/operations.ts';
import { prepared, REPLICAS, type Contestant } from './contestant.ts';
import { compare, timed, until } from './measure.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '3' }, only: { type: 'string' } } });
const rounds = Number(values.rounds);
const SERVICE = 'bench';

interface Service {
  Version: { Index: number };
  Spec: { TaskTemplate: { ForceUpdate?: number } };
}

async function begin(contestant: Contestant): Promise<void> {
  await contestant.create(SERVICE);
  await until('30 tasks run', async () => (await contestant.running(SERVICE)).length === REPLICAS);
}

/** Replaces every task, `parallelism` slots at once, and resolves with how long that took. */
async function update(contestant: Contestant, parallelism: number): Promise<number> {
  const { client } = contestant;
  const { Version, Spec } = await client.request<Service>('GET', `/services/${SERVICE}`);
  const ForceUpdate = (Spec.TaskTemplate.ForceUpdate ?? 0) + 1;
  return timed(async () => {
    await client.request('POST', `/services/${SERVICE}/update`, {
      query: { version: Version.Index },
      // The shortest monitor that both take as one: it counts after a task has started, and is not what is measured.
      body: {
        ...Spec,
        TaskTemplate: { ...Spec.TaskTemplate, ForceUpdate },
        UpdateConfig: { Parallelism: parallelism, Order: 'stop-first', Monitor: 1e6 },
      },
    });
    await until('30 new tasks run', async () => {
      const running = await contestant.running(SERVICE);
      return running.length === REPLICAS && running.every((task) => task.Spec.ForceUpdate === ForceUpdate);
    });
    await until('the old are gone', async () => (await live(contestant)) === REPLICAS);
  });
}

/** Containers that run, on all hosts. */
async function live(contestant: Contestant): Promise<number> {
  const engines = contestant.engines();
  const lists = await Promise.all(engines.map((engine) => engine.request<unknown[]>('GET', '/containers/json')));
  for (const engine of engines) engine.close();
  return lists.reduce((sum, list) => sum + list.length, 0);
}

/** The same replacement by the engine's own calls: `parallelism` chains of stop, create, start, look, ten tasks a host. */
async function bare(contestant: Contestant, parallelism: number): Promise<number> {
  const engines = contestant.engines();
  const body = { Image: contestant.image, Entrypoint: ['sleep', '100000'], HostConfig: { Init: true } };
  const start = async (engine: DockerClient): Promise<string> => {
    const { Id } = await engine.request<{ Id: string }>('POST', '/containers/create', { body });
    await engine.request('POST', `/containers/${Id}/start`);
    await engine.request('GET', `/containers/${Id}/json`);
    return Id;
  };
  const slots = await Promise.all(
    Array.from({ length: REPLICAS }, async (_, i) => {
      const engine = engines[i % engines.length]!;
      return { engine, id: await start(engine) };
    }),
  );
  const waiting = slots.values();
  const time = await timed(async () => {
    const chain = async (): Promise<void> => {
      for (const slot of waiting) {
        await slot.engine.request('POST', `/containers/${slot.id}/stop`, { query: { t: 1 } });
        const old = slot.id;
        slot.id = await start(slot.engine);
        await slot.engine.request('DELETE', `/containers/${old}`);
      }
    };
    await Promise.all(Array.from({ length: parallelism }, chain));
  });
  await Promise.all(
    slots.map(({ engine, id }) => engine.request('DELETE', `/containers/${id}`, { query: { force: true } })),
  );
  for (const engine of engines) engine.close();
  return time;
}

const labs = { drover: 'bench-drover', swarm: 'bench-swarm' };
try {
  const drover = await prepared(labs.drover, 'cluster');
  const swarm = await prepared(labs.swarm, 'engines');
  for (const [word, parallelism] of [
    ['one', 1],
    ['ten', 10],
  ] as const) {
    if (values.only !== undefined && values.only !== word) continue;
    await compare(`rolling update of 30 tasks, ${word} at a time, stop-first`, rounds, {
      'bare stop, create, start': () => bare(drover, parallelism),
      Drover: async () => {
        await begin(drover);
        const time = await update(drover, parallelism);
        await drover.remove(SERVICE);
        return time;
      },
      'Docker Swarm': async () => {
        await begin(swarm);
        const time = await update(swarm, parallelism);
        await swarm.remove(SERVICE);
        return time;
      },
    });
  }
} finally {
  await down(labs.drover);
  await down(labs.swarm);
}
process.exit(0);
