/**
 * A manager's end of one session with one agent: frames in, frames out. What the agent has to be told is kept as a
 * set of fact keys, and values are read when there is room to send them: a slow agent costs no more memory than
 * its facts have names, and always gets the newest.
 */
import type { ServerHttp2Stream } from 'node:http2';
import { timestamp, type Clock, type Log, type Timer } from '../model/clock.ts';
import type { AssignmentChange, TaskStatusReport } from '../model/assignments.ts';
import type { NodeDescription } from '../model/objects.ts';
import type { StreamRequest } from '../model/streams.ts';
import type { AuthorityNews } from './authority.ts';
import { factText } from './fact-text.ts';
import { encodeFrame, FrameError, FrameReader } from './frames.ts';
import { factNamed, type Fact, type FactKey } from './facts.ts';
import { respondError } from './http.ts';
import {
  MAX_AGENT_FRAME_BYTES,
  parseAgentMessage,
  type AgentMessage,
  type EndReason,
  type Hello,
  type ManagerAddress,
  type ManagerMessage,
} from './messages.ts';

/** What a session asks of the manager it belongs to. */
export interface SessionHost {
  /** Lets the node in. Rejects if it must not; an error with a `status` is shown to the agent. */
  admit(session: Session, hello: Hello): Promise<void>;
  heard(session: Session): void;
  report(session: Session, reports: TaskStatusReport[]): Promise<void>;
  describe(session: Session, description: NodeDescription): Promise<void>;
  /** All that the agent was told up to this round is in force on its node. */
  settled(session: Session, round: number): void;
  readFacts(nodeId: string, read: (one: (fact: Fact) => AssignmentChange) => void): void;
  periods(): { heartbeatMs: number; timeoutMs: number };
  /** The node leaves the cluster: it is down, and nobody waits for it. */
  left(session: Session): void;
  /** The session is over, for whatever reason. Called once. */
  ended(session: Session): void;
}

export interface SessionOptions {
  /** From the certificate. */
  nodeId: string;
  /** Where the connection comes from. */
  peerAddress: string;
  host: SessionHost;
  clock: Clock;
  log: Log;
  /** The shortest time between two rounds of changes; a change after a quiet time goes out at once. */
  flushMs: number;
}

const HELLO_MS = 5_000;
const LINGER_MS = 1_000;
const CHUNK_BYTES = 256 * 1024;
/** An agent has one batch under way, and perhaps a description; more is no agent of ours. */
const MAX_UNSTORED = 4;

export class Session {
  readonly nodeId: string;
  readonly peerAddress: string;
  readonly #host: SessionHost;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #flushMs: number;
  readonly #stream: ServerHttp2Stream;
  readonly #reader = new FrameReader(MAX_AGENT_FRAME_BYTES);
  readonly #helloTimer: Timer;
  #state: 'new' | 'admitting' | 'open' | 'ended' = 'new';
  /** The full assignment, until all of it is told; `#told` facts of it are. */
  #initial: readonly Fact[] = [];
  #told = 0;
  /** What is to be sent after it, in this order. */
  readonly #dirty = new Set<FactKey>();
  /** A round that the agent is to answer once all that is dirty now is in force. */
  #settle: number | undefined;
  #flushTimer: Timer | undefined;
  #flushedAt = -Infinity;
  #unstored = 0;
  /** What the agent was last told: how long it may be silent. */
  timeoutMs: number;

