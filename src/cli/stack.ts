/** `drover stack …`: deploying compose files whole, and what deploys did: their history, and the way back. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { userInfo, hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import type { DockerClient } from '../docker/client.ts';
import type { ServiceSpec } from '../model/specs.ts';
import { table, UsageError } from './command.ts';
import type { Command, Flag, Flags, Group, Output } from './command.ts';
import { deployStack, ofStack, servicesOf, type ResolveImage } from './compose/deploy.ts';
import { parseDotEnv } from './compose/env-files.ts';
import type { Lookup } from './compose/interpolate.ts';
import { loadCompose } from './compose/load.ts';
import { planStack } from './compose/plan.ts';
import type { StackPlan } from './compose/project.ts';
import { registryAuth } from './compose/registry-auth.ts';
import { connect, HOST_FLAG } from './connection.ts';
import { comparable, diffLines, type Comparison } from './stack-diff.ts';
import { awaitServices } from './stack-progress.ts';

const FILE_FLAGS: Record<string, Flag> = {
  'compose-file': {
    short: 'c',
    value: 'file',
    many: true,
    help: 'Compose file, or - for standard input; several are merged',
  },
  'env-file': { value: 'file', many: true, help: 'File of variables in place of .env beside the first compose file' },
  profile: { value: 'name', many: true, help: 'Deploy services of this profile too' },
};
const DETACH: Record<'detach', Flag> = {
  detach: { short: 'd', help: 'Do not wait until the services have converged' },
};

const deploy: Command = {
  name: 'deploy',
  args: ['STACK'],
  summary: 'Deploy a stack from compose files, or bring it up to date',
  details:
    'Takes what compose files have: several files, .env and --env-file, ${VARIABLES}, extends, profiles, depends_on.\nWarns of every key that it cannot honour. Waits until all services have converged; ends with 1 if one does not.',
  flags: {
    ...HOST_FLAG,
    ...FILE_FLAGS,
    ...DETACH,
    prune: { help: 'Remove services of the stack that the files do not have' },
    'resolve-image': {
      value: 'string',
      default: 'always',
      help: 'Ask registries for digests: always, changed or never',
    },
    'with-registry-auth': { help: 'Give the credentials for registries to the nodes' },
  },
  async run(flags, [stack = ''], output) {
    const resolveImage = resolveImageOf(flags);
    const plan = readPlan(flags, stack, output);
    const client = connect(flags);
    const names = await deployStack(client, plan, {
      deployId: randomUUID(),
      client: userAgent(),
      prune: flags.isSet('prune'),
      resolveImage,
      sendAuth: flags.isSet('with-registry-auth'),
      authOf: (image) => registryAuth(image),
      say: (line) => output.out(`${line}\n`),
      warn: (line) => output.err(`Warning: ${line}\n`),
    });
    return finish(client, flags, stack, names, output);
  },
};

function resolveImageOf(flags: Flags): ResolveImage {
  const word = flags.text('resolve-image');
  if (word === 'always' || word === 'changed' || word === 'never') return word;
  throw new UsageError(`invalid argument "${word}" for "--resolve-image" flag: must be always, changed or never`);
}

/** Reads the files that the flags name. @throws ComposeError, EnvFileError */
function readPlan(flags: Flags, stack: string, output: Output): StackPlan {
  const files = flags.list('compose-file');
  if (files.length === 0) throw new UsageError('Please specify a Compose file (with --compose-file)');
  if (!/^[A-Za-z0-9][\w.-]*$/.test(stack))
    throw new UsageError(`invalid stack name "${stack}": letters, digits, dots, dashes and underscores are allowed`);
  const directory = files[0] === '-' ? process.cwd() : dirname(resolve(files[0] ?? ''));
  const lookup = variables(flags.list('env-file'), directory);
  const warn = (text: string): void => output.err(`Warning: ${text}\n`);
  const readBytes = (path: string): Uint8Array => readFileSync(path);
  const read = (path: string): string => readFileSync(path === '-' ? 0 : path, 'utf8');
  const tree = loadCompose({ files, directory, lookup, read, warn });
  const profiles = new Set([...flags.list('profile'), ...(lookup('COMPOSE_PROFILES') ?? '').split(',')]);
  return planStack(tree, { stack, profiles, lookup, readBytes, warn });
}

