/**
 * This node's part in a cluster: none, worker or manager. Makes, joins and leaves clusters for the API, one at a time, each
 * as a whole: the membership file is written last by those who come and removed last by those who go, so a crash in the middle
 * leaves no half member, and a leave that was broken off goes on.
 */
import { networkInterfaces } from 'node:os';
import type { Duplex } from 'node:stream';
import { unavailable } from '../api/errors.ts';
import type {
  ClusterControl,
  ClusterState,
  InitRequest,
  JoinRequest,
  Restored,
  RestoreRequest,
} from '../api/cluster-control.ts';
import { notLocked, wrongUnlockKey } from '../api/manager-lock.ts';
import type { Leadership } from '../api/leader.ts';
import type { NodeAttachments } from '../api/node-attachments.ts';
import type { DockerClient } from '../docker/client.ts';
import type { Streams } from '../dispatch/streams.ts';
import { OutsideEtcd } from '../journal/etcd/outside.ts';
import { WrongUnlockKey, type KeyFile } from '../journal/key-file.ts';
import { timestamp, type Clock, type Log, type Random } from '../model/clock.ts';
import { loadIdentity, removeIdentity, saveIdentity } from '../pki/files.ts';
import { identityAtAnyTime, type Identity } from '../pki/identity.ts';
import type { Store } from '../store/store.ts';
import { chooseAddresses } from './addresses.ts';
import { readBackup, writeBackup } from './backup.ts';
import { joinIdentity } from './certify.ts';
import {
  ALREADY_PART,
  asApiError,
  BUSY,
  cannotLeave,
  ENDED,
  JOIN_TIMEOUT,
  LEAVING,
  NO_FORCE,
  NOT_ALONE_YET,
  NOT_ELECTED,
  NOT_MANAGER,
  NOT_PART,
} from './cluster-words.ts';
import { readEtcdSettings } from './etcd-option.ts';
import { eraseCluster, foundCluster } from './found-cluster.ts';
import { inRole, keeperTrouble, withKeeper } from './keeper.ts';
import { localState } from './local-state.ts';
import { demoteOthers, Manager } from './manager.ts';
import { MembershipFile, type Membership } from './membership.ts';
import { SharedState } from './shared-state.ts';
import { clearHost, NodeParts, removeNodeMemory } from './node-parts.ts';
import type { Options } from './options.ts';
import { restoreCluster } from './restore.ts';
import { keyFileOf, removeState } from './state-files.ts';

export interface ClusterMemberDeps {
  options: Options;
  client: DockerClient;
  /** Serves the API to another manager over a stream. */
  serveApi: (stream: Duplex) => void;
  clock: Clock;
  random: Random;
  log: Log;
}

/** Docker's clients are told after this time that joining goes on by itself. */
const JOIN_MS = 20_000;
/** How long a manager that goes on alone, or begins a cluster, has to be elected. */
const LEAD_MS = 20_000;
const ROLE_RETRY_MS = 1_000;

export class ClusterMember implements ClusterControl {
  readonly #deps: ClusterMemberDeps;
  readonly #file: MembershipFile;
  #membership: Membership | undefined;
  #manager: Manager | undefined;
  readonly #keyFile: KeyFile;
  /** Whether this is a manager whose state cannot be read before somebody unlocks it. */
  #locked = false;
  /** As it is now: certificates are renewed. */
  #identity: Identity | undefined;
  /** Address → node id of the managers, as the last session told. */
  #managerIds: ReadonlyMap<string, string> = new Map();
  #node: NodeParts | undefined;
  #error = '';
  /** Why this manager cannot take part as droverd was started; what runs here goes on. */
  #misfit = '';
  #changing = false;

  constructor(deps: ClusterMemberDeps) {
    this.#deps = deps;
    this.#file = new MembershipFile(deps.options.dataDir);
    this.#keyFile = keyFileOf(deps.options.dataDir);
  }

  /** Takes up the membership of the data directory, if any. A part that cannot start is said in `state()`; it does not throw. */
  async start(): Promise<void> {
    const { log } = this.#deps;
    try {
      this.#membership = this.#file.read();
      if (this.#membership === undefined) return;
      if (this.#membership.leaving === true) {
        // In the background: containers take their time to stop, and the API is to be served meanwhile.
        this.#change(() => this.#finishLeaving()).catch((error: unknown) =>
          log.error({ err: error }, 'leaving the swarm did not come to its end'),
        );
        return;
      }
      await this.#takeUp(this.#membership);
    } catch (error) {
      this.#error = (error as Error).message;
      log.error({ err: error }, 'this node cannot take part in its cluster');
      await this.stop();
    }
  }

