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
import type { Node, NodeDescription, Task } from '../model/objects.ts';
import { isTerminal } from '../model/states.ts';
import type { StreamRequest } from '../model/streams.ts';
import type { NodeRole } from '../pki/identity.ts';
import { StoreClosed, type Event, type Store, type Transaction, type View } from '../store/store.ts';
import { authorityNews, changesAuthority } from './authority.ts';
import { factsOf, markAffected, readFact, type Fact } from './facts.ts';
import { RequestError } from './http.ts';
import { certifiedRole } from './join.ts';
import { DEFAULT_PERIODS, Liveness, type Periods } from './liveness.ts';
import type { Hello, ManagerAddress } from './messages.ts';
import { describeNode, inParts, isStale, markDown, markReady, markUnknown, NodeRemoved } from './node-writes.ts';
import { ReportWrites } from './reports.ts';
import type { Session, SessionHost } from './session.ts';
import { beginsToLeave, isLeaving, Withdrawals } from './withdrawals.ts';

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
/** How long a task's stop waits for the nodes that balance it. A node that takes longer is cut off, or hangs. */
const WITHDRAWN_WITHIN_MS = 2_000;
const STOPPING = 'the manager is stopping, or leads the swarm no more';

export class Sessions implements SessionHost {
  readonly #deps: SessionsDeps;
  readonly #liveness: Liveness;
  readonly #sessions = new Map<string, Session>();
  readonly #sessionEnded: (nodeId: string) => void;
  readonly #withdrawals = new Withdrawals();
  readonly #reports: ReportWrites;
  #unwatch: (() => void) | undefined;
  #nodes = 0;
  #closed = false;

  /** `sessionEnded` is called when a node has no session any more, or another one. */
  constructor(deps: SessionsDeps, sessionEnded: (nodeId: string) => void = () => {}) {
    this.#deps = deps;
    this.#sessionEnded = sessionEnded;
    this.#reports = new ReportWrites(deps.store, deps.clock);
    this.#liveness = new Liveness(deps.clock, { ...DEFAULT_PERIODS, ...deps.periods }, (nodeId) => this.#lost(nodeId));
  }

