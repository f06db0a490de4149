/**
 * What a manager runs besides the agent: the state with its journal, the port that nodes dial, and the control loops.
 * `open` fails as a whole or leaves all of it running; `close` ends it in the opposite order.
 */
import { join } from 'node:path';
import { rmSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { startControl } from '../control/control.ts';
import type { Loop } from '../control/loop.ts';
import { RequestError } from '../dispatch/http.ts';
import { renew } from '../dispatch/join.ts';
import { askForPlace, type PlaceAnswer, type PlaceRequest } from '../dispatch/place.ts';
import { DispatchServer } from '../dispatch/server.ts';
import type { Streams } from '../dispatch/streams.ts';
import type { Journal } from '../journal/journal.ts';
import { DataKey, KeyFile } from '../journal/key-file.ts';
import type { Peer } from '../journal/member/arguments.ts';
import { nodeOf, type Membership as Members } from '../journal/member/membership.ts';
import { SealedJournal } from '../journal/sealed.ts';
import type { Leader, SharedJournal } from '../journal/shared.ts';
import { SqliteJournal } from '../journal/sqlite.ts';
import { CLUSTER_ROW } from '../model/objects.ts';
import { timestamp, type Clock, type Log, type Random } from '../model/clock.ts';
import type { Identity, NodeRole } from '../pki/identity.ts';
import { parseUnlockKey } from '../pki/unlock-key.ts';
import { LeaderElector, type HeldLeadership } from '../store/leader-elector.ts';
import { isConfidential } from '../store/snapshot.ts';
import { Store, type Transaction } from '../store/store.ts';
import { LockBox } from './lock-box.ts';
import { managerRowsLoop } from './manager-rows.ts';
import type { Membership } from './membership.ts';
import { SharedState } from './shared-state.ts';

export interface Surroundings {
  dataDir: string;
  /** Serves the API to another manager over a stream. */
  serveApi: (stream: Duplex) => void;
  /** Makes a change of this node's membership durable before it returns. */
  remember(change: Partial<Membership>): void;
  /** That of the data directory; it is not locked, or was unlocked. */
  keyFile: KeyFile;
  clock: Clock;
  random: Random;
  log: Log;
}

const stateFile = (dataDir: string) => join(dataDir, 'state.db');
const keyFile = (dataDir: string) => join(dataDir, 'state.key');

/** Where the key of a data directory's state is. */
export function keyFileOf(dataDir: string): KeyFile {
  return new KeyFile(keyFile(dataDir));
}

/** The journal of a data directory as it lies there, its confidential rows encrypted. Throws JournalDamaged. */
export function openRawJournal(dataDir: string): Journal {
  return new SqliteJournal(stateFile(dataDir));
}

/** The journal of a data directory, its confidential rows sealed with the key beside it. Throws JournalDamaged. */
export function openJournal(dataDir: string, file = keyFileOf(dataDir)): Journal {
  return new SealedJournal({
    journal: openRawJournal(dataDir),
    name: stateFile(dataDir),
    keyFile: file,
    isConfidential,
  });
}

/** Opens the journal and the state in it. The caller closes both. Throws JournalDamaged, KeyFileLocked. */
export async function openState(
  dataDir: string,
  file = keyFileOf(dataDir),
): Promise<{ store: Store; journal: Journal; close(): Promise<void> }> {
  const journal = openJournal(dataDir, file);
  const store = await Store.open(journal).catch(async (error: unknown) => {
    await journal.close();
    throw error;
  });
  return {
    store,
    journal,
    async close() {
      await store.close();
      await journal.close();
    },
  };
}

/** Removes the state of a cluster that this node has left, or never finished making. */
export function removeState(dataDir: string): void {
  removeDatabase(dataDir);
  for (const suffix of ['', '.new']) rmSync(keyFile(dataDir) + suffix, { force: true });
}

/** The state lies elsewhere now. */
function removeDatabase(dataDir: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(stateFile(dataDir) + suffix, { force: true });
}

const CAMPAIGN_MS = 30_000;
/** Another manager is let in within this time, or asks again. */
const ADMIT_MS = 8_000;
const PLACE_MS = 20_000;
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
  readonly #shared: SharedState;
  readonly #closing = new AbortController();
  #identity: Identity;
  /** What keeps the state now; closed with this manager. */
  #keeper: { close(): Promise<void> } | undefined;
  /** With several managers. */
  #elector: LeaderElector | undefined;
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
    const { membership, identity, dataDir, clock, random, log, keyFile } = deps;
    this.#deps = deps;
    this.store = store;
    this.#identity = identity;
    this.#self = { nodeId: membership.nodeId, address: managerAddress(membership) };
    this.#shared = new SharedState({
      membership,
      dataDir,
      keyFile,
      identity: () => this.#identity,
      removed: () => this.#removed(),
      clock,
      random,
      log,
    });
    this.#dispatch = new DispatchServer({
      store,
      clock,
      random,
      log: log.child({ room: 'dispatch' }),
      identity,
      managers: () => managersOf(store),
      api: (stream) => deps.serveApi(stream),
      givePlace: (nodeId, request) => this.#givePlace(nodeId, request),
      checkRole: (role) => this.#checkRole(role),
    });
    this.#lockBox = new LockBox({ store, keyFile, clock, log });
  }

  /**
   * Throws JournalDamaged, or why the port cannot be had. With several managers this one takes its part in the background:
   * see `ready` and `trouble`.
   */
  static async open(membership: Membership, identity: Identity, around: Surroundings): Promise<Manager> {
    const deps = { ...around, membership, identity };
    const shared = membership.keeper === 'etcd';
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

  /** What asks nodes for streams. */
  get streams(): Streams {
    return this.#dispatch.streams;
  }

  /** Whether the store shows the state of the cluster: until then there is nothing to answer. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Who leads, as this manager knows. */
  leadership(): { leading: boolean; leader?: Leader } {
    if (this.#elector === undefined)
      return this.store.leading ? { leading: true, leader: this.#self } : { leading: false };
    const { role, leader } = this.#elector.state();
    return { leading: role === 'leader', ...(leader !== undefined && { leader }) };
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
        await this.#shared.resume((candidate) => this.#askForPlace(candidate), signal);
        const journal = await this.#shared.journal();
        this.#keeper = journal;
        this.#elect(journal);
        this.#trouble = '';
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#trouble = `this manager cannot take part: ${(error as Error).message}`;
        log.error({ err: error }, this.#trouble);
        await new Promise<void>((resolve) => clock.after(TAKE_PART_RETRY_MS, resolve));
      }
    }
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
    elector.observe(({ leader }) => this.#dispatch.leaderIs(leader));
    elector.start(held);
    void elector.followed.then(() => (this.#ready = true));
  }

  /** Starts what only a leader runs, and returns what ends it. */
  async #lead(): Promise<() => Promise<void>> {
    const { clock, random, log } = this.#deps;
    const { store } = this;
    await this.#dispatch.lead();
    const control = startControl({ store, clock, random, log: log.child({ room: 'control' }) });
    const rows = managerRowsLoop({
      store,
      clock,
      log: log.child({ room: 'control' }),
      leaderId: this.#self.nodeId,
      answers: (nodeId) => this.#members?.answers(nodeId),
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

  #lookAfterMembers(): void {
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
    const { dataDir, log, clock } = this.#deps;
    await this.#shared.member.bootstrap();
    const journal = await this.#shared.journal();
    const late = new AbortController();
    const timer = clock.after(CAMPAIGN_MS, () => late.abort(new Error('etcd elects nobody')));
    try {
      const leadership = await journal.campaign(this.#self, late.signal);
      try {
        await this.store.moveTo(leadership.journal, async () => this.#deps.remember({ keeper: 'etcd' }));
      } catch (error) {
        await leadership.resign();
        throw error;
      }
      const database = this.#keeper;
      this.#keeper = journal;
      this.#elect(journal, { leadership, stop: this.#endLeading! });
      this.#endLeading = undefined;
      this.#lookAfterMembers();
      await database?.close();
      removeDatabase(dataDir);
      log.info({}, "the cluster's state has moved to etcd");
    } catch (error) {
      if (this.#elector === undefined) {
        await journal.close();
        await this.#shared.leave();
      }
      throw error;
    } finally {
      timer.cancel();
    }
  }

  /** Before anybody is let in as a manager. @throws RequestError 503 */
  async #checkRole(role: NodeRole): Promise<void> {
    if (role === 'worker' || this.#elector !== undefined) return;
    try {
      await this.#shared.member.preflight();
    } catch (error) {
      throw cannotShare(error);
    }
  }

  async #givePlace(nodeId: string, { address, peer }: PlaceRequest): Promise<PlaceAnswer> {
    const { clock, keyFile } = this.#deps;
    if (nodeOf(peer.name) !== nodeId)
      throw new RequestError(403, `${peer.name} is not a name of node ${nodeId}'s etcd`);
    await this.#share().catch((error: unknown) => Promise.reject(cannotShare(error)));
    const members = this.#members;
    if (members === undefined) throw new RequestError(503, 'this manager leads no more');
    const late = new AbortController();
    const timer = clock.after(ADMIT_MS, () => late.abort(new Error('another manager is just joining; try again')));
    try {
      const peers = await members.admit(peer, late.signal);
      await this.store.update((tx) => addManager(tx, nodeId, address));
      const keys = keyFile.read()?.map((key) => key.toJSON()) ?? [];
      const unlockKey = this.store.view((view) => view.clusters.get(CLUSTER_ROW)?.unlockKey);
      return { peers, keys, ...(unlockKey !== undefined && { unlockKey }) };
    } catch (error) {
      throw error instanceof RequestError ? error : new RequestError(503, (error as Error).message);
    } finally {
      timer.cancel();
    }
  }

  async #askForPlace(peer: Peer): Promise<readonly Peer[]> {
    const { membership, clock, keyFile } = this.#deps;
    const { address } = this.#self;
    const addresses = membership.managers.filter((other) => other !== address);
    const request = { address, peer };
    const identity = this.#identity;
    const ask = { addresses, identity, request, clock, timeoutMs: PLACE_MS };
    const { peers, keys, unlockKey } = await askForPlace(ask);
    if (keyFile.exists()) return peers;
    // So that the keys never lie on this disk as they are.
    if (unlockKey !== undefined) keyFile.lockWith(parseUnlockKey(unlockKey));
    keyFile.write(keys.map(({ id, key }) => new DataKey(id, Buffer.from(key, 'base64'))));
    return peers;
  }

  /** The others have removed this one's member; if it is to be a manager all the same, it joins anew. */
  #removed(): void {
    if (this.#closing.signal.aborted) return;
    this.#takingPart = this.#endPart().then(() => this.#takePart());
  }

  /** This manager is to be one no more: another leads, and removes it. */
  #stepAside(): void {
    void this.#elector?.stop();
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

function cannotShare(error: unknown): RequestError {
  return new RequestError(503, `this swarm cannot have several managers: ${(error as Error).message}`);
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

/** @throws RequestError 410 */
function addManager(tx: Transaction, nodeId: string, address: string): void {
  const node = tx.nodes.get(nodeId);
  if (node === undefined) throw new RequestError(410, 'node is not part of this cluster any more');
  if (node.manager?.address === address) return;
  tx.nodes.update({ ...node, manager: { address, leader: false, reachability: 'unknown' } });
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
