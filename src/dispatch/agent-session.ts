/**
 * A node's standing relation with its managers: always one session, or on its way to one. After a session breaks the
 * next try comes at once, further ones after growing pauses with jitter, each at the next manager it knows of, or at the leader
 * if one names it (manager-choice.ts). It never gives up: even a node that was removed asks again, rarely, until it is closed.
 */
import type { TaskStatusReport } from '../model/assignments.ts';
import type { Clock, Log, Random } from '../model/clock.ts';
import type { Identity } from '../pki/identity.ts';
import { AgentLink, type Agent, type LinkEnd, type LinkOptions } from './agent-link.ts';
import { clockDifference, explainTimes } from './clocks.ts';
import { isAddress } from './connect.ts';
import { NotTheLeader } from './http.ts';
import { ManagerChoice, round, type KnownManagers, type Outcome } from './manager-choice.ts';
import { SessionLost } from './outbox.ts';

export type { Agent } from './agent-link.ts';
export { SessionLost } from './outbox.ts';

export interface AgentSessionOptions {
  /** host:port of managers, at least one; those a manager names are added. */
  addresses: readonly string[];
  /** What this node proves itself by; `useIdentity` brings the next one. */
  identity: Identity;
  agent: Agent;
  /** IPv4 address under which others reach this node; without it, the one the manager sees. */
  advertiseAddress?: string;
  clock: Clock;
  random: Random;
  log: Log;
  /** Default 100 ms, growing to 8 s. */
  backoffMs?: { first: number; most: number };
  /** How long a manager has from dialling to welcome. Default 5 s. */
  welcomeMs?: number;
  /** How managers are dialled: for the simulator, which has a network of its own. */
  dial?: LinkOptions['dial'];
}

export interface AgentSessionState {
  phase: 'connecting' | 'connected' | 'removed' | 'closed';
  /** The manager of the session or of the last try. */
  manager: string;
  /** Why there is no session, in words; '' while there is one. */
  error: string;
}

export class AgentSession {
  readonly #options: AgentSessionOptions;
  readonly #choice: ManagerChoice;
  #known: KnownManagers;
  #identity: Identity;
  #link: AgentLink | undefined;
  #state: AgentSessionState = { phase: 'connecting', manager: '', error: 'not started' };
  #running: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  #clockDifference = '';

  constructor(options: AgentSessionOptions) {
    const bad = options.addresses.find((address) => !isAddress(address));
    if (bad !== undefined) throw new RangeError(`not the address of a manager: ${bad}`);
    if (options.addresses.length === 0) throw new RangeError('an agent needs the address of a manager');
    this.#options = options;
    this.#known = { named: [], configured: [...options.addresses] };
    this.#identity = options.identity;
    this.#choice = new ManagerChoice(options.backoffMs ?? { first: 100, most: 8_000 }, options.random);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  state(): AgentSessionState {
    return this.#state;
  }

  /** That this host's clock differed from the manager's by too much when the session began, in words; '' if it did not. */
  clockDifference(): string {
    return this.#clockDifference;
  }

  /** host:port of every manager this node may turn to, those it heard of last first. */
  addresses(): readonly string[] {
    return round(this.#known, '');
  }

  /** From the next session on, this is what the node proves itself by; the one that stands is left alone. */
  useIdentity(identity: Identity): void {
    this.#identity = identity;
  }

  /**
   * Resolves once a manager has stored these reports, or later ones of the same tasks. Rejects with SessionLost if
   * there is no session or it ends first: report again after the next `replace`.
   */
  report(reports: readonly TaskStatusReport[]): Promise<void> {
    if (this.#link?.open !== true) return Promise.reject(new SessionLost('there is no session with a manager'));
    return this.#link.report(reports);
  }

  /** One plain request to the manager of the session. Rejects with RequestError, or SessionLost if there is or was none. */
  ask(path: string, body: object): Promise<unknown> {
    if (this.#link?.open !== true) return Promise.reject(new SessionLost('there is no session with a manager'));
    return this.#link.ask(path, body);
  }

  /** Tells the manager that the description has changed. Without a session: the next one begins with it. */
  describe(): void {
    this.#link?.describe();
  }

  /** Says goodbye and ends; the agent is called no more. `left`: this node gives up its place in the cluster. Idempotent. */
  async close({ left = false } = {}): Promise<void> {
    this.#state = { ...this.#state, phase: 'closed' };
    this.#wake?.();
    await this.#link?.close(left);
    await this.#running;
  }

  async #run(): Promise<void> {
    const { log, clock } = this.#options;
    for (let address = ''; !this.#closed();) {
      address = this.#choice.next(this.#known, address);
      this.#link = this.#dial(address);
      const end = await this.#link.ended;
      const outcome = outcomeOf(end, this.#state.phase === 'connected');
      if (this.#closed()) break;
      const phase = outcome.kind === 'removed' ? 'removed' : 'connecting';
      this.#state = { phase, manager: address, error: end.message };
      const error = end.error === undefined ? end.message : await explainTimes(end.error, address, clock);
      if (this.#closed()) break;
      this.#state = { ...this.#state, error };
      const pauseMs = this.#choice.pauseAfter(address, outcome, this.#known);
      if (pauseMs === 0) log.info({ manager: address, reason: error }, 'going on to another manager');
      else {
        const fields = { manager: address, reason: error, pauseMs: Math.round(pauseMs) };
        log.warn(fields, 'no session with the manager; trying again');
        await this.#pause(pauseMs);
      }
    }
  }

  #dial(address: string): AgentLink {
    const { agent, advertiseAddress, clock, random, log, welcomeMs = 5_000, dial } = this.#options;
    const identity = this.#identity;
    const managers = (known: { address: string }[]) => {
      this.#known = { ...this.#known, named: known.map((manager) => manager.address).filter(isAddress) };
    };
    const welcomed = (time: string | undefined) => {
      this.#state = { phase: 'connected', manager: address, error: '' };
      this.#clockDifference = time === undefined ? '' : clockDifference(clock.now(), Date.parse(time));
      if (this.#clockDifference !== '') log.warn({ manager: address }, this.#clockDifference);
      log.info({ manager: address }, 'session with the manager');
    };
    const currentIdentity = () => this.#identity;
    const link = {
      address,
      identity,
      currentIdentity,
      agent,
      advertiseAddress,
      clock,
      random,
      log,
      welcomeMs,
      welcomed,
      managers,
      ...(dial === undefined ? {} : { dial }),
    };
    return new AgentLink(link);
  }

  /** Its own function, because the state changes while `#run` waits. */
  #closed(): boolean {
    return this.#state.phase === 'closed';
  }

  async #pause(pauseMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#options.clock.after(pauseMs, resolve);
    });
  }
}

function outcomeOf(end: LinkEnd, connected: boolean): Outcome {
  if (end.reason === 'removed' || end.reason === 'replaced') return { kind: end.reason };
  if (connected) return { kind: end.reason === 'stopping' ? 'left' : 'lost' };
  if (!(end.error instanceof NotTheLeader)) return { kind: 'failed' };
  return { kind: 'referred', leader: isAddress(end.error.leader) ? end.error.leader : '' };
}
