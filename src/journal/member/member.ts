/**
 * This node's member of the etcd that managers share: starts, watches and stops Debian's `etcd`, and takes it through its
 * lives (first of a new cluster, joining, leaving, alone after the loss of the others). Each life may be broken off at any
 * point, by `kill -9` too: `resume` at the next start of droverd finishes it. etcd itself lives on while droverd is away.
 * It has its own ports and its own data; another etcd of this host is never touched.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Clock, Log, Random } from '../../model/clock.ts';
import { newId } from '../../model/ids.ts';
import { endpointOf, EtcdRefused, EtcdUnreachable, type Connect, type Member, type MemberApi } from './api.ts';
import { clientUrlOf, etcdArguments, peerUrlOf, type Launch, type MemberSettings, type Peer } from './arguments.ts';
import { EtcdUnusable, findEtcd, type EtcdBinary } from './binary.ts';
import { MemberFiles, type MemberState } from './state.ts';
import { endOn, MemberRemoved, Supervisor } from './supervisor.ts';

const READY_MS = 30_000;
const READY_POLL_MS = 50;
const ADMIT_PAUSE_MS = 500;
/** A first start that fails this often in a row is given up: what it was told is not true (any more). */
const HOPELESS = 3;
const NAME_LENGTH = 8;

export interface MemberDeps {
  settings: MemberSettings;
  connect: Connect;
  clock: Clock;
  random: Random;
  log: Log;
  /** As `$PATH`. */
  searchPath: string;
  /** Called when the other managers have removed this member; its data has been moved aside by then. */
  onRemoved?(): void;
}

/** Who asks to be admitted. */
export type Candidate = Peer;

/**
 * Asks the leader to let this one take part: resolves with all who do, the candidate among them. May be asked several times
 * with the same candidate.
 */
export type Admit = (candidate: Candidate, signal: AbortSignal) => Promise<readonly Peer[]>;

/** What this node's member is in, or `none`. */
export type Life = MemberState['phase'] | 'none';

export class EtcdMember {
  readonly #deps: MemberDeps;
  readonly #files: MemberFiles;
  readonly #supervisor: Supervisor;
  #api: MemberApi | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  /** Ends a life's waiting without undoing it: the next `resume` or `join` goes on. */
  #interrupt = new AbortController();

  constructor(deps: MemberDeps) {
    this.#deps = deps;
    this.#files = new MemberFiles(deps.settings.dataDir);
    const binary = async () => (await findEtcd(deps.searchPath)).path;
    this.#supervisor = new Supervisor({ ...deps, binary });
  }

  /** As the disk has it. @throws JournalDamaged */
  get life(): Life {
    return this.#files.read()?.phase ?? 'none';
  }

  /** `<nodeId>-<random>`; undefined without a member. */
  get name(): string | undefined {
    return this.#files.read()?.name;
  }

  get pid(): number | undefined {
    return this.#supervisor.pid;
  }

  /** host:port at which this node's etcd serves managers. */
  get endpoint(): string {
    return endpointOf(clientUrlOf(this.#deps.settings));
  }

  /** What does not work here, in words. */
  degraded(): string[] {
    const { trouble } = this.#supervisor;
    return trouble === undefined ? [] : [`this manager's etcd does not run: ${trouble}`];
  }

  /**
   * Whether this node could run a member. Changes nothing. Rejects with EtcdUnusable: no etcd or one that is too old, ports
   * in use, a certificate that does not bear the advertise address.
   */
  async preflight(): Promise<EtcdBinary> {
    const binary = await findEtcd(this.#deps.searchPath);
    await this.#checkCertificate();
    if (this.#supervisor.pid === undefined) await this.#checkPorts();
    return binary;
  }

  /** Makes a new cluster of this member alone. Resolves when it takes writes. If it cannot, nothing of it is left. */
  bootstrap(): Promise<void> {
    return this.#exclusively(async () => {
      const state = this.#files.read();
      if (state?.phase === 'running') return;
      if (state !== undefined && state.phase !== 'bootstrapping') throw wrongLife('begin a new cluster', state);
      if (state === undefined) await this.preflight();
      const name = state?.name ?? this.#newName();
      this.#files.write({ phase: 'bootstrapping', name });
      await this.#bootstrap(name);
    });
  }

  /**
   * Joins the cluster of the other managers: asks to be admitted, follows as a learner, and resolves when it has a vote. Goes on
   * until then; begins anew if the others evict it meanwhile. Aborted, it undoes itself and rejects with the signal's reason.
   */
  join(admit: Admit, signal: AbortSignal): Promise<void> {
    return this.#exclusively(async () => {
      const state = this.#files.read();
      if (state?.phase === 'running') return;
      if (state !== undefined && state.phase !== 'joining') throw wrongLife('join', state);
      if (state === undefined) await this.preflight();
      await this.#join(state ?? { phase: 'joining', name: this.#newName() }, admit, signal);
    });
  }

