/** For the tests of this room: an API with a cluster in memory and, on a socket of its own, an engine that a test plays. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import {
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type RequestListener,
  type Server,
} from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rebalancePlan } from '../control/rebalance/plan.ts';
import { Streams } from '../dispatch/streams.ts';
import { DockerClient } from '../docker/client.ts';
import type { Journal } from '../journal/journal.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { silentLog, timestamp } from '../model/clock.ts';
import {
  CLUSTER_ROW,
  DEFAULT_ENVIRONMENT,
  type Cluster,
  type Network,
  type Node,
  type Payload,
  type Service,
  type Task,
} from '../model/objects.ts';
import { TaskState } from '../model/states.ts';
import { createRootCa } from '../pki/authority.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { Store } from '../store/store.ts';
import type {
  ClusterControl,
  ClusterState,
  InitRequest,
  JoinRequest,
  Restored,
  RestoreRequest,
} from './cluster-control.ts';
import { badRequest } from './errors.ts';
import { wrongUnlockKey } from './manager-lock.ts';
import type { NodeAttachments } from './node-attachments.ts';
import { createApi, type Api, type ApiDeps } from './server.ts';
import { initRequest, initShape } from './validate/swarm-requests.ts';

export const AT = '2026-01-01T00:00:00.000Z';
const META = { version: 1, createdAt: AT, updatedAt: AT };

/** A daemon that does as it is told and remembers what that was. */
export class FakeCluster implements ClusterControl {
  current: ClusterState = {
    localNodeState: 'inactive',
    nodeId: '',
    nodeAddress: '',
    manager: false,
    error: '',
    degraded: [],
    remoteManagers: [],
  };
  readonly asked: (InitRequest | JoinRequest | RestoreRequest | 'leave' | 'force-new-cluster')[] = [];

  state(): ClusterState {
    return this.current;
  }

  async init(request: InitRequest): Promise<string> {
    this.asked.push(request);
    return 'node1';
  }

  async join(request: JoinRequest): Promise<void> {
    this.asked.push(request);
  }

  async forceNewCluster(): Promise<string> {
    this.asked.push('force-new-cluster');
    return 'node1';
  }

  async leave(): Promise<void> {
    this.asked.push('leave');
  }

  /** What `unlock` takes for the right key. */
  unlockKey: Buffer | undefined;
  trouble = '';

  async unlock(unlockKey: Buffer): Promise<void> {
    if (this.unlockKey?.equals(unlockKey) !== true) throw wrongUnlockKey();
    this.become('manager');
  }

  lockTrouble(): string {
    return this.trouble;
  }

  backupLines: string[] = ['{}\n'];
  /** What a restore was given; the first word of it decides. */
  restored = '';

  async backup(): Promise<Iterable<string>> {
    return this.backupLines;
  }

  async restore(backup: AsyncIterable<Buffer>, request: RestoreRequest): Promise<Restored> {
    this.asked.push(request);
    for await (const chunk of backup) {
      this.restored += chunk.toString();
      if (this.restored.startsWith('damaged')) throw badRequest('this backup is damaged');
    }
    this.become('manager');
    return {
      clusterId: 'cluster1',
      nodeId: 'node1',
      at: AT,
      locked: false,
      addresses: { before: '10.0.0.1:2377', now: '10.0.0.2:2377' },
      formerManagers: [{ nodeId: 'node2', hostname: 'h2', address: '10.0.0.3:2377' }],
    };
  }

  become(role: 'manager' | 'worker'): void {
    this.current = {
      ...this.current,
      localNodeState: 'active',
      nodeId: 'node1',
      nodeAddress: '10.0.0.1',
      manager: role === 'manager',
    };
  }
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- what a test expects of it is checked by the test
  json: any;
}

