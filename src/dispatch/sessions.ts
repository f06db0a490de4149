/**
 * All sessions of one manager: lets nodes in, keeps their status in the store, turns the store's events into marks on
 * the sessions they matter to, and takes silent nodes for down.
 *
 * A node has at most one session; a second one replaces the first. A node that is removed from the store loses its
 * session at once.
 */
import type { AssignmentChange, TaskStatusReport } from '../model/assignments.ts';
import type { Clock, Log, Random } from '../model/clock.ts';
import { newId } from '../model/ids.ts';
import type { NodeDescription } from '../model/objects.ts';
import { StoreClosed, type Event, type Store, type Transaction } from '../store/store.ts';
import { factsOf, markAffected, readFact, type FactKey } from './facts.ts';
import { RequestError } from './http.ts';
import { DEFAULT_PERIODS, Liveness, type Periods } from './liveness.ts';
import type { Hello, ManagerAddress } from './messages.ts';
import { describeNode, markAllUnknown, markDown, markReady, NodeRemoved, takeReports } from './node-writes.ts';
import type { Session, SessionHost } from './session.ts';

export interface SessionsDeps {
  store: Store;
  clock: Clock;
  random: Random;
  log: Log;
  /** The managers that agents may turn to; asked at the start of each session, and when a node's part as manager changes. */
  managers(): ManagerAddress[];
  periods?: Partial<Periods>;
}

const RETRY_MS = 1_000;

export class Sessions implements SessionHost {
  readonly #deps: SessionsDeps;
  readonly #liveness: Liveness;
  readonly #sessions = new Map<string, Session>();
  #unwatch: (() => void) | undefined;
  #nodes = 0;
  #closed = false;

  constructor(deps: SessionsDeps) {
    this.#deps = deps;
    this.#liveness = new Liveness(deps.clock, { ...DEFAULT_PERIODS, ...deps.periods }, (nodeId) => this.#lost(nodeId));
  }

  /** Begins to watch the store, and gives every node that was ready time to come back. */
  async start(): Promise<void> {
    const { store, clock } = this.#deps;
    await store.update((tx) => markAllUnknown(tx, clock.now()));
    const { stop } = store.viewAndWatch(
      (view) => {
        this.#nodes = view.nodes.size;
        for (const node of view.nodes.all()) if (node.status.state !== 'down') this.#liveness.away(node.id);
      },
      (events) => this.#changed(events),
    );
    this.#unwatch = stop;
    this.#liveness.start();
  }

