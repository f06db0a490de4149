/**
 * The API over its own socket, on a real daemon with its SQLite journal: creating services one after another and many at
 * once, and listing 1,000 of them, against the same client asking the bare engine for `/version`. One host, no tasks
 * (0 replicas). `--services N` (default 1000).
 */
import { parseArgs } from 'node:util';
import { DockerClient } from '../src/docker/client.ts';
import { socketOf } from '../src/lab/daemons.ts';
import { down, up } from '../src/lab/operations.ts';
import { median, timed } from './measure.ts';

const { values } = parseArgs({ options: { services: { type: 'string', default: '1000' } } });
const services = Number(values.services);
const LAB = 'bench-api';

const spec = (name: string) => ({
  Name: name,
  Labels: { 'com.docker.stack.namespace': 'bench' },
  TaskTemplate: { ContainerSpec: { Image: 'busybox', Env: Array.from({ length: 12 }, (_, i) => `KEY${i}=value`) } },
  Mode: { Replicated: { Replicas: 0 } },
});

/** Median of `rounds` calls, in milliseconds. */
async function medianOf(rounds: number, call: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) times.push(await timed(async () => void (await call())));
  return median(times);
}

await down(LAB);
try {
  const lab = await up(LAB, { hosts: 1, managers: 1, parts: 'cluster' }, () => {});
  const host = lab.hosts[0]!;
  const drover = new DockerClient({ socketPath: socketOf(host, lab.parts) });
  const engine = new DockerClient({ socketPath: host.engineSocket });
  const create = (name: string) => drover.request('POST', '/services/create', { body: spec(name) });

  const bareMs = await medianOf(100, () => engine.request('GET', '/version'));
  const proxiedMs = await medianOf(100, () => drover.request('GET', '/containers/json'));
  const directMs = await medianOf(100, () => engine.request('GET', '/containers/json'));
  const tenth = Math.ceil(services / 10);
  const serialMs = await timed(async () => {
    for (let i = 0; i < tenth; i++) await create(`serial${i}`);
  });
  const burstMs = await timed(async () => {
    await Promise.all(Array.from({ length: services - tenth }, (_, i) => create(`burst${i}`)));
  });
  const listMs = await medianOf(21, () => drover.request('GET', '/services'));
  const statusMs = await medianOf(21, () => drover.request('GET', '/services', { query: { status: true } }));

  console.log(`\nAPI, ${services} services of 12 variables each, durable writes`);
  console.log(`  engine: GET /version                 ${bareMs.toFixed(2)} ms`);
  console.log(
    `  GET /containers/json: engine         ${directMs.toFixed(2)} ms, through droverd ${proxiedMs.toFixed(2)} ms  (${(proxiedMs / directMs).toFixed(2)} ×)`,
  );
  console.log(
    `  create one after another             ${(serialMs / tenth).toFixed(2)} ms each  (${(serialMs / tenth / bareMs).toFixed(2)} × GET /version)`,
  );
  console.log(
    `  create ${services - tenth} at once                  ${((services - tenth) / (burstMs / 1000)).toFixed(0)}/s`,
  );
  console.log(
    `  list them                            ${listMs.toFixed(1)} ms; with status=true ${statusMs.toFixed(1)} ms`,
  );
} finally {
  await down(LAB);
}
process.exit(0);
