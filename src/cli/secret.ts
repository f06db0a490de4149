/** `drover secret …` and `drover config …`: the next value for a name, and the end of values that nothing uses any more. */
import { createReadStream } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { hasStatus, type DockerClient } from '../docker/client.ts';
import { PAYLOAD_TABLES, payloadIds, type PayloadKind } from '../model/payloads.ts';
import type { ServiceSpec, TaskSpec } from '../model/specs.ts';
import type { Command, Flags, Group, Output } from './command.ts';
import { UsageError } from './command.ts';
import { connect, HOST_FLAG } from './connection.ts';

interface Named {
  ID: string;
  Name: string;
}

/** The answer of `POST /drover/secrets/{id}/rotate`. */
interface Rotated extends Named {
  Previous: Named;
  Services: Named[];
}

interface ServiceAnswer {
  Spec: ServiceSpec;
  UpdateStatus?: { State: string; Message: string };
  ServiceStatus: { DesiredTasks: number };
}

interface TaskAnswer {
  DesiredState: string;
  Spec: TaskSpec;
  Status: { State: string };
}

const POLL_MS = 250;
const ENDED = new Set(['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned']);

export const secretCommands = groupOf('secret');
export const configCommands = groupOf('config');

function groupOf(kind: PayloadKind): Group {
  return { name: kind, summary: `Manage versions of ${kind}s`, commands: [rotateCommand(kind), pruneCommand(kind)] };
}

function rotateCommand(kind: PayloadKind): Command {
  return {
    name: 'rotate',
    args: [kind.toUpperCase()],
    summary: `Give a ${kind} its next value, read from standard input, and roll the services that use it`,
    details: `The new version takes the name; the one before is kept as NAME.v1, NAME.v2 and so on until it is pruned. Each service that
uses the name is updated as its own update policy says, all of them at once; in their tasks the file keeps its path.`,
    flags: {
      ...HOST_FLAG,
      detach: { help: 'Do not wait until the services use it' },
      file: { value: 'path', help: 'Read the value from a file instead of standard input' },
    },
    async run(flags, [name = ''], output) {
      const data = await valueFrom(flags);
      const client = connect(flags);
      try {
        const rotated = await client.request<Rotated>('POST', `${routeOf(kind)}/${encodeURIComponent(name)}/rotate`, {
          unversioned: true,
          body: { Data: data.toString('base64') },
        });
        return await report(kind, rotated, { client, output, detach: flags.isSet('detach') });
      } finally {
        client.close();
      }
    },
  };
}

function pruneCommand(kind: PayloadKind): Command {
  return {
    name: 'prune',
    args: [],
    summary: `Remove earlier versions of ${kind}s that no service uses, now or after a rollback`,
    flags: HOST_FLAG,
    async run(flags, _args, output) {
      const client = connect(flags);
      try {
        const { Removed } = await client.request<{ Removed: string[] }>('POST', `${routeOf(kind)}/prune`, {
          unversioned: true,
        });
        for (const name of Removed) output.out(`${name}\n`);
        return 0;
      } finally {
        client.close();
      }
    },
  };
}

function routeOf(kind: PayloadKind): string {
  return `/drover/${PAYLOAD_TABLES[kind]}`;
}

async function valueFrom(flags: Flags): Promise<Buffer> {
  if (flags.text('file') !== '') return buffer(createReadStream(flags.text('file')));
  if (process.stdin.isTTY)
    throw new UsageError('the new value is read from standard input, or from a file with --file');
  return buffer(process.stdin);
}

async function report(
  kind: PayloadKind,
  rotated: Rotated,
  { client, output, detach }: { client: DockerClient; output: Output; detach: boolean },
): Promise<number> {
  const { Name, Previous, Services } = rotated;
  output.out(`${Name} has its new value; the one before is ${Previous.Name}\n`);
  if (Services.length === 0) output.out('no service uses it\n');
  if (detach) {
    for (const service of Services) output.out(`${service.Name}: being updated\n`);
    return 0;
  }
  const ends = await Promise.all(
    Services.map(async (service) => {
      const rolling = { service, uses: (spec: TaskSpec) => payloadIds(spec, kind).includes(rotated.ID) };
      return rolled(client, rolling, (line) => output.out(`${service.Name}: ${line}\n`));
    }),
  );
  return ends.every(Boolean) ? 0 : 1;
}

/** Follows a service until all of its tasks use the new version: true; or until it is clear that they will not: false. */
async function rolled(
  client: DockerClient,
  { service, uses }: { service: Named; uses: (spec: TaskSpec) => boolean },
  say: (line: string) => void,
): Promise<boolean> {
  let last = '';
  for (;;) {
    const seen = await look(client, service, uses);
    if (seen.line !== last) say((last = seen.line));
    if (seen.end !== undefined) return seen.end;
    await pause(POLL_MS);
  }
}

async function look(
  client: DockerClient,
  { ID }: Named,
  uses: (spec: TaskSpec) => boolean,
): Promise<{ line: string; end?: boolean }> {
  const filters = (key: string): string => JSON.stringify({ [key]: { [ID]: true } });
  let tasks: TaskAnswer[];
  const [service] = await client.request<ServiceAnswer[]>('GET', '/services', {
    query: { filters: filters('id'), status: true },
  });
  if (service === undefined) return { line: 'removed meanwhile', end: true };
  try {
    tasks = await client.request<TaskAnswer[]>('GET', '/tasks', { query: { filters: filters('service') } });
  } catch (error) {
    if (hasStatus(error, 404)) return { line: 'removed meanwhile', end: true };
    throw error;
  }
  return progressOf(service, tasks, uses);
}

/** What a service's state says of its roll. Pure. */
export function progressOf(
  service: ServiceAnswer,
  tasks: readonly TaskAnswer[],
  uses: (spec: TaskSpec) => boolean,
): { line: string; end?: boolean } {
  const { Spec, UpdateStatus, ServiceStatus } = service;
  if (Spec.Mode.ReplicatedJob !== undefined || Spec.Mode.GlobalJob !== undefined)
    return { line: 'a job: its next run uses it', end: true };
  const { State = '', Message = '' } = UpdateStatus ?? {};
  if (State === 'paused' || State.startsWith('rollback')) return { line: `update ${State}: ${Message}`, end: false };
  if (!uses(Spec.TaskTemplate)) return { line: 'updated to something else meanwhile', end: false };
  const alive = tasks.filter((task) => !ENDED.has(task.Status.State));
  const fresh = alive.filter((task) => uses(task.Spec) && task.Status.State === 'running');
  const wanted = ServiceStatus.DesiredTasks;
  const line = `${Math.min(fresh.length, wanted)} of ${wanted} tasks use it`;
  return fresh.length >= wanted && alive.every((task) => uses(task.Spec)) ? { line, end: true } : { line };
}
