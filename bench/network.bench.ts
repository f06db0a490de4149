/**
 * What the network costs: a published port against the task's own address, on the host that runs the task and on one that does
 * not, and a look-up in a container. One task of examples/calculator on h1, keep-alive requests of a few bytes.
 * `--requests N` (default 20000), `--rounds N` (default 5, interleaved).
 */
import { execFile } from 'node:child_process';
import { parseArgs, promisify } from 'node:util';
import { DockerClient } from '../src/docker/client.ts';
import { socketOf } from '../src/lab/daemons.ts';
import { enter, enterNetwork, poweredOn } from '../src/lab/host.ts';
import { down, images, registry, up } from '../src/lab/operations.ts';
import { median, until } from './measure.ts';

const { values } = parseArgs({
  options: { requests: { type: 'string', default: '20000' }, rounds: { type: 'string', default: '5' } },
});
const run = promisify(execFile);
const LAB = 'bench-network';
const CONNECTIONS = '16';

interface Figures {
  perSecond: number;
  p50: number;
  p99: number;
}

async function load(prefix: readonly string[], ...args: string[]): Promise<Figures> {
  const script = new URL('./load.ts', import.meta.url).pathname;
  const [file, ...rest] = [...prefix, process.execPath, script, ...args];
  return JSON.parse((await run(file!, rest)).stdout) as Figures;
}

interface Task {
  Status: { State: string; ContainerStatus?: { PID: number } };
  NetworksAttachments?: { Network: { Spec: { Name: string } }; Addresses: string[] }[];
}

await down(LAB);
try {
  const lab = await up(LAB, { hosts: 2, managers: 1, parts: 'cluster' }, () => {});
  await images(LAB);
  const [h1, h2] = [lab.hosts[0]!, lab.hosts[1]!];
  const drover = new DockerClient({ socketPath: socketOf(h1, lab.parts) });
  await drover.request('POST', '/networks/create', { body: { Name: 'names', Driver: 'overlay' } });
  await drover.request('POST', '/services/create', {
    body: {
      Name: 'bench',
      TaskTemplate: {
        Networks: [{ Target: 'names' }],
        ContainerSpec: { Image: `${await registry(LAB)}/calculator:1` },
        Placement: { Constraints: ['node.hostname==h1'] },
      },
      EndpointSpec: { Ports: [{ Protocol: 'tcp', TargetPort: 8080, PublishedPort: 8080 }] },
    },
  });
  let task: Task | undefined;
  await until('the task runs', async () => {
    [task] = await drover.request<Task[]>('GET', '/tasks');
    return task?.Status.State === 'running';
  });
  const address = task!
    .NetworksAttachments!.find(({ Network }) => Network.Spec.Name === 'ingress')!
    .Addresses[0]!.split('/')[0]!;
  const inside = async (host: typeof h1) => enterNetwork(await poweredOn(host));
  const url = (host: string) => `http://${host}:8080/healthz`;
  const http = (prefix: readonly string[], host: string) => () =>
    load(prefix, 'http', url(host), values.requests, CONNECTIONS);
  const [in1, in2] = [await inside(h1), await inside(h2)];
  await until('it answers', () =>
    load(in1, 'http', url(address), '1', '1').then(
      () => true,
      () => false,
    ),
  );

  const contestants: Record<string, () => Promise<Figures>> = {
    'on h1: the task itself': http(in1, address),
    'on h1: the published port': http(in1, h1.address),
    'from h2: the task itself': http(in2, address),
    'from h2: port of h1': http(in2, h1.address),
    'from h2: its own port': http(in2, h2.address),
    'from outside: port of h1': http([], h1.address),
    'from outside: port of h2': http([], h2.address),
  };
  const results = new Map<string, Figures[]>();
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [name, contestant] of Object.entries(contestants)) {
      results.set(name, [...(results.get(name) ?? []), await contestant()]);
    }
  }
  console.log(
    `\nPublished port, ${values.requests} keep-alive requests on ${CONNECTIONS} connections (median of ${values.rounds})`,
  );
  const base = median(results.get('on h1: the task itself')!.map(({ perSecond }) => perSecond));
  for (const [name, list] of results) {
    const of = (key: keyof Figures) => median(list.map((figures) => figures[key]));
    console.log(
      `  ${name.padEnd(28)} ${of('perSecond').toFixed(0).padStart(7)}/s  ${(of('perSecond') / base).toFixed(2)} ×  p50 ${of('p50').toFixed(2)} ms  p99 ${of('p99').toFixed(2)} ms`,
    );
  }

  // The engine names the process as the host sees it; the look-up goes the way of the container's own.
  const inTask = [
    ...enter(await poweredOn(h1)),
    'nsenter',
    `--net=/proc/${task!.Status.ContainerStatus!.PID}/ns/net`,
    '--',
  ];
  const looked: Figures[] = [];
  for (let round = 0; round < Number(values.rounds); round++) looked.push(await load(inTask, 'dns', 'bench', '2000'));
  const of = (key: keyof Figures) => median(looked.map((figures) => figures[key]));
  console.log(`\nLook-up of a service's name in a container, one at a time, through the engine's resolver and ours`);
  console.log(`  ${of('perSecond').toFixed(0)}/s  p50 ${of('p50').toFixed(2)} ms  p99 ${of('p99').toFixed(2)} ms`);
} finally {
  await down(LAB);
}
process.exit(0);
