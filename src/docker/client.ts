/**
 * A client of the Docker Engine API on node:http. Promises: every call settles (answer, DockerError, EngineUnreachable,
 * or the reason of the caller's signal), also when the connection breaks in the middle of an answer or a deadline
 * passes; the API version is negotiated once per connection to an engine, and again after it was away.
 */
import { Agent, request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { Readable } from 'node:stream';
import type { Duplex } from 'node:stream';
import { formatEngineAddress, parseEngineAddress } from './address.ts';
import type { EngineAddress } from './address.ts';
import { DockerError, EngineUnreachable } from './errors.ts';

export type { EngineAddress } from './address.ts';
export { formatEngineAddress, parseEngineAddress } from './address.ts';
export { DockerError, EngineUnreachable, hasStatus } from './errors.ts';

/** The newest API this client speaks (decisions-and-traps.md 1). */
const NEWEST_API = '1.51';
const PING_TIMEOUT_MS = 10_000;
/** An error body longer than this is cut: it is a sentence for people. */
const ERROR_BODY_LIMIT = 1024 * 1024;

const CLOSED = 'the engine closed the connection without an answer';

export type QueryValue = string | number | boolean | undefined;

export interface CallOptions {
  query?: Record<string, QueryValue>;
  /** A plain object is sent as JSON; a stream is piped; text and bytes go as they are. */
  body?: object | string | Uint8Array | Readable;
  headers?: OutgoingHttpHeaders;
  signal?: AbortSignal;
  /** Total time for the whole call, body included; none if absent. */
  timeoutMs?: number;
  /** Time until the answer begins: for one that may then go on for ever; none if absent. */
  answerTimeoutMs?: number;
  /** Longest silence on the connection; none if absent. */
  idleTimeoutMs?: number;
  /** Send the path as it is, without `/v1.NN`. */
  unversioned?: boolean;
}

/** What an engine says of itself in the headers of `/_ping`. */
export interface Ping {
  apiVersion: string;
  osType: string;
  headers: IncomingHttpHeaders;
}

/** A connection after the engine's `101`: what is written goes to stdin, `socket.end()` closes only that direction. */
export interface Hijacked {
  socket: Duplex;
  /** `application/vnd.docker.raw-stream` (TTY) or `…multiplexed-stream`; older engines say raw-stream for both. */
  contentType: string;
}

export class DockerClient {
  readonly address: EngineAddress;
  /** Keeps connections alive; a transparent proxy may share it. */
  readonly agent = new Agent({ keepAlive: true, maxFreeSockets: 16 });
  #version: Promise<string> | undefined;

  constructor(address: EngineAddress | string) {
    this.address = typeof address === 'string' ? parseEngineAddress(address) : address;
  }

  /** Closes idle connections; calls under way are not touched. */
  close(): void {
    this.agent.destroy();
  }

  /** Asks the engine for a sign of life. @throws EngineUnreachable */
  async ping(options: Pick<CallOptions, 'signal' | 'timeoutMs'> = {}): Promise<Ping> {
    const call = { timeoutMs: PING_TIMEOUT_MS, ...options, unversioned: true };
    const response = await this.stream('GET', '/_ping', call);
    await readAll(response);
    const { headers } = response;
    return { apiVersion: single(headers['api-version']) ?? '1.24', osType: single(headers.ostype) ?? 'linux', headers };
  }

  /** The version every path is sent with: the lower of ours and the engine's, such as `1.41`. */
  apiVersion(): Promise<string> {
    this.#version ??= this.ping().then(
      (ping) => olderVersion(ping.apiVersion, NEWEST_API),
      (error: unknown) => {
        this.#version = undefined;
        throw error;
      },
    );
    return this.#version;
  }

  /**
   * One call with a short answer, parsed: the caller says its type. An answer that is no JSON counts as null.
   * A read whose reused connection died before the first byte is tried once more.
   */
  async request<T = void>(method: string, path: string, options: CallOptions = {}): Promise<T> {
    const deadline = new Deadline(options);
    try {
      const response = await this.#open(method, path, options, deadline);
      const answer: T = JSON.parse(jsonText(await readAll(response), response));
      return answer;
    } catch (error) {
      throw this.#failure(error, deadline);
    } finally {
      deadline.settle();
    }
  }

  /**
   * One call whose answer is read as it comes (logs, events, pull). The caller reads or destroys it; a connection lost
   * in the middle, an abort or a deadline shows as an 'error' of the stream.
   */
  async stream(method: string, path: string, options: CallOptions = {}): Promise<IncomingMessage> {
    const deadline = new Deadline(options);
    try {
      const response = await this.#open(method, path, options, deadline);
      deadline.answered();
      response.once('close', () => deadline.settle());
      return response;
    } catch (error) {
      deadline.settle();
      throw this.#failure(error, deadline);
    }
  }

  /** Turns the connection into a raw two-way stream (attach, exec start). Deadlines count until the engine's `101`. */
  async hijack(method: string, path: string, options: CallOptions = {}): Promise<Hijacked> {
    const deadline = new Deadline(options);
    try {
      const headers = { ...options.headers, Connection: 'Upgrade', Upgrade: 'tcp' };
      return await this.#upgrade(method, path, { ...options, headers }, deadline);
    } catch (error) {
      throw this.#failure(error, deadline);
    } finally {
      deadline.settle();
    }
  }

  async #open(method: string, path: string, options: CallOptions, deadline: Deadline): Promise<IncomingMessage> {
    const target = await this.#target(path, options, deadline);
    const response = await this.#send(method, target, options, deadline);
    const status = response.statusCode ?? 0;
    if (status < 400) return response;
    throw new DockerError(status, errorMessage(await readAll(response, ERROR_BODY_LIMIT), status));
  }

  async #target(path: string, options: CallOptions, deadline: Deadline): Promise<string> {
    const version = options.unversioned === true ? '' : `/v${await deadline.race(this.apiVersion())}`;
    return version + path + queryString(options.query);
  }

  #send(method: string, target: string, options: CallOptions, deadline: Deadline): Promise<IncomingMessage> {
    const { body, headers } = encodeBody(options);
    const mayRetry = method === 'GET' || method === 'HEAD';
    return new Promise((resolve, reject) => {
      const attempt = (last: boolean): void => {
        const request = httpRequest({
          ...this.address,
          agent: this.agent,
          method,
          path: target,
          headers,
          signal: deadline.signal,
        });
        request.once('response', resolve);
        const closed = (): void => reject(new EngineUnreachable(CLOSED));
        request.once('close', closed);
        request.on('error', (error: NodeJS.ErrnoException) => {
          if (last || !request.reusedSocket || error.code !== 'ECONNRESET') return reject(error);
          request.off('close', closed);
          attempt(true);
        });
        deadline.watchSilence(request);
        sendBody(request, body);
      };
      attempt(!mayRetry);
    });
  }

  async #upgrade(method: string, path: string, options: CallOptions, deadline: Deadline): Promise<Hijacked> {
    const target = await this.#target(path, options, deadline);
    const { body, headers } = encodeBody(options);
    return new Promise((resolve, reject) => {
      // A connection of its own: after the upgrade it is the caller's and never goes back to the pool.
      const request = httpRequest({ ...this.address, agent: false, method, path: target, headers });
      const abort = (): void => void request.destroy(deadline.signal.reason);
      deadline.signal.addEventListener('abort', abort, { once: true });
      request.once('upgrade', (response, socket, head) => {
        deadline.signal.removeEventListener('abort', abort);
        socket.setTimeout(0);
        if (head.length > 0) socket.unshift(head);
        resolve({ socket, contentType: response.headers['content-type'] ?? '' });
      });
      request.once('response', (response) => {
        const status = response.statusCode ?? 0;
        readAll(response, ERROR_BODY_LIMIT).then(
          (text) => reject(new DockerError(status, errorMessage(text, status))),
          reject,
        );
      });
      request.on('error', reject);
      request.once('close', () => reject(new EngineUnreachable(CLOSED)));
      deadline.watchSilence(request);
      sendBody(request, body);
    });
  }

  /** The error to show: the caller's own reason, the engine's answer, or that it could not be asked. */
  #failure(error: unknown, deadline: Deadline): unknown {
    if (deadline.signal.aborted) return deadline.signal.reason;
    if (error instanceof DockerError) return error;
    this.#version = undefined;
    if (error instanceof EngineUnreachable) return error;
    if (error instanceof SyntaxError) return new EngineUnreachable('the engine answered with broken JSON', error);
    const reason = error instanceof Error ? error.message : String(error);
    return new EngineUnreachable(
      `Cannot connect to the Docker daemon at ${formatEngineAddress(this.address)}. Is the docker daemon running? (${reason})`,
      error,
    );
  }
}

