/**
 * The leader as the API of a manager that follows needs it: what only the leader can answer is relayed there, over a stream that
 * other managers have to its API (dispatch/leader-link.ts), and the answer is held until this manager's replica shows what it
 * rests on. Where that takes too long the leader is asked for what is read, too: so who asks here reads what they wrote.
 *
 * - While the leader changes, who asks sees a pause and no error: what has surely not been begun waits for the next leader, for
 *   WAIT_MS at most, and is relayed there (or answered here, if that is this manager). What may have been begun is never sent twice.
 * - Where nobody has led for longer than that, because too few managers are there, the answer is at once that there is no leader.
 * - What came over such a stream is never relayed again: the manager that sent it is told, and tries elsewhere.
 */
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { duplexPair, type Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Store } from '../store/store.ts';
import type { ApiDeps } from './context.ts';
import { answeredBy, isRead } from './answered-by.ts';
import { readWhole } from './body.ts';
import { answerFor, ApiError, NO_LEADER, unavailable } from './errors.ts';
import { forwardUpgrade, plainError } from './hijack.ts';
import { forward, hasBody, INDEX_HEADER, sendError, UNBEGUN_HEADER, type Upstream } from './proxy.ts';
import type { RequestTarget } from './request-target.ts';

/** Who leads, as this manager knows. */
export interface Leadership {
  /** This manager does. */
  leading: boolean;
  /** Absent: nobody, or nobody knows. */
  leader?: { nodeId: string; address: string };
  /** Since when nobody is known to lead, by the monotonic clock; absent without a leader: for longer than anybody waits. */
  missingSinceMs?: number;
}

/** How a request goes to the leader: under which path, and what was read of its body already. */
export interface Relayed {
  url: string;
  answerHeaders: Record<string, string>;
  body?: Buffer;
}

/** For the next leader: longer than an election takes (issue 5: never above 6 s). */
const WAIT_MS = 6_000;
const RETRY_MS = 100;
/** A leader that could not be reached is not dialled again for so long, however many wait for it. */
const REDIAL_MS = 500;
/** How long an answer is held for the replica to catch up: for the sake of what is not asked of the leader, such as networks. */
const CATCH_UP_MS = 2_000;
/** What an answer that could be held no longer says. */
const BEHIND = warning('this manager is behind the leader: networks and events here may not have this change yet');
const NOT_SHOWN =
  'is not known here, but this manager is behind what it has answered: try again in a moment, or ask another manager';
/** For a header: quoted, with the code for "miscellaneous". */
const LEADERLESS = warning(`${NO_LEADER} What is shown may be old.`);

export class Leader {
  readonly #deps: ApiDeps;
  readonly #tunnelled = new WeakSet<Duplex>();
  /** Up to which transaction the answers rest on the state that were given here and came from the leader. */
  readonly #answered = new WeakMap<Store, number>();
  /** The leader that could not be reached last, and when that was, by the monotonic clock. */
  #unreached: { nodeId: string | undefined; atMs: number } | undefined;
  /** Serves this manager's own API on a stream. */
  readonly #serve: (stream: Duplex) => void;

  constructor(deps: ApiDeps, serve: (stream: Duplex) => void) {
    this.#deps = deps;
    this.#serve = serve;
  }

  /** Serves a stream of another manager: what comes over it is answered here or not at all. */
  serveTunnel(stream: Duplex): void {
    this.#tunnelled.add(stream);
    this.#serve(stream);
  }

  /** Whether a request was relayed here by another manager, which has asked its own host what there was to ask. */
  isRelayed(request: IncomingMessage): boolean {
    return this.#tunnelled.has(request.socket);
  }

  /** Who leads, as this manager knows now. */
  get known(): Leadership {
    return this.#deps.leadership?.() ?? { leading: true };
  }

  /** Whether this is a manager that follows. */
  get isElsewhere(): boolean {
    return this.#deps.store() !== undefined && !this.known.leading;
  }

  /** A `Warning` header for answers from a replica that no leader keeps fresh; '' while there is a leader. */
  warning(): string {
    return this.isMissing ? LEADERLESS : '';
  }

  /** Whether this is a manager, and knows of no leader. */
  get isMissing(): boolean {
    return this.isElsewhere && this.known.leader === undefined;
  }

