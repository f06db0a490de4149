/** `drover stats`: what running tasks use of their nodes, across the cluster, again and again or once. */
import { setTimeout as pause } from 'node:timers/promises';
import type { DockerClient } from '../docker/client.ts';
import { jsonLines } from '../docker/json-lines.ts';
import { type Command, table } from './command.ts';
import { connect, HOST_FLAG } from './connection.ts';
import { cells, figuresOf, TITLES, type StatsAnswer } from './stats-figures.ts';
import { allRunningTasks, runningTasks, type Target } from './targets.ts';

const REFRESH_MS = 1_000;
/** How often a stream of figures asks which tasks run: those of an update come and go. */
const LOOK_MS = 3_000;
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
      const find = async (): Promise<Target[]> =>
        args.length === 0
          ? allRunningTasks(client)
          : (await Promise.all(args.map((reference) => runningTasks(client, reference)))).flat();
      const targets = await find();
      if (!flags.isSet('no-stream')) return await watch(client, targets, find, (text) => output.out(text));
      const answers = await Promise.allSettled(targets.map((target) => once(client, target)));
      output.out(
        tableOf(targets, (_, at) => {
          const answer = answers[at];
          return answer?.status === 'fulfilled' ? answer.value : undefined;
        }),
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

/**
 * Shows the newest figures each second until the user interrupts it. Tasks that come are taken in, those that go leave; while
 * nobody can say who runs, the last ones stay.
 */
async function watch(
  client: DockerClient,
  first: readonly Target[],
  find: () => Promise<Target[]>,
  print: (text: string) => void,
): Promise<never> {
  const newest = new Map<string, string[]>();
  const followed = new Map<string, AbortController>();
  const follow = async (target: Target, { signal }: AbortController): Promise<void> => {
    const call = { unversioned: true, query: { stream: true }, signal };
    try {
      const answer = await client.stream('GET', path(target), call);
      for await (const stats of jsonLines<StatsAnswer>(answer)) newest.set(target.taskId, cells(figuresOf(stats)));
    } catch {
      // Its row shows dashes, or goes: the task or its node has gone, or will be asked again.
    }
    newest.delete(target.taskId);
    followed.delete(target.taskId);
  };
  let targets = first;
  const timer = setInterval(() => print(CLEAR + tableOf(targets, ({ taskId }) => newest.get(taskId))), REFRESH_MS);
  try {
    for (;;) {
      for (const target of targets) {
        if (followed.has(target.taskId)) continue;
        const ended = new AbortController();
        followed.set(target.taskId, ended);
        void follow(target, ended);
      }
      await pause(LOOK_MS);
      targets = await find().catch(() => targets);
      const named = new Set(targets.map(({ taskId }) => taskId));
      for (const [taskId, ended] of followed) if (!named.has(taskId)) ended.abort();
    }
  } finally {
    clearInterval(timer);
  }
}

function tableOf(
  targets: readonly Target[],
  figuresFor: (target: Target, at: number) => readonly string[] | undefined,
): string {
  const rows = targets.map((target, at) => [target.name, target.node, ...(figuresFor(target, at) ?? NONE)]);
  return `${table([['TASK', 'NODE', ...TITLES], ...rows])}\n`;
}
