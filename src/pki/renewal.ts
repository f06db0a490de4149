/**
 * Keeps one node's certificate from expiring, and its trust what the managers say it should be. At a random moment between 50
 * and 80 % of a certificate's life, or when others are issued by another root by now, a new key is made and a certificate of it
 * asked for; it is saved, then put to use. What fails is tried again after growing pauses and said in `trouble()` until it goes
 * well. Whom to ask, where to save and who uses it come in through the constructor.
 */
import { timestamp, type Clock, type Log, type Random, type Timer } from '../model/clock.ts';
import { BACKDATE_MS, createCertificateRequest } from './authority.ts';
import {
  identityAtAnyTime,
  identityOf,
  lifeOf,
  parseCertificate,
  UntrustedCertificate,
  type Identity,
  type IdentityParts,
  type Life,
} from './identity.ts';
import { stepTowards, type Authority } from './rotation.ts';

export interface RenewalDeps {
  identity: Identity;
  clock: Clock;
  random: Random;
  log: Log;
  /** Asks for a certificate (PEM, with its links) for a request (PKCS#10), proving itself by `present`. Rejects with a sentence. */
  certify(csr: string, present: Identity): Promise<string>;
  /** Makes it last: on the disk when it resolves. */
  save(parts: IdentityParts): Promise<void>;
  /** From now on this is the identity: another certificate, or another root to trust. Must not throw. */
  renewed(identity: Identity): void;
  /**
   * Whether this node may show a certificate of another issuer now; asked before it is renewed for nothing but that, again and
   * again until it may. Absent: at once.
   */
  mayChangeIssuer?: () => Promise<boolean>;
  /** Pauses after failures. Default 5 s, growing to 10 min. */
  backoffMs?: { first: number; most: number };
}

/** Of the part of its life that is left when it was issued. Docker Swarm's bounds (orchestration.md 2.8). */
const EARLIEST = 0.5;
const LATEST = 0.8;
/** Between two questions whether the issuer may be changed. */
const HOLD_MS = 500;
/** The wall clock is looked at this often: it may jump, and hosts sleep. Timers cannot wait for more than 24 days either. */
const LOOK_MS = 10 * 60_000;

/**
 * When to renew a certificate: at 50–80 % of the time from its issue to its end, `random` saying where; so nodes that
 * joined together do not ask together. Milliseconds since the epoch.
 */
export function renewalTime(life: Life, random: Random): number {
  const issuedMs = Math.min(life.fromMs + BACKDATE_MS, life.untilMs);
  return issuedMs + (life.untilMs - issuedMs) * (EARLIEST + random() * (LATEST - EARLIEST));
}

export class Renewal {
  readonly #deps: RenewalDeps;
  readonly #backoffMs: { first: number; most: number };
  #identity: Identity;
  #told: Authority | undefined;
  /** What this node has to do because of what it was told. */
  #step: 'trust' | 'renew' | undefined;
  #life: Life;
  /** When the certificate's age asks for another one. */
  #dueMs: number;
  #failures = 0;
  #failure = '';
  #timer: Timer | undefined;
  #stepping = false;
  #saving: Promise<void> | undefined;
  #stopped = false;

  constructor(deps: RenewalDeps) {
    this.#deps = deps;
    this.#backoffMs = deps.backoffMs ?? { first: 5_000, most: 600_000 };
    this.#identity = deps.identity;
    this.#life = lifeOf(parseCertificate(deps.identity.certificate));
    this.#dueMs = renewalTime(this.#life, deps.random);
  }

  start(): void {
    this.#wait(this.#dueMs - this.#deps.clock.now());
  }

