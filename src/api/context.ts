/** What every route of the API works with: the parts of the daemon given to it, and who may ask what. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { CLUSTER_ROW, DEFAULT_ENVIRONMENT, type Cluster } from '../model/objects.ts';
import type { StreamOpener } from '../dispatch/streams.ts';
import type { Clock, Log, Random } from '../model/clock.ts';
import type { RebalancePlan } from '../model/rebalance.ts';
import type { Store, View } from '../store/store.ts';
import type { ClusterControl } from './cluster-control.ts';
import type { ClusterEvents } from './cluster-events.ts';
import type { EngineClient, EngineFacts } from './engine-facts.ts';
import type { EngineNetworks } from './engine-networks.ts';
import { unavailable, type ApiError } from './errors.ts';
import type { NodeAttachments } from './node-attachments.ts';
import type { Asked } from './convert/node.ts';
import { Leader, type Leadership } from './leader.ts';
import { engineUpstream, forward } from './proxy.ts';
import { parseTarget, prefixOf, type RequestTarget } from './request-target.ts';

/** What the daemon gives the API. */
export interface ApiDeps {
  /** The cluster's state: only on managers, only while they are. */
  store(): Store | undefined;
  /** Asks nodes for logs and the like: where there is a store. */
  streams(): StreamOpener | undefined;
  /** Who leads; asked on managers only. Absent: this manager does, because there is no other. */
  leadership?: () => Leadership;
  /** A stream to the leader's API, for HTTP/1.1. Rejects if there is none to be had now, or with the signal's reason. */
  tunnel?: (signal?: AbortSignal) => Promise<Duplex>;
  cluster: ClusterControl;
  /** This node's part in overlays for single containers: only while it is in a cluster. */
  attachments(): NodeAttachments | undefined;
  engine: { client: EngineClient };
  /** What a rebalance would move now: the scheduler's rules are not the API's. */
  rebalancePlan(view: View): RebalancePlan;
  clock: Clock;
  /** Names objects; join tokens use the system's own randomness. */
  random: Random;
  log: Log;
  /** Of Drover itself, such as `0.1.0`. */
  version: string;
}

const NOT_IN_SWARM =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
const WORKER =
  "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.";
const LOCKED =
  'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.';

/** A manager that has just started, or cannot reach the others. */
const NOT_READY =
  'This manager does not know the state of the swarm yet. Try again in a moment, or ask another manager; "docker info" says what it waits for.';

export class ApiContext {
  readonly deps: ApiDeps;
  readonly facts: EngineFacts;
  readonly networks: EngineNetworks;
  readonly events: ClusterEvents;
  readonly leader: Leader;
  readonly #targets = new WeakMap<IncomingMessage, RequestTarget>();

  constructor(
    deps: ApiDeps,
    parts: {
      facts: EngineFacts;
      networks: EngineNetworks;
      events: ClusterEvents;
      /** Serves the API on a stream. */
      serve: (stream: Duplex) => void;
    },
  ) {
    this.deps = deps;
    this.facts = parts.facts;
    this.networks = parts.networks;
    this.events = parts.events;
    this.leader = new Leader(deps, parts.serve);
  }

  /** The cluster's state. @throws ApiError 503 with Docker's sentence where this node is no manager */
  store(): Store {
    const store = this.deps.store();
    if (store === undefined) throw this.#noManager();
    return store;
  }

  /** Of this manager: what a node's JSON depends on besides its row. */
  asked(): Asked {
    return { nodeId: this.deps.cluster.state().nodeId, leadership: this.leader.known };
  }

  /** What asks nodes for logs and the like. @throws ApiError 503 as `store` */
  streams(): StreamOpener {
    const streams = this.deps.streams();
    if (streams === undefined) throw this.#noManager();
    return streams;
  }

  /** What a request's path says before its route. */
  target(request: IncomingMessage): RequestTarget {
    let target = this.#targets.get(request);
    if (target === undefined) this.#targets.set(request, (target = parseTarget(request.url ?? '/')));
    return target;
  }

  environment(request: FastifyRequest): string {
    return this.target(request.raw).environment ?? DEFAULT_ENVIRONMENT;
  }

  /** Path and query for the engine, with the version the client asked for and another route. */
  engineUrl(request: FastifyRequest, route: string): string {
    const { version } = this.target(request.raw);
    return version === undefined ? route : `/v${version}${route}`;
  }

  /** Hands a request to the engine: as it came, or to another path, or with another body, or its answer rewritten. */
  passOn(
    request: FastifyRequest,
    reply: FastifyReply,
    changes: { url?: string; body?: Buffer; rewrite?: (text: string) => string } = {},
  ): FastifyReply {
    reply.hijack();
    const body = changes.body ?? (Buffer.isBuffer(request.body) ? request.body : undefined);
    forward(request.raw, reply.raw, engineUpstream(this.deps.engine.client.address), {
      url: changes.url ?? this.target(request.raw).engineUrl,
      answerHeaders: { 'Api-Version': this.facts.apiVersion },
      log: this.deps.log,
      ...(body === undefined ? {} : { body }),
      ...(changes.rewrite === undefined ? {} : { rewrite: changes.rewrite }),
    });
    return reply;
  }

  /** Has the leader answer a request: as it came, or on another route. */
  async passToLeader(
    request: FastifyRequest,
    reply: FastifyReply,
    changes: { route?: string } = {},
  ): Promise<FastifyReply> {
    const target = this.target(request.raw);
    reply.hijack();
    await this.leader.relay(request.raw, reply.raw, {
      url: changes.route === undefined ? target.url : prefixOf(target) + changes.route,
      answerHeaders: this.facts.negotiation(),
      ...(Buffer.isBuffer(request.body) ? { body: request.body } : {}),
    });
    return reply;
  }

  #noManager(): ApiError {
    const { localNodeState, manager } = this.deps.cluster.state();
    if (localNodeState === 'locked') return unavailable(LOCKED);
    if (localNodeState === 'active') return unavailable(manager ? NOT_READY : WORKER);
    return unavailable(NOT_IN_SWARM);
  }
}

/** The cluster's own row. Every store of a manager has it. */
export function clusterOf(view: View): Cluster {
  const cluster = view.clusters.get(CLUSTER_ROW);
  if (cluster === undefined) throw unavailable('The cluster is still being made. Try again in a moment.');
  return cluster;
}
