/**
 * Makes what a stack's plan says, through Docker's API and in docker's order: what services need comes first. All writes
 * of one deploy carry the same id, so that they are one revision of the stack.
 */
import { hasStatus, type DockerClient } from '../../docker/client.ts';
import type { ServiceSpec } from '../../model/specs.ts';
import { pinned, taggedImage, withImage } from './images.ts';
import { IMAGE_LABEL, NAMESPACE_LABEL, type PayloadPlan, type StackPlan } from './project.ts';

export type ResolveImage = 'always' | 'changed' | 'never';

export interface DeployOptions {
  /** Names this deploy among others. */
  deployId: string;
  /** Who deploys: the history shows it. */
  client: string;
  /** Remove services of the stack that the plan does not have. */
  prune: boolean;
  resolveImage: ResolveImage;
  /** Give the credentials to the cluster, for its nodes to pull with. */
  sendAuth: boolean;
  authOf: (image: string) => Promise<string | undefined>;
  say: (line: string) => void;
  warn: (line: string) => void;
}

export interface ExistingService {
  ID: string;
  Version: { Index: number };
  Spec: ServiceSpec;
}

/** Where the API says that a spec has moved since it was read, a deploy reads it again, so many times. */
const TRIES = 3;
const OUT_OF_SEQUENCE = 'update out of sequence';

/** Resolves with the names of the services that are to converge. Rejects at the first thing that is refused. */
export async function deployStack(client: DockerClient, plan: StackPlan, options: DeployOptions): Promise<string[]> {
  await checkIsManager(client);
  const headers = { 'X-Drover-Deploy': options.deployId, 'User-Agent': options.client };
  const wanted = new Set(plan.services.map(({ spec }) => spec.Name));
  if (options.prune) {
    for (const { ID, Spec } of await servicesOf(client, plan.name)) {
      if (wanted.has(Spec.Name)) continue;
      options.say(`Removing service ${Spec.Name}`);
      await client.request('DELETE', `/services/${ID}`, { headers });
    }
  }
  await makeNetworks(client, plan, options);
  for (const secret of plan.secrets) await makePayload(client, 'secret', secret, options);
  for (const config of plan.configs) await makePayload(client, 'config', config, options);
  const ids = await referenceIds(client, plan);
  for (const { spec } of plan.services) await writeService(client, withIds(spec, ids), plan.name, options, headers);
  return [...wanted];
}

export async function servicesOf(client: DockerClient, stack: string): Promise<ExistingService[]> {
  return client.request('GET', '/services', { query: { filters: ofStack(stack) } });
}

export function ofStack(stack: string): string {
  return JSON.stringify({ label: { [`${NAMESPACE_LABEL}=${stack}`]: true } });
}

async function checkIsManager(client: DockerClient): Promise<void> {
  const { Swarm } = await client.request<{ Swarm?: { ControlAvailable?: boolean } }>('GET', '/info');
  if (Swarm?.ControlAvailable !== true)
    throw new Error(
      'this node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again',
    );
}

async function makeNetworks(client: DockerClient, plan: StackPlan, { say }: DeployOptions): Promise<void> {
  for (const name of plan.externalNetworks) {
    // These are on every node.
    if (['bridge', 'host', 'none', 'default'].includes(name)) continue;
    const network = await found(client.request<{ Scope: string }>('GET', `/networks/${encodeURIComponent(name)}`));
    if (network === undefined)
      throw new Error(
        `network "${name}" is declared as external, but could not be found. You need to create a swarm-scoped network before the stack is deployed`,
      );
    if (network.Scope !== 'swarm')
      throw new Error(
        `network "${name}" is declared as external, but it is not in the right scope: "${network.Scope}" instead of "swarm"`,
      );
  }
  const query = { filters: ofStack(plan.name) };
  const there = await client.request<{ Name: string }[]>('GET', '/networks', { query });
  for (const { name, body } of plan.networks) {
    if (there.some((network) => network.Name === name)) continue;
    say(`Creating network ${name}`);
    await named(`failed to create network ${name}`, client.request('POST', '/networks/create', { body }));
  }
}

async function makePayload(
  client: DockerClient,
  kind: 'secret' | 'config',
  plan: PayloadPlan,
  { say }: DeployOptions,
): Promise<void> {
  const body = {
    Name: plan.name,
    Labels: plan.labels,
    ...(plan.data.length === 0 ? {} : { Data: Buffer.from(plan.data).toString('base64') }),
    ...(plan.driver === undefined ? {} : { Driver: plan.driver }),
    ...(plan.templating === undefined ? {} : { Templating: plan.templating }),
  };
  const path = `/${kind}s/${encodeURIComponent(plan.name)}`;
  const there = await found(client.request<{ ID: string; Version: { Index: number } }>('GET', path));
  if (there === undefined) {
    say(`Creating ${kind} ${plan.name}`);
    await named(`failed to create ${kind} ${plan.name}`, client.request('POST', `/${kind}s/create`, { body }));
    return;
  }
  // Its labels may change, what it holds may not.
  const update = client.request('POST', `/${kind}s/${there.ID}/update`, {
    query: { version: there.Version.Index },
    body,
  });
  await named(
    `failed to update ${kind} ${plan.name}`,
    update,
    `; what a ${kind} holds never changes: give it another name in the file, or run drover ${kind} rotate ${plan.name}`,
  );
}

