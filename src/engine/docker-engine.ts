/** The executor on a real Docker Engine, API 1.41 and later. */
import { EngineUnreachable, hasStatus } from '../docker/client.ts';
import type { DockerClient } from '../docker/client.ts';
import { DockerError } from '../docker/errors.ts';
import { jsonLines } from '../docker/json-lines.ts';
import type { ContainerInspect, ContainerListItem, EventMessage, SystemInfo } from '../docker/types.ts';
import type { TaskAssignment } from '../model/assignments.ts';
import type { Clock, Log } from '../model/clock.ts';
import type { EndpointPort } from '../model/objects.ts';
import type { Protocol } from '../model/specs.ts';
import { createPlan } from './container-body.ts';
import type { CreatePlan } from './container-body.ts';
import type {
  ContainerState,
  ContainerStatus,
  ContainerSummary,
  Engine,
  EngineDescription,
  Health,
  PullOptions,
  TaskPlace,
} from './engine.ts';
import { Images } from './images.ts';
import { NODE_ID_LABEL, TASK_ID_LABEL } from './labels.ts';

/** A call that does no waiting of its own is given up after this long: the engine hangs. */
const CALL_TIMEOUT_MS = 120_000;
/** The engine's own grace period, for a container created without one. */
const DEFAULT_GRACE_SECONDS = 10;
/** How long after the grace period a stop may take. */
const STOP_BEYOND_GRACE_MS = 60_000;
/** Subscribing to events is no work at all. */
const SUBSCRIBE_TIMEOUT_MS = 10_000;
/** Nothing is done for it: whoever takes longer hangs. */
const INFO_TIMEOUT_MS = 20_000;
/** Events are asked for from this long ago, so that none is lost while the subscription is being set up. */
const EVENT_OVERLAP_MS = 2_000;
/** What a call says that the engine's own shutdown cut short. */
const GOING_AWAY = /transport is closing|context canceled|ttrpc: closed|error reading from server: EOF/;
/** The changes that an agent has not made itself, and starts: an agent that is gone may have asked for one. */
const WATCHED = ['start', 'die', 'health_status', 'destroy'];

export class DockerEngine implements Engine {
  readonly #client: DockerClient;
  readonly #clock: Clock;
  readonly #images: Images;

  constructor(deps: { client: DockerClient; clock: Clock; log: Log }) {
    this.#client = deps.client;
    this.#clock = deps.clock;
    this.#images = new Images(deps.client, deps.clock, deps.log);
  }

  async describe(): Promise<EngineDescription> {
    const info = await this.#call<SystemInfo>('GET', '/info', { timeoutMs: INFO_TIMEOUT_MS });
    return describeEngine(info);
  }

  ensureImage(image: string, options?: PullOptions): Promise<void> {
    return this.#images.ensure(image, options);
  }

  async create(task: TaskAssignment, place: TaskPlace): Promise<string> {
    const plan = createPlan(task, place, await this.#client.apiVersion());
    const containerId = await this.#createFresh(plan, task.id);
    try {
      for (const { engineNetwork, endpoint } of plan.connects) {
        await this.#call('POST', `/networks/${encodeURIComponent(engineNetwork)}/connect`, {
          body: { Container: containerId, EndpointConfig: endpoint },
        });
      }
    } catch (error) {
      // Half made is of no use, and nobody else knows of it. An engine that is away is asked for the whole again.
      if (!(error instanceof EngineUnreachable)) await this.remove(containerId);
      throw error;
    }
    return containerId;
  }

  async start(containerId: string): Promise<void> {
    await this.#call('POST', `/containers/${containerId}/start`);
  }

  async stop(containerId: string, signal?: AbortSignal): Promise<void> {
    // The engine ends it after the grace period that the container was created with.
    const graceMs = ((await this.#find(containerId))?.Config.StopTimeout ?? DEFAULT_GRACE_SECONDS) * 1000;
    const timeoutMs = graceMs + STOP_BEYOND_GRACE_MS;
    try {
      await this.#client.request('POST', `/containers/${containerId}/stop`, { signal, timeoutMs });
    } catch (error) {
      if (!hasStatus(error, 404)) throw cutShort(error);
    }
  }

  async kill(containerId: string, signalName: string): Promise<void> {
    try {
      await this.#call('POST', `/containers/${containerId}/kill`, { query: { signal: signalName } });
    } catch (error) {
      if (!hasStatus(error, 404, 409)) throw error;
    }
  }

  async remove(containerId: string): Promise<void> {
    try {
      await this.#call('DELETE', `/containers/${containerId}`, { query: { force: true, v: true } });
    } catch (error) {
      // 409: a removal of it is under way already.
      if (!hasStatus(error, 404, 409)) throw error;
    }
  }

  async inspect(containerId: string): Promise<ContainerStatus | undefined> {
    const found = await this.#find(containerId);
    return found && containerStatus(found);
  }

  async list(nodeId: string): Promise<ContainerSummary[]> {
    const filters = JSON.stringify({ label: [`${NODE_ID_LABEL}=${nodeId}`] });
    const items = await this.#call<ContainerListItem[]>('GET', '/containers/json', { query: { all: true, filters } });
    return items.map((item) => ({
      containerId: item.Id,
      taskId: item.Labels?.[TASK_ID_LABEL] ?? '',
      state: containerState(item.State),
    }));
  }

  async watch(nodeId: string, signal: AbortSignal): Promise<AsyncIterable<string>> {
    const filters = JSON.stringify({ type: ['container'], label: [`${NODE_ID_LABEL}=${nodeId}`], event: WATCHED });
    const since = (Math.max(0, this.#clock.now() - EVENT_OVERLAP_MS) / 1000).toFixed(3);
    const stream = await this.#client.stream('GET', '/events', {
      query: { filters, since },
      signal,
      answerTimeoutMs: SUBSCRIBE_TIMEOUT_MS,
    });
    return taskIds(jsonLines<EventMessage>(stream));
  }

  /** Creates the container; one of the same task that is in the way and does not run is removed first. */
  async #createFresh(plan: CreatePlan, taskId: string): Promise<string> {
    const create = async (): Promise<string> => {
      const options = { query: { name: plan.name }, body: plan.body };
      return (await this.#call<{ Id: string }>('POST', '/containers/create', options)).Id;
    };
    try {
      return await create();
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
      const inTheWay = await this.#find(plan.name);
      if (inTheWay !== undefined) {
        const ours = inTheWay.Config.Labels?.[TASK_ID_LABEL] === taskId;
        if (!ours || inTheWay.State.Running) throw error;
        await this.remove(inTheWay.Id);
      }
      return create();
    }
  }

  async #find(reference: string): Promise<ContainerInspect | undefined> {
    try {
      return await this.#call<ContainerInspect>('GET', `/containers/${encodeURIComponent(reference)}/json`);
    } catch (error) {
      if (hasStatus(error, 404)) return undefined;
      throw error;
    }
  }

  async #call<T = void>(
    method: string,
    path: string,
    options: { query?: Record<string, string | boolean>; body?: object; timeoutMs?: number } = {},
  ): Promise<T> {
    try {
      return await this.#client.request<T>(method, path, { timeoutMs: CALL_TIMEOUT_MS, ...options });
    } catch (error) {
      throw cutShort(error);
    }
  }
}