export interface TestApi {
  api: Api;
  store: Store;
  cluster: FakeCluster;
  clock: FakeClock;
  socketPath: string;
  engine: Server;
  enginePath: string;
  /** A request over the unix socket; `body` is sent as JSON unless it is a string. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  close(): Promise<void>;
}

/** Starts an API as a manager's; `playEngine` answers what reaches the engine (pings are answered already). */
export async function startApi(
  playEngine: RequestListener = notPlayed,
  role: 'manager' | 'worker' | 'none' = 'manager',
  journal: Journal = new MemoryJournal(),
  attachments?: NodeAttachments,
  more: Partial<ApiDeps> = {},
): Promise<TestApi> {
  const directory = mkdtempSync(join(tmpdir(), 'drover-api-'));
  const enginePath = join(directory, 'engine.sock');
  const engine = createServer((request, response) => {
    response
      .setHeader('Server', 'Docker/20.10.24 (linux)')
      .setHeader('Api-Version', '1.41')
      .setHeader('Ostype', 'linux');
    if (request.url === '/_ping') response.setHeader('Builder-Version', '1').end('OK');
    else playEngine(request, response);
  });
  engine.listen(enginePath);
  await once(engine, 'listening');

  const client = new DockerClient({ socketPath: enginePath });
  const clock = new FakeClock();
  const store = await Store.open(journal);
  const row = await clusterRow();
  await store.update((tx) => tx.clusters.create(row));
  const cluster = new FakeCluster();
  const streams = new Streams({ clock, random: Math.random, ask: () => false });
  if (role !== 'none') cluster.become(role);
  let seed = 1;
  const api = await createApi({
    store: () => (cluster.current.manager ? store : undefined),
    streams: () => (cluster.current.manager ? streams : undefined),
    cluster,
    attachments: () => attachments,
    engine: { client },
    rebalancePlan,
    clock,
    random: () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647,
    log: silentLog,
    version: '0.1.0',
    ...more,
  });
  const socketPath = join(directory, 'drover.sock');
  await api.listen({ path: socketPath });
  return {
    api,
    store,
    cluster,
    clock,
    socketPath,
    engine,
    enginePath,
    call: (method, path, body, headers) => call(socketPath, method, path, body, headers),
    async close() {
      engine.closeAllConnections();
      engine.close();
      client.close();
      const closed = api.close();
      await clock.advance(3_000);
      await closed;
      rmSync(directory, { recursive: true });
    },
  };
}

const notPlayed: RequestListener = (request, response) => {
  if (request.url?.endsWith('/networks') === true && request.method === 'GET') json(response, 200, []);
  else json(response, 404, { message: 'page not found' });
};

export function json(response: Parameters<RequestListener>[1], status: number, body: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}

async function call(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const sent: Record<string, string> =
    body === undefined ? headers : { 'Content-Type': 'application/json', ...headers };
  const request = httpRequest({ socketPath, method, path, headers: sent, agent: false });
  request.end(text);
  const [response] = await once(request, 'response');
  let answer = '';
  for await (const chunk of response) answer += String(chunk);
  const isJson = response.headers['content-type'] === 'application/json' && answer !== '';
  return {
    status: response.statusCode,
    headers: response.headers,
    text: answer,
    json: isJson ? JSON.parse(answer) : undefined,
  };
}

async function clusterRow(): Promise<Cluster> {
  const { spec, defaultAddressPool, subnetSize, dataPathPort } = initRequest(initShape.parse({}));
  return {
    id: CLUSTER_ROW,
    clusterId: 'cluster1',
    meta: META,
    spec,
    rootCa: await createRootCa(Date.parse(AT)),
    joinTokens: { worker: 'SWMTKN-worker', manager: 'SWMTKN-manager' },
    defaultAddressPool,
    subnetSize,
    dataPathPort,
  };
}

export function aNode(id: string, over: Partial<Node> = {}): Node {
  return {
    id,
    meta: META,
    spec: { Labels: {}, Role: 'worker', Availability: 'active' },
    description: {
      hostname: `host-${id}`,
      platform: { Architecture: 'x86_64', OS: 'linux' },
      resources: { nanoCpus: 2e9, memoryBytes: 1e9 },
      engine: { version: '20.10.24', labels: {}, plugins: [] },
      tls: { trustRoot: 'root', certIssuerSubject: 'subject', certIssuerPublicKey: 'key' },
      routes: [],
      dataPathAddress: '10.77.0.2',
      degraded: [],
    },
    status: { state: 'ready', message: '', address: '10.77.0.2', since: AT },
    gateways: {},
    ...over,
  };
}

export function aService(id: string, over: Partial<Service> = {}): Service {
  return {
    id,
    environment: DEFAULT_ENVIRONMENT,
    meta: META,
    spec: {
      Name: id,
      Labels: {},
      TaskTemplate: { ContainerSpec: { Image: 'busybox' } },
      Mode: { Replicated: { Replicas: 2 } },
    },
    specVersion: 1,
    ...over,
  };
}

export function aTask(id: string, serviceId: string, over: Partial<Task> = {}): Task {
  return {
    id,
    environment: DEFAULT_ENVIRONMENT,
    meta: META,
    serviceId,
    serviceName: serviceId,
    specVersion: 1,
    slot: 1,
    nodeId: 'node1',
    desiredState: TaskState.RUNNING,
    status: { timestamp: AT, state: TaskState.RUNNING, message: 'started' },
    networks: [],
    ...over,
  };
}

/** A secret or a config: they are told apart by their tables. */
export function aSecret(id: string, over: Partial<Payload> = {}): Payload {
  return {
    id,
    environment: DEFAULT_ENVIRONMENT,
    meta: META,
    spec: { Name: id, Labels: {}, Data: 'aGVsbG8=' },
    ...over,
  };
}

export function anOverlay(id: string, over: Partial<Network> = {}): Network {
  return {
    id,
    environment: DEFAULT_ENVIRONMENT,
    meta: { ...META, createdAt: timestamp(Date.parse(AT)) },
    spec: {
      Name: `${id}-name`,
      Labels: {},
      Driver: 'overlay',
      Internal: false,
      Attachable: false,
      Ingress: false,
      EnableIPv6: false,
      Options: {},
      IPAM: { Driver: 'default', Config: [] },
    },
    allocation: { subnet: '10.0.16.0/20', vni: 4097 },
    ...over,
  };
}
