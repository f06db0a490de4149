/**
 * Keeps one node's certificate from expiring. At a random moment between 50 and 80 % of its life a new key is made and a
 * certificate of it asked for; it is saved, then put to use. What fails is tried again after growing pauses and said in
 * `trouble()` until it goes well. Whom to ask, where to save and who uses it come in through the constructor.
 */
import { timestamp, type Clock, type Log, type Random, type Timer } from '../model/clock.ts';
import { BACKDATE_MS, createCertificateRequest } from './authority.ts';
import {
  identityOf,
  lifeOf,
  parseCertificate,
  UntrustedCertificate,
  type Identity,
  type IdentityParts,
  type Life,
} from './identity.ts';

export interface RenewalDeps {
  identity: Identity;
  clock: Clock;
  random: Random;
  log: Log;
  /** Asks for a certificate (PEM) for a request (PEM, PKCS#10), proving itself by `present`. Rejects with a sentence. */
  certify(csr: string, present: Identity): Promise<string>;
  /** Makes it last: on the disk when it resolves. */
  save(parts: IdentityParts): Promise<void>;
  /** From now on this is the identity. Must not throw. */
  renewed(identity: Identity): void;
  /** Pauses after failures. Default 5 s, growing to 10 min. */
  backoffMs?: { first: number; most: number };
}

/** Of the part of its life that is left when it was issued. Docker Swarm's bounds (orchestration.md 2.8). */
const EARLIEST = 0.5;
const LATEST = 0.8;
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
  #life: Life;
  #dueMs: number;
  #failures = 0;
  #failure = '';
  #timer: Timer | undefined;
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
      const leftMs = this.#dueMs - this.#deps.clock.now();
      if (leftMs > 0) this.#wait(leftMs);
      else void this.#renew();
    });
  }

  async #renew(): Promise<void> {
    const { clock, random, log } = this.#deps;
    try {
      const next = await this.#ask();
      if (this.#stopped) return;
      await (this.#saving = this.#deps.save(next));
      if (this.#stopped) return;
      this.#identity = next;
      this.#life = lifeOf(parseCertificate(next.certificate));
      this.#dueMs = renewalTime(this.#life, random);
      this.#failures = 0;
      this.#failure = '';
      this.#deps.renewed(next);
      log.info({ until: timestamp(this.#life.untilMs), role: next.role }, 'the certificate of this node was renewed');
      this.#wait(this.#dueMs - clock.now());
    } catch (error) {
      if (this.#stopped) return;
      const longestMs = Math.min(this.#backoffMs.first * 2 ** this.#failures, this.#backoffMs.most);
      const pauseMs = longestMs * (0.5 + random() / 2);
      this.#failures += 1;
      this.#failure = (error as Error).message;
      log.warn({ err: error, pauseMs: Math.round(pauseMs) }, `${this.trouble()}; trying again`);
      this.#wait(pauseMs);
    }
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
