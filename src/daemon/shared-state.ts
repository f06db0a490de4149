/**
 * A manager's part in the state that several managers share: its member of etcd, and the journal on that. It speaks to its own
 * member only: a manager that is cut off from the others, or whose disk is full, cannot lead through somebody else's.
 */
import { EtcdClient } from '../journal/etcd/client.ts';
import { EtcdJournal } from '../journal/etcd/journal.ts';
import { Keys } from '../journal/etcd/keys.ts';
import type { KeyFile } from '../journal/key-file.ts';
import {
  MAX_REQUEST_BYTES,
  MAX_TXN_OPS,
  peerUrlOf,
  QUOTA_BYTES,
  type MemberSettings,
} from '../journal/member/arguments.ts';
import { connectWith } from '../journal/member/client-api.ts';
import { EtcdMember, type Admit } from '../journal/member/member.ts';
import { Membership as Members } from '../journal/member/membership.ts';
import { Restarts } from '../journal/member/restarts.ts';
import { Upkeep } from '../journal/member/upkeep.ts';
import { SealedSharedJournal } from '../journal/sealed-shared.ts';
import type { SharedJournal } from '../journal/shared.ts';
import type { Clock, Log, Random } from '../model/clock.ts';
import type { Identity } from '../pki/identity.ts';
import { isConfidential } from '../store/snapshot.ts';
import type { Membership } from './membership.ts';

export interface SharedStateDeps {
  membership: Membership;
  dataDir: string;
  keyFile: KeyFile;
  identity: () => Identity;
  /** Called when the other managers have removed this one. */
  removed: () => void;
  clock: Clock;
  random: Random;
  log: Log;
}

/** etcd's usual ones; each host has them once. */
const PORTS = { clientPort: 2379, peerPort: 2380 };
/** The transaction that holds a row of the size that the API takes, and what etcd needs around it. */
const MAX_BYTES = MAX_REQUEST_BYTES / 2;
/** A member that does not answer is to be known soon. */
const PROBE_MS = 700;

export class SharedState {
  readonly kind = 'own';
  readonly member: EtcdMember;
  readonly #deps: SharedStateDeps;
  readonly #settings: MemberSettings;
  #upkeep: Upkeep | undefined;
  #restarts: Restarts | undefined;
  #client: EtcdClient | undefined;

  constructor(deps: SharedStateDeps) {
    const { membership, dataDir, clock, random, log } = deps;
    const { nodeId, clusterId, advertiseAddress } = membership;
    this.#deps = deps;
    this.#settings = { nodeId, clusterId, dataDir, advertiseAddress, ...PORTS };
    this.member = new EtcdMember({
      settings: this.#settings,
      connect: connectWith({ identity: deps.identity, clock }),
      clock,
      random,
      log: log.child({ room: 'journal' }),
      searchPath: process.env['PATH'] ?? '',
      onRemoved: () => deps.removed(),
    });
  }

  /** URL by which the other members reach this one. */
  get peerUrl(): string {
    return peerUrlOf(this.#settings);
  }

  /** Goes on with what the last droverd left, or joins as `admit` says. Resolves when this manager's member runs. */
  async resume(admit: Admit, signal: AbortSignal): Promise<void> {
    const life = await this.member.resume();
    if (life !== 'running') await this.member.join(admit, signal);
  }

  /** The journal on this manager's member, which must run. The caller closes it. */
  async journal(): Promise<SharedJournal> {
    const { membership, keyFile, clock, random, log, identity } = this.#deps;
    const { clusterId } = membership;
    const client = await EtcdClient.make({ endpoints: [this.member.endpoint], identity: identity(), clock });
    this.#client = client;
    const deps = { api: client, clusterId, clock, random, log: log.child({ room: 'journal' }) };
    const journal = new EtcdJournal({ ...deps, maxOps: MAX_TXN_OPS, maxBytes: MAX_BYTES });
    this.#lookAfter(client);
    return new SealedSharedJournal({ journal, name: "the managers' etcd", keyFile, isConfidential });
  }

  /** `client`: the journal's. */
  #lookAfter(client: EtcdClient): void {
    const { membership, clock, log, identity } = this.#deps;
    // Those of an earlier journal: this manager was removed, and has joined anew.
    this.#stopLooking();
    this.#upkeep = new Upkeep({
      connect: connectWith({ identity, clock }),
      endpoint: this.member.endpoint,
      quotaBytes: QUOTA_BYTES,
      clock,
      log: log.child({ room: 'journal' }),
    });
    this.#upkeep.start();
    this.#restarts = new Restarts({
      member: this.member,
      connect: connectWith({ identity, clock }),
      open: (endpoints) => EtcdClient.make({ endpoints, identity: identity(), clock }),
      divert: (endpoints) => client.setEndpoints(endpoints),
      key: new Keys(membership.clusterId).turns,
      clock,
      log: log.child({ room: 'journal' }),
    });
    this.#restarts.start();
  }

  #stopLooking(): void {
    this.#upkeep?.stop();
    this.#restarts?.stop();
  }

  /** Looks after who takes part: to be run by the manager that leads. */
  members(onChange: (nodeId: string) => void): Members {
    const { identity, clock, log } = this.#deps;
    return new Members({
      connect: connectWith({ identity, clock }),
      probe: connectWith({ identity, clock, tryMs: PROBE_MS }),
      endpoints: () => [this.member.endpoint],
      clock,
      log: log.child({ room: 'journal' }),
      onChange,
    });
  }

  useIdentity(identity: Identity): void {
    this.#client?.setIdentity(identity);
    this.#restarts?.look();
  }

  /** Whether the etcd of all managers runs with the root certificate that holds now: see Restarts. */
  async isCurrent(): Promise<boolean> {
    if (this.member.life !== 'running') return true;
    return (await this.#restarts?.isEverywhere()) ?? false;
  }

  /** What does not work, in words. */
  degraded(): string[] {
    return [...this.member.degraded(), ...(this.#upkeep?.degraded() ?? []), ...(this.#restarts?.degraded() ?? [])];
  }

  /** Lets etcd run, and looks after it no longer. The journal is closed before. */
  async detach(): Promise<void> {
    this.#stopLooking();
    await this.member.detach();
  }

  /** Ends this manager's member for good; its data is moved aside. The journal is closed before. */
  async leave(): Promise<void> {
    this.#stopLooking();
    await this.member.leave();
  }
}
