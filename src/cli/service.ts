/** `drover service`: the words that a rollout may wait for, and how far it has come. */
import { taskStateName, TaskState } from '../model/states.ts';
import { table, type Command, type Output } from './command.ts';
import { connect, HOST_FLAG } from './connection.ts';
import type { DockerClient } from '../docker/client.ts';

/** What is read here of a service and its tasks, as Docker's API shows them. */
interface ServiceAnswer {
  ID: string;
  Version: { Index: number };
  Spec: { Name: string; TaskTemplate: { ContainerSpec: { Image: string } } };
  UpdateStatus?: { State: string; StartedAt: string; CompletedAt?: string; Message: string };
}

interface TaskAnswer {
  ID: string;
  Slot?: number;
  NodeID?: string;
  DesiredState: string;
  Status: { State: string; Err?: string };
  Spec: { ContainerSpec: { Image: string } };
}

/** A command about one service. */
function serviceCommand(
  name: string,
  summary: string,
  details: string,
  carryOut: (client: DockerClient, service: string, output: Output) => Promise<void>,
): Command {
  return {
    name,
    args: ['SERVICE'],
    summary,
    details,
    flags: HOST_FLAG,
    async run(flags, [service = ''], output) {
      const client = connect(flags);
      try {
        await carryOut(client, service, output);
        return 0;
      } finally {
        client.close();
      }
    },
  };
}

/** A command that says one word to a rollout. */
function word(name: string, summary: string, details: string): Command {
  return serviceCommand(name, summary, details, async (client, service, output) => {
    await client.request('POST', `/drover/services/${encodeURIComponent(service)}/${name}`);
    output.out(`${service}\n`);
  });
}

export const serviceCommands = {
  name: 'service',
  summary: 'Follow and decide the update of a service',
  commands: [
    word(
      'abort',
      'Take back the update that is under way',
      'Its tasks go back to the version before, by the rollback config.',
    ),
    word('confirm', 'Let the old tasks of an update go', 'For an update with the label drover.update.confirm=true.'),
    word('promote', 'Update the rest after the canaries', 'For an update with the label drover.update.canary.'),
    serviceCommand(
      'rollback',
      'Go back to the previous version',
      'As "docker service rollback", without waiting for its end.',
      async (client, service, output) => {
        const { ID, Version, Spec } = await inspect(client, service);
        const query = { version: Version.Index, rollback: 'previous' };
        await client.request('POST', `/services/${ID}/update`, { query, body: Spec });
        output.out(`${service}\n`);
      },
    ),
    serviceCommand(
      'status',
      'Show how far an update has come',
      'What it waits for, and what stands in its way.',
      status,
    ),
  ],
};

function inspect(client: DockerClient, service: string): Promise<ServiceAnswer> {
  return client.request('GET', `/services/${encodeURIComponent(service)}`);
}

async function status(client: DockerClient, reference: string, output: Output): Promise<void> {
  const service = await inspect(client, reference);
  const list = (upToDate: boolean): Promise<TaskAnswer[]> => {
    const filters = JSON.stringify({ service: [service.ID], '_up-to-date': [String(upToDate)] });
    return client.request('GET', '/tasks', { query: { filters } });
  };
  const [present, outdated] = await Promise.all([list(true), list(false)]);
  output.out(`${statusText(service, present, outdated)}\n`);
}

/** What `drover service status` prints. Pure. */
export function statusText(
  { Spec, UpdateStatus }: Pick<ServiceAnswer, 'Spec' | 'UpdateStatus'>,
  present: readonly TaskAnswer[],
  outdated: readonly TaskAnswer[],
): string {
  const stays = (task: TaskAnswer): boolean => ['ready', 'running'].includes(task.DesiredState);
  const runs = (task: TaskAnswer): boolean => stays(task) && task.Status.State === taskStateName(TaskState.RUNNING);
  const rows = [
    ['Service:', Spec.Name],
    ['Image:', Spec.TaskTemplate.ContainerSpec.Image],
    ['State:', UpdateStatus?.State.replace('_', ' ') ?? 'not updated'],
    ...(UpdateStatus === undefined
      ? []
      : [
          ['Message:', UpdateStatus.Message],
          ['Started:', UpdateStatus.StartedAt],
        ]),
    ...(UpdateStatus?.CompletedAt === undefined ? [] : [['Completed:', UpdateStatus.CompletedAt]]),
    [
      'Tasks:',
      `${present.filter(runs).length} of this version running, ${outdated.filter(stays).length} of earlier ones still wanted`,
    ],
  ];
  const troubled = present
    .filter(({ Status }) => Status.Err !== undefined)
    .map(({ ID, Slot, NodeID = '', Status }) => [`  ${Slot ?? NodeID}`, ID, Status.State, Status.Err ?? '']);
  const trouble = troubled.length === 0 ? '' : `\nTrouble:\n${table(troubled)}`;
  return `${table(rows)}${trouble}`;
}
