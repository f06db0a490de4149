/**
 * A simulated host with a manager: the real store, control loops and sessions, on a journal of its own (a disk) or on one that
 * it shares with others (a client of the simulated etcd). What stands between is the daemon's part, and the port agents dial.
 */
import type { ServerHttp2Stream } from 'node:http2';
import { startControl } from '../control/control.ts';
import { NotTheLeader, RequestError, respondRefusal } from '../dispatch/http.ts';
import { NodeRemoved } from '../dispatch/node-writes.ts';
import { Session } from '../dispatch/session.ts';
import { Sessions } from '../dispatch/sessions.ts';
import type { Journal } from '../journal/journal.ts';
import type { Log } from '../model/clock.ts';
import { LeaderElector } from '../store/leader-elector.ts';
import { Store, type Transaction } from '../store/store.ts';
import { CrashJournal, type Disk } from './crash-journal.ts';
import type { EventLoop } from './event-loop.ts';
import { hostTime, Process, type HostTime } from './process.ts';
import type { Chance } from './seeded.ts';
import type { Cluster, ClusterClient, Faults } from './shared-journal.ts';

/** Where a manager keeps its state. */
export type Keeper = { kind: 'own'; disk: Disk } | { kind: 'shared'; cluster: Cluster };

/** How this host reaches the shared journal. */
export interface JournalLink {
  /** Nothing gets through. */
  cut?: boolean;
  /** Nothing comes back. */
  deaf?: boolean;
  faults?: Faults | undefined;
}

export interface ManagerHostDeps {
  loop: EventLoop;
  chance: Chance;
  log: Log;
  /** Of the host; also its name in the network, and the manager's node id. */
  name: string;
  /** host:port agents dial. */
  address: string;
  keeper: Keeper;
  managers: () => { nodeId: string; address: string }[];
  /** A store of this manager has been opened: look at what it shows from now on. */
  opened: (store: Store) => void;
  /** It leads from now on, with this store. */
  leads: (store: Store) => void;
  planted?: PlantedBug;
}

/** A bug that a test plants between the parts: what one is given in the place of the other. */
export interface PlantedBug {
  /** What the control loops work on in the place of the store. */
  seenByControl?: (store: Store, process: Process) => Store;
  /** What the store writes to in the place of its journal. */
  seenByStore?: (journal: Journal) => Journal;
  /** Changes how the shared journal behaves. */
  keeper?: (cluster: Cluster) => void;
}

const FLUSH_MS = 20;
/** As systemd does: after so long a daemon that ended is started again. */
const RESTART_MS = 1_000;

export class ManagerHost {
  readonly name: string;
  readonly address: string;
  readonly time: HostTime = hostTime();
  readonly #deps: ManagerHostDeps;
  process: Process;
  #store: Store | undefined;
  #sessions: Sessions | undefined;
  #elector: LeaderElector | undefined;
  #stopLeading: (() => Promise<void>) | undefined;
  #client: ClusterClient | undefined;
  #usual: Faults | undefined;
  #link: JournalLink = {};
  #on = true;

  constructor(deps: ManagerHostDeps) {
    this.#deps = deps;
    this.name = deps.name;
    this.address = deps.address;
    this.process = new Process(deps.loop, deps.name, this.time);
    this.process.kill();
  }

  get isOn(): boolean {
    return this.#on;
  }

  /** The store of a manager that takes writes, as far as it knows. */
  get leading(): Store | undefined {
    return this.process.alive && this.#store?.leading === true ? this.#store : undefined;
  }

