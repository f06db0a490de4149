/**
 * An agent's end of one session on one connection: from dialling to its end. It ends when the manager says so, when the
 * connection breaks, or when the manager is not heard for the time it promised. Trying again is agent-session.ts.
 */
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import type { AssignmentChange, TaskStatusReport } from '../model/assignments.ts';
import type { Clock, Log, Random, Timer } from '../model/clock.ts';
import type { NodeDescription } from '../model/objects.ts';
import type { Identity } from '../pki/identity.ts';
import type { AuthorityNews } from './authority.ts';
import { AwakeTime } from './awake.ts';
import { dialManager } from './connect.ts';
import { encodeFrame, FrameReader } from './frames.ts';
import { brokenBy, exchange, readJson, refusalOf, RequestError } from './http.ts';
import {
  MAX_MANAGER_FRAME_BYTES,
  parseManagerMessage,
  PATHS,
  type AgentMessage,
  type ManagerAddress,
  type ManagerMessage,
} from './messages.ts';
import { Outbox, SessionLost } from './outbox.ts';
import { AgentStreams, type ServeStream } from './streams-agent.ts';

/** What a session does with what it hears. The functions must not throw. */
export interface Agent {
  /** All that this node is to know, at the start of a session; no value is null. What is not in it is no more. */
  replace(facts: AssignmentChange[]): void;
  /** What changed since. */
  apply(changes: AssignmentChange[]): void;
  /** Resolves once all that was taken in is in force, as far as it can be. Absent: at once. Must not reject. */
  settled?(): Promise<void>;
  /** What this host is now; asked at the start of each session. */
  description(): NodeDescription;
  /** The managers there are: worth remembering for the next start. */
  managers?(managers: ManagerAddress[]): void;
  /** Which root counts and who issues certificates: at the welcome, and whenever it changes. */
  authority?(news: AuthorityNews): void;
  /** Serves the streams that a manager asks for; without it, none is brought. */
  stream?: ServeStream;
}

export interface LinkOptions {
  address: string;
  identity: Identity;
  /** What this node proves itself by now, for what is dialled later than the session. */
  currentIdentity(): Identity;
  agent: Agent;
  /** IPv4 address under which others reach this node, if not the one a manager sees. */
  advertiseAddress?: string;
  clock: Clock;
  random: Random;
  log: Log;
  /** How long a manager has from dialling to welcome. */
  welcomeMs: number;
  /** How a manager is dialled, if not over the network of this host. */
  dial?: typeof dialManager;
  /** The manager has let this node in. `time` is its clock's, if it says so: RFC 3339. */
  welcomed(time: string | undefined): void;
  /** Which managers there are: at the welcome, and whenever others come or go. */
  managers(managers: ManagerAddress[]): void;
}

/** How a session ended. */
export interface LinkEnd {
  /** `removed`: this node is not of the cluster any more. */
  reason: 'removed' | 'replaced' | 'stopping' | 'error';
  message: string;
  /** What the connection failed with, or the refusal, if that is how it ended. */
  error?: Error;
}

/** How late a heartbeat timer may be before this process counts as having slept. */
const LATE_MS = 200;
const GOODBYE_MS = 1_000;
/**
 * The kernel of a manager's host answers however busy that is; a packet may be lost once. Where several managers have lost
 * their power at once, those that are left are to hear of this node before they take it for down.
 */
const REACH_MS = 2_000;
const GONE = 410;

export class AgentLink {
  readonly #options: LinkOptions;
  readonly #connection: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly #reader = new FrameReader(MAX_MANAGER_FRAME_BYTES);
  readonly #outbox: Outbox;
  readonly #streams: AgentStreams | undefined;
  readonly #end = Promise.withResolvers<LinkEnd>();
  #state: 'dialling' | 'open' | 'ended' = 'dialling';
  /** The full assignment as far as it has come; undefined once it is complete. */
  #facts: AssignmentChange[] | undefined = [];
  #timer: Timer;
  #periods = { heartbeatMs: 0, timeoutMs: 0 };
  #awake: AwakeTime | undefined;
  #heardMs = 0;