async function* taskIds(events: AsyncIterable<EventMessage>): AsyncGenerator<string, void, undefined> {
  for await (const event of events) {
    const taskId = event.Actor.Attributes?.[TASK_ID_LABEL];
    if (taskId !== undefined) yield taskId;
  }
}

/** An error that only says that the engine was being shut down is one of an engine that is away. */
function cutShort(error: unknown): unknown {
  const away = error instanceof DockerError && error.status >= 500 && GOING_AWAY.test(error.message);
  return away ? new EngineUnreachable(error.message, error) : error;
}

/** The engine's description of its host in the words of a node's. */
export function describeEngine(info: SystemInfo): EngineDescription {
  const labels = (info.Labels ?? []).map((label) => label.split(/=(.*)/s, 2));
  return {
    hostname: info.Name,
    platform: { OS: info.OSType, Architecture: info.Architecture },
    resources: {
      nanoCpus: info.NCPU * 1e9,
      memoryBytes: info.MemTotal,
      ...(info.GenericResources?.length ? { generic: info.GenericResources } : {}),
    },
    engine: {
      version: info.ServerVersion,
      labels: Object.fromEntries(labels.map(([name = '', value = '']) => [name, value])),
      plugins: Object.entries(info.Plugins).flatMap(([type, names]) => (names ?? []).map((name) => ({ type, name }))),
    },
  };
}

export function containerStatus(found: ContainerInspect): ContainerStatus {
  const { State: state } = found;
  const healthOutput = state.Health?.Log?.at(-1)?.Output;
  return {
    containerId: found.Id,
    taskId: found.Config.Labels?.[TASK_ID_LABEL] ?? '',
    state: containerState(state.Status),
    pid: state.Pid,
    exitCode: state.ExitCode,
    oomKilled: state.OOMKilled,
    error: state.Error,
    health: healthOf(state.Health?.Status),
    ...(healthOutput === undefined || healthOutput === '' ? {} : { healthOutput }),
    address: addressOf(found.NetworkSettings.Networks ?? {}),
    ports: boundPorts(found.NetworkSettings.Ports ?? {}),
  };
}

function containerState(status: string): ContainerState {
  if (status === 'created') return 'created';
  return status === 'running' || status === 'paused' || status === 'restarting' ? 'running' : 'exited';
}

function healthOf(status: string | undefined): Health {
  return status === 'starting' || status === 'healthy' || status === 'unhealthy' ? status : 'none';
}

function addressOf(networks: Record<string, { IPAddress?: string } | null>): string {
  if ('host' in networks) return '127.0.0.1';
  return Object.values(networks).find((network) => network?.IPAddress)?.IPAddress ?? '';
}

const PROTOCOLS: readonly Protocol[] = ['tcp', 'udp', 'sctp'];

/** `{"80/tcp": [{HostPort: "8080"}]}` as ports; the same port on IPv4 and IPv6 counts once. */
function boundPorts(ports: Record<string, { HostPort: string }[] | null>): EndpointPort[] {
  const bound = new Map<string, EndpointPort>();
  for (const [key, bindings] of Object.entries(ports)) {
    const [target, name] = key.split('/', 2);
    const protocol = PROTOCOLS.find((known) => known === name);
    if (protocol === undefined) continue;
    for (const { HostPort } of bindings ?? []) {
      const port = {
        protocol,
        targetPort: Number(target),
        publishedPort: Number(HostPort),
        publishMode: 'host',
      } as const;
      bound.set(`${key}:${HostPort}`, port);
    }
  }
  return [...bound.values()];
}
