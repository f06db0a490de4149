/**
 * One manager over simulated agents: the real store, the real sessions with all they compute for each agent, the real
 * control loops. What is not real is named: the clock, the journal's disk (row-journal.ts), the wire between a session and its agent (no TLS, no HTTP/2), and the agents.
 */
import { startControl, type Control } from '../../src/control/control.ts';
import { addNode } from '../../src/dispatch/node-writes.ts';
import { Session } from '../../src/dispatch/session.ts';
import { Sessions } from '../../src/dispatch/sessions.ts';
import { silentLog, type Log, type Random } from '../../src/model/clock.ts';
import {
  CLUSTER_ROW,
  DEFAULT_ENVIRONMENT,
  serviceSpecId,
  type Cluster,
  type Service,
} from '../../src/model/objects.ts';
import type { ServiceSpec } from '../../src/model/specs.ts';
import { Store, type Event } from '../../src/store/store.ts';
import { EventClock } from './event-clock.ts';
import { Fleet } from './fleet.ts';
import { RowJournal } from './row-journal.ts';

const FLUSH_MS = 20;

/** Says on stderr what the control plane would log of what went wrong. */
const errorLog: Log = {
  ...silentLog,
  error: (fields, message) => console.error(message, fields),
  child: () => errorLog,
};

/** mulberry32. */
export function seeded(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** What one manager is made of while it leads. */
interface Leader {
  sessions: Sessions;
  control: Control;
}

export class ScaledCluster {
  readonly clock = new EventClock();
  readonly random = seeded(1);
  readonly fleet = new Fleet(this.clock, this.random);
  readonly #journal = new RowJournal(this.clock);
  #store: Store | undefined;
  #leader: Leader | undefined;
  #listener: (events: readonly Event[]) => void = () => {};
  /** Of objects in the store, committed. */
  changes = 0;

  get store(): Store {
    return this.#store!;
  }

  /** Called with every change from now on. */
  listen(listener: (events: readonly Event[]) => void): void {
    this.#listener = listener;
  }

  /** A manager takes the lead of what is in the journal. */
  async lead(): Promise<void> {
    await this.load();
    await this.begin();
  }

  /** Its first half: the state, as a follower has it already. */
  async load(): Promise<void> {
    this.#store = await Store.open(this.#journal);
  }

  /** Its second half: sessions and control loops begin. */
  async begin(): Promise<void> {
    const { clock, random, store } = this;
    store.watch((events) => {
      this.changes += events.length;
      this.#listener(events);
    });
    if (store.view((view) => view.clusters.size) === 0)
      await this.#while(store.update((tx) => tx.clusters.create(clusterRow())));
    const deps = { store, clock, random, log: errorLog };
    const managers = () => [{ nodeId: 'm1', address: '10.0.0.1:2377' }];
    const sessions = new Sessions({ ...deps, log: silentLog, managers });
    await this.#while(sessions.start());
    this.#leader = { sessions, control: startControl(deps) };
  }

  /** The leader's process ends: nothing of it is left but the journal. */
  async crash(): Promise<void> {
    const { store } = this;
    const { sessions, control } = this.#leader!;
    sessions.close();
    await this.#while(control.stop());
    await this.#while(store.close());
    this.#leader = undefined;
    this.#store = undefined;
    // Its memory was another process's: what it takes to let go of it is not the next one's.
    globalThis.gc?.();
  }

  /** All agents that live dial the leader. */
  dial(nodeIds: Iterable<string>): void {
    const { sessions } = this.#leader!;
    const { clock, fleet } = this;
    for (const nodeId of nodeIds) {
      const wire = fleet.dial(nodeId);
      // oxlint-disable-next-line no-new -- it lives by the wire's events
      new Session(wire.stream, {
        nodeId,
        peerAddress: '10.1.0.1',
        host: sessions,
        clock,
        log: errorLog,
        flushMs: FLUSH_MS,
      });
    }
  }

  /** Nodes get their rows, as when each has got its certificate, and their agents dial. */
  async join(nodeIds: readonly string[]): Promise<void> {
    const { store } = this;
    const nowMs = this.clock.now();
    nodeIds.forEach((nodeId, i) => this.fleet.add(nodeId, `node-${i}`));
    await this.#while(
      Promise.all(
        nodeIds.map((id) =>
          store.update((tx) => addNode(tx, { id, role: 'worker', availability: 'active', address: '' }, nowMs)),
        ),
      ),
    );
    this.dial(nodeIds);
  }

  /** What the API does for `docker service create`, one transaction each. */
  async createServices(specs: ReadonlyMap<string, ServiceSpec>): Promise<void> {
    const { store } = this;
    await this.#while(
      Promise.all(
        [...specs].map(([id, spec]) =>
          store.update((tx) => {
            const meta = { version: tx.index, createdAt: '', updatedAt: '' };
            tx.services.create({ id, environment: DEFAULT_ENVIRONMENT, meta, spec, specVersion: tx.index });
            tx.serviceSpecs.create({ id: serviceSpecId(id, tx.index), serviceId: id, version: tx.index, spec });
          }),
        ),
      ),
    );
  }

  /** What the API does for `docker service update`. */
  async updateServices(ids: Iterable<string>, change: (spec: ServiceSpec) => ServiceSpec): Promise<void> {
    const { store } = this;
    await this.#while(
      Promise.all(
        [...ids].map((id) =>
          store.update((tx) => {
            const { updateStatus: _, ...old } = tx.services.get(id)!;
            const spec = change(old.spec);
            const service: Service = {
              ...old,
              meta: { ...old.meta, version: tx.index },
              spec,
              specVersion: tx.index,
              previousSpec: old.spec,
              previousSpecVersion: old.specVersion,
            };
            tx.services.update(service);
            tx.serviceSpecs.create({ id: serviceSpecId(id, tx.index), serviceId: id, version: tx.index, spec });
          }),
        ),
      ),
    );
  }

  /** Time goes on until a promise has settled. */
  async #while<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const mark = () => (settled = true);
    promise.then(mark, mark);
    await this.clock.runUntil(() => settled, 'a write', 3_600_000);
    return promise;
  }
}

function clusterRow(): Cluster {
  const spec = { Orchestration: { TaskHistoryRetentionLimit: 5 }, TaskDefaults: {} } as Cluster['spec'];
  return {
    id: CLUSTER_ROW,
    clusterId: 'scale',
    meta: { version: 1, createdAt: '', updatedAt: '' },
    spec,
    rootCa: { certificate: '', key: '' },
    joinTokens: { worker: '', manager: '' },
    defaultAddressPool: ['10.0.0.0/8'],
    subnetSize: 20,
    dataPathPort: 4789,
  };
}
