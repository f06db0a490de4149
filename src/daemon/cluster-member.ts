/**
 * This node's part in a cluster: none, worker or manager. Makes, joins and leaves clusters for the API, one at a time, each
 * as a whole: the membership file is written last by those who come and removed last by those who go, so a crash in the middle
 * leaves no half member, and a leave that was broken off goes on.
 */
import { randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { ApiError, badRequest, unavailable } from '../api/errors.ts';
import type { ClusterControl, ClusterState, HostPort, InitRequest, JoinRequest } from '../api/cluster-control.ts';
import type { NodeAttachments } from '../api/node-attachments.ts';
import type { DockerClient } from '../docker/client.ts';
import { nodeCertificateLifeMs } from '../dispatch/join.ts';
import { NoCertificate, requestCertificate } from '../dispatch/request-certificate.ts';
import type { Streams } from '../dispatch/streams.ts';
import { timestamp, type Clock, type Log, type Random } from '../model/clock.ts';
import { newId } from '../model/ids.ts';
import { createCertificateRequest, createRootCa, issueNodeCertificate, type RootCa } from '../pki/authority.ts';
import { loadIdentity, removeIdentity, saveIdentity } from '../pki/files.ts';
import { identityAtAnyTime, identityOf, type Identity } from '../pki/identity.ts';
import { createJoinToken, InvalidToken } from '../pki/token.ts';
import type { Store } from '../store/store.ts';
import { AddressError, DEFAULT_PORT, onlyAddress, parseEndpoint, resolveHost } from './addresses.ts';
import { Manager, managersOf, openState, removeState } from './manager.ts';
import { MembershipFile, type Membership } from './membership.ts';
import { createCluster } from './new-cluster.ts';
import { clearHost, NodeParts, removeNodeMemory } from './node-parts.ts';
import type { Options } from './options.ts';

export interface ClusterMemberDeps {
  options: Options;
  client: DockerClient;
  clock: Clock;
  random: Random;
  log: Log;
}

const ALREADY_PART =
  'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.';
const NOT_PART = 'This node is not part of a swarm';
const LAST_MANAGER =
  'You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message.';
const JOIN_TIMEOUT =
  'Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the "docker info" command to see the current swarm status of your node.';
/** Docker's clients are told after this time that joining goes on by itself. */
const JOIN_MS = 20_000;
const LEAVING = 'This node has not left its swarm in full (use "docker swarm leave --force" to go on)';
const REMOVED =
  'This node has been removed from its swarm. What it runs goes on until "docker swarm leave", after which it can join again.';
const BUSY = 'This node is just joining or leaving a swarm. Try again in a moment.';

export class ClusterMember implements ClusterControl {
  readonly #deps: ClusterMemberDeps;
  readonly #file: MembershipFile;
  #membership: Membership | undefined;
  #manager: Manager | undefined;
  /** Address → node id of the managers, as the last session told. */
  #managerIds: ReadonlyMap<string, string> = new Map();
  #node: NodeParts | undefined;
  #error = '';
  #changing = false;

  constructor(deps: ClusterMemberDeps) {
    this.#deps = deps;
    this.#file = new MembershipFile(deps.options.dataDir);
  }

  /** Takes up the membership of the data directory, if any. A part that cannot start is said in `state()`; it does not throw. */
  async start(): Promise<void> {
    const { options, log } = this.#deps;
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
      const files = await loadIdentity(options.dataDir);
      if (files === undefined) throw new Error(`${options.dataDir}/certificates has no certificate of this node`);
      // Whatever the time is by its certificate: what was assigned runs, and the certificate may be renewed.
      await this.#run(this.#membership, identityAtAnyTime(files));
    } catch (error) {
      this.#error = (error as Error).message;
      log.error({ err: error }, 'this node cannot take part in its cluster');
      await this.stop();
    }
  }

  /** Ends the cluster's parts; what they run goes on. `left`: this node gives up its place in the cluster. Idempotent. */
  async stop({ left = false } = {}): Promise<void> {
    await this.#node?.stop({ left });
    this.#node = undefined;
    const manager = this.#manager;
    this.#manager = undefined;
    await manager?.close();
  }

  store(): Store | undefined {
    return this.#manager?.store;
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
      localNodeState: broken !== '' ? 'error' : this.#changing ? 'pending' : 'active',
      nodeId: membership.nodeId,
      nodeAddress: membership.advertiseAddress,
      manager: this.#manager !== undefined,
      error: broken || session?.error || (this.#node?.warning() ?? ''),
      degraded: this.#node?.degraded() ?? [],
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
      const { advertisePort, ...addresses } = this.#addresses(request);
      const rootCa = await createRootCa(clock.now());
      const [nodeId, clusterId] = [newId(random), newId(random)];
      const identity = await this.#ownIdentity(rootCa, { nodeId, clusterId }, nodeCertificateLifeMs(request.spec));
      const membership: Membership = {
        nodeId,
        clusterId,
        role: 'manager',
        ...addresses,
        managers: [`${addresses.advertiseAddress}:${advertisePort}`],
      };
      await this.#forget();
      const state = await openState(options.dataDir);
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

  join(request: JoinRequest): Promise<void> {
    return this.#change(async () => {
      if (this.#membership !== undefined) throw unavailable(ALREADY_PART);
      const { advertisePort: _, ...addresses } = this.#addresses(request);
      const identity = await this.#certificate(request, addresses.advertiseAddress);
      const membership: Membership = {
        nodeId: identity.nodeId,
        clusterId: identity.clusterId,
        role: identity.role,
        ...addresses,
        managers: request.remoteAddrs.map(({ host, port }) => `${host}:${port}`),
      };
      await this.#forget();
      await this.#become(membership, identity);
      if (!(await this.#node!.connected(JOIN_MS))) throw unavailable(JOIN_TIMEOUT);
    });
  }

  leave(force: boolean): Promise<void> {
    return this.#change(async () => {
      if (this.#membership === undefined && this.#error === '') throw unavailable(NOT_PART);
      if (this.#membership?.role === 'manager' && !force) throw unavailable(LAST_MANAGER);
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

  /** The rest of leaving, from wherever it was broken off. Throws what could not be removed: leaving may be asked for again. */
  async #finishLeaving(): Promise<void> {
    const { options, clock, log, client } = this.#deps;
    const membership = this.#membership;
    await this.stop({ left: true });
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

  /** One change at a time; errors of addresses, tokens and managers become what Docker's clients expect. */
  async #change<R>(change: () => Promise<R>): Promise<R> {
    if (this.#changing) throw unavailable(BUSY);
    this.#changing = true;
    try {
      return await change();
    } catch (error) {
      if (error instanceof AddressError || error instanceof InvalidToken) throw badRequest(error.message);
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
    const manager = membership.role === 'manager' ? await Manager.open(membership, identity, around) : undefined;
    this.#manager = manager;
    this.#node = await NodeParts.start({
      ...around,
      membership,
      identity,
      client,
      remember: (managers) => this.#remember(managers),
      certify: manager && ((csr) => manager.certify(csr)),
      renewed: (next) => manager?.useIdentity(next),
    });
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
    removeNodeMemory(dataDir);
    await removeIdentity(dataDir);
  }

  async #ownIdentity(rootCa: RootCa, ids: { nodeId: string; clusterId: string }, lifeMs: number): Promise<Identity> {
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

  /** What to listen on and what to tell others: the request's, else the flags', else the only address there is. */
  #addresses(request: Pick<InitRequest | JoinRequest, 'listenAddr' | 'advertiseAddr' | 'dataPathAddr'>) {
    const { options } = this.#deps;
    const interfaces = networkInterfaces();
    const listen: HostPort = request.listenAddr ?? parseEndpoint(options.listenAddr, interfaces);
    const listenPort = listen.port ?? DEFAULT_PORT;
    const listenHost = resolveHost(listen.host, interfaces);
    const advertise =
      request.advertiseAddr ??
      (options.advertiseAddr === '' ? undefined : parseEndpoint(options.advertiseAddr, interfaces, listenPort));
    const advertiseAddress =
      advertise !== undefined
        ? resolveHost(advertise.host, interfaces)
        : listenHost === '0.0.0.0'
          ? onlyAddress(interfaces)
          : listenHost;
    const dataPath = request.dataPathAddr ?? options.dataPathAddr;
    return {
      listenAddress: `${listenHost}:${listenPort}`,
      advertiseAddress,
      advertisePort: advertise?.port ?? listenPort,
      dataPathAddress: dataPath === '' ? advertiseAddress : resolveHost(dataPath, interfaces),
    };
  }
}