/** The environment's variables before those of files; of several files, the last one counts. */
function variables(envFiles: readonly string[], directory: string): Lookup {
  const outer: Lookup = (name) => process.env[name];
  const values = new Map<string, string>();
  const take = (path: string): void => {
    for (const [name, value] of parseDotEnv(readFileSync(path, 'utf8'), path, outer)) values.set(name, value);
  };
  if (envFiles.length > 0) envFiles.forEach(take);
  else {
    try {
      take(resolve(directory, '.env'));
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
  }
  return (name) => outer(name) ?? values.get(name);
}

/** Who deploys, for the history. */
function userAgent(): string {
  let user = process.env['USER'] ?? '';
  try {
    user = userInfo().username;
  } catch {
    // The user has no name on this machine: a container with a bare uid, say.
  }
  return `drover (${user}@${hostname()})`.replaceAll(/[^\x20-\x7e]/g, '?');
}

async function finish(
  client: DockerClient,
  flags: Flags,
  stack: string,
  names: readonly string[],
  output: Output,
): Promise<number> {
  try {
    if (flags.isSet('detach') || names.length === 0) return 0;
    return (await awaitServices(client, stack, names, output)) ? 0 : 1;
  } finally {
    client.close();
  }
}

interface ChangeAnswer {
  Service: string;
  Kind: 'added' | 'changed' | 'removed';
  Fields?: string[];
}

interface RevisionAnswer {
  Number: number;
  CreatedAt: string;
  Client: string;
  RollbackTo?: number;
  Changes: ChangeAnswer[];
}

const SIGNS = { added: '+', changed: '~', removed: '-' };

const history: Command = {
  name: 'history',
  args: ['STACK'],
  summary: 'List the deploys of a stack, and what each changed',
  details:
    'The last ten that changed something are kept. The history of a stack ends when its last service is removed.',
  flags: HOST_FLAG,
  async run(flags, [stack = ''], output) {
    const client = connect(flags);
    const revisions = await client.request<RevisionAnswer[]>('GET', path(stack, '/history'));
    client.close();
    const rows = revisions
      .toReversed()
      .map((revision) => [
        String(revision.Number),
        ago(Date.parse(revision.CreatedAt), Date.now()),
        revision.Client,
        [
          ...(revision.RollbackTo === undefined ? [] : [`back to ${revision.RollbackTo}`]),
          ...revision.Changes.map((change) => changeWords(change, stack)),
        ].join('; '),
      ]);
    output.out(`${table([['REVISION', 'WHEN', 'BY', 'CHANGES'], ...rows])}\n`);
    return 0;
  },
};

function path(stack: string, rest: string): string {
  return `/drover/stacks/${encodeURIComponent(stack)}${rest}`;
}

/** `~web (Image, Env[A])` */
function changeWords({ Service, Kind, Fields = [] }: ChangeAnswer, stack: string): string {
  const name = Service.startsWith(`${stack}_`) ? Service.slice(stack.length + 1) : Service;
  const fields = Fields.map((field) => field.replace(/^TaskTemplate\.(ContainerSpec\.)?/, ''));
  const shown = fields.length > 4 ? [...fields.slice(0, 3), `${fields.length - 3} more`] : fields;
  return `${SIGNS[Kind]}${name}${shown.length === 0 ? '' : ` (${shown.join(', ')})`}`;
}

const UNITS: [name: string, seconds: number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
];

/** `3 minutes ago`. */
export function ago(thenMs: number, nowMs: number): string {
  const seconds = Math.max(0, Math.floor((nowMs - thenMs) / 1000));
  const [name, size] = UNITS.find(([, length]) => seconds >= length) ?? ['second', 1];
  const count = Math.floor(seconds / size);
  return `${count} ${name}${count === 1 ? '' : 's'} ago`;
}

interface RollbackAnswer {
  Number?: number;
  RollbackTo: number;
  Changes: ChangeAnswer[];
}

const rollback: Command = {
  name: 'rollback',
  args: ['STACK'],
  summary: 'Take all services of a stack back to what they were after an earlier deploy',
  details:
    'Without --to, back to the revision before the last: a second rollback returns. Services change by their own update\npolicy; those added since are removed, those removed since are made again, those that are the same stay untouched.',
  flags: {
    ...HOST_FLAG,
    ...DETACH,
    to: { value: 'revision', help: 'The revision to go back to; see drover stack history' },
  },
  async run(flags, [stack = ''], output) {
    const revision = flags.text('to') === '' ? undefined : flags.integer('to', 1, 1e9);
    const client = connect(flags);
    const done = await client.request<RollbackAnswer>('POST', path(stack, '/rollback'), {
      query: { revision },
      headers: { 'User-Agent': userAgent() },
    });
    if (done.Number === undefined) {
      output.out(`Nothing to change: stack ${stack} is what it was after revision ${done.RollbackTo}.\n`);
      client.close();
      return 0;
    }
    output.out(`Stack ${stack} goes back to revision ${done.RollbackTo}: this is revision ${done.Number}.\n`);
    for (const { Service, Kind } of done.Changes) output.out(`${SIGNS[Kind]} service ${Service}\n`);
    const left = done.Changes.filter(({ Kind }) => Kind !== 'removed').map(({ Service }) => Service);
    return finish(client, flags, stack, left, output);
  },
};

const diff: Command = {
  name: 'diff',
  args: ['STACK'],
  summary: 'Show what a deploy of compose files would change, or what has changed since the last deploy',
  details:
    'With -c: what runs, against the files. A tag that has got another image in its registry is not seen.\nWithout: what the last deploy declared, against what runs.',
  flags: { ...HOST_FLAG, ...FILE_FLAGS },
  async run(flags, [stack = ''], output) {
    const plan = flags.list('compose-file').length === 0 ? undefined : readPlan(flags, stack, output);
    const client = connect(flags);
    try {
      const lines = plan === undefined ? await sinceLastDeploy(client, stack) : await byDeploy(client, plan);
      output.out(lines.length === 0 ? 'No differences.\n' : lines.map((line) => `${line}\n`).join(''));
      return 0;
    } finally {
      client.close();
    }
  },
};

async function sinceLastDeploy(client: DockerClient, stack: string): Promise<string[]> {
  const revisions = await client.request<RevisionAnswer[]>('GET', path(stack, '/history'));
  const last = revisions.at(-1)?.Number ?? 0;
  const { Specs } = await client.request<{ Specs: Record<string, ServiceSpec> }>(
    'GET',
    path(stack, `/history/${last}`),
  );
  const comparison = { networkName: await networkNames(client), digests: true };
  return diffLines(comparables(Object.values(Specs), comparison), await running(client, stack, comparison));
}

/** Networks, secrets and configs that would be made come first. */
async function byDeploy(client: DockerClient, plan: StackPlan): Promise<string[]> {
  const networkName = await networkNames(client);
  const comparison = { networkName, digests: false };
  const names = async (kind: 'networks' | 'secrets' | 'configs'): Promise<Set<string>> => {
    const query = { filters: ofStack(plan.name) };
    const all = await client.request<{ Name?: string; Spec?: { Name: string } }[]>('GET', `/${kind}`, { query });
    return new Set(all.map(({ Name, Spec }) => Name ?? Spec?.Name ?? ''));
  };
  const made = await Promise.all(
    (['networks', 'secrets', 'configs'] as const).map(async (kind) => {
      const there = await names(kind);
      return plan[kind].flatMap(({ name }) => (there.has(name) ? [] : [`+ ${kind.slice(0, -1)} ${name}`]));
    }),
  );
  const wanted = comparables(
    plan.services.map(({ spec }) => spec),
    comparison,
  );
  const there = await running(client, plan.name, comparison);
  const lines = diffLines(there, wanted).map((line) => (line.startsWith('- ') ? `${line} (only with --prune)` : line));
  return [...made.flat(), ...lines];
}

async function networkNames(client: DockerClient): Promise<(id: string) => string> {
  const networks = await client.request<{ Id: string; Name: string }[]>('GET', '/networks');
  const names = new Map(networks.map(({ Id, Name }) => [Id, Name]));
  return (id) => names.get(id) ?? id;
}

async function running(client: DockerClient, stack: string, comparison: Comparison): Promise<Map<string, object>> {
  const services = await servicesOf(client, stack);
  return comparables(
    services.map(({ Spec }) => Spec),
    comparison,
  );
}

function comparables(specs: readonly ServiceSpec[], comparison: Comparison): Map<string, object> {
  return new Map(specs.map((spec) => [spec.Name, comparable(spec, comparison)]));
}

const ls: Command = {
  name: 'ls',
  args: [],
  summary: 'List stacks, with the number of their last revision',
  flags: HOST_FLAG,
  async run(flags, _args, output) {
    const client = connect(flags);
    const stacks = await client.request<{ Name: string; Services: number; Revision: number; LastDeployAt: string }[]>(
      'GET',
      '/drover/stacks',
    );
    client.close();
    const rows = stacks.map(({ Name, Services, Revision, LastDeployAt }) => [
      Name,
      String(Services),
      String(Revision),
      ago(Date.parse(LastDeployAt), Date.now()),
    ]);
    output.out(`${table([['NAME', 'SERVICES', 'REVISION', 'LAST DEPLOY'], ...rows])}\n`);
    return 0;
  },
};

export const stackCommands: Group = {
  name: 'stack',
  summary: 'Stacks: deploy compose files whole, see what deploys did, go back',
  commands: [deploy, diff, history, ls, rollback],
};