  async #takeUp(membership: Membership): Promise<void> {
    const { dataDir } = this.#deps.options;
    const files = await loadIdentity(dataDir);
    if (files === undefined) throw new Error(`${dataDir}/certificates has no certificate of this node`);
    // Whatever the time is by its certificate: what was assigned runs, and the certificate may be renewed.
    await this.#run(membership, identityAtAnyTime(files));
  }

  /** Ends the cluster's parts; what they run goes on. `left`: this node gives up its place in the cluster. Idempotent. */
  async stop({ left = false } = {}): Promise<void> {
    await this.#node?.stop({ left });
    this.#node = undefined;
    await this.#endManager({ left });
  }

  async #endManager({ left = false } = {}): Promise<void> {
    const manager = this.#manager;
    this.#manager = undefined;
    await manager?.close({ left });
  }

  /** The cluster's state: on managers, once they know it. */
  store(): Store | undefined {
    return this.#manager?.ready === true ? this.#manager.store : undefined;
  }

  /** Who leads, as this manager knows. */
  leadership(): Leadership {
    return this.#manager?.leadership() ?? { leading: false };
  }

  /** A stream to the leader's API. Rejects if there is none to be had now, or with the signal's reason. */
  async tunnel(signal?: AbortSignal): Promise<Duplex> {
    if (this.#manager === undefined) throw new Error(NOT_PART);
    return this.#manager.tunnel(signal);
  }

  attachments(): NodeAttachments | undefined {
    return this.#node?.attachments;
  }

  /** What asks nodes for streams; on managers only. */
  streams(): Streams | undefined {
    return this.#manager?.streams;
  }

  state(): ClusterState {
    return localState({
      membership: this.#membership,
      manager: this.#manager,
      node: this.#node,
      error: this.#error || this.#misfit,
      changing: this.#changing,
      locked: this.#locked,
      managerIds: this.#managerIds,
      outside: this.#deps.options.etcd !== undefined,
    });
  }

  init(request: InitRequest): Promise<string> {
    return this.#change(async () => {
      if (this.#membership !== undefined) throw unavailable(ALREADY_PART);
      const { options, clock, random, log } = this.#deps;
      const addresses = chooseAddresses(request, options, networkInterfaces());
      const etcd = this.#outside();
      await etcd?.assertFree();
      await this.#forget();
      const { dataDir } = options;
      const around = { addresses, dataDir, keyFile: this.#keyFile, ...(etcd && { etcd }), clock, random, log };
      const { membership, identity, undo } = await foundCluster(request, around);
      try {
        await this.#become(membership, identity, async () => {
          // In a database the state is there at once; there it is once this manager was elected.
          if (etcd !== undefined && !(await this.#manager!.led(LEAD_MS))) throw unavailable(NOT_ELECTED);
        });
      } catch (error) {
        await undo();
        throw error;
      }
      return membership.nodeId;
    });
  }

  forceNewCluster(): Promise<string> {
    return this.#change(async () => {
      const [identity, membership] = [this.#identity, this.#membership];
      if (identity === undefined || membership?.role !== 'manager' || this.#locked) throw unavailable(NOT_MANAGER);
      if (membership.keeper === 'outside-etcd') throw unavailable(NO_FORCE);
      await this.#endManager();
      try {
        if (membership.keeper === 'etcd') await this.#sharedState(membership).member.forceNewCluster();
      } finally {
        await this.#manage(membership, identity);
      }
      if (!(await this.#manager!.led(LEAD_MS))) throw unavailable(NOT_ALONE_YET);
      await this.#manager!.store.update((tx) => demoteOthers(tx, membership.nodeId, this.#deps.clock.now()));
      return membership.nodeId;
    });
  }

  join(request: JoinRequest): Promise<void> {
    return this.#change(async () => {
      if (this.#membership !== undefined) throw unavailable(ALREADY_PART);
      const { options, clock } = this.#deps;
      const { advertisePort, ...addresses } = chooseAddresses(request, options, networkInterfaces());
      const { advertiseAddress } = addresses;
      const etcd = options.etcd === undefined ? 'own' : 'elsewhere';
      const identity = await joinIdentity(request, { advertiseAddress, etcd, clock, timeoutMs: JOIN_MS });
      if (identity.role === 'manager') await this.#outside()?.assertHolds(identity.clusterId);
      const membership: Membership = {
        nodeId: identity.nodeId,
        clusterId: identity.clusterId,
        ...inRole(identity.role, options.etcd !== undefined),
        ...addresses,
        managerAddress: `${advertiseAddress}:${advertisePort}`,
        managers: request.remoteAddrs.map(({ host, port }) => `${host}:${port}`),
      };
      await this.#forget();
      await this.#become(membership, identity);
      if (!(await this.#node!.connected(JOIN_MS))) throw unavailable(JOIN_TIMEOUT);
    });
  }

  leave(): Promise<void> {
    return this.#change(async () => {
      if (this.#membership === undefined && this.#error === '') throw unavailable(NOT_PART);
      // Containers that nobody can remove now would stay for good.
      await this.#deps.client.ping().catch((error: unknown) => Promise.reject(cannotLeave(error)));
      if (this.#membership !== undefined) {
        this.#membership = { ...this.#membership, leaving: true };
        this.#file.write(this.#membership);
      }
      await this.#finishLeaving();
    });
  }

  unlock(unlockKey: Buffer): Promise<void> {
    return this.#change(async () => {
      const membership = this.#membership;
      if (!this.#locked || membership === undefined) throw notLocked();
      try {
        this.#keyFile.unlock(unlockKey);
      } catch (error) {
        throw error instanceof WrongUnlockKey ? wrongUnlockKey() : error;
      }
      await this.stop();
      try {
        await this.#takeUp(membership);
      } catch (error) {
        this.#keyFile.forget();
        await this.stop();
        await this.#takeUp(membership);
        throw unavailable(`swarm component could not be started: ${(error as Error).message}`);
      }
    });
  }

  lockTrouble(): string {
    return this.#manager?.lockTrouble() ?? '';
  }

  async backup(): Promise<Iterable<string>> {
    const [manager, membership, identity] = [this.#manager, this.#membership, this.#identity];
    if (manager === undefined || membership === undefined || identity === undefined) throw unavailable(NOT_PART);
    const { store } = manager;
    const at = timestamp(this.#deps.clock.now());
    return writeBackup({ store, keyFile: this.#keyFile, membership, identity, at });
  }

  restore(chunks: AsyncIterable<Buffer>, request: RestoreRequest): Promise<Restored> {
    return this.#change(async () => {
      if (this.#membership !== undefined) throw unavailable(ALREADY_PART);
      const { options, clock } = this.#deps;
      const backup = await readBackup(chunks);
      await this.#forget();
      try {
        const { membership, identity, restored } = await restoreCluster(backup, {
          request,
          dataDir: options.dataDir,
          keyFile: this.#keyFile,
          addresses: (wanted) => chooseAddresses(wanted, options, networkInterfaces()),
          now: timestamp(clock.now()),
        });
        await this.#become(membership, identity);
        return restored;
      } catch (error) {
        await this.#forget();
        throw error;
      }
    });
  }

  /** The rest of leaving, from wherever it was broken off. Throws what could not be removed: leaving may be asked for again. */
  async #finishLeaving(): Promise<void> {
    const { options, clock, log, client } = this.#deps;
    const membership = this.#membership;
    const last = membership?.keeper === 'outside-etcd' && this.#manager?.isLast === true;
    await this.stop({ left: true });
    if (last) await eraseCluster({ etcd: () => this.#outside(), clusterId: membership.clusterId, log }, ENDED);
    if (membership?.keeper === 'etcd') await this.#sharedState(membership).leave();
    try {
      if (membership !== undefined) await clearHost({ membership, dataDir: options.dataDir, client, clock, log });
    } catch (error) {
      this.#error = `${LEAVING}: ${(error as Error).message}`;
      throw unavailable(this.#error);
    }
    await this.#forget();
    this.#file.remove();
    this.#membership = undefined;
    this.#error = '';
    log.info({}, 'left the swarm');
  }

  /** The etcd that stands elsewhere, if this daemon was started with one. Throws Error that names a file which cannot be read. */
  #outside(): OutsideEtcd | undefined {
    const { options, clock } = this.#deps;
    return options.etcd && new OutsideEtcd(readEtcdSettings(options.etcd), clock);
  }

  /** Its part in what managers share, while no manager runs here. */
  #sharedState(membership: Membership): SharedState {
    const { options, clock, random, log } = this.#deps;
    const own = { membership, dataDir: options.dataDir, keyFile: this.#keyFile, identity: () => this.#identity! };
    return new SharedState({ ...own, removed: () => {}, clock, random, log });
  }

  /** One change at a time; errors of addresses, tokens and managers become what Docker's clients expect. */
  async #change<R>(change: () => Promise<R>): Promise<R> {
    if (this.#changing) throw unavailable(BUSY);
    this.#changing = true;
    try {
      return await change();
    } catch (error) {
      throw asApiError(error);
    } finally {
      this.#changing = false;
    }
  }

  /** Durable first, then running: a start after a crash takes up what the file says. */
  async #become(membership: Membership, identity: Identity, settle = async () => {}): Promise<void> {
    await saveIdentity(this.#deps.options.dataDir, identity);
    this.#file.write(membership);
    this.#membership = membership;
    try {
      await this.#run(membership, identity);
      await settle();
    } catch (error) {
      await this.stop();
      this.#file.remove();
      this.#membership = undefined;
      await this.#forget();
      throw error;
    }
  }

  async #run(written: Membership, identity: Identity): Promise<void> {
    const { options, clock, random, log, client } = this.#deps;
    const around = { dataDir: options.dataDir, clock, random, log };
    const membership = withKeeper(written, { outside: options.etcd !== undefined, placed: this.#keyFile.exists() });
    if (membership === written) this.#membership = membership;
    else this.#write(membership);
    this.#misfit = keeperTrouble(membership, options.etcd);
    if (this.#misfit !== '') log.error({}, this.#misfit);
    this.#locked = membership.role === 'manager' && this.#keyFile.isLocked();
    if (this.#locked) log.warn({}, 'this manager is locked: what the cluster runs here goes on, and nothing else does');
    this.#identity = identity;
    const manages = membership.role === 'manager' && !this.#locked && this.#misfit === '';
    if (manages) await this.#manage(membership, identity);
    this.#node = await NodeParts.start({
      ...around,
      membership,
      identity,
      client,
      remember: (managers) => this.#remember(managers),
      certify: (csr) => this.#manager?.certify(csr),
      mayChangeIssuer: async () => (await this.#manager?.mayChangeIssuer()) ?? true,
      renewed: (next) => {
        this.#identity = next;
        this.#manager?.useIdentity(next);
        void this.#followRole();
      },
    });
    void this.#followRole();
  }

  async #manage(membership: Membership, identity: Identity): Promise<void> {
    const { options, clock, random, log, serveApi } = this.#deps;
    const outside = membership.keeper === 'outside-etcd' ? this.#outside() : undefined;
    this.#manager = await Manager.open(membership, identity, {
      dataDir: options.dataDir,
      keyFile: this.#keyFile,
      ...(outside && { outside }),
      serveApi,
      managers: () => this.#membership?.managers ?? [],
      remember: (change) => this.#write({ ...this.#membership!, ...change }),
      clock,
      random,
      log,
    });
  }

  /**
   * Makes of this node what its certificate says: it was promoted, or demoted. What it runs goes on. Tried again while this node
   * joins or leaves, and after a failure.
   */
  async #followRole(): Promise<void> {
    const { clock, log } = this.#deps;
    if (this.#node === undefined || this.#identity?.role === this.#membership?.role) return;
    try {
      await this.#change(() => this.#takeRole());
    } catch (error) {
      log.warn({ err: error }, 'this node is not yet what it was promoted or demoted to; trying again');
      clock.after(ROLE_RETRY_MS, () => void this.#followRole());
    }
  }

  async #takeRole(): Promise<void> {
    const [identity, membership] = [this.#identity, this.#membership];
    if (identity === undefined || membership === undefined || membership.leaving === true) return;
    if (this.#node === undefined || identity.role === membership.role) return;
    const next = { ...membership, keeper: undefined, ...inRole(identity.role, this.#deps.options.etcd !== undefined) };
    this.#write(next);
    this.#deps.log.info({ role: identity.role }, 'this node has another role now');
    await this.#endManager({ left: true });
    this.#misfit = '';
    if (identity.role === 'manager') await this.#manage(next, identity);
    else {
      removeState(this.#deps.options.dataDir);
      this.#keyFile.forget();
    }
  }

  /** Durable when it returns. */
  #write(membership: Membership): void {
    this.#file.write(membership);
    this.#membership = membership;
  }

  /** Keeps the managers' addresses for the next start. */
  #remember(told: { nodeId: string; address: string }[]): void {
    this.#managerIds = new Map(told.map(({ nodeId, address }) => [address, nodeId]));
    const managers = told.map(({ address }) => address);
    const membership = this.#membership;
    if (membership === undefined || managers.length === 0 || membership.managers.join() === managers.join()) return;
    try {
      this.#write({ ...membership, managers });
    } catch (error) {
      // A full disk must not cost the session that told of them; the next one tells again.
      this.#deps.log.warn({ err: error }, 'cannot write down where the managers are');
    }
  }

  /** Removes what an earlier membership left in the data directory. */
  async #forget(): Promise<void> {
    const { dataDir } = this.#deps.options;
    removeState(dataDir);
    this.#keyFile.forget();
    this.#locked = false;
    this.#misfit = '';
    removeNodeMemory(dataDir);
    await removeIdentity(dataDir);
  }
}