  /** Starts the daemon, if it does not run. */
  start(): void {
    if (!this.#on || this.process.alive) return;
    const process = new Process(this.#deps.loop, this.name, this.time);
    this.process = process;
    this.#store = undefined;
    this.#sessions = undefined;
    this.#elector = undefined;
    this.#stopLeading = undefined;
    this.#open(process).catch((error: unknown) => this.#failed(process, error));
  }

  /** The daemon ends without a word; the kernel closes what it had open. */
  kill(): void {
    if (!this.process.alive) return;
    this.process.kill();
    this.#crashed();
  }

  powerCut(): void {
    if (!this.#on) return;
    this.#on = false;
    this.process.kill({ silently: true });
    this.#crashed();
  }

  powerOn(): void {
    this.#on = true;
    this.start();
  }

  /** SIGTERM. */
  async stop(): Promise<void> {
    const { process } = this;
    if (!process.running) return;
    if (this.#elector === undefined) await this.#stopLeading?.();
    else await this.#elector.stop();
    await this.#store?.close();
    await this.#client?.journal.close();
    process.kill();
    this.#client = undefined;
  }

  /** A connection has been made to its port by the agent of this node; undefined: nobody listens. */
  get accept(): ((stream: ServerHttp2Stream, nodeId: string, peerAddress: string) => void) | undefined {
    if (!this.process.alive || this.#store === undefined) return undefined;
    return (stream, nodeId, peerAddress) => this.#accept(stream, nodeId, peerAddress);
  }

  /** A user's write. Resolves with the number of its transaction; rejects as the store does, or with 503. */
  async write(change: (tx: Transaction) => void): Promise<number> {
    const store = this.#store;
    if (store === undefined) throw new RequestError(503, 'the manager is starting');
    return store.update((tx) => {
      change(tx);
      return tx.index;
    });
  }

  /** From now on the shared journal is reached like this, by whatever process of this host. */
  reachJournal(link: JournalLink): void {
    this.#link = { ...this.#link, ...link };
    this.#useLink();
  }

  #useLink(): void {
    const client = this.#client;
    if (client === undefined) return;
    const { cut = false, deaf = false, faults = this.#usual! } = this.#link;
    client.faults = faults;
    client.mend();
    if (cut) client.cut();
    if (deaf) client.loseAnswers();
  }

  #crashed(): void {
    const { keeper } = this.#deps;
    if (keeper.kind === 'own') keeper.disk.crash();
    this.#client?.crash();
    this.#client = undefined;
  }

  /** What a daemon cannot go on from ends it, and it is started again. */
  #failed(process: Process, error: unknown): void {
    const { log, loop } = this.#deps;
    log.error({ err: error, manager: this.name }, 'the manager ends itself');
    if (this.process !== process) return;
    this.kill();
    loop.after(RESTART_MS, `${this.name} restarts`, () => this.start());
  }

  async #open(process: Process): Promise<void> {
    const { keeper, opened, planted } = this.#deps;
    if (keeper.kind === 'own') {
      const journal: Journal = new CrashJournal(keeper.disk, process);
      const store = await Store.open(planted?.seenByStore?.(journal) ?? journal);
      this.#watchOver(store, process);
      opened(store);
      this.#stopLeading = await this.#lead(store, process);
      this.#store = store;
      return;
    }
    const store = Store.replica();
    this.#watchOver(store, process);
    opened(store);
    this.#client = keeper.cluster.client(process);
    this.#usual = this.#client.faults;
    this.#useLink();
    this.#elector = new LeaderElector({
      journal: this.#client.journal,
      store,
      self: { nodeId: this.name, address: this.address },
      clock: process.clock,
      log: this.#deps.log,
      onLead: () => this.#lead(store, process),
    });
    this.#elector.start();
    await this.#elector.followed;
    this.#store = store;
  }

  #watchOver(store: Store, process: Process): void {
    void store.lost.then((error) => this.#failed(process, error));
  }

  /** Starts what only a leader runs; returns what ends it. */
  async #lead(store: Store, process: Process): Promise<() => Promise<void>> {
    const { log, managers, leads, planted } = this.#deps;
    const { clock } = process;
    const { random } = this.#deps.chance;
    leads(store);
    const sessions = new Sessions({ store, clock, random, log, managers });
    await sessions.start();
    const seen = planted?.seenByControl?.(store, process) ?? store;
    const control = startControl({ store: seen, clock, random, log });
    this.#sessions = sessions;
    return async () => {
      this.#sessions = undefined;
      sessions.close();
      await control.stop();
    };
  }

  #accept(stream: ServerHttp2Stream, nodeId: string, peerAddress: string): void {
    const { log } = this.#deps;
    const sessions = this.#sessions;
    if (this.#store?.leading !== true || sessions === undefined) {
      respondRefusal(stream, new NotTheLeader(this.#elector?.state().leader?.address ?? ''));
      return;
    }
    if (this.#store.view((view) => view.nodes.get(nodeId)) === undefined) {
      respondRefusal(stream, new RequestError(410, new NodeRemoved().message));
      return;
    }
    const { clock } = this.process;
    // oxlint-disable-next-line no-new -- it lives by the stream's events
    new Session(stream, { nodeId, peerAddress, host: sessions, clock, log, flushMs: FLUSH_MS });
  }
}