interface Ids {
  secrets: ReadonlyMap<string, string>;
  configs: ReadonlyMap<string, string>;
}

/** The ids of all secrets and configs that services of the plan name. */
async function referenceIds(client: DockerClient, plan: StackPlan): Promise<Ids> {
  const list = async (kind: 'secrets' | 'configs', needed: boolean): Promise<Map<string, string>> => {
    if (!needed) return new Map();
    const all = await client.request<{ ID: string; Spec: { Name: string } }[]>('GET', `/${kind}`);
    return new Map(all.map(({ ID, Spec }) => [Spec.Name, ID]));
  };
  const containers = plan.services.map(({ spec }) => spec.TaskTemplate.ContainerSpec);
  return {
    secrets: await list(
      'secrets',
      containers.some((container) => container?.Secrets !== undefined),
    ),
    configs: await list(
      'configs',
      containers.some((container) => container?.Configs !== undefined),
    ),
  };
}

function withIds(spec: ServiceSpec, ids: Ids): ServiceSpec {
  const { ContainerSpec: container, ...task } = spec.TaskTemplate;
  if (container === undefined) return spec;
  const idOf = (kind: 'secret' | 'config', name: string): string => {
    const id = ids[`${kind}s`].get(name);
    if (id === undefined) throw new Error(`service ${spec.Name}: ${kind} not found: ${name}`);
    return id;
  };
  const { Secrets, Configs } = container;
  return {
    ...spec,
    TaskTemplate: {
      ...task,
      ContainerSpec: {
        ...container,
        ...(Secrets === undefined
          ? {}
          : { Secrets: Secrets.map((one) => ({ ...one, SecretID: idOf('secret', one.SecretName) })) }),
        ...(Configs === undefined
          ? {}
          : { Configs: Configs.map((one) => ({ ...one, ConfigID: idOf('config', one.ConfigName) })) }),
      },
    },
  };
}

async function writeService(
  client: DockerClient,
  planned: ServiceSpec,
  stack: string,
  options: DeployOptions,
  headers: Record<string, string>,
): Promise<void> {
  const name = planned.Name;
  const image = planned.Labels[IMAGE_LABEL] ?? '';
  const auth = await options.authOf(image);
  const sent = { ...headers, ...(auth === undefined || !options.sendAuth ? {} : { 'X-Registry-Auth': auth }) };
  for (let left = TRIES; ; left--) {
    const there = (await servicesOf(client, stack)).find(({ Spec }) => Spec.Name === name);
    const body = await withFinalImage(client, planned, there?.Spec, auth, options);
    if (there === undefined) {
      options.say(`Creating service ${name}`);
      const answer = client.request<Answer>('POST', '/services/create', { headers: sent, body });
      return warnOf(name, await named(`failed to create service ${name}`, answer), options);
    }
    if (left === TRIES) options.say(`Updating service ${name} (id: ${there.ID})`);
    try {
      const answer = client.request<Answer>('POST', `/services/${there.ID}/update`, {
        query: { version: there.Version.Index },
        headers: sent,
        body: {
          ...body,
          TaskTemplate: { ...body.TaskTemplate, ForceUpdate: there.Spec.TaskTemplate.ForceUpdate ?? 0 },
        },
      });
      return warnOf(name, await named(`failed to update service ${name}`, answer), options);
    } catch (error) {
      if (left === 1 || !(error instanceof Error) || !error.message.includes(OUT_OF_SEQUENCE)) throw error;
    }
  }
}

interface Answer {
  Warnings?: string[] | null;
}

function warnOf(name: string, { Warnings }: Answer, { warn }: DeployOptions): void {
  for (const warning of Warnings ?? []) warn(`service ${name}: ${warning}`);
}

/** The spec with the image it is sent with: pinned to a digest, or what it had if the file still names the same. */
async function withFinalImage(
  client: DockerClient,
  spec: ServiceSpec,
  there: ServiceSpec | undefined,
  auth: string | undefined,
  { resolveImage, warn }: DeployOptions,
): Promise<ServiceSpec> {
  const image = spec.TaskTemplate.ContainerSpec?.Image ?? '';
  const tagged = withImage(spec, taggedImage(image));
  const isSame = there !== undefined && there.Labels[IMAGE_LABEL] === spec.Labels[IMAGE_LABEL];
  if (resolveImage === 'always' || (resolveImage === 'changed' && !isSame)) return pinned(client, tagged, auth, warn);
  if (!isSame) return tagged;
  const { ContainerSpec, Placement } = there.TaskTemplate;
  return withImage(spec, ContainerSpec?.Image ?? taggedImage(image), Placement?.Platforms);
}

/** Undefined if there is no such thing. */
async function found<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (hasStatus(error, 404)) return undefined;
    throw error;
  }
}

/** What a refusal is about stands before its sentence. */
async function named<T>(what: string, answer: Promise<T>, hint = ''): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`${what}: ${message}${hint}`, { cause: error });
  }
}