/** The caller's signal, the total time and the longest silence of one call, as one signal. */
class Deadline {
  readonly #controller = new AbortController();
  readonly signal = this.#controller.signal;
  readonly #outer: AbortSignal | undefined;
  readonly #idleTimeoutMs: number | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #answerTimer: NodeJS.Timeout | undefined;
  readonly #onOuterAbort = (): void => this.#controller.abort(this.#outer?.reason);

  constructor(options: CallOptions) {
    const { signal, timeoutMs, answerTimeoutMs, idleTimeoutMs } = options;
    this.#idleTimeoutMs = idleTimeoutMs;
    this.#outer = signal;
    if (signal?.aborted === true) this.#controller.abort(signal.reason);
    else signal?.addEventListener('abort', this.#onOuterAbort, { once: true });
    this.#timer = this.#timeout(timeoutMs);
    this.#answerTimer = this.#timeout(answerTimeoutMs);
  }

  #timeout(ms: number | undefined): NodeJS.Timeout | undefined {
    if (ms === undefined) return undefined;
    return setTimeout(() => this.#expire(`the engine gave no answer within ${ms} ms`), ms).unref();
  }

  /** The answer has begun. */
  answered(): void {
    clearTimeout(this.#answerTimer);
  }

  watchSilence(request: { setTimeout(ms: number, fn: () => void): unknown }): void {
    const ms = this.#idleTimeoutMs;
    if (ms !== undefined) request.setTimeout(ms, () => this.#expire(`the engine was silent for ${ms} ms`));
  }

  /** `promise`, or the reason of this deadline if that comes first. */
  race<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(this.signal.reason);
      if (this.signal.aborted) abort();
      this.signal.addEventListener('abort', abort, { once: true });
      promise.then(resolve, reject).finally(() => this.signal.removeEventListener('abort', abort));
    });
  }

