/** For the tests of this room: a manager on loopback with real TLS, agents that remember what they were told. */
import { randomBytes } from 'node:crypto';
import { connect as connectHttp2, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { systemClock } from '../daemon/system.ts';
import type { AssignmentChange, TaskStatusReport } from '../model/assignments.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { silentLog } from '../model/clock.ts';
import { newId } from '../model/ids.ts';
import {
  CLUSTER_ROW,
  serviceSpecId,
  type Cluster,
  type Network,
  type Node,
  type NodeDescription,
  type Service,
  type Task,
} from '../model/objects.ts';
import type { SwarmSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import { createCertificateRequest, createRootCa, issueNodeCertificate, type RootCa } from '../pki/authority.ts';
import { identityOf, type Identity, type NodeRole } from '../pki/identity.ts';
import { createJoinToken } from '../pki/token.ts';
import { Store, type Transaction } from '../store/store.ts';
import type { Agent } from './agent-link.ts';
import { AgentSession, type AgentSessionOptions } from './agent-session.ts';
import { encodeFrame } from './frames.ts';
import { readJson } from './http.ts';
import type { Periods } from './liveness.ts';
import { DispatchServer, type DispatchOptions } from './server.ts';

export const realClock = systemClock;

/** A tenth of the real ones. */
export const QUICK: Partial<Periods> = { heartbeatMs: 50, silenceMs: 250, returnMs: 1_000, checkMs: 20, lateMs: 100 };
/** What happens otherwise, however busy the machine: a session that is to stand ends for nothing else. */
export const PATIENT: Partial<Periods> = { silenceMs: 60_000, returnMs: 60_000 };

const meta = { version: 1, createdAt: '', updatedAt: '' };

export function node(id: string, gateways: Record<string, string> = {}): Node {
  return {
    id,
    meta,
    spec: { Labels: {}, Role: 'worker', Availability: 'active' },
    status: { state: 'unknown', message: '', address: '', since: '' },
    gateways,
  };
}

export function descriptionOf(hostname: string, dataPathAddress = '10.77.0.1'): NodeDescription {
  return {
    hostname,
    platform: { Architecture: 'x86_64', OS: 'linux' },
    resources: { nanoCpus: 2e9, memoryBytes: 2 ** 30 },
    engine: { version: '20.10.24', labels: {}, plugins: [{ type: 'Volume', name: 'local' }] },
    tls: { trustRoot: '', certIssuerSubject: '', certIssuerPublicKey: '' },
    routes: ['10.77.0.0/24'],
    dataPathAddress,
    degraded: [],
  };
}

export function network(id: string, ingress = false): Network {
  return {
    id,
    environment: 'default',
    meta,
    spec: {
      Name: id,
      Labels: {},
      Driver: 'overlay',
      Internal: false,
      Attachable: false,
      Ingress: ingress,
      EnableIPv6: false,
      Options: {},
      IPAM: { Driver: 'default', Config: [] },
    },
    allocation: { subnet: '10.0.0.0/16', vni: 4097 },
  };
}

export function service(id: string, networks: string[] = [], published: string[] = []): Service {
  return {
    id,
    environment: 'default',
    meta,
    spec: {
      Name: id,
      Labels: {},
      TaskTemplate: {
        ContainerSpec: { Image: 'web' },
        Networks: networks.map((Target) => ({ Target, Aliases: [`${id}-alias`] })),
      },
      Mode: { Replicated: { Replicas: 1 } },
    },
    specVersion: 1,
    endpoint: {
      spec: {},
      ports:
        published.length === 0
          ? []
          : [{ protocol: 'tcp', targetPort: 80, publishedPort: 8080, publishMode: 'ingress' }],
      virtualIps: [...networks, ...published].map((networkId) => ({ networkId, address: '10.0.0.2' })),
    },
  };
}

export function putService(tx: Transaction, row: Service): void {
  tx.services.create(row);
  tx.serviceSpecs.create({ id: serviceSpecId(row.id, 1), serviceId: row.id, version: 1, spec: row.spec });
}

export function task(id: string, serviceId: string, nodeId: string, networks: string[] = []): Task {
  return {
    id,
    environment: 'default',
    meta,
    serviceId,
    serviceName: serviceId,
    specVersion: 1,
    slot: 1,
    nodeId,
    desiredState: TaskState.RUNNING,
    status: { timestamp: '2026-01-01T00:00:00.000Z', state: TaskState.ASSIGNED, message: '' },
    networks: networks.map((networkId) => ({ networkId, address: '10.0.1.5', aliases: [] })),
  };
}

/** What an agent reports of a task. */
export const running = (taskId: string, state: TaskState = TaskState.RUNNING): TaskStatusReport => ({
  taskId,
  status: { timestamp: '2026-01-01T00:00:01.000Z', state, message: 'started', container: { id: 'c1', pid: 7 } },
});

/** An agent that keeps what it was told, by kind and key, and how it was told. */
export class Memory implements Agent {
  facts = new Map<string, unknown>();
  replaced = 0;
  /** When what it was told is in force; absent: at once. */
  settled?: () => Promise<void>;
  readonly #description: () => NodeDescription;

  constructor(description: () => NodeDescription) {
    this.#description = description;
  }

  replace(facts: AssignmentChange[]): void {
    this.replaced += 1;
    this.facts = new Map();
    this.apply(facts);
  }

  apply(changes: AssignmentChange[]): void {
    for (const { kind, key, value } of changes) {
      if (value === null) this.facts.delete(`${kind} ${key}`);
      else this.facts.set(`${kind} ${key}`, value);
    }
  }

  description(): NodeDescription {
    return this.#description();
  }
}

export interface Manager {
  store: Store;
  root: RootCa;
  cluster: Cluster;
  server: DispatchServer;
  /** What the manager proves itself by. */
  identity: Identity;
  address: string;
  port: number;
  /** A certificate of this cluster, with a node row unless `row` is false. */
  certify(role?: NodeRole, row?: boolean): Promise<Identity>;
  agent(identity: Identity, options?: Partial<AgentSessionOptions>): { memory: Memory; session: AgentSession };
  close(): Promise<void>;
}

export async function manager(options: Partial<DispatchOptions> & { store: Store; port?: number }): Promise<Manager> {
  const random = Math.random;
  const { store } = options;
  const known = store.view((view) => view.clusters.get(CLUSTER_ROW));
  const root = known?.rootCa ?? (await createRootCa(Date.now()));
  const cluster: Cluster = known ?? {
    id: CLUSTER_ROW,
    clusterId: newId(random),
    meta,
    spec: { CAConfig: { NodeCertExpiry: 90 * 24 * 3600 * 1e9 }, TaskDefaults: {} } as SwarmSpec,
    rootCa: root,
    joinTokens: {
      worker: createJoinToken(root.certificate, randomBytes),
      manager: createJoinToken(root.certificate, randomBytes),
    },
    defaultAddressPool: [],
    subnetSize: 20,
    dataPathPort: 4789,
  };
  if (known === undefined) await store.update((tx) => tx.clusters.create(cluster));
  const certify = async (role: NodeRole = 'worker', row = true) => {
    const nodeId = newId(random);
    const { key, csr } = await createCertificateRequest();
    const certificate = await issueNodeCertificate(
      root,
      csr,
      { nodeId, role, clusterId: cluster.clusterId },
      Date.now(),
    );
    if (row) await store.update((tx) => tx.nodes.create(node(nodeId)));
    return identityOf({ certificate, key, rootCertificate: root.certificate }, Date.now());
  };
  const identity = options.identity ?? (await certify('manager', false));
  let address = '';
  const managers = () => [{ nodeId: identity.nodeId, address }];
  const fixed = {
    clock: realClock,
    random,
    log: silentLog,
    periods: PATIENT,
    managers,
    ...options,
    store,
    root,
    identity,
  };
  const server = new DispatchServer(fixed);
  const port = await server.listen('127.0.0.1', options.port ?? 0);
  address = `127.0.0.1:${port}`;
  const sessions: AgentSession[] = [];
  return {
    store,
    root,
    cluster,
    server,
    identity,
    address,
    port,
    certify,
    agent(agentIdentity, more = {}) {
      const memory = new Memory(() => descriptionOf(`host-${agentIdentity.nodeId.slice(0, 4)}`));
      const session = new AgentSession({
        addresses: [address],
        identity: agentIdentity,
        agent: memory,
        clock: realClock,
        random,
        log: silentLog,
        backoffMs: { first: 10, most: 100 },
        ...more,
      });
      sessions.push(session);
      session.start();
      return { memory, session };
    },
    async close() {
      await Promise.all(sessions.map((session) => session.close()));
      await server.close();
    },
  };
}

/** One with a store of its own. */
export const newManager = async (options: Partial<DispatchOptions> = {}): Promise<Manager> =>
  manager({ ...options, store: await Store.open(new MemoryJournal()) });

export interface Raw {
  connection: ClientHttp2Session;
  stream: ClientHttp2Stream;
  answer: Promise<{ status: number; body: unknown }>;
}

/** A session stream spoken by hand. */
export async function raw(address: string, identity?: Identity): Promise<Raw> {
  const connection = connectHttp2(`https://${address}`, {
    rejectUnauthorized: false,
    ...(identity === undefined ? {} : { cert: identity.certificate, key: identity.key }),
  });
  connection.on('error', () => {});
  const stream = connection.request({ ':method': 'POST', ':path': '/v1/session' }, { endStream: false });
  stream.on('error', () => {});
  const answer = new Promise<number>((resolve, reject) => {
    stream.once('response', (headers) => resolve(headers[':status']!));
    stream.once('close', () => reject(new Error('closed without an answer')));
  }).then(async (status) => ({ status, body: status === 200 ? undefined : await readJson(stream) }));
  answer.catch(() => {}); // some tests do not wait for it
  return { connection, stream, answer };
}

export const frame = (message: object) => encodeFrame(JSON.stringify(message));
export const hello = (nodeId: string) => frame({ type: 'hello', nodeId, description: descriptionOf('h') });
