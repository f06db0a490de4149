/**
 * The engine's own networks that carry our overlays on this node: one bridge each, known by our node label. Promises:
 * `ensure` and `remove` may be repeated at any time; nothing without our label is ever touched.
 */
import { hasStatus } from '../docker/client.ts';
import type { DockerClient } from '../docker/client.ts';
import type { ContainerInspect, NetworkCreateBody, NetworkInspect } from '../docker/types.ts';
import type { Labels } from '../model/specs.ts';

/** Marks an engine network as one of ours; its value is the node's id. */
export const NETWORK_NODE_LABEL = 'io.drover.node';

export interface EngineNetworkSpec {
  name: string;
  /** CIDR. */
  subnet: string;
  /** Plain IPv4: this node's own address in it. */
  gateway: string;
  /** Device name, at most 15 characters. */
  bridge: string;
  internal: boolean;
  mtu: number;
  labels: Labels;
  /** Further driver options; bridge name and MTU are set from the fields above. */
  options: Record<string, string>;
}

const TIMEOUT_MS = 60_000;
const BRIDGE_NAME = 'com.docker.network.bridge.name';
const MTU = 'com.docker.network.driver.mtu';

/** What the network room asks of an engine (its EngineNetworks); the compiler holds the two together in the daemon. */
export class DockerNetworks {
  readonly #client: DockerClient;
  readonly #nodeId: string;

  constructor(deps: { client: DockerClient; nodeId: string }) {
    this.#client = deps.client;
    this.#nodeId = deps.nodeId;
  }

  /** Makes the network as described and returns its id; one that differs in its addresses or bridge is replaced. */
  async ensure(network: EngineNetworkSpec): Promise<string> {
    const body = createBody(network, this.#nodeId);
    const found = await this.#find(network.name);
    if (found !== undefined) {
      if (matches(found, body)) return found.Id;
      if (found.Labels?.[NETWORK_NODE_LABEL] !== this.#nodeId) {
        throw new Error(`the engine has a network ${network.name} that is not ours`);
      }
      await this.remove(found.Id);
    }
    return (await this.#request<{ Id: string }>('POST', '/networks/create', body)).Id;
  }

  /** Those with our node's label. */
  async list(): Promise<{ id: string; name: string; labels: Labels }[]> {
    const filters = JSON.stringify({ label: [`${NETWORK_NODE_LABEL}=${this.#nodeId}`] });
    const found = await this.#client.request<NetworkInspect[]>('GET', '/networks', {
      query: { filters },
      timeoutMs: TIMEOUT_MS,
    });
    return found.map((network) => ({ id: network.Id, name: network.Name, labels: network.Labels ?? {} }));
  }

  /** Removes it, with what a crash left hanging on it; no error if gone, an error while a container runs on it. */
  async remove(id: string): Promise<void> {
    try {
      await this.#request('DELETE', `/networks/${id}`);
    } catch (error) {
      if (hasStatus(error, 404)) return;
      // 403: endpoints hang on it, perhaps stale ones of a crash (decisions-and-traps.md, trap 1).
      if (!hasStatus(error, 403)) throw error;
      await this.#disconnectStale(id);
      await this.#request('DELETE', `/networks/${id}`);
    }
  }

  async #disconnectStale(id: string): Promise<void> {
    const found = await this.#find(id);
    for (const [containerId, { Name }] of Object.entries(found?.Containers ?? {})) {
      if (await this.#runs(containerId)) continue;
      // An endpoint whose container is gone has only its name to be called by.
      const Container = containerId.startsWith('ep-') ? Name : containerId;
      try {
        await this.#request('POST', `/networks/${id}/disconnect`, { Container, Force: true });
      } catch (error) {
        if (!hasStatus(error, 404)) throw error;
      }
    }
  }

  async #runs(containerId: string): Promise<boolean> {
    if (containerId.startsWith('ep-')) return false;
    try {
      return (await this.#request<ContainerInspect>('GET', `/containers/${containerId}/json`)).State.Running;
    } catch (error) {
      if (hasStatus(error, 404)) return false;
      throw error;
    }
  }

  async #find(reference: string): Promise<NetworkInspect | undefined> {
    try {
      return await this.#request<NetworkInspect>('GET', `/networks/${encodeURIComponent(reference)}`);
    } catch (error) {
      if (hasStatus(error, 404)) return undefined;
      throw error;
    }
  }

  #request<T = void>(method: string, path: string, body?: object): Promise<T> {
    return this.#client.request<T>(method, path, { body, timeoutMs: TIMEOUT_MS });
  }
}

function createBody(network: EngineNetworkSpec, nodeId: string): NetworkCreateBody {
  return {
    Name: network.name,
    Driver: 'bridge',
    Internal: network.internal,
    CheckDuplicate: true,
    IPAM: { Driver: 'default', Config: [{ Subnet: network.subnet, Gateway: network.gateway }] },
    Options: { ...network.options, [BRIDGE_NAME]: network.bridge, [MTU]: String(network.mtu) },
    Labels: { ...network.labels, [NETWORK_NODE_LABEL]: nodeId },
  };
}

/** True if what is there would come out of this body again. */
function matches(found: NetworkInspect, body: NetworkCreateBody): boolean {
  const [wanted] = body.IPAM.Config;
  const [has] = found.IPAM.Config ?? [];
  return (
    found.Labels?.[NETWORK_NODE_LABEL] === body.Labels[NETWORK_NODE_LABEL] &&
    found.Internal === body.Internal &&
    has?.Subnet === wanted?.Subnet &&
    has?.Gateway === wanted?.Gateway &&
    Object.entries(body.Options).every(([name, value]) => found.Options?.[name] === value)
  );
}
