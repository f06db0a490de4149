/**
 * What a manager runs besides the agent: the state with its journal, the port that nodes dial, and the control loops.
 * `open` fails as a whole or leaves all of it running; `close` ends it in the opposite order.
 */
import type { Duplex } from 'node:stream';
import { startControl } from '../control/control.ts';
import type { Loop } from '../control/loop.ts';
import { renew } from '../dispatch/join.ts';
import { DispatchServer } from '../dispatch/server.ts';
import type { Streams } from '../dispatch/streams.ts';
import type { OutsideEtcd } from '../journal/etcd/outside.ts';
import type { KeyFile } from '../journal/key-file.ts';
import type { Peer } from '../journal/member/arguments.ts';
import type { Membership as Members } from '../journal/member/membership.ts';
import { NotLeading, type Leader, type SharedJournal } from '../journal/shared.ts';
import { CLUSTER_ROW } from '../model/objects.ts';
import { timestamp, type Clock, type Log, type Random } from '../model/clock.ts';
import type { Identity } from '../pki/identity.ts';
import { LeaderElector, type HeldLeadership } from '../store/leader-elector.ts';
import { Store, type Transaction } from '../store/store.ts';
import { LockBox } from './lock-box.ts';
import { managerRowsLoop } from './manager-rows.ts';
import type { Membership } from './membership.ts';
import { OutsideState } from './outside-state.ts';
import { moveToEtcd, Places } from './places.ts';
import { SharedState } from './shared-state.ts';
import { openState, removeDatabase } from './state-files.ts';

export interface Surroundings {
  dataDir: string;
  /** Serves the API to another manager over a stream. */
  serveApi: (stream: Duplex) => void;
  /** host:port of the managers this node has last heard of: others than when it began. */
  managers: () => readonly string[];
  /** Makes a change of this node's membership durable before it returns. */
  remember: (change: Partial<Membership>) => void;
  /** That of the data directory; it is not locked, or was unlocked. */
  keyFile: KeyFile;
  /** What holds the state of a manager whose keeper that is. */
  outside?: OutsideEtcd;
  clock: Clock;
  random: Random;
  log: Log;
}

const TAKE_PART_RETRY_MS = 2_000;

/** What a node's part as a manager is made of. */
interface ManagerDeps extends Surroundings {
  membership: Membership;
  identity: Identity;
}

export class Manager {
  readonly store: Store;
  readonly #deps: ManagerDeps;
  readonly #self: Leader;
  readonly #dispatch: DispatchServer;
  readonly #lockBox: LockBox;
  readonly #shared: SharedState | OutsideState;
  readonly #places: Places;
  readonly #closing = new AbortController();
  #identity: Identity;
  /** What keeps the state now; closed with this manager. */
  #keeper: { close(): Promise<void> } | undefined;
  /** With several managers. */
  #elector: LeaderElector | undefined;
  /** Since when no leader has been seen, while none is. */
  #missing: { missingSinceMs?: number } = {};
  /** While this manager leads. */
  #members: Members | undefined;
  #rows: Loop | undefined;
  /** Ends what only a leader runs, while this manager has always been the only one. */
  #endLeading: (() => Promise<void>) | undefined;
  #leadWaiters: (() => void)[] = [];
  #sharing: Promise<void> | undefined;
  #takingPart: Promise<void> | undefined;
  /** Whether the store shows what the cluster's state is. */
  #ready = false;
  #trouble = '';

