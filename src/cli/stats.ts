/** `drover stats`: what running tasks use of their nodes, across the cluster, again and again or once. */
import type { DockerClient } from '../docker/client.ts';
import { jsonLines } from '../docker/json-lines.ts';
import { type Command, table } from './command.ts';
import { connect, HOST_FLAG } from './connection.ts';
import { cells, figuresOf, TITLES, type StatsAnswer } from './stats-figures.ts';
import { allRunningTasks, runningTasks, type Target } from './targets.ts';

const REFRESH_MS = 1_000;
const CLEAR = '\u001b[2J\u001b[H';
const NONE = ['--', '-- / --', '--', '-- / --', '-- / --', '--'];

export const statsCommand: Command = {
  name: 'stats',
  args: [],
  takesRest: true,
  summary: 'Show what the running tasks of services use: processor, memory, network, disks',
  details: 'Usage: drover stats [SERVICE[.SLOT]|TASK...]. Without arguments: all running tasks.',
  flags: { ...HOST_FLAG, 'no-stream': { help: 'Show the figures once and end' } },
  async run(flags, args, output) {
    const client = connect(flags);
    try {
      const targets =
        args.length === 0
          ? await allRunningTasks(client)
          : (await Promise.all(args.map((reference) => runningTasks(client, reference)))).flat();
      if (!flags.isSet('no-stream')) return await watch(client, targets, (text) => output.out(text));
      const answers = await Promise.allSettled(targets.map((target) => once(client, target)));
      output.out(
        tableOf(
          targets,
          answers.map((answer) => (answer.status === 'fulfilled' ? answer.value : undefined)),
        ),
      );
      let code = 0;
      answers.forEach((answer, at) => {
        if (answer.status === 'fulfilled') return;
        const { name, node } = targets[at]!;
        output.err(`Error: ${name} on ${node}: ${(answer.reason as Error).message}\n`);
        code = 1;
      });
      return code;
    } finally {
      client.close();
    }
  },
};

const path = ({ taskId }: Target): string => `/drover/tasks/${taskId}/stats`;

async function once(client: DockerClient, target: Target): Promise<string[]> {
  const query = { stream: false };
  return cells(figuresOf(await client.request<StatsAnswer>('GET', path(target), { unversioned: true, query })));
}

/** Shows the newest figures each second until the user interrupts it, or no task is left. */
async function watch(client: DockerClient, targets: readonly Target[], print: (text: string) => void): Promise<number> {
  const newest: (string[] | undefined)[] = targets.map(() => undefined);
  const follow = async (target: Target, at: number): Promise<void> => {
    const call = { unversioned: true, query: { stream: true } };
    try {
      const answer = await client.stream('GET', path(target), call);
      for await (const stats of jsonLines<StatsAnswer>(answer)) newest[at] = cells(figuresOf(stats));
    } catch {
      // Its row shows dashes: the task or its node has gone.
    }
    newest[at] = undefined;
  };
  const timer = setInterval(() => print(CLEAR + tableOf(targets, newest)), REFRESH_MS);
  try {
    await Promise.all(targets.map(follow));
  } finally {
    clearInterval(timer);
  }
  return 0;
}

function tableOf(targets: readonly Target[], figures: readonly (string[] | undefined)[]): string {
  const rows = targets.map(({ name, node }, at) => [name, node, ...(figures[at] ?? NONE)]);
  return `${table([['TASK', 'NODE', ...TITLES], ...rows])}\n`;
}