  constructor(stream: ServerHttp2Stream, options: SessionOptions) {
    this.nodeId = options.nodeId;
    this.peerAddress = options.peerAddress;
    this.#host = options.host;
    this.#clock = options.clock;
    this.#log = options.log.child({ node: options.nodeId });
    this.#flushMs = options.flushMs;
    this.#stream = stream;
    this.timeoutMs = options.host.periods().timeoutMs;
    this.#helloTimer = this.#clock.after(HELLO_MS, () => this.#refuse(408, 'no hello came'));
    stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    stream.on('drain', () => this.#flush());
    stream.on('error', (error) => this.#log.debug({ err: error }, 'session stream failed'));
    stream.on('end', () =>
      this.#state === 'open' ? this.#finish() : this.#refuse(400, 'the stream ended before its time'),
    );
    stream.on('close', () => this.#over());
  }

  get alive(): boolean {
    return this.#state !== 'ended';
  }

  /**
   * Begins to send: who is served by, and every fact named here, which was read in the same turn. Later ones come through
   * `mark`. `settle`: as in the function of that name.
   */
  open(sessionId: string, managers: ManagerAddress[], facts: readonly Fact[], settle?: number): void {
    if (this.#state !== 'admitting') return;
    this.#state = 'open';
    this.#helloTimer.cancel();
    this.#stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' });
    const time = timestamp(this.#clock.now());
    this.#send({ type: 'welcome', sessionId, managers, time, ...this.#tellPeriods() });
    this.#initial = facts;
    this.#settle = settle;
    if (facts.length === 0) this.#complete();
    this.#flush();
    // What has to wait for room is looked up when its turn comes.
    if (this.#initial.length > 0) this.#initial = this.#initial.map(({ kind, key }) => ({ kind, key }));
  }

  /**
   * This fact may have changed; the agent will be told what it is by then, and not before what was marked earlier: who takes
   * a place is in before who leaves it is out.
   */
  mark(fact: FactKey): void {
    this.#dirty.delete(fact);
    this.#dirty.add(fact);
    if (this.#flushTimer !== undefined || this.#state !== 'open') return;
    const waitMs = Math.max(0, this.#flushedAt + this.#flushMs - this.#clock.monotonic());
    this.#flushTimer = this.#clock.after(waitMs, () => {
      this.#flushTimer = undefined;
      this.#flush();
    });
  }

  /** The host hears `settled` with this round once all that is marked by now is in force on the node. */
  settle(round: number): void {
    this.#settle = round;
    if (this.#state === 'open' && !this.#hasMore) this.#writeChanges([]);
  }

  /** There are other managers than the agent was told. */
  tellManagers(managers: ManagerAddress[]): void {
    if (this.#state === 'open') this.#send({ type: 'managers', managers });
  }

  /** The root to trust or the issuer of certificates may be another than the agent was told. */
  tellAuthority(authority: AuthorityNews): void {
    if (this.#state === 'open') this.#send({ type: 'authority', ...authority });
  }

  /** Asks the agent for a stream; false if it cannot be asked now. */
  askForStream(streamId: string, request: StreamRequest): boolean {
    if (this.#state !== 'open') return false;
    this.#send({ type: 'open', streamId, request });
    return true;
  }

  /** Ends it in order, saying why. What was marked and not sent is dropped. */
  end(reason: EndReason, message: string): void {
    if (this.#state === 'ended') return;
    if (this.#state !== 'open') {
      this.#refuse(503, message);
      return;
    }
    this.#send({ type: 'end', reason, message });
    this.#finish();
  }

  /** Ends it at once: the other side is taken for dead. */
  drop(): void {
    this.#over();
    this.#stream.session?.destroy();
  }

  #receive(chunk: Buffer): void {
    if (this.#state === 'ended') return;
    try {
      for (const message of this.#reader.push(chunk)) this.#take(parseAgentMessage(message));
      if (this.#state === 'open') this.#host.heard(this);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#log.warn({ err: error }, 'the agent broke the protocol; ending its session');
      this.#fail(error.message);
    }
  }

  #take(message: AgentMessage): void {
    if (this.#state === 'ended') return;
    if (message.type === 'hello') {
      if (this.#state !== 'new') throw new FrameError('a second hello');
      this.#state = 'admitting';
      this.#host.admit(this, message).catch((error: Error & { status?: number }) => {
        if (error.status === undefined) this.#log.error({ err: error }, 'cannot let the node in');
        this.#refuse(error.status ?? 503, error.message);
      });
      return;
    }
    if (this.#state !== 'open') throw new FrameError(`${message.type} before the welcome`);
    switch (message.type) {
      case 'heartbeat':
        // While the agent has yet to read what is on its way, it needs no other sign of life.
        if (!this.#stream.writableNeedDrain) this.#send({ type: 'heartbeat', ...this.#tellPeriods() });
        break;
      case 'status':
        this.#store(this.#host.report(this, message.reports), { type: 'stored', number: message.number });
        break;
      case 'description':
        this.#store(this.#host.describe(this, message.description));
        break;
      case 'settled':
        this.#host.settled(this, message.round);
        break;
      case 'goodbye':
        this.#log.info({}, 'the agent says goodbye');
        if (message.left === true) this.#host.left(this);
        this.#finish();
        break;
    }
  }

  /** Counts what is not yet stored, and answers not yet taken, so that neither can grow without bound. */
  #store(write: Promise<void>, answer?: ManagerMessage): void {
    this.#unstored += 1;
    if (this.#unstored > MAX_UNSTORED) this.#fail('more is sent than is awaited');
    const done = () => (this.#unstored -= 1);
    write.then(
      () => (answer === undefined ? done() : this.#write(JSON.stringify(answer), done)),
      (error: Error) => {
        // The agent comes back and reports again.
        this.#log.error({ err: error }, 'cannot store what the agent said; ending its session');
        this.end('error', `the manager cannot store what was reported: ${error.message}`);
      },
    );
  }

  #tellPeriods(): { heartbeatMs: number; timeoutMs: number } {
    const periods = this.#host.periods();
    this.timeoutMs = periods.timeoutMs;
    return periods;
  }

  /** Whether there is anything left to tell. */
  get #hasMore(): boolean {
    return this.#initial.length > 0 || this.#dirty.size > 0;
  }

  #flush(): void {
    if (this.#state !== 'open' || !this.#hasMore || this.#stream.writableNeedDrain) return;
    this.#flushedAt = this.#clock.monotonic();
    this.#host.readFacts(this.nodeId, (readFact) => {
      while (this.#hasMore && !this.#stream.writableNeedDrain) {
        if (this.#initial.length > 0) this.#sendAssignment(readFact);
        else this.#sendChanges(readFact);
      }
    });
  }

  /** Sends as many facts of the full assignment as make one frame. */
  #sendAssignment(readFact: (fact: Fact) => AssignmentChange): void {
    const changes: string[] = [];
    for (let bytes = 0; bytes <= CHUNK_BYTES && this.#told < this.#initial.length; this.#told += 1) {
      const change = readFact(this.#initial[this.#told]!);
      // The agent knows nothing yet that it would have to forget.
      if (change.value === null) continue;
      const json = factText(change);
      changes.push(json);
      bytes += json.length;
    }
    this.#write(`{"type":"assignment","changes":[${changes.join(',')}]}`);
    if (this.#told < this.#initial.length) return;
    this.#initial = [];
    this.#complete();
  }

  /** Sends as many facts as make one frame, from the front. */
  #sendChanges(readFact: (fact: Fact) => AssignmentChange): void {
    const changes: string[] = [];
    let bytes = 0;
    for (const name of this.#dirty) {
      this.#dirty.delete(name);
      const json = factText(readFact(factNamed(name)));
      changes.push(json);
      bytes += json.length;
      if (bytes > CHUNK_BYTES) break;
    }
    this.#writeChanges(changes);
  }

  #complete(): void {
    this.#send({ type: 'complete', settle: this.#dirty.size === 0 ? this.#takeSettle() : undefined });
  }

  #writeChanges(changes: string[]): void {
    const settle = this.#dirty.size === 0 ? this.#takeSettle() : undefined;
    this.#write(
      `{"type":"changes","changes":[${changes.join(',')}]${settle === undefined ? '' : `,"settle":${settle}`}}`,
    );
  }

  #takeSettle(): number | undefined {
    const round = this.#settle;
    this.#settle = undefined;
    return round;
  }

  #send(message: ManagerMessage): void {
    this.#write(JSON.stringify(message));
  }

  #write(json: string, taken?: () => void): void {
    if (this.#stream.destroyed || this.#stream.writableEnded) return;
    this.#stream.write(encodeFrame(json), taken);
  }

  #fail(message: string): void {
    if (this.#state === 'open') this.end('error', message);
    else this.#refuse(400, message);
  }

  #refuse(status: number, message: string): void {
    if (this.#state === 'ended') return;
    respondError(this.#stream, status, message);
    this.#finish();
  }

  /** No more is said; the other side has a moment to read what was. */
  #finish(): void {
    const connection = this.#stream.session;
    this.#over();
    this.#stream.end();
    this.#stream.resume();
    const timer = this.#clock.after(LINGER_MS, () => connection?.destroy());
    connection?.once('close', () => timer.cancel());
    this.#stream.once('close', () => connection?.close());
  }

  #over(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#helloTimer.cancel();
    this.#flushTimer?.cancel();
    this.#initial = [];
    this.#dirty.clear();
    this.#host.ended(this);
  }
}
