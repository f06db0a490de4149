/**
 * Who takes part in the etcd that managers share, looked after by the manager that leads: admits one learner at a time, gives
 * it its vote when it has caught up, evicts one that gets nowhere, removes members of removed nodes unless that would lose the
 * quorum, and knows within about 2 s which members answer.
 */
import type { Clock, Log, Timer } from '../../model/clock.ts';
import {
  addressOf,
  endpointOf,
  EtcdRefused,
  EtcdUnreachable,
  type Connect,
  type Member,
  type MemberApi,
  type MemberStatus,
} from './api.ts';
import type { Peer } from './arguments.ts';
import { afterLook, afterProbe, isReachable, isStalled, quorumAfter, type Probes, type Progress } from './quorum.ts';

const ROUND_MS = 500;
const RETRY_MS = 200;
const STALL_MS = 5 * 60_000;
/** A removal whose outcome is not known is looked after for this long. */
const REMOVE_MS = 10_000;

export interface MembershipDeps {
  connect: Connect;
  /** As `connect`, with a short deadline (0.7 s: silence is then known after 2 s). */
  probe: Connect;
  /** host:port of members that may answer, this node's own first. */
  endpoints(): readonly string[];
  clock: Clock;
  log: Log;
  /** How long a learner may get nowhere before it is evicted. */
  stallMs?: number;
  /** Called when `answers(nodeId)` has changed. */
  onChange?: (nodeId: string) => void;
}

/** It would leave too few members that answer; nothing was changed. The text is Docker's. */
export class QuorumLoss extends Error {
  override readonly name = 'QuorumLoss';

  constructor() {
    super("can't remove member from the raft: this would result in a loss of quorum");
  }
}

/** Another member that answers has the candidate's address. */
export class AddressTaken extends Error {
  override readonly name = 'AddressTaken';
}

interface Known {
  member: Member;
  probes: Probes;
  progress?: Progress;
  api?: MemberApi;
}

/** The node that a member's name tells of. */
export function nodeOf(memberName: string): string {
  return memberName.slice(0, Math.max(0, memberName.lastIndexOf('-')));
}

export class Membership {
  readonly #deps: MembershipDeps;
  readonly #api: MemberApi;
  #known = new Map<string, Known>();
  /** Learners that this leader has admitted and that have not been started yet: id → the name they will have. */
  readonly #admitted = new Map<string, string>();
  #timer: Timer | undefined;
  #round: Promise<void> = Promise.resolve();
  #stopped = true;

  constructor(deps: MembershipDeps) {
    this.#deps = deps;
    this.#api = deps.connect(deps.endpoints());
  }

