/**
 * The engine's containers that are no tasks, as far as they stand in networks of ours: `docker run --network` and
 * `docker network connect` put them there. Calls reject with EngineUnreachable if the engine could not be asked.
 */
import { hasStatus } from '../docker/client.ts';
import type { DockerClient } from '../docker/client.ts';
import { jsonLines } from '../docker/json-lines.ts';
import type { EventMessage } from '../docker/types.ts';
import type { Clock } from '../model/clock.ts';
import type { Labels } from '../model/specs.ts';
import { TASK_ID_LABEL } from './labels.ts';

export interface ContainerEndpoint {
  /** Name of the engine's own network. */
  engineNetwork: string;
  /** Plain IPv4: the address it was given for good, whether it runs or not. */
  address: string;
}

export interface ConnectedContainer {
  containerId: string;
  /** Without the engine's leading slash. */
  name: string;
  running: boolean;
  endpoints: ContainerEndpoint[];
}

export interface InspectedContainer extends ConnectedContainer {
  /** 0 unless running. */
  pid: number;
  /** Name servers it was made with, instead of the host's. */
  nameServers: string[];
}

const CALL_TIMEOUT_MS = 30_000;
const SUBSCRIBE_TIMEOUT_MS = 10_000;
/** Events are asked for from this long ago, so that none is lost while the subscription is being set up. */
const EVENT_OVERLAP_MS = 2_000;
const WATCHED = ['start', 'die', 'destroy', 'rename'];

interface EndpointJson {
  IPAMConfig?: { IPv4Address?: string } | null;
  IPAddress?: string;
}

interface ListedJson {
  Id: string;
  Names: string[];
  State: string;
  Labels: Labels | null;
  NetworkSettings?: { Networks?: Record<string, EndpointJson | null> | null } | null;
}

interface InspectedJson {
  Id: string;
  Name: string;
  State: { Running: boolean; Pid: number };
  Config: { Labels: Labels | null };
  HostConfig: { Dns?: string[] | null };
  NetworkSettings: { Networks?: Record<string, EndpointJson | null> | null };
}

export class ConnectedContainers {
  readonly #client: DockerClient;
  readonly #clock: Clock;

  constructor(deps: { client: DockerClient; clock: Clock }) {
    this.#client = deps.client;
    this.#clock = deps.clock;
  }

  /** Those with an endpoint in one of these networks, running or not. */
  async list(engineNetworks: readonly string[]): Promise<ConnectedContainer[]> {
    if (engineNetworks.length === 0) return [];
    const query = { all: true, filters: JSON.stringify({ network: engineNetworks }) };
    const all = await this.#client.request<ListedJson[]>('GET', '/containers/json', {
      query,
      timeoutMs: CALL_TIMEOUT_MS,
    });
    return all
      .filter(({ Labels: labels }) => labels?.[TASK_ID_LABEL] === undefined)
      .map((each) => ({
        containerId: each.Id,
        name: each.Names[0]?.replace(/^\//, '') ?? '',
        running: each.State === 'running' || each.State === 'paused',
        endpoints: endpointsOf(each.NetworkSettings?.Networks ?? {}),
      }));
  }

  /** Undefined if there is no such container, or it is a task. */
  async inspect(containerId: string): Promise<InspectedContainer | undefined> {
    let found: InspectedJson;
    try {
      found = await this.#client.request<InspectedJson>('GET', `/containers/${encodeURIComponent(containerId)}/json`, {
        timeoutMs: CALL_TIMEOUT_MS,
      });
    } catch (error) {
      if (hasStatus(error, 404)) return undefined;
      throw error;
    }
    if (found.Config.Labels?.[TASK_ID_LABEL] !== undefined) return undefined;
    const { Running, Pid } = found.State;
    return {
      containerId: found.Id,
      name: found.Name.replace(/^\//, ''),
      running: Running && Pid > 0,
      pid: Running ? Pid : 0,
      nameServers: found.HostConfig.Dns ?? [],
      endpoints: endpointsOf(found.NetworkSettings.Networks ?? {}),
    };
  }

  /** Takes a container out of a network, running or not; no error if it is not in it. */
  async disconnect(engineNetwork: string, containerId: string): Promise<void> {
    const body = { Container: containerId, Force: true };
    try {
      await this.#client.request('POST', `/networks/${engineNetwork}/disconnect`, { body, timeoutMs: CALL_TIMEOUT_MS });
    } catch (error) {
      if (!hasStatus(error, 404)) throw error;
    }
  }

  /** Subscribes; settles once that stands. Each item is the id of a container that started, ended, went or was renamed. */
  async watch(signal: AbortSignal): Promise<AsyncIterable<string>> {
    const filters = JSON.stringify({ type: ['container'], event: WATCHED });
    const since = (Math.max(0, this.#clock.now() - EVENT_OVERLAP_MS) / 1000).toFixed(3);
    const stream = await this.#client.stream('GET', '/events', {
      query: { filters, since },
      signal,
      answerTimeoutMs: SUBSCRIBE_TIMEOUT_MS,
    });
    return containerIds(jsonLines<EventMessage>(stream));
  }
}

async function* containerIds(events: AsyncIterable<EventMessage>): AsyncGenerator<string, void, undefined> {
  for await (const { Actor } of events) if (Actor.Attributes?.[TASK_ID_LABEL] === undefined) yield Actor.ID;
}

function endpointsOf(networks: Record<string, EndpointJson | null>): ContainerEndpoint[] {
  return Object.entries(networks).flatMap(([engineNetwork, endpoint]) => {
    const address = endpoint?.IPAMConfig?.IPv4Address || endpoint?.IPAddress;
    return address ? [{ engineNetwork, address }] : [];
  });
}