  private constructor(deps: ManagerDeps, store: Store) {
    const { membership, identity, clock, random, log, keyFile } = deps;
    this.#deps = deps;
    this.store = store;
    this.#identity = identity;
    this.#self = { nodeId: membership.nodeId, address: managerAddress(membership) };
    this.#shared = this.#part();
    this.#places = new Places({
      store,
      self: this.#self,
      managers: deps.managers,
      keyFile,
      shared: this.#shared,
      identity: () => this.#identity,
      share: () => this.#share(),
      isShared: () => this.#elector !== undefined,
      members: () => this.#members,
      clock,
    });
    this.#dispatch = new DispatchServer({
      store,
      clock,
      random,
      log: log.child({ room: 'dispatch' }),
      identity,
      managers: () => managersOf(store),
      api: (stream) => deps.serveApi(stream),
      givePlace: (nodeId, request) => this.#places.give(nodeId, request),
      checkRole: (role, etcd) => this.#places.checkRole(role, etcd),
    });
    this.#lockBox = new LockBox({ store, keyFile, clock, log });
  }

  /**
   * Throws JournalDamaged, or why the port cannot be had. With several managers this one takes its part in the background:
   * see `ready` and `trouble`.
   */
  static async open(membership: Membership, identity: Identity, around: Surroundings): Promise<Manager> {
    const deps = { ...around, membership, identity };
    const shared = membership.keeper !== undefined;
    const state = shared ? undefined : await openState(around.dataDir, around.keyFile);
    const manager = new Manager(deps, state?.store ?? Store.replica());
    manager.#keeper = state?.journal;
    try {
      // Not handled, so that the process ends: it is started again, and opens what the disk really has.
      void manager.store.lost.then((error) => Promise.reject(error));
      if (!shared) await manager.#beginAlone();
      await manager.#listen();
      if (shared) manager.#takingPart = manager.#takePart();
      manager.#lockBox.start();
      return manager;
    } catch (error) {
      await manager.close();
      throw error;
    }
  }

  /** This manager's part in what several share: with its own member of etcd, or in one that stands elsewhere. */
  #part(): SharedState | OutsideState {
    const { membership, outside, dataDir, keyFile, clock, random, log } = this.#deps;
    const { keeper, clusterId } = membership;
    const around = { keyFile, clock, random, log };
    if (keeper !== 'outside-etcd') {
      const identity = () => this.#identity;
      return new SharedState({ ...around, membership, dataDir, identity, removed: () => this.#removed() });
    }
    if (outside === undefined) throw new Error('no etcd is named that holds the state');
    return new OutsideState({ ...around, etcd: outside, clusterId });
  }

  /** What asks nodes for streams. */
  get streams(): Streams {
    return this.#dispatch.streams;
  }

  /** Whether the store shows the state of the cluster: until then there is nothing to answer. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Who leads, as this manager knows; if nobody, since when by the monotonic clock. */
  leadership(): { leading: boolean; leader?: Leader; missingSinceMs?: number } {
    if (this.#elector === undefined)
      return this.store.leading ? { leading: true, leader: this.#self } : { leading: false };
    const { role, leader } = this.#elector.state();
    // Told of it this manager is only when all that it led has ended.
    this.#noteLeader(leader);
    return { leading: role === 'leader', ...(leader === undefined ? this.#missing : { leader }) };
  }

  #noteLeader(leader: Leader | undefined): void {
    this.#missing = leader === undefined ? { missingSinceMs: this.#deps.clock.monotonic(), ...this.#missing } : {};
  }

  /** A stream to the API of the manager that leads. Rejects with LeaderAway, or the signal's reason. */
  tunnel(signal?: AbortSignal): Promise<Duplex> {
    return this.#dispatch.tunnel(signal);
  }

  /**
   * The next certificate (PEM) of this manager itself, which needs nobody for that while it leads, even when the present one
   * has expired. Undefined: the leader is to be asked.
   */
  certify(csr: string): Promise<string> | undefined {
    if (!this.store.leading) return undefined;
    const { clock, log, membership } = this.#deps;
    return renew({ store: this.store, clock, log: log.child({ room: 'dispatch' }) }, csr, membership.nodeId);
  }

  /**
   * Whether this manager may have its certificate by another issuer: not before the etcd of all managers has taken up the root of now.
   * So a rotation that comes at once after another waits for the managers, as for any node that has not renewed.
   */
  async mayChangeIssuer(): Promise<boolean> {
    return this.#shared.kind === 'elsewhere' || this.#shared.isCurrent();
  }

  /** Whoever dials from now on is shown this certificate; sessions go on. */
  useIdentity(identity: Identity): void {
    this.#identity = identity;
    this.#dispatch.useIdentity(identity);
    this.#shared.useIdentity(identity);
  }

  /** Why the key file is not locked as the cluster says, in words; '' if it is. */
  lockTrouble(): string {
    return this.#lockBox.trouble();
  }

  /** Whether this one leads and is the only manager: the state ends with it. */
  get isLast(): boolean {
    return this.store.leading && managersOf(this.store).length === 1;
  }

  /** Resolves with true once this manager leads, with false after `limitMs`. */
  led(limitMs: number): Promise<boolean> {
    if (this.store.leading && this.#rows !== undefined) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = this.#deps.clock.after(limitMs, () => resolve(false));
      this.#leadWaiters.push(() => {
        timer.cancel();
        resolve(true);
      });
    });
  }

  /** What does not work of this manager's part, in words. */
  degraded(): string[] {
    const trouble = this.#trouble || (this.#elector?.state().trouble ?? '');
    return [...(trouble === '' ? [] : [trouble]), ...this.#shared.degraded()];
  }

  /** Ends it; others lead. `left`: this node is no manager any more, and its member of the managers' etcd goes for good. */
  async close({ left = false } = {}): Promise<void> {
    this.#closing.abort(new Error('this manager is stopping'));
    this.#lockBox.stop();
    await this.#endPart();
    await (left ? this.#shared.leave() : this.#shared.detach());
    await this.#takingPart;
    await this.#dispatch.close();
    await this.#endLeading?.();
    await this.store.close();
    await this.#keeper?.close();
  }

  /** What an earlier try to share the state has left is of no use: that state lies in the database. */
  async #beginAlone(): Promise<void> {
    const { dataDir } = this.#deps;
    if (this.store.view((view) => view.clusters.get(CLUSTER_ROW)) === undefined)
      throw new Error(`the state in ${dataDir} holds no cluster`);
    await this.#shared.leave();
    this.#ready = true;
  }

  async #listen(): Promise<void> {
    const { host, port } = splitAddress(this.#deps.membership.listenAddress);
    await this.#dispatch.listen(host, port);
    if (this.store.leading) this.#endLeading = await this.#lead();
  }

  /** Follows the other managers and stands for election, as soon as this one's member of their etcd runs. Never rejects. */
  async #takePart(): Promise<void> {
    const { dataDir, clock, log } = this.#deps;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      try {
        removeDatabase(dataDir);
        await this.#shared.resume((peer?: Peer) => this.#askForPlace(peer), signal);
        const journal = await this.#shared.journal();
        this.#keeper = journal;
        this.#elect(journal);
        this.#trouble = '';
        return;
      } catch (error) {
        const why = await this.#places.explained(error as Error);
        if (signal.aborted) return;
        this.#noPart(why);
        log.error({ err: error }, this.#trouble);
        await new Promise<void>((resolve) => clock.after(TAKE_PART_RETRY_MS, resolve));
      }
    }
  }

  /** What asks may go on asking: why it is refused is said meanwhile. */
  async #askForPlace(peer?: Peer): Promise<readonly Peer[]> {
    try {
      return await this.#places.ask(peer);
    } catch (error) {
      this.#noPart(error as Error);
      throw error;
    }
  }

  #noPart({ message }: Error): void {
    this.#trouble = `this manager cannot take part: ${message}`;
  }

  #elect(journal: SharedJournal, held?: HeldLeadership): void {
    const { clock, log } = this.#deps;
    const elector = new LeaderElector({
      journal,
      store: this.store,
      self: this.#self,
      clock,
      log: log.child({ room: 'store' }),
      onLead: () => this.#lead(),
    });
    this.#elector = elector;
    elector.observe(({ leader }) => {
      this.#noteLeader(leader);
      this.#dispatch.leaderIs(leader);
    });
    elector.start(held);
    void elector.followed.then(() => (this.#ready = true));
  }

  /** Starts what only a leader runs, and returns what ends it. */
  async #lead(): Promise<() => Promise<void>> {
    const { clock, random, log } = this.#deps;
    const { store } = this;
    if (this.#shared.kind === 'elsewhere' && !this.#isManager()) {
      this.#stepAside();
      throw new NotLeading('this node is no manager any more');
    }
    await this.#dispatch.lead();
    const control = startControl({ store, clock, random, log: log.child({ room: 'control' }) });
    const rows = managerRowsLoop({
      store,
      clock,
      log: log.child({ room: 'control' }),
      leaderId: this.#self.nodeId,
      answers: (nodeId) => this.#shared.kind === 'elsewhere' || this.#members?.answers(nodeId),
      remove: (node) => this.#members?.remove(node) ?? Promise.resolve(),
      stepAside: () => this.#stepAside(),
    });
    this.#rows = rows;
    rows.start();
    for (const waiter of this.#leadWaiters.splice(0)) waiter();
    if (this.#elector !== undefined) this.#lookAfterMembers();
    return async () => {
      this.#dispatch.follow();
      await Promise.all([control.stop(), rows.stop(), this.#members?.stop()]);
      this.#members = undefined;
      this.#rows = undefined;
    };
  }

  #isManager(): boolean {
    const node = this.store.view((view) => view.nodes.get(this.#self.nodeId));
    return node?.manager !== undefined && node.spec.Role === 'manager';
  }

  #lookAfterMembers(): void {
    // Nobody's vote counts in an etcd that stands elsewhere: a manager is to be had while its node is.
    if (this.#shared.kind === 'elsewhere') return;
    this.#members = this.#shared.members((nodeId) => this.#rows?.mark(nodeId));
    this.#members.start();
  }

  /** Another manager is to join: what this one keeps alone moves to an etcd that all of them share. Once. */
  #share(): Promise<void> {
    if (this.#elector !== undefined) return Promise.resolve();
    this.#sharing ??= this.#moveToEtcd().finally(() => (this.#sharing = undefined));
    return this.#sharing;
  }

  async #moveToEtcd(): Promise<void> {
    const [shared, self] = [this.#shared, this.#self];
    if (shared.kind !== 'own') throw new Error('its state is not there yet');
    const { store } = this;
    const { dataDir, log, clock, remember } = this.#deps;
    const deps = { store, shared, self, clock, remember: () => remember({ keeper: 'etcd' }) };
    const { journal, leadership } = await moveToEtcd(deps);
    const database = this.#keeper;
    this.#keeper = journal;
    this.#elect(journal, { leadership, stop: this.#endLeading! });
    this.#endLeading = undefined;
    this.#lookAfterMembers();
    await database?.close();
    removeDatabase(dataDir);
    log.info({}, "the cluster's state has moved to etcd");
  }

  /** The others have removed this one; if it is to be a manager all the same, it joins anew. */
  #removed(): void {
    if (this.#closing.signal.aborted) return;
    this.#takingPart = this.#endPart().then(() => this.#takePart());
  }

  /** This manager is to be one no more: another leads, and removes it. */
  #stepAside(): void {
    const shared = this.#shared;
    if (shared.kind === 'own') {
      void this.#elector?.stop();
      return;
    }
    shared.losePlace();
    this.#removed();
  }

  /** Follows nobody and stands for no election. */
  async #endPart(): Promise<void> {
    const elector = this.#elector;
    this.#elector = undefined;
    if (elector === undefined) return;
    await elector.stop();
    await this.#keeper?.close();
    this.#keeper = undefined;
  }
}

/** All managers but one are workers from now on, whatever becomes of them. */
export function demoteOthers(tx: Transaction, nodeId: string, nowMs: number): void {
  const updatedAt = timestamp(nowMs);
  for (const node of tx.nodes.all()) {
    if (node.id === nodeId || (node.manager === undefined && node.spec.Role === 'worker')) continue;
    const { manager: _, ...rest } = node;
    const meta = { ...node.meta, version: tx.index, updatedAt };
    tx.nodes.update({ ...rest, spec: { ...node.spec, Role: 'worker' }, meta });
  }
}

export function managersOf(store: Store): { nodeId: string; address: string }[] {
  return store.view((view) =>
    [...view.nodes.all()].flatMap((node) =>
      node.manager === undefined ? [] : [{ nodeId: node.id, address: node.manager.address }],
    ),
  );
}

/** host:port by which nodes and other managers reach this one. */
export function managerAddress(membership: Membership): string {
  return membership.managerAddress ?? `${membership.advertiseAddress}:${splitAddress(membership.listenAddress).port}`;
}

export function splitAddress(address: string): { host: string; port: number } {
  const at = address.lastIndexOf(':');
  return { host: address.slice(0, at), port: Number(address.slice(at + 1)) };
}