  start(): void {
    this.#stopped = false;
    this.#round = this.#runRound();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#round;
    this.#api.close();
    for (const { api } of this.#known.values()) api?.close();
  }

  /** All members, as of the last round. */
  get members(): readonly Member[] {
    return [...this.#known.values()].map(({ member }) => member);
  }

  /** Whether a node's member answers; undefined: it has none, or has not been asked often enough. */
  answers(nodeId: string): boolean | undefined {
    for (const { member, probes } of this.#known.values())
      if (nodeOf(member.name) === nodeId) return isReachable(probes);
    return undefined;
  }

  /**
   * Lets `candidate` take part as a learner and resolves with all who take part then. Waits while another one is learning, and
   * while etcd does not answer. The same candidate may ask again. An earlier member of the same node is removed first.
   * Rejects with the signal's reason, QuorumLoss, or AddressTaken.
   */
  async admit(candidate: Peer, signal: AbortSignal): Promise<Peer[]> {
    for (;;) {
      signal.throwIfAborted();
      try {
        const peers = await this.#tryToAdmit(candidate);
        if (peers !== undefined) return peers;
      } catch (error) {
        if (!(error instanceof EtcdUnreachable || error instanceof EtcdRefused)) throw error;
        this.#deps.log.info({ err: error, member: candidate.name }, 'a manager’s etcd is admitted later');
      }
      await this.#pause(RETRY_MS);
    }
  }

  /**
   * Removes the member of a node that is no manager any more: that whose name is of the node and whose address is `address`. There
   * need be none. Rejects with QuorumLoss, or EtcdUnreachable if the members do not agree in time.
   */
  async remove(node: { nodeId: string; address: string }): Promise<void> {
    const deadline = this.#deps.clock.monotonic() + REMOVE_MS;
    for (;;) {
      try {
        const members = await this.#api.members();
        const one = members.find((member) => this.#isOf(member, node));
        if (one === undefined) return;
        await this.#removeGuarded(one, members);
      } catch (error) {
        const later = error instanceof EtcdUnreachable || error instanceof EtcdRefused;
        if (!later || this.#deps.clock.monotonic() > deadline) throw error;
        await this.#pause(RETRY_MS);
      }
    }
  }

  /** One try; undefined: not yet. */
  async #tryToAdmit(candidate: Peer): Promise<Peer[] | undefined> {
    const members = await this.#api.members();
    const there = members.find(({ peerUrls }) => peerUrls.includes(candidate.peerUrl));
    if (there !== undefined && (there.name || this.#admitted.get(there.id)) === candidate.name)
      return peersOf(members, there.id, candidate);
    if (there !== undefined && there.name !== '' && (await this.#isAlive(there)))
      throw new AddressTaken(`${candidate.peerUrl} is the address of ${there.name}, a manager that answers`);
    const earlier = there ?? members.find(({ name }) => nodeOf(name) === nodeOf(candidate.name));
    if (earlier !== undefined) {
      await this.#removeGuarded(earlier, members);
      return undefined;
    }
    if (members.some(({ learner }) => learner)) return undefined;
    const { added, members: all } = await this.#api.addLearner(candidate.peerUrl);
    this.#admitted.set(added.id, candidate.name);
    this.#deps.log.info({ member: candidate.name }, 'a manager’s etcd takes part as a learner');
    return peersOf(all, added.id, candidate);
  }

  async #isAlive({ id, clientUrls }: Member): Promise<boolean> {
    const api = this.#deps.probe(clientUrls.map(endpointOf));
    try {
      return (await api.status()).memberId === id;
    } catch {
      return false;
    } finally {
      api.close();
    }
  }

  #isOf(member: Member, { nodeId, address }: { nodeId: string; address: string }): boolean {
    const name = member.name || (this.#admitted.get(member.id) ?? '');
    return nodeOf(name) === nodeId && member.peerUrls.some((url) => addressOf(url) === address);
  }

  async #removeGuarded(one: Member, members: readonly Member[]): Promise<void> {
    // A learner has no vote that could be missed.
    if (!one.learner && !quorumAfter(members, this.#reachable(), { remove: one.id }).holds) throw new QuorumLoss();
    await this.#api.remove(one.id);
    this.#admitted.delete(one.id);
    this.#deps.log.info({ member: one.name || one.id }, 'a member of the managers’ etcd was removed');
  }

  #reachable(): Set<string> {
    const ids = [...this.#known].filter(([, { probes }]) => isReachable(probes) === true).map(([id]) => id);
    return new Set(ids);
  }

  /** Never rejects. */
  async #runRound(): Promise<void> {
    await Promise.all([this.#refresh(), ...[...this.#known.values()].map((known) => this.#look(known))]);
    for (const known of this.#known.values()) if (known.member.learner) await this.#help(known);
    if (this.#stopped) return;
    this.#timer = this.#deps.clock.after(ROUND_MS, () => {
      this.#round = this.#runRound();
    });
  }

  async #refresh(): Promise<void> {
    try {
      this.#know(await this.#api.members());
    } catch (error) {
      // Without a quorum etcd may not say who takes part: who did so last is asked all the same.
      this.#deps.log.debug({ err: error }, 'the members of the managers’ etcd are not known');
    }
  }

  #know(members: readonly Member[]): void {
    const before = this.#known;
    this.#known = new Map();
    for (const member of members) {
      const known = before.get(member.id) ?? { member, probes: { failures: 0 } };
      if (known.member.clientUrls.join() !== member.clientUrls.join()) {
        known.api?.close();
        delete known.api;
      }
      known.member = member;
      this.#known.set(member.id, known);
    }
    for (const [id, { api, member }] of before) {
      if (this.#known.has(id)) continue;
      api?.close();
      this.#deps.onChange?.(nodeOf(member.name));
    }
  }

  async #look(known: Known): Promise<void> {
    const { clock, probe, onChange } = this.#deps;
    const { member } = known;
    const before = isReachable(known.probes);
    const sentMs = clock.monotonic();
    let status: MemberStatus | undefined;
    // One that was never started has no address for clients.
    if (member.clientUrls.length > 0) {
      known.api ??= probe(member.clientUrls.map(endpointOf));
      status = await known.api.status().catch(() => undefined);
      // After a wiped disk, or by a mistake, somebody else may answer there.
      const answered = status?.memberId === member.id;
      known.probes = afterProbe(known.probes, sentMs, answered);
    }
    if (member.learner) known.progress = afterLook(known.progress, status?.raftAppliedIndex, clock.monotonic());
    if (isReachable(known.probes) !== before) onChange?.(nodeOf(member.name));
  }

  /** A learner: gives it its vote, or evicts it. */
  async #help({ member, probes, progress }: Known): Promise<void> {
    const { clock, log, stallMs = STALL_MS } = this.#deps;
    try {
      if (isReachable(probes) === true && (await this.#promote(member))) return;
      if (progress === undefined || !isStalled(progress, clock.monotonic(), stallMs)) return;
      await this.#api.remove(member.id);
      this.#admitted.delete(member.id);
      log.warn({ member: member.name || member.id, stallMs }, 'a manager’s etcd has not caught up and was evicted');
    } catch (error) {
      log.info({ err: error, member: member.name }, 'a learner of the managers’ etcd is looked after later');
    }
  }

  /** False while it is too far behind. */
  async #promote({ id, name }: Member): Promise<boolean> {
    if (!quorumAfter(this.members, this.#reachable(), { promote: id }).holds) return false;
    try {
      await this.#api.promote(id);
    } catch (error) {
      if (error instanceof EtcdRefused && /in sync with leader/.test(error.message)) return false;
      throw error;
    }
    this.#admitted.delete(id);
    this.#deps.log.info({ member: name }, 'a manager’s etcd has its vote');
    return true;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#deps.clock.after(ms, resolve));
  }
}

/** Those that were never started have no name yet, and any will do: etcd knows them by their URLs. */
function peersOf(members: readonly Member[], candidateId: string, candidate: Peer): Peer[] {
  return members.flatMap(({ id, name, peerUrls }) =>
    id === candidateId ? [candidate] : peerUrls.map((peerUrl) => ({ name: name || id, peerUrl })),
  );
}