  /** Ends every session in order. Nothing is written afterwards. */
  close(): void {
    this.#closed = true;
    this.#unwatch?.();
    this.#liveness.stop();
    for (const session of this.#sessions.values()) session.end('stopping', 'the manager is stopping');
  }

  async admit(session: Session, hello: Hello): Promise<void> {
    const { nodeId } = session;
    const { store, clock, random, log } = this.#deps;
    if (hello.nodeId !== nodeId)
      throw new RequestError(403, `the certificate is that of node ${nodeId}, not of ${hello.nodeId}`);
    if (this.#closed) throw new RequestError(503, 'the manager is stopping');
    // Before the write: a verdict of "down" that is already on its way sees it, and is dropped.
    this.#liveness.heard(nodeId, session.timeoutMs);
    const address = hello.advertiseAddress ?? session.peerAddress;
    try {
      await store.update((tx) => markReady(tx, nodeId, { description: hello.description, address }, clock.now()));
    } catch (error) {
      if (!(error instanceof NodeRemoved)) this.#away(nodeId);
      else this.#liveness.forget(nodeId);
      throw error instanceof NodeRemoved ? new RequestError(410, error.message) : error;
    }
    if (this.#closed) throw new RequestError(503, 'the manager is stopping');
    if (!session.alive) {
      this.#away(nodeId);
      return;
    }
    const { state, facts } = store.view((view) => ({
      state: view.nodes.get(nodeId)?.status.state,
      facts: [...factsOf(view, nodeId)],
    }));
    if (state === undefined) throw new RequestError(410, new NodeRemoved().message);
    if (state !== 'ready') throw new RequestError(503, 'the node was taken for down while it was let in; try again');
    this.#sessions.get(nodeId)?.end('replaced', 'the node has begun another session');
    this.#sessions.set(nodeId, session);
    log.info({ node: nodeId, address }, 'node is ready');
    session.open(newId(random), this.#deps.managers(), facts);
    this.heard(session);
  }

  heard(session: Session): void {
    if (this.#sessions.get(session.nodeId) === session) this.#liveness.heard(session.nodeId, session.timeoutMs);
  }

  async report(session: Session, reports: TaskStatusReport[]): Promise<void> {
    const { store, clock, log } = this.#deps;
    const foreign = await store.update((tx) => takeReports(tx, session.nodeId, reports, clock.now()));
    for (const { taskId } of foreign)
      log.warn({ node: session.nodeId, task: taskId }, "reported a task that is not the node's; ignored");
  }

  async describe(session: Session, description: NodeDescription): Promise<void> {
    await this.#deps.store.update((tx) => describeNode(tx, session.nodeId, description, this.#deps.clock.now()));
  }

  readFacts(nodeId: string, read: (one: (fact: FactKey) => AssignmentChange) => void): void {
    this.#deps.store.view((view) => read((fact) => readFact(view, nodeId, fact)));
  }

  periods(): { heartbeatMs: number; timeoutMs: number } {
    return this.#liveness.periodsFor(this.#nodes);
  }

  ended(session: Session): void {
    if (this.#sessions.get(session.nodeId) !== session) return;
    this.#sessions.delete(session.nodeId);
    if (this.#closed) return;
    this.#deps.log.info({ node: session.nodeId }, 'session ended; the node has a while to come back');
    this.#away(session.nodeId);
  }

  /** How many nodes have a session. */
  get size(): number {
    return this.#sessions.size;
  }

  #changed(events: readonly Event[]): void {
    let managersChanged = false;
    for (const event of events) {
      if (event.table !== 'nodes') continue;
      if (event.before === undefined && event.after !== undefined) this.#liveness.away(event.after.id);
      if (event.after === undefined && event.before !== undefined) this.#removed(event.before.id);
      managersChanged ||= event.before?.manager?.address !== event.after?.manager?.address;
    }
    if (managersChanged) this.#tellManagers();
    this.#deps.store.view((view) => {
      this.#nodes = view.nodes.size;
      markAffected(events, view, (nodeId, fact) => this.#sessions.get(nodeId)?.mark(fact));
    });
  }

  #tellManagers(): void {
    const managers = this.#deps.managers();
    for (const session of this.#sessions.values()) session.tellManagers(managers);
  }

  #removed(nodeId: string): void {
    this.#sessions.get(nodeId)?.end('removed', new NodeRemoved().message);
    this.#liveness.forget(nodeId);
  }

  /** A node's time is over. */
  #lost(nodeId: string): void {
    this.#deps.log.warn({ node: nodeId }, 'heartbeat failure: the node is taken for down');
    const session = this.#sessions.get(nodeId);
    this.#sessions.delete(nodeId);
    session?.drop();
    void this.#write('mark a node as down', (tx, nowMs) => {
      if (!this.#liveness.expects(nodeId)) markDown(tx, nodeId, nowMs);
    });
  }

  #away(nodeId: string): void {
    if (this.#deps.store.view((view) => view.nodes.get(nodeId)?.status.state ?? 'down') !== 'down')
      this.#liveness.away(nodeId);
    else this.#liveness.forget(nodeId);
  }

  /** Writes what has to be written sooner or later: while the journal cannot, it is tried again. */
  async #write(what: string, write: (tx: Transaction, nowMs: number) => void): Promise<void> {
    const { store, clock, log } = this.#deps;
    if (this.#closed) return;
    try {
      await store.update((tx) => write(tx, clock.now()));
    } catch (error) {
      if (error instanceof StoreClosed) return;
      log.error({ err: error, retryMs: RETRY_MS }, `cannot ${what}; trying again`);
      clock.after(RETRY_MS, () => void this.#write(what, write));
    }
  }
}