  /**
   * At the start of droverd: goes on with whatever the last one left, adopting an etcd that still runs. Resolves with what is
   * there then; with `running` as soon as etcd was started, whether or not the other managers answer. `joining` is resumed by
   * calling `join`.
   */
  resume(): Promise<Life> {
    return this.#exclusively(async () => {
      const state = this.#files.read();
      if (state?.phase === 'bootstrapping') await this.#bootstrap(state.name);
      else if (state?.phase === 'running') await this.#run(state.name);
      else if (state?.phase === 'forcing') await this.#force(state.name);
      else if (state?.phase === 'leaving') await this.#putAside(state.name);
      return this.life;
    });
  }

  /** Ends this member and moves its data aside. To be called when the others have removed it, or nobody counts on it. */
  leave(): Promise<void> {
    return this.#exclusively(async () => {
      const state = this.#files.read();
      if (state !== undefined) await this.#putAside(state.name);
    });
  }

  /**
   * After the loss of the majority: this member goes on alone with all that its disk has. The others, should they come back,
   * find themselves removed. Resolves when it takes writes.
   */
  forceNewCluster(): Promise<void> {
    return this.#exclusively(async () => {
      const state = this.#files.read();
      if (state?.phase !== 'running' && state?.phase !== 'forcing') throw wrongLife('go on alone', state);
      await findEtcd(this.#deps.searchPath);
      this.#files.write({ phase: 'forcing', name: state.name });
      await this.#force(state.name);
    });
  }

  /** Ends etcd in order; the member stays what it is. */
  stop(): Promise<void> {
    return this.#interrupting(async () => {
      await this.#supervisor.stop();
      const name = this.#files.read()?.name;
      if (name !== undefined) await endOn(this.#files.data(name), this.#deps.clock);
      this.#closeApi();
    });
  }

  /** Lets etcd run, and looks after it no longer: droverd ends, the state stays at hand. */
  detach(): Promise<void> {
    return this.#interrupting(async () => {
      await this.#supervisor.detach();
      this.#closeApi();
    });
  }

  /**
   * Whether etcd runs with what holds now; false after the root certificate has changed, which etcd reads only when it
   * starts, or after an upgrade of droverd with other flags. A node's own certificate it reads by itself.
   */
  async upToDate(): Promise<boolean> {
    const state = this.#files.read();
    if (state?.phase !== 'running') return true;
    return !this.#supervisor.runsOtherwise(await this.#flags(this.#runningLaunch(state.name)));
  }

  /** Tells the root certificate that holds now from any other. */
  async rootDigest(): Promise<string> {
    return (await this.#root()).digest;
  }

  /** Ends etcd and starts it again, so that it is up to date. The caller knows that the others can do without it. */
  restart(): Promise<void> {
    return this.#exclusively(async () => {
      const state = this.#files.read();
      if (state?.phase !== 'running') throw wrongLife('restart', state);
      await this.#supervisor.stop();
      await this.#run(state.name);
      await this.#until((api) => api.status(), READY_MS);
    });
  }

  async #bootstrap(name: string): Promise<void> {
    const launch: Omit<Launch, 'rootFile'> = { ...this.#place(name), peers: [this.#self(name)], state: 'new' };
    try {
      await this.#start(name, launch);
      await this.#until((api) => api.agreedRevision(), READY_MS);
    } catch (error) {
      if (error instanceof Interrupted) throw error;
      await this.#supervisor.stop();
      this.#files.discard(name);
      throw error;
    }
    this.#files.write({ phase: 'running', name });
    await this.#run(name);
  }

  async #join(begun: MemberState & { phase: 'joining' }, admit: Admit, signal: AbortSignal): Promise<void> {
    let state = begun;
    this.#files.write(state);
    for (;;) {
      try {
        signal.throwIfAborted();
        if (state.peers === undefined) {
          const peers = await this.#unlessInterrupted(admit(this.#self(state.name), signal));
          state = { ...state, peers: [...peers] };
          this.#files.write(state);
        }
        await this.#start(state.name, { ...this.#place(state.name), peers: state.peers!, state: 'existing' });
        await this.#untilVoter(signal);
        break;
      } catch (error) {
        if (error instanceof Interrupted) throw error;
        await this.#supervisor.stop();
        if (signal.aborted || error instanceof EtcdUnusable) {
          this.#files.discard(state.name);
          throw signal.aborted ? signal.reason : error;
        }
        state = this.#afterFailure(state, error);
        await this.#pause(ADMIT_PAUSE_MS);
      }
    }
    this.#files.write({ phase: 'running', name: state.name });
    await this.#run(state.name);
  }

  /** With what to try again: anew from the start if the others have thrown this one out, with news of the others otherwise. */
  #afterFailure(state: MemberState & { phase: 'joining' }, error: unknown): MemberState & { phase: 'joining' } {
    this.#deps.log.warn(
      { err: error, name: state.name },
      'joining the other managers’ etcd has failed; it is tried again',
    );
    let { name } = state;
    if (error instanceof MemberRemoved) {
      this.#files.discard(name);
      name = this.#newName();
    }
    const next = { phase: 'joining', name } as const;
    this.#files.write(next);
    return next;
  }

  async #force(name: string): Promise<void> {
    await this.#supervisor.stop();
    await endOn(this.#files.data(name), this.#deps.clock);
    const local = `127.0.0.1:${this.#deps.settings.clientPort}`;
    await this.#start(name, { ...this.#runningLaunch(name), forceNewCluster: true }, local);
    await this.#until(async (api) => {
      await api.agreedRevision();
      const [self, ...others] = await api.members();
      if (others.length > 0) throw new EtcdUnreachable('other members have not been removed yet');
      await this.#correctPeerUrl(api, self!);
    }, READY_MS);
    await this.#supervisor.stop();
    this.#files.write({ phase: 'running', name });
    await this.#run(name);
    await this.#until((api) => api.agreedRevision(), READY_MS);
  }

  /** The machine may have another address than when it joined: who joins it later would not find it. */
  async #correctPeerUrl(api: MemberApi, self: Member): Promise<void> {
    const now = peerUrlOf(this.#deps.settings);
    if (self.peerUrls.length !== 1 || self.peerUrls[0] !== now) await api.setPeerUrl(self.id, now);
  }

  async #putAside(name: string): Promise<void> {
    this.#files.write({ phase: 'leaving', name });
    await this.#supervisor.stop();
    await endOn(this.#files.data(name), this.#deps.clock);
    this.#closeApi();
    this.#files.putAside(name);
  }

  async #run(name: string): Promise<void> {
    await this.#start(name, this.#runningLaunch(name));
  }

  async #start(name: string, launch: Omit<Launch, 'rootFile'>, endpoint = this.endpoint): Promise<void> {
    const orders = { flags: () => this.#flags(launch), folder: launch.folder, logFile: this.#files.log(name) };
    this.#closeApi();
    this.#api = this.#deps.connect([endpoint]);
    await this.#supervisor.start(orders, () => this.#wasRemoved(name));
  }

  #wasRemoved(name: string): void {
    const aside = this.#exclusively(async () => {
      const state = this.#files.read();
      // While it joins, `join` itself sees it and begins anew.
      if (state?.phase !== 'running' || state.name !== name) return;
      await this.#putAside(name);
      this.#deps.onRemoved?.();
    });
    aside.catch((error: unknown) => this.#deps.log.error({ err: error }, 'data of a removed member stays where it is'));
  }

  #place(name: string): Pick<Launch, 'name' | 'folder'> {
    return { name, folder: this.#files.data(name) };
  }

  #self(name: string): Peer {
    return { name, peerUrl: peerUrlOf(this.#deps.settings) };
  }

  /** `existing`: a member whose data is lost must not begin an empty cluster of its own. */
  #runningLaunch(name: string): Omit<Launch, 'rootFile'> {
    return { ...this.#place(name), peers: [this.#self(name)], state: 'existing' };
  }

  async #flags(launch: Omit<Launch, 'rootFile'>): Promise<string[]> {
    const { certificate, digest } = await this.#root();
    return etcdArguments(this.#deps.settings, { ...launch, rootFile: this.#files.root(certificate, digest) });
  }

  async #root(): Promise<{ certificate: string; digest: string }> {
    const certificate = await readFile(join(this.#certificates, 'swarm-root-ca.crt'), 'utf8');
    return { certificate, digest: createHash('sha256').update(certificate).digest('hex').slice(0, 12) };
  }

  /** Until etcd here answers `ask`. Rejects with MemberRemoved, or when it has failed for `waitMs` or too often. */
  async #until<T>(ask: (api: MemberApi) => Promise<T>, waitMs: number, signal?: AbortSignal): Promise<T> {
    const { clock } = this.#deps;
    const deadline = clock.monotonic() + waitMs;
    for (;;) {
      signal?.throwIfAborted();
      this.#interrupt.signal.throwIfAborted();
      if (this.#supervisor.removed) throw new MemberRemoved('the other managers have removed this member');
      try {
        return await ask(this.#api!);
      } catch (error) {
        if (!(error instanceof EtcdUnreachable || error instanceof EtcdRefused)) throw error;
        const { trouble, failures } = this.#supervisor;
        if (failures >= HOPELESS || clock.monotonic() > deadline)
          throw new Error(`etcd does not come up: ${trouble ?? error.message}`, { cause: error });
      }
      await this.#pause(READY_POLL_MS);
    }
  }

  /** However long it takes to catch up: the leader evicts a learner that gets nowhere. */
  async #untilVoter(signal: AbortSignal): Promise<void> {
    const isVoter = async (api: MemberApi) => {
      if ((await api.status()).learner) throw new EtcdUnreachable('it has no vote yet');
    };
    await this.#until(isVoter, Infinity, signal);
  }

  get #certificates(): string {
    return join(this.#deps.settings.dataDir, 'certificates');
  }

  async #checkCertificate(): Promise<void> {
    const { advertiseAddress } = this.#deps.settings;
    const certificate = new X509Certificate(await readFile(join(this.#certificates, 'swarm-node.crt')));
    if (certificate.checkIP(advertiseAddress) !== undefined) return;
    throw new EtcdUnusable(
      `the certificate of this node does not bear the address ${advertiseAddress}, at which the other managers are to reach its etcd`,
    );
  }

  async #checkPorts(): Promise<void> {
    const { advertiseAddress, listenAddress = advertiseAddress, clientPort, peerPort } = this.#deps.settings;
    for (const port of [clientPort, peerPort]) {
      const error = await bindError(listenAddress, port);
      if (error === undefined) continue;
      const reason = error.code === 'EADDRINUSE' ? 'it is in use, perhaps by another etcd' : error.message;
      throw new EtcdUnusable(`etcd cannot listen on ${listenAddress} port ${port}: ${reason}`);
    }
  }

  #newName(): string {
    return `${this.#deps.settings.nodeId}-${newId(this.#deps.random).slice(0, NAME_LENGTH)}`;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#deps.clock.after(ms, resolve));
  }

  #closeApi(): void {
    this.#api?.close();
    this.#api = undefined;
  }

  #unlessInterrupted<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#interrupt;
    const interrupted = new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Interrupted), { once: true });
    });
    return Promise.race([work, interrupted]);
  }

  /** As `#exclusively`, and a life that waits for others waits no longer. */
  #interrupting<T>(work: () => Promise<T>): Promise<T> {
    this.#interrupt.abort(new Interrupted('droverd looks after its etcd no longer'));
    return this.#exclusively(() => {
      this.#interrupt = new AbortController();
      return work();
    });
  }

  /** Lives take turns. */
  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }
}

/** `stop` or `detach` came while a life waited for others. */
class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

function wrongLife(what: string, state: MemberState | undefined): Error {
  return new Error(
    `this node's etcd cannot ${what}: ${state === undefined ? 'it has no member' : `it is ${state.phase}`}`,
  );
}

function bindError(host: string, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