  /** Whether a request, for the route of this pattern, is to be answered by another manager than this one. */
  answers(request: IncomingMessage, pattern: string): boolean {
    if (!this.isElsewhere) return false;
    const by = answeredBy(request.method ?? '', pattern);
    return by === 'leader' || (by === 'replica' && (this.isRelayed(request) || (this.#isBehind && !this.isMissing)));
  }

  /**
   * Whether a request that failed with `error` is to be relayed after all: this manager led when it began with it, leads no more,
   * and nothing was changed. That holds because no route that is the leader's makes more than one change.
   */
  takesOver(error: unknown, request: IncomingMessage, pattern: string): boolean {
    if (!(error instanceof Error && error.name === 'NotLeading') || this.isRelayed(request)) return false;
    return this.#deps.tunnel !== undefined && answeredBy(request.method ?? '', pattern) === 'leader';
  }

  /**
   * What is answered in the place of `error`: that there is no such object is not said while this manager does not show all that
   * it has answered, because who made it here a moment ago would believe it lost.
   */
  doubting(error: unknown): unknown {
    if (!(error instanceof ApiError) || error.status !== 404 || !this.isElsewhere || !this.#isBehind) return error;
    return unavailable(`${error.message.replace(/ not found$/, '')}: ${NOT_SHOWN}`);
  }

  /** For a route that hands on only a part of what is asked, before it begins: rejects with ApiError 503 if there is nobody to ask. */
  async reachable(request: IncomingMessage): Promise<void> {
    const untilMs = this.#untilMs();
    while (!this.isRelayed(request) && this.isMissing && this.#mayComeBack(untilMs)) await this.#pause();
    if (this.isRelayed(request) || this.isMissing) throw unavailable(NO_LEADER);
  }

  /**
   * Has the leader answer a request, under another path if one is given; `body`: what was read of it here. Answers on `response`,
   * whatever happens.
   */
  async relay(request: IncomingMessage, response: ServerResponse, how: Relayed): Promise<void> {
    const { clock } = this.#deps;
    const gone = new AbortController();
    response.once('close', () => gone.abort(new Error('the client has gone')));
    const untilMs = this.#untilMs();
    try {
      // Read whole, for it may have to be sent to another leader than the first.
      const body = how.body ?? (hasBody(request) ? await readWhole(request, clock) : undefined);
      const whole = { ...how, ...(body !== undefined && { body }) };
      await this.#relayUntil(untilMs, { request, response, how: whole, gone: gone.signal });
    } catch (error) {
      const { status, message } = answerFor(error);
      sendError(response, status, message, how.answerHeaders);
    }
  }

  /** As `relay`, for a request that asks to become a raw stream; `head`: the bytes read beyond it. */
  async relayUpgrade(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    how: { target: RequestTarget; answerHeaders: Record<string, string> },
  ): Promise<void> {
    const { log } = this.#deps;
    const { target, answerHeaders } = how;
    const gone = new AbortController();
    socket.once('close', () => gone.abort(new Error('the client has gone')));
    const broken = (error: Error): void => log.debug({ err: error, url: target.url }, 'a client broke off a stream');
    socket.on('error', broken);
    const upstream = await this.#tunnel(request, this.#untilMs(), gone.signal);
    socket.off('error', broken);
    if (upstream === undefined) socket.on('error', broken).end(plainError(503, NO_LEADER, answerHeaders));
    else {
      const away = (error: Error): string => brokenOff(request.method, error);
      forwardUpgrade(request, socket, head, { upstream, away, url: target.url, answerHeaders, log });
    }
  }

  /** The leader's JSON for a part of what `request` asks. Rejects with ApiError as the leader refuses, or 503. */
  async ask(request: IncomingMessage, url: string): Promise<unknown> {
    const stream = await this.#tunnel(request, this.#untilMs());
    if (stream === undefined) throw unavailable(NO_LEADER);
    const { method } = request;
    const upstream = httpRequest({ createConnection: () => stream, method, path: url });
    try {
      const answer = await new Promise<IncomingMessage>((resolve, reject) => {
        upstream.once('response', resolve).once('error', reject).end();
      });
      const body: unknown = JSON.parse(await text(answer));
      const { statusCode = 502 } = answer;
      if (statusCode >= 300) throw new ApiError(statusCode, (body as { message: string }).message);
      await this.#caughtUp(answer, method);
      return body;
    } catch (error) {
      throw error instanceof ApiError ? error : unavailable(brokenOff(method, error as Error));
    } finally {
      stream.destroy();
    }
  }

  /** Relays to whoever leads; once more after a pause if that manager says that it does not and has not begun. */
  async #relayUntil(
    untilMs: number,
    asked: { request: IncomingMessage; response: ServerResponse; how: Relayed; gone: AbortSignal },
  ): Promise<void> {
    const { request, response, how, gone } = asked;
    const stream = await this.#tunnel(request, untilMs, gone);
    if (stream === undefined) {
      const headers = { ...how.answerHeaders, ...(this.isRelayed(request) && { [UNBEGUN_HEADER]: '1' }) };
      sendError(response, 503, NO_LEADER, headers);
      return;
    }
    const again = async (): Promise<void> => {
      await this.#pause();
      await this.#relayUntil(untilMs, asked);
    };
    const instead = (answer: IncomingMessage) =>
      answer.headers[UNBEGUN_HEADER] !== undefined && this.#mayComeBack(untilMs) ? again : undefined;
    forward(request, response, { ...this.#upstream(request, stream), instead }, { ...how, log: this.#deps.log });
  }

  #upstream(request: IncomingMessage, stream: Duplex): Upstream {
    return {
      connection: { createConnection: () => stream },
      away: (error) => brokenOff(request.method, error),
      answered: (answer) => this.#caughtUp(answer, request.method),
    };
  }

  /** A stream to whoever leads, waited for as long as that is worth it. Undefined: there is no leader that could be asked. */
  async #tunnel(request: IncomingMessage, untilMs: number, gone?: AbortSignal): Promise<Duplex | undefined> {
    if (this.isRelayed(request)) return undefined;
    for (;;) {
      const stream = await this.#dial(request, untilMs, gone);
      if (stream !== undefined || gone?.aborted === true || !this.#mayComeBack(untilMs)) return stream;
      await this.#pause();
    }
  }

  async #dial(request: IncomingMessage, untilMs: number, gone?: AbortSignal): Promise<Duplex | undefined> {
    const { tunnel, log, clock } = this.#deps;
    if (!this.isElsewhere) return this.#toMyself();
    const nodeId = this.known.leader?.nodeId;
    const { atMs = -Infinity } = this.#unreached?.nodeId === nodeId ? (this.#unreached ?? {}) : {};
    if (this.isMissing || tunnel === undefined || clock.monotonic() - atMs < REDIAL_MS) return undefined;
    const late = new AbortController();
    const timer = clock.after(untilMs - clock.monotonic(), () => late.abort(new Error('the leader was not reached')));
    try {
      return await tunnel(AbortSignal.any([late.signal, ...(gone === undefined ? [] : [gone])]));
    } catch (error) {
      log.debug({ err: error, url: request.url }, 'the leader could not be asked');
      if (gone?.aborted !== true) this.#unreached = { nodeId, atMs: clock.monotonic() };
      return undefined;
    } finally {
      timer.cancel();
    }
  }

  /** This manager was elected while a request waited. */
  #toMyself(): Duplex {
    const [mine, served] = duplexPair();
    mine.once('close', () => served.destroy());
    served.once('close', () => mine.destroy());
    this.serveTunnel(served);
    return mine;
  }

  #untilMs(): number {
    return this.#deps.clock.monotonic() + WAIT_MS;
  }

  /** Whether it is worth waiting for a leader, until this moment of the monotonic clock. */
  #mayComeBack(untilMs: number): boolean {
    const now = this.#deps.clock.monotonic();
    if (now >= untilMs) return false;
    const { missingSinceMs } = this.known;
    return !this.isMissing || (missingSinceMs !== undefined && now - missingSinceMs < WAIT_MS);
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => this.#deps.clock.after(RETRY_MS, resolve));
  }

  /** Whether the replica does not show yet what somebody was told here. */
  get #isBehind(): boolean {
    const store = this.#deps.store();
    return store !== undefined && store.index < (this.#answered.get(store) ?? 0);
  }

  /**
   * Resolves, with what is to be said of it, once the replica shows what the answer of a change rests on, or after CATCH_UP_MS.
   * Until the replica does, whatever is read of the state here is asked of the leader (`answers`).
   */
  async #caughtUp(answer: IncomingMessage, method: string | undefined): Promise<Record<string, string>> {
    const index = Number(answer.headers[INDEX_HEADER] ?? 0);
    const store = this.#deps.store();
    if (store === undefined) return {};
    const remember = () => this.#answered.set(store, Math.max(index, this.#answered.get(store) ?? 0));
    if (isRead(method)) {
      remember();
      return {};
    }
    const limit = new AbortController();
    const timer = this.#deps.clock.after(CATCH_UP_MS, () => limit.abort(new Error('too late')));
    try {
      await store.reached(index, limit.signal);
      return {};
    } catch (error) {
      remember();
      this.#deps.log.warn({ err: error, index }, 'the state here does not come up to what the leader answered');
      return { Warning: BEHIND };
    } finally {
      timer.cancel();
    }
  }
}

/** What is said of a leader that broke off before it answered: of a change nobody can tell whether it was made. */
function brokenOff(method: string | undefined, { message }: Error): string {
  const what = `The leader of the swarm went away before it answered (${message})`;
  return isRead(method)
    ? `${what}. Try again in a moment.`
    : `${what}: it is not known whether this change was made. Look before you try again.`;
}

function warning(words: string): string {
  return `199 drover "${words}"`;
}