  /**
   * A manager says which root counts and who issues now. If another issued this node's certificate, it is renewed at a random
   * moment within `spreadMs`, so that not all nodes ask at once. May be told again, and other things, at any time.
   */
  follow(told: Authority, spreadMs: number): void {
    this.#told = told;
    this.#compare();
    if (this.#stopped || this.#stepping || this.#step === undefined) return;
    this.#timer?.cancel();
    // Few nodes change their role at a time, and somebody waits for it.
    const alone = told.role !== undefined && told.role !== this.#identity.role;
    this.#wait(this.#step === 'trust' || alone ? 0 : this.#deps.random() * spreadMs);
  }

  /** Nothing is saved or put to use any more once it resolves. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    // What went wrong with it has been said where it was begun.
    await this.#saving?.catch(() => {});
  }

  /** When the certificate in use holds. */
  life(): Life {
    return this.#life;
  }

  /** Why the certificate is not renewed although it is time, in words; '' while all is well. */
  trouble(): string {
    if (this.#failure === '') return '';
    return `the certificate of this node ends at ${timestamp(this.#life.untilMs)} and could not be renewed: ${this.#failure}`;
  }

  #wait(delayMs: number): void {
    if (this.#stopped) return;
    this.#timer = this.#deps.clock.after(Math.min(Math.max(0, delayMs), LOOK_MS), () => {
      const leftMs = this.#step === undefined ? this.#dueMs - this.#deps.clock.now() : 0;
      if (leftMs > 0) this.#wait(leftMs);
      else void this.#go();
    });
  }

  #compare(): void {
    try {
      this.#step = this.#told && stepTowards(this.#identity, this.#told);
    } catch (error) {
      this.#deps.log.error({ err: error }, 'the manager names a root that is none; ignored');
      this.#step = undefined;
    }
  }

  async #go(): Promise<void> {
    this.#stepping = true;
    const pauseMs = await this.#advance();
    this.#stepping = false;
    this.#wait(pauseMs);
  }

  /** One step. Resolves with how long to wait until the next look. */
  async #advance(): Promise<number> {
    const { clock, log } = this.#deps;
    try {
      const trusts = this.#step === 'trust';
      if (await this.#isHeld()) return HOLD_MS;
      const next = trusts ? this.#trusting(this.#told!.rootCertificate) : await this.#ask();
      if (this.#stopped) return 0;
      await (this.#saving = this.#deps.save(next));
      if (this.#stopped) return 0;
      this.#use(next);
      const until = timestamp(this.#life.untilMs);
      if (trusts) log.info({}, 'this node trusts the new root of the cluster');
      else log.info({ until, role: next.role }, 'the certificate of this node was renewed');
      // Still to renew: the manager that gave it has another opinion than the one that told. In a moment they will agree.
      if (this.#step === 'renew' && !trusts) return this.#pause();
      this.#failures = 0;
      return this.#step === undefined ? this.#dueMs - clock.now() : 0;
    } catch (error) {
      if (this.#stopped) return 0;
      const pauseMs = this.#pause();
      this.#failure = (error as Error).message;
      log.warn({ err: error, pauseMs: Math.round(pauseMs) }, `${this.trouble()}; trying again`);
      return pauseMs;
    }
  }

  /** What is due by its age, or is to say another role, waits for nothing. */
  async #isHeld(): Promise<boolean> {
    const { clock, mayChangeIssuer } = this.#deps;
    const role = this.#told?.role ?? this.#identity.role;
    if (this.#step !== 'renew' || role !== this.#identity.role || clock.now() >= this.#dueMs) return false;
    return (await mayChangeIssuer?.()) === false;
  }

  #use(next: Identity): void {
    if (next.certificate !== this.#identity.certificate) {
      this.#life = lifeOf(parseCertificate(next.certificate));
      this.#dueMs = renewalTime(this.#life, this.#deps.random);
    }
    this.#identity = next;
    this.#failure = '';
    this.#compare();
    this.#deps.renewed(next);
  }

  #pause(): number {
    const longestMs = Math.min(this.#backoffMs.first * 2 ** this.#failures, this.#backoffMs.most);
    this.#failures += 1;
    return longestMs * (0.5 + this.#deps.random() / 2);
  }

  #trusting(rootCertificate: string): Identity {
    const { certificate, key } = this.#identity;
    return identityAtAnyTime({ certificate, key, rootCertificate });
  }

  /** A certificate of the same node and cluster, of a new key. The role is what the manager says it is by now. */
  async #ask(): Promise<Identity> {
    const { nodeId, clusterId, rootCertificate } = this.#identity;
    const { key, csr } = await createCertificateRequest();
    const certificate = await this.#deps.certify(csr, this.#identity);
    const next = identityOf({ certificate, key, rootCertificate }, this.#deps.clock.now());
    if (next.nodeId !== nodeId || next.clusterId !== clusterId)
      throw new UntrustedCertificate(`the certificate that came is that of node ${next.nodeId}`);
    return next;
  }
}
