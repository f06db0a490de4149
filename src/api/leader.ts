/**
 * The leader as the API of a manager that follows needs it: what only the leader can answer is relayed there, over a stream that
 * other managers have to its API (dispatch/leader-link.ts), and the answer is held until this manager's replica shows what it
 * rests on, so that who asks here reads what they wrote.
 *
 * What came over such a stream is never relayed again: if the leader has changed meanwhile, the answer is that there is none.
 */
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { ApiDeps } from './context.ts';
import { answeredBy } from './answered-by.ts';
import { ApiError, NO_LEADER, unavailable } from './errors.ts';
import { forwardUpgrade, plainError } from './hijack.ts';
import { forward, INDEX_HEADER, sendError, type Upstream } from './proxy.ts';
import type { RequestTarget } from './request-target.ts';

/** Who leads, as this manager knows. */
export interface Leadership {
  /** This manager does. */
  leading: boolean;
  /** Absent: nobody, or nobody knows. */
  leader?: { nodeId: string; address: string };
}

/** How long an answer is held for the replica to catch up. */
const CATCH_UP_MS = 5_000;
/** What an answer that could be held no longer says. */
const BEHIND = warning('this manager is behind the leader: what it shows may not have this change yet');
/** For a header: quoted, with the code for "miscellaneous". */
const LEADERLESS = warning(`${NO_LEADER} What is shown may be old.`);

export class Leader {
  readonly #deps: ApiDeps;
  readonly #tunnelled = new WeakSet<Duplex>();

  constructor(deps: ApiDeps) {
    this.#deps = deps;
  }

  /** This stream is another manager's: what comes over it is answered here or not at all. */
  acceptTunnel(stream: Duplex): void {
    this.#tunnelled.add(stream);
  }

  /** Whether a request was relayed here by another manager, which has asked its own host what there was to ask. */
  isRelayed(request: IncomingMessage): boolean {
    return this.#tunnelled.has(request.socket);
  }

  /** Whether this is a manager that follows. */
  get isElsewhere(): boolean {
    return this.#deps.store() !== undefined && !this.#leadership().leading;
  }

  /** A `Warning` header for answers from a replica that no leader keeps fresh; '' while there is a leader. */
  warning(): string {
    return this.isMissing ? LEADERLESS : '';
  }

  /** Whether this is a manager, and knows of no leader. */
  get isMissing(): boolean {
    return this.isElsewhere && this.#leadership().leader === undefined;
  }

  /** Whether the route of this pattern is to be answered by another manager than this one. */
  answers(method: string, pattern: string): boolean {
    return this.isElsewhere && answeredBy(method, pattern) === 'leader';
  }

  /** For a route that hands on only a part of what is asked: @throws ApiError 503 if there is nobody to ask */
  assertReachable(request: IncomingMessage): void {
    if (this.isRelayed(request) || this.isMissing) throw unavailable(NO_LEADER);
  }

  /**
   * Has the leader answer a request, under another path if one is given; `body`: what was read of it here. Answers on `response`,
   * whatever happens.
   */
  async relay(
    request: IncomingMessage,
    response: ServerResponse,
    how: { url: string; answerHeaders: Record<string, string>; body?: Buffer },
  ): Promise<void> {
    const { log } = this.#deps;
    const gone = new AbortController();
    response.once('close', () => gone.abort(new Error('the client has gone')));
    const stream = await this.#tunnel(request, gone.signal);
    if (stream === undefined) sendError(response, 503, NO_LEADER, how.answerHeaders);
    else forward(request, response, this.#upstream(request, stream), { ...how, log });
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
    const upstream = await this.#tunnel(request, gone.signal);
    socket.off('error', broken);
    if (upstream === undefined) socket.on('error', broken).end(plainError(503, NO_LEADER, answerHeaders));
    else {
      const away = (error: Error): string => brokenOff(request.method, error);
      forwardUpgrade(request, socket, head, { upstream, away, url: target.url, answerHeaders, log });
    }
  }

  /** The leader's JSON for a part of what `request` asks. Rejects with ApiError as the leader refuses, or 503. */
  async ask(request: IncomingMessage, url: string): Promise<unknown> {
    const stream = await this.#tunnel(request, undefined);
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
      await this.#caughtUp(answer);
      return body;
    } catch (error) {
      throw error instanceof ApiError ? error : unavailable(brokenOff(method, error as Error));
    } finally {
      stream.destroy();
    }
  }

  #leadership(): Leadership {
    return this.#deps.leadership?.() ?? { leading: true };
  }

  #upstream(request: IncomingMessage, stream: Duplex): Upstream {
    return {
      connection: { createConnection: () => stream },
      away: (error) => brokenOff(request.method, error),
      answered: (answer) => this.#caughtUp(answer),
    };
  }

  /** Undefined: there is no leader that could be asked. */
  async #tunnel(request: IncomingMessage, signal: AbortSignal | undefined): Promise<Duplex | undefined> {
    const { tunnel, log } = this.#deps;
    if (this.isRelayed(request) || this.isMissing || tunnel === undefined) return undefined;
    try {
      return await tunnel(signal);
    } catch (error) {
      log.debug({ err: error, url: request.url }, 'the leader could not be asked');
      return undefined;
    }
  }

  /** Resolves, with what is to be said of it, once the replica shows what the answer rests on, or after CATCH_UP_MS. */
  async #caughtUp(answer: IncomingMessage): Promise<Record<string, string>> {
    const index = Number(answer.headers[INDEX_HEADER] ?? 0);
    const limit = new AbortController();
    const timer = this.#deps.clock.after(CATCH_UP_MS, () => limit.abort(new Error('too late')));
    try {
      await this.#deps.store()?.reached(index, limit.signal);
      return {};
    } catch (error) {
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
  return method === 'GET' || method === 'HEAD'
    ? `${what}. Try again in a moment.`
    : `${what}: it is not known whether this change was made. Look before you try again.`;
}

function warning(words: string): string {
  return `199 drover "${words}"`;
}
