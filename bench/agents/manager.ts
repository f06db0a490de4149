/**
 * One manager in a process of its own, of the parts that `droverd` makes it of: the store on SQLite, the port that agents
 * dial, the control loops. Answers its parent's questions; started by `bench/agents.bench.ts` with a data directory, and
 * `ingress` if the cluster is to have its ingress network.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { startControl } from '../../src/control/control.ts';
import { createCluster } from '../../src/daemon/new-cluster.ts';
import { systemClock as clock } from '../../src/daemon/system.ts';
import { DispatchServer } from '../../src/dispatch/server.ts';
import { SqliteJournal } from '../../src/journal/sqlite.ts';
import { silentLog, timestamp, type Log } from '../../src/model/clock.ts';
import { newId } from '../../src/model/ids.ts';
import { CLUSTER_ROW, DEFAULT_ENVIRONMENT, serviceSpecId, type Task } from '../../src/model/objects.ts';
import type { ServiceSpec, SwarmSpec } from '../../src/model/specs.ts';
import { TaskState } from '../../src/model/states.ts';
import { createCertificateRequest, createRootCa, issueNodeCertificate } from '../../src/pki/authority.ts';
import { identityOf } from '../../src/pki/identity.ts';
import { createJoinToken } from '../../src/pki/token.ts';
import { Store } from '../../src/store/store.ts';

/** What the parent asks: what it has used, when so many nodes are ready and tasks run, and for services. */
export type Question =
  | { ask: 'usage' }
  | { ask: 'reached'; ready: number; running: number }
  | { ask: 'services'; services: number; replicas: number };

export interface Usage {
  cpuMs: number;
  rssBytes: number;
  heapBytes: number;
  /** How often a node was taken for down so far. */
  downs: number;
}

const [dataDir = '', ingress] = process.argv.slice(2);
const random = Math.random;
const log: Log = { ...silentLog, error: (fields, text) => console.error(text, fields), child: () => log };

const journal = new SqliteJournal(join(dataDir, 'state.db'));
const store = await Store.open(journal);
const rootCa = await createRootCa(clock.now());
const subject = { nodeId: newId(random), clusterId: newId(random), role: 'manager' as const };
const { key, csr } = await createCertificateRequest();
const certificate = await issueNodeCertificate(rootCa, csr, subject, clock.now());
const identity = identityOf({ certificate, key, rootCertificate: rootCa.certificate }, clock.now());
const token = createJoinToken(rootCa.certificate, randomBytes);
await store.update((tx) => {
  createCluster(tx, {
    ...subject,
    ingressId: newId(random),
    spec: {
      Orchestration: { TaskHistoryRetentionLimit: 5 },
      CAConfig: { NodeCertExpiry: 90 * 24 * 3600 * 1e9 },
      TaskDefaults: {},
    } as SwarmSpec,
    rootCa,
    joinTokens: { worker: token, manager: createJoinToken(rootCa.certificate, randomBytes) },
    availability: 'drain',
    managerAddress: '127.0.0.1:0',
    defaultAddressPool: ['10.0.0.0/8'],
    subnetSize: 20,
    dataPathPort: 4789,
    now: timestamp(clock.now()),
  });
  if (ingress === undefined) for (const network of tx.networks.all()) tx.networks.remove(network.id);
});
let address = '';
const managers = () => [{ nodeId: subject.nodeId, address }];
const server = new DispatchServer({ store, clock, random, log, identity, managers });
address = `127.0.0.1:${await server.listen('127.0.0.1', 0)}`;
startControl({ store, clock, random, log });

let [ready, running, downs] = [0, 0, 0];
let reached: (() => void) | undefined;
store.watch((events) => {
  for (const event of events) {
    if (event.table === 'nodes') {
      const [was, is] = [event.before?.status.state, event.after?.status.state];
      ready += Number(is === 'ready') - Number(was === 'ready');
      downs += Number(is === 'down' && was !== 'down');
    } else if (event.table === 'tasks') running += Number(runs(event.after)) - Number(runs(event.before));
  }
  reached?.();
});

function runs(task: Task | undefined): boolean {
  return task?.desiredState === TaskState.RUNNING && task.status.state === TaskState.RUNNING;
}

/** Answers once so many nodes are ready and tasks run. */
function answerWhen(wanted: { ready: number; running: number }): void {
  reached = () => {
    if (ready < wanted.ready || running < wanted.running) return;
    reached = undefined;
    process.send!({});
  };
  reached();
}

function usage(): Usage {
  const { user, system } = process.cpuUsage();
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  return { cpuMs: (user + system) / 1000, rssBytes: rss, heapBytes: heapUsed, downs };
}

async function createServices(services: number, replicas: number): Promise<void> {
  const create = (i: number) =>
    store.update((tx) => {
      const spec: ServiceSpec = {
        Name: `service-${i}`,
        Labels: {},
        TaskTemplate: {
          ContainerSpec: { Image: 'busybox', Env: Array.from({ length: 8 }, (_, n) => `SETTING_${n}=x`) },
        },
        Mode: { Replicated: { Replicas: replicas } },
      };
      const id = newId(random);
      const meta = { version: tx.index, createdAt: '', updatedAt: '' };
      tx.services.create({ id, environment: DEFAULT_ENVIRONMENT, meta, spec, specVersion: tx.index });
      tx.serviceSpecs.create({ id: serviceSpecId(id, tx.index), serviceId: id, version: tx.index, spec });
    });
  await Promise.all(Array.from({ length: services }, (_, i) => create(i)));
}

process.on('message', (question: Question) => {
  if (question.ask === 'usage') process.send!(usage());
  else if (question.ask === 'reached') answerWhen(question);
  else void createServices(question.services, question.replicas).then(() => process.send!({}));
});
process.on('disconnect', () => process.exit(0));
process.send!({ address, token: store.view((view) => view.clusters.get(CLUSTER_ROW)!.joinTokens.worker) });
