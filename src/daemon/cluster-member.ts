/**
 * This node's part in a cluster: none, worker or manager. Makes, joins and leaves clusters for the API, one at a time, each
 * as a whole: the membership file is written last by those who come and removed last by those who go, so a crash in the middle
 * leaves no half member, and a leave that was broken off goes on.
 */
import { randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import type { Duplex } from 'node:stream';
import { ApiError, badRequest, unavailable } from '../api/errors.ts';
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
import { nodeCertificateLifeMs } from '../dispatch/join.ts';
import { NoCertificate, requestCertificate } from '../dispatch/request-certificate.ts';
import type { Streams } from '../dispatch/streams.ts';
import { WrongUnlockKey, type KeyFile } from '../journal/key-file.ts';
import { timestamp, type Clock, type Log, type Random } from '../model/clock.ts';
import { newId } from '../model/ids.ts';
import { createCertificateRequest, createRootCa, issueNodeCertificate, type RootCa } from '../pki/authority.ts';
import { loadIdentity, removeIdentity, saveIdentity } from '../pki/files.ts';
import { identityAtAnyTime, identityOf, type Identity } from '../pki/identity.ts';
import { createJoinToken, InvalidToken } from '../pki/token.ts';
import { createUnlockKey, parseUnlockKey } from '../pki/unlock-key.ts';
import type { Store } from '../store/store.ts';
import { AddressError, chooseAddresses } from './addresses.ts';
import { BackupRefused, readBackup, writeBackup } from './backup.ts';
import { demoteOthers, keyFileOf, Manager, managersOf, openState, removeState } from './manager.ts';
import { MembershipFile, type Membership } from './membership.ts';
import { createCluster } from './new-cluster.ts';
import { SharedState } from './shared-state.ts';
import { clearHost, NodeParts, removeNodeMemory } from './node-parts.ts';
import type { Options } from './options.ts';
import { restoreCluster } from './restore.ts';

export interface ClusterMemberDeps {
  options: Options;
  client: DockerClient;
  /** Serves the API to another manager over a stream. */
  serveApi: (stream: Duplex) => void;
  clock: Clock;
  random: Random;
  log: Log;
}

const ALREADY_PART =
  'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.';
const NOT_PART = 'This node is not part of a swarm';
const JOIN_TIMEOUT =
  'Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the "docker info" command to see the current swarm status of your node.';
/** Docker's clients are told after this time that joining goes on by itself. */
const JOIN_MS = 20_000;
const LEAVING = 'This node has not left its swarm in full (use "docker swarm leave --force" to go on)';
const REMOVED =
  'This node has been removed from its swarm. What it runs goes on until "docker swarm leave", after which it can join again.';
const NOT_MANAGER = 'This node is not a swarm manager, or is locked: it has no state to go on with.';
const NOT_ALONE_YET =
  'This manager does not lead yet. It goes on in the background; ask again with --force-new-cluster until it does.';
/** How long a manager that goes on alone has to be elected. */
const LEAD_MS = 20_000;
const ROLE_RETRY_MS = 1_000;
const BUSY = 'This node is just joining or leaving a swarm. Try again in a moment.';

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
    const membership = this.#membership;
    if (membership === undefined) {
      const state = this.#error === '' ? 'inactive' : 'error';
      return {
        localNodeState: state,
        nodeId: '',
        nodeAddress: '',
        manager: false,
        error: this.#error,
        degraded: [],
        remoteManagers: [],
      };
    }
    const session = this.#node?.session();
    const broken = this.#error || (session?.phase === 'removed' ? REMOVED : (this.#node?.certificateError() ?? ''));
    const managers = this.#manager === undefined ? [] : managersOf(this.#manager.store);
    return {
      localNodeState: broken !== '' ? 'error' : this.#changing ? 'pending' : this.#locked ? 'locked' : 'active',
      nodeId: membership.nodeId,
      nodeAddress: membership.advertiseAddress,
      manager: this.#manager !== undefined,
      error: broken || session?.error || (this.#node?.warning() ?? ''),
      degraded: [...(this.#manager?.degraded() ?? []), ...(this.#node?.degraded() ?? [])],
      remoteManagers:
        this.#manager === undefined
          ? membership.managers.map((address) => ({ NodeID: this.#managerIds.get(address) ?? '', Addr: address }))
          : managers.map(({ nodeId, address }) => ({ NodeID: nodeId, Addr: address })),
    };
  }

  init(request: InitRequest): Promise<string> {
    return this.#change(async () => {
      if (this.#membership !== undefined) throw unavailable(ALREADY_PART);
      const { options, clock, random } = this.#deps;
      const { advertisePort, ...addresses } = chooseAddresses(request, this.#deps.options, networkInterfaces());
      const rootCa = await createRootCa(clock.now());
      const [nodeId, clusterId] = [newId(random), newId(random)];
      const subject = { nodeId, clusterId, addresses: [addresses.advertiseAddress] };
      const identity = await this.#ownIdentity(rootCa, subject, nodeCertificateLifeMs(request.spec));
      const managerAddress = `${addresses.advertiseAddress}:${advertisePort}`;
      const membership: Membership = {
        nodeId,
        clusterId,
        role: 'manager',
        ...addresses,
        managerAddress,
        managers: [managerAddress],
      };
      await this.#forget();
      const unlockKey = request.spec.EncryptionConfig.AutoLockManagers ? createUnlockKey(randomBytes) : undefined;
      if (unlockKey !== undefined) this.#keyFile.lockWith(parseUnlockKey(unlockKey));
      const state = await openState(options.dataDir, this.#keyFile);
      try {
        await state.store.update((tx) =>
          createCluster(tx, {
            ...request,
            nodeId,
            clusterId,
            ingressId: newId(random),
            rootCa,
            joinTokens: {
              worker: createJoinToken(rootCa.certificate, randomBytes),
              manager: createJoinToken(rootCa.certificate, randomBytes),
            },
            ...(unlockKey === undefined ? {} : { unlockKey }),
            managerAddress: membership.managers[0]!,
            now: timestamp(clock.now()),
          }),
        );
      } finally {
        await state.close();
      }
      await this.#become(membership, identity);
      return nodeId;
    });
  }

  forceNewCluster(): Promise<string> {
    return this.#change(async () => {
      const [identity, membership] = [this.#identity, this.#membership];
      if (identity === undefined || membership?.role !== 'manager' || this.#locked) throw unavailable(NOT_MANAGER);
      const manager = this.#manager;
      this.#manager = undefined;
      await manager?.close();
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
      const { advertisePort, ...addresses } = chooseAddresses(request, this.#deps.options, networkInterfaces());
      const identity = await this.#certificate(request, addresses.advertiseAddress);
      const membership: Membership = {
        nodeId: identity.nodeId,
        clusterId: identity.clusterId,
        ...inRole(identity.role),
        ...addresses,
        managerAddress: `${addresses.advertiseAddress}:${advertisePort}`,
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
      const { client } = this.#deps;
      // Containers that nobody can remove now would stay for good.
      await client.ping().catch((error: unknown) => {
        throw unavailable(
          `This node cannot leave the swarm now, because its containers have to be removed: ${(error as Error).message}`,
        );
      });
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
    await this.stop({ left: true });
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

  /** Its part in what managers share, while no manager runs here. */
  #sharedState(membership: Membership): SharedState {
    const { options, clock, random, log } = this.#deps;
    const { dataDir } = options;
    const identity = () => this.#identity!;
    return new SharedState({
      membership,
      dataDir,
      keyFile: this.#keyFile,
      identity,
      removed: () => {},
      clock,
      random,
      log,
    });
  }

  /** One change at a time; errors of addresses, tokens and managers become what Docker's clients expect. */
  async #change<R>(change: () => Promise<R>): Promise<R> {
    if (this.#changing) throw unavailable(BUSY);
    this.#changing = true;
    try {
      return await change();
    } catch (error) {
      if (error instanceof AddressError || error instanceof InvalidToken || error instanceof BackupRefused)
        throw badRequest(error.message);
      // A wrong token is bad input to Docker's clients, whatever the manager calls it.
      if (error instanceof NoCertificate)
        throw new ApiError(error.status === 403 ? 400 : (error.status ?? 503), error.message);
      throw error;
    } finally {
      this.#changing = false;
    }
  }

  /** Durable first, then running: a start after a crash takes up what the file says. */
  async #become(membership: Membership, identity: Identity): Promise<void> {
    await saveIdentity(this.#deps.options.dataDir, identity);
    this.#file.write(membership);
    this.#membership = membership;
    try {
      await this.#run(membership, identity);
    } catch (error) {
      await this.stop();
      this.#file.remove();
      this.#membership = undefined;
      await this.#forget();
      throw error;
    }
  }

  async #run(membership: Membership, identity: Identity): Promise<void> {
    const { options, clock, random, log, client } = this.#deps;
    const around = { dataDir: options.dataDir, clock, random, log };
    this.#membership = membership;
    this.#locked = membership.role === 'manager' && this.#keyFile.isLocked();
    if (this.#locked) log.warn({}, 'this manager is locked: what the cluster runs here goes on, and nothing else does');
    this.#identity = identity;
    if (membership.role === 'manager' && !this.#locked) await this.#manage(membership, identity);
    this.#node = await NodeParts.start({
      ...around,
      membership,
      identity,
      client,
      remember: (managers) => this.#remember(managers),
      certify: (csr) => this.#manager?.certify(csr),
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
    this.#manager = await Manager.open(membership, identity, {
      dataDir: options.dataDir,
      keyFile: this.#keyFile,
      serveApi,
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
    const next = { ...membership, keeper: undefined, ...inRole(identity.role) };
    this.#write(next);
    this.#deps.log.info({ role: identity.role }, 'this node has another role now');
    const manager = this.#manager;
    this.#manager = undefined;
    await manager?.close({ left: true });
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
    const next = { ...membership, managers };
    try {
      this.#file.write(next);
      this.#membership = next;
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
    removeNodeMemory(dataDir);
    await removeIdentity(dataDir);
  }

  async #ownIdentity(
    rootCa: RootCa,
    ids: { nodeId: string; clusterId: string; addresses: string[] },
    lifeMs: number,
  ): Promise<Identity> {
    const now = this.#deps.clock.now();
    const { key, csr } = await createCertificateRequest();
    const certificate = await issueNodeCertificate(rootCa, csr, { ...ids, role: 'manager' }, now, lifeMs);
    return identityOf({ certificate, key, rootCertificate: rootCa.certificate }, now);
  }

  /** Asks each manager in turn; a refusal counts, one that cannot be reached gives way to the next. */
  async #certificate(request: JoinRequest, advertiseAddress: string): Promise<Identity> {
    const { clock } = this.#deps;
    let failure: unknown;
    for (const { host, port } of request.remoteAddrs) {
      try {
        const { joinToken: token, availability } = request;
        return await requestCertificate({
          address: `${host}:${port}`,
          token,
          availability,
          advertiseAddress,
          clock,
          timeoutMs: JOIN_MS,
        });
      } catch (error) {
        if (!(error instanceof NoCertificate) || error.status !== undefined) throw error;
        failure = error;
      }
    }
    throw failure;
  }
}

/** A manager that joins others has its part in what they share; a worker keeps no state. */
function inRole(role: Membership['role']): Pick<Membership, 'role' | 'keeper'> {
  return role === 'manager' ? { role, keeper: 'etcd' } : { role };
}