  settle(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#answerTimer);
    this.#outer?.removeEventListener('abort', this.#onOuterAbort);
  }

  #expire(message: string): void {
    this.#controller.abort(new EngineUnreachable(message));
  }
}

/** The older of two versions such as `1.41` and `1.51`. */
export function olderVersion(a: string, b: string): string {
  return compareVersions(a, b) <= 0 ? a : b;
}

/** Negative if `a` is older than `b`, 0 if equal, positive if newer. */
export function compareVersions(a: string, b: string): number {
  const [majorA = 0, minorA = 0] = a.split('.').map(Number);
  const [majorB = 0, minorB = 0] = b.split('.').map(Number);
  return majorA - majorB || minorA - minorB;
}

function queryString(query: Record<string, QueryValue> | undefined): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) params.append(name, String(value));
  const text = params.toString();
  return text === '' ? '' : `?${text}`;
}

type EncodedBody = string | Uint8Array | Readable | undefined;

function encodeBody(options: CallOptions): { body: EncodedBody; headers: OutgoingHttpHeaders } {
  // The engine refuses an empty Host; the name is the one Docker's own client sends.
  const headers: OutgoingHttpHeaders = { Host: 'api.moby.localhost', ...options.headers };
  const { body } = options;
  if (body === undefined) return { body, headers };
  if (typeof body === 'string' || body instanceof Uint8Array) {
    return { body, headers: { 'Content-Length': Buffer.byteLength(body), ...headers } };
  }
  if (body instanceof Readable) return { body, headers };
  const text = JSON.stringify(body);
  return {
    body: text,
    headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text), ...headers },
  };
}

function sendBody(request: NodeJS.WritableStream & { destroy(error?: Error): unknown }, body: EncodedBody): void {
  if (body instanceof Readable) {
    body.once('error', (error) => request.destroy(error));
    body.pipe(request);
  } else if (body === undefined) request.end();
  else request.end(body);
}

/** All of a response; rejects if the connection breaks before its end. Beyond `limit` bytes the rest is dropped. */
async function readAll(response: IncomingMessage, limit = Infinity): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    if (size < limit) chunks.push(chunk);
    size += chunk.length;
  }
  return Buffer.concat(chunks).toString('utf8');
}

function jsonText(text: string, response: IncomingMessage): string {
  const json = (response.headers['content-type'] ?? '').startsWith('application/json') && text.trim() !== '';
  return json ? text : 'null';
}

/** The engine's own sentence: `{"message": …}` if it is that, else the text. */
function errorMessage(text: string, status: number): string {
  try {
    const parsed: { message?: unknown } | null = JSON.parse(text);
    if (typeof parsed?.message === 'string') return parsed.message;
  } catch {
    // Not JSON: a proxy or an old engine wrote plain text, which is then the message itself.
  }
  return text.trim() === '' ? `the engine answered ${status} without a message` : text.trim();
}

function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
