/** `drover rebalance`: evens out services over the nodes there are, one task at a time, or shows what that would move. */
import { setTimeout as pause } from 'node:timers/promises';
import { table, type Command, type Output } from './command.ts';
import { connect, HOST_FLAG } from './connection.ts';
import type { DockerClient } from '../docker/client.ts';

interface MoveAnswer {
  Service: string;
  Slot: number;
  Task: string;
  From: { Hostname: string };
  To: { Hostname: string };
}

interface PlanAnswer {
  /** Absent if nothing was begun. */
  Asked?: number;
  Moves: MoveAnswer[];
  Skipped: { Service: string; Reason: string }[];
}

interface ProgressAnswer extends PlanAnswer {
  Asked: number;
  Running: boolean;
}

const POLL_MS = 500;
const PATH = '/drover/rebalance';

export const rebalanceCommand: Command = {
  name: 'rebalance',
  args: [],
  summary: 'Even out services over the nodes there are',
  details:
    'Moves tasks of replicated services to where the scheduler would put them now: one at a time, and each old task goes\n' +
    'when the new one has arrived. A service with the label drover.rebalance=auto is evened by itself whenever a node joins\n' +
    'or comes back; one with drover.rebalance=off never.',
  flags: {
    ...HOST_FLAG,
    'dry-run': { help: 'Show what would be moved, and move nothing' },
    detach: { help: 'Begin, and do not wait for the end' },
  },
  async run(flags, _args, output) {
    const client = connect(flags);
    try {
      const dryRun = flags.isSet('dry-run');
      const query = dryRun ? { dryRun: true } : {};
      const plan = await client.request<PlanAnswer>('POST', PATH, { unversioned: true, query });
      output.out(planText(plan, dryRun));
      if (plan.Asked === undefined || flags.isSet('detach')) return 0;
      return await follow(client, plan.Asked, output);
    } finally {
      client.close();
    }
  },
};

/** Prints each move as it is done; resolves with the exit code: 1 if something could not be moved as planned. */
async function follow(client: DockerClient, asked: number, output: Output): Promise<number> {
  const told = new Set<string>();
  for (;;) {
    const progress = await client.request<ProgressAnswer>('GET', PATH, { unversioned: true });
    if (progress.Asked !== asked)
      throw new Error('somebody else has asked for a rebalance meanwhile, which goes on with it');
    for (const move of progress.Moves) {
      if (told.has(move.Task)) continue;
      told.add(move.Task);
      output.out(`moved ${move.Service}.${move.Slot} from ${move.From.Hostname} to ${move.To.Hostname}\n`);
    }
    if (!progress.Running) {
      const failed = progress.Skipped.filter(({ Reason }) => Reason.startsWith('a move failed'));
      for (const { Service, Reason } of failed) output.err(`${Service}: ${Reason}\n`);
      return failed.length === 0 ? 0 : 1;
    }
    await pause(POLL_MS);
  }
}

/** What is printed first. Pure. */
export function planText({ Moves, Skipped }: PlanAnswer, dryRun: boolean): string {
  const left = Skipped.map(({ Service, Reason }) => `${Service} is left alone: ${Reason}\n`).join('');
  if (Moves.length === 0) return `${left}Nothing to move.\n`;
  if (!dryRun) return `${left}${Moves.length} ${Moves.length === 1 ? 'task' : 'tasks'} to move.\n`;
  const rows = Moves.map((move) => [`${move.Service}.${move.Slot}`, move.From.Hostname, move.To.Hostname]);
  return `${left}${table([['TASK', 'FROM', 'TO'], ...rows])}\n`;
}