  constructor(options: LinkOptions) {
    this.#options = options;
    const { address, identity, clock, agent, advertiseAddress } = options;
    this.#outbox = new Outbox((number, reports) => this.#send({ type: 'status', number, reports }));
    const { stream: serve } = agent;
    const log = options.log.child({ manager: address });
    if (serve !== undefined)
      this.#streams = new AgentStreams({ address, identity: () => options.currentIdentity(), serve, clock, log });
    this.#connection = (options.dial ?? dialManager)(address, identity, clock, identity, REACH_MS);
    this.#connection.on('error', (error) => this.#over('error', error.message, error));
    this.#connection.on('close', () => this.#over('error', 'the connection was closed'));
    this.#stream = this.#connection.request({ ':method': 'POST', ':path': PATHS.session }, { endStream: false });
    this.#stream.on('error', (error) => this.#over('error', brokenBy(error).message, brokenBy(error)));
    this.#stream.on('close', () => this.#over('error', 'the manager closed the session'));
    this.#stream.once('response', (headers) => this.#answered(headers[':status'] ?? 0));
    this.#timer = clock.after(options.welcomeMs, () =>
      this.#over('error', `no welcome within ${options.welcomeMs} ms`),
    );
    this.#send({ type: 'hello', nodeId: identity.nodeId, description: agent.description(), advertiseAddress });
  }

  /** Resolves when the session is over; never rejects. */
  get ended(): Promise<LinkEnd> {
    return this.#end.promise;
  }

  get open(): boolean {
    return this.#state === 'open';
  }

  /** Resolves once the manager has stored these reports, or later ones of the same tasks. Rejects if the session ends. */
  report(reports: readonly TaskStatusReport[]): Promise<void> {
    return this.#outbox.add(reports);
  }

  /** One plain request beside the session, on its connection. Rejects with RequestError, or SessionLost if it ends first. */
  async ask(path: string, body: object): Promise<unknown> {
    try {
      return await exchange(this.#connection, 'POST', path, body);
    } catch (error) {
      if (error instanceof RequestError) throw error;
      throw new SessionLost(`the manager did not answer: ${(error as Error).message}`, { cause: error });
    }
  }

  /** Tells the manager what this host is now. */
  describe(): void {
    if (this.open) this.#send({ type: 'description', description: this.#options.agent.description() });
  }

  /** Ends in order, within a second; `left` if the node gives up its place in the cluster. */
  async close(left: boolean): Promise<void> {
    if (this.#state !== 'open') {
      this.#over('stopping', 'closed here');
      return;
    }
    this.#send(left ? { type: 'goodbye', left } : { type: 'goodbye' });
    this.#stream.end();
    this.#timer.cancel();
    this.#timer = this.#options.clock.after(GOODBYE_MS, () => this.#over('stopping', 'closed here'));
    await this.ended;
  }

  #answered(status: number): void {
    if (status === 200) {
      this.#stream.on('data', (chunk: Buffer) => this.#receive(chunk));
      return;
    }
    const reason = status === GONE ? 'removed' : 'error';
    readJson(this.#stream).then(
      (body) => {
        const refusal = refusalOf(status, body);
        this.#over(reason, refusal.message, refusal);
      },
      () => this.#over(reason, `refused with status ${status}`),
    );
  }

  #receive(chunk: Buffer): void {
    this.#heardMs = this.#awake?.now() ?? 0;
    try {
      for (const message of this.#reader.push(chunk))
        if (this.#state !== 'ended') this.#take(parseManagerMessage(message));
    } catch (error) {
      this.#options.log.error({ err: error }, 'cannot go on with what the manager sent; ending the session');
      this.#over('error', (error as Error).message);
    }
  }

  #take(message: ManagerMessage): void {
    const { agent } = this.#options;
    switch (message.type) {
      case 'welcome':
        this.#welcome(message);
        break;
      case 'assignment':
        for (const change of message.changes) this.#facts?.push(change);
        break;
      case 'complete':
        if (this.#facts !== undefined) agent.replace(this.#facts);
        this.#facts = undefined;
        void this.#settle(message.settle);
        break;
      case 'changes':
        agent.apply(message.changes);
        void this.#settle(message.settle);
        break;
      case 'stored':
        this.#outbox.stored(message.number);
        break;
      case 'heartbeat':
        this.#periods = message;
        break;
      case 'managers':
        this.#managers(message.managers);
        break;
      case 'authority':
        agent.authority?.(message);
        break;
      case 'open':
        this.#streams?.open(message.streamId, message.request);
        break;
      case 'end':
        this.#over(message.reason, message.message);
        break;
    }
  }

  #welcome(message: Extract<ManagerMessage, { type: 'welcome' }>): void {
    this.#state = 'open';
    this.#periods = message;
    this.#awake = new AwakeTime(this.#options.clock, message.heartbeatMs, LATE_MS);
    this.#heardMs = this.#awake.now();
    this.#timer.cancel();
    this.#beatLater();
    this.#options.welcomed(message.time);
    this.#managers(message.managers);
  }

  /** Tells the manager when what it said up to here is in force, if it asks. */
  async #settle(round: number | undefined): Promise<void> {
    if (round === undefined) return;
    await this.#options.agent.settled?.();
    if (this.#state === 'open') this.#send({ type: 'settled', round });
  }

  #managers(managers: ManagerAddress[]): void {
    this.#options.managers(managers);
    this.#options.agent.managers?.(managers);
  }

  /** At a random moment of the period's last quarter: a thousand agents that start together do not stay together. */
  #beatLater(): void {
    const { clock, random } = this.#options;
    this.#timer = clock.after(this.#periods.heartbeatMs * (0.75 + random() / 4), () => {
      const silentMs = this.#awake!.now() - this.#heardMs;
      if (silentMs > this.#periods.timeoutMs) {
        this.#over('error', `the manager was not heard for ${Math.round(silentMs)} ms`);
        return;
      }
      this.#send({ type: 'heartbeat' });
      this.#beatLater();
    });
  }

  #send(message: AgentMessage | { type: 'status'; number: number; reports: TaskStatusReport[] }): void {
    if (this.#stream.destroyed || this.#stream.writableEnded) return;
    this.#stream.write(encodeFrame(JSON.stringify(message)));
  }

  #over(reason: LinkEnd['reason'], message: string, error?: Error): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#timer.cancel();
    this.#outbox.fail(message);
    this.#streams?.close();
    this.#connection.destroy();
    this.#end.resolve({ reason, message, error });
  }
}
