/** `drover top`: the processes of each running task of a service, across nodes. */
import { type Command, table } from './command.ts';
import { connect, HOST_FLAG } from './connection.ts';
import { runningTasks } from './targets.ts';

interface TopAnswer {
  Titles: string[];
  Processes: string[][] | null;
}

export const topCommand: Command = {
  name: 'top',
  args: ['SERVICE[.SLOT]|TASK'],
  takesRest: true,
  summary: 'Show the processes of the running tasks of a service, on all nodes',
  details: 'Further words are options of ps, as with docker top: drover top web -- -eo pid,comm',
  flags: HOST_FLAG,
  async run(flags, args, output) {
    const [reference = '', ...psArgs] = args;
    const client = connect(flags);
    try {
      const targets = await runningTasks(client, reference);
      const query = psArgs.length === 0 ? {} : { ps_args: psArgs.join(' ') };
      const answers = await Promise.allSettled(
        targets.map(({ taskId }) =>
          client.request<TopAnswer>('GET', `/drover/tasks/${taskId}/top`, { unversioned: true, query }),
        ),
      );
      const rows: string[][] = [];
      const failures: string[] = [];
      answers.forEach((answer, at) => {
        const { name, node } = targets[at]!;
        if (answer.status === 'rejected') failures.push(`${name} on ${node}: ${(answer.reason as Error).message}`);
        else {
          const { Titles, Processes } = answer.value;
          if (rows.length === 0) rows.push(['TASK', 'NODE', ...Titles]);
          for (const process of Processes ?? []) rows.push([name, node, ...process]);
        }
      });
      if (rows.length > 0) output.out(`${table(rows)}\n`);
      for (const failure of failures) output.err(`Error: ${failure}\n`);
      return failures.length === 0 ? 0 : 1;
    } finally {
      client.close();
    }
  },
};