  /** Begins to watch the store, and gives every node that was ready time to come back. */
  async start(): Promise<void> {
    const { store, clock } = this.#deps;
    const stale = store.view((view) => [...view.nodes.all()].filter(isStale).map(({ id }) => id));
    await Promise.all(inParts(stale).map((ids) => store.update((tx) => markUnknown(tx, ids, clock.now()))));
    if (this.#closed) return;
    const { stop } = store.viewAndWatch(
      (view) => {
        this.#nodes = view.nodes.size;
        for (const node of view.nodes.all())
          if (node.status.state !== 'down') this.#liveness.expect(node.id, view.nodes.size);
        this.#withdraw(view, [...view.tasks.all()].filter(isLeaving));
      },
      (events) => this.#changed(events),
    );
    this.#unwatch = stop;
    this.#liveness.start();
  }

  /** Ends every session in order: their agents go on to another manager. Nothing is written afterwards. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unwatch?.();
    this.#liveness.stop();
    for (const session of this.#sessions.values()) session.end('stopping', STOPPING);
  }

  async admit(session: Session, hello: Hello): Promise<void> {
    const { nodeId } = session;
    const { store, clock, random, log } = this.#deps;
    if (hello.nodeId !== nodeId)
      throw new RequestError(403, `the certificate is that of node ${nodeId}, not of ${hello.nodeId}`);
    if (this.#closed) throw new RequestError(503, STOPPING);
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
    if (this.#closed) throw new RequestError(503, STOPPING);
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
    session.open(newId(random), this.#deps.managers(), facts, this.#withdrawals.roundOf(nodeId));
    this.#tellAuthority([session]);
    this.heard(session);
  }

  heard(session: Session): void {
    if (this.#sessions.get(session.nodeId) === session) this.#liveness.heard(session.nodeId, session.timeoutMs);
  }

  async report(session: Session, reports: TaskStatusReport[]): Promise<void> {
    const foreign = await this.#reports.take(session.nodeId, reports);
    for (const { taskId } of foreign)
      this.#deps.log.warn({ node: session.nodeId, task: taskId }, "reported a task that is not the node's; ignored");
  }

  async describe(session: Session, description: NodeDescription): Promise<void> {
    await this.#deps.store.update((tx) => describeNode(tx, session.nodeId, description, this.#deps.clock.now()));
  }

  settled(session: Session, round: number): void {
    if (this.#sessions.get(session.nodeId) === session)
      this.#withdrawn(this.#withdrawals.confirmed(session.nodeId, round));
  }

  readFacts(nodeId: string, read: (one: (fact: Fact) => AssignmentChange) => void): void {
    this.#deps.store.view((view) => read((fact) => this.#withBalance(readFact(view, nodeId, fact))));
  }

  periods(): { heartbeatMs: number; timeoutMs: number } {
    return this.#liveness.periodsFor(this.#nodes);
  }

  ended(session: Session): void {
    if (this.#sessions.get(session.nodeId) !== session) return;
    this.#sessions.delete(session.nodeId);
    this.#sessionEnded(session.nodeId);
    if (this.#closed) return;
    this.#deps.log.info({ node: session.nodeId }, 'session ended; the node has a while to come back');
    this.#away(session.nodeId);
  }

  /** Asks a node for a stream; false if it has no session. */
  askForStream(nodeId: string, streamId: string, request: StreamRequest): boolean {
    return this.#sessions.get(nodeId)?.askForStream(streamId, request) ?? false;
  }

  /** How many nodes have a session. */
  get size(): number {
    return this.#sessions.size;
  }

  #changed(events: readonly Event[]): void {
    let managersChanged = false;
    if (events.some(changesAuthority)) this.#tellAuthority(this.#sessions.values());
    for (const event of events) {
      if (event.table !== 'nodes') continue;
      if (event.before === undefined && event.after !== undefined) this.#liveness.away(event.after.id);
      if (event.after === undefined && event.before !== undefined) this.#removed(event.before.id);
      if (roleIn(event.before) !== roleIn(event.after)) this.#tellRole(event.after?.id);
      managersChanged ||= event.before?.manager?.address !== event.after?.manager?.address;
    }
    if (managersChanged) this.#tellManagers();
    this.#deps.store.view((view) => {
      this.#nodes = view.nodes.size;
      markAffected(events, view, (nodeId, fact) => this.#sessions.get(nodeId)?.mark(fact));
      this.#followLeaving(events, view);
    });
  }

  #followLeaving(events: readonly Event[], view: View): void {
    const leaving = new Map<string, Task>();
    for (const event of events) {
      if (event.table === 'tasks') {
        const { before, after } = event;
        if (after !== undefined && beginsToLeave(before, after)) leaving.set(after.id, after);
        else if (after === undefined || isTerminal(after.status.state)) {
          leaving.delete((after ?? before)!.id);
          this.#withdrawals.end((after ?? before)!.id);
        }
      } else if (event.table === 'nodes' && event.before !== undefined && isLost(event.after)) {
        this.#withdrawn(this.#withdrawals.lost(event.before.id));
      }
    }
    this.#withdraw(view, leaving.values());
  }

  /** Takes these tasks out of balancing: what their nodes are told of them was marked already. */
  #withdraw(view: View, tasks: Iterable<Task>): void {
    const alike = Map.groupBy(tasks, (task) => task.networks.map(({ networkId }) => networkId).join(' '));
    if (alike.size === 0) return;
    const batches = [...alike].map(([networkIds, leaving]) => {
      const nodes = networkIds.split(' ').flatMap((id) => view.nodes.by('network', id));
      const balancing = new Set(nodes.filter((node) => !isLost(node)).map(({ id }) => id));
      return { tasks: leaving.map(({ id }) => id), nodes: balancing };
    });
    const round = this.#withdrawals.begin(batches);
    for (const nodeId of new Set(batches.flatMap(({ nodes }) => [...nodes]))) this.#sessions.get(nodeId)?.settle(round);
    this.#deps.clock.after(WITHDRAWN_WITHIN_MS, () => {
      const late = this.#withdrawals.expired(round);
      if (late.length > 0)
        this.#deps.log.warn({ tasks: late }, 'not every node has taken these tasks out of balancing in time');
      this.#withdrawn(late);
    });
  }

  /** No node sends these tasks connections any more: their agents may stop them. */
  #withdrawn(taskIds: readonly string[]): void {
    this.#deps.store.view((view) => {
      for (const taskId of taskIds) this.#sessions.get(view.tasks.get(taskId)?.nodeId ?? '')?.mark(`task ${taskId}`);
    });
  }

  #withBalance(change: AssignmentChange): AssignmentChange {
    if (change.kind !== 'task' || change.value === null || !this.#withdrawals.has(change.key)) return change;
    return { ...change, value: { ...change.value, balanced: true } };
  }

  #tellManagers(): void {
    const managers = this.#deps.managers();
    for (const session of this.#sessions.values()) session.tellManagers(managers);
  }

  #tellRole(nodeId: string | undefined): void {
    const session = this.#sessions.get(nodeId ?? '');
    if (session !== undefined) this.#tellAuthority([session]);
  }

  #tellAuthority(sessions: Iterable<Session>): void {
    this.#deps.store.view((view) => {
      const news = authorityNews(view);
      if (news === undefined) return;
      for (const session of sessions) {
        const role = roleIn(view.nodes.get(session.nodeId));
        session.tellAuthority(role === undefined ? news : { ...news, role });
      }
    });
  }

  #removed(nodeId: string): void {
    this.#sessions.get(nodeId)?.end('removed', new NodeRemoved().message);
    this.#liveness.forget(nodeId);
  }

  left(session: Session): void {
    const { nodeId } = session;
    if (this.#sessions.get(nodeId) !== session || this.#closed) return;
    this.#deps.log.info({ node: nodeId }, 'the node has left the cluster');
    this.#sessions.delete(nodeId);
    this.#sessionEnded(nodeId);
    this.#liveness.forget(nodeId);
    this.#down(nodeId, 'left');
  }

  /** A node's time is over. */
  #lost(nodeId: string): void {
    this.#deps.log.warn({ node: nodeId }, 'heartbeat failure: the node is taken for down');
    const session = this.#sessions.get(nodeId);
    this.#sessions.delete(nodeId);
    this.#sessionEnded(nodeId);
    session?.drop();
    this.#down(nodeId, 'heartbeat failure');
  }

  #down(nodeId: string, message: string): void {
    void this.#write('mark a node as down', (tx, nowMs) => {
      if (!this.#liveness.expects(nodeId)) markDown(tx, nodeId, message, nowMs);
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
      // Whoever leads now finds out for itself.
      if (error instanceof StoreClosed || (error as Error).name === 'NotLeading') return;
      log.error({ err: error, retryMs: RETRY_MS }, `cannot ${what}; trying again`);
      clock.after(RETRY_MS, () => void this.#write(what, write));
    }
  }
}

/** Nobody waits for a node that is down. One that is only away for a moment still sends connections where it used to. */
function roleIn(node: Node | undefined): NodeRole | undefined {
  return node && certifiedRole(node);
}

function isLost(node: Node | undefined): boolean {
  return node === undefined || node.status.state === 'down';
}
