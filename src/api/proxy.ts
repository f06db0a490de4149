/**
 * The pass-through: a request goes to the host's engine as it came, streams both ways, headers at once (trap 2).
 * Promises: a client that hangs up ends the engine's request; an engine that breaks off ends the client's connection;
 * an engine that is away is a 503 with a sentence.
 */
import { request as httpRequest, type IncomingMessage, type RequestOptions, type ServerResponse } from 'node:http';
import { formatEngineAddress, type EngineAddress } from '../docker/client.ts';
import type { Log } from '../model/clock.ts';

/** The transaction that an answer of the leader's API rests on: between managers only. */
export const INDEX_HEADER = 'drover-index';
/** On the refusal of a manager that does not lead: nothing of what was asked was begun. Between managers only. */
export const UNBEGUN_HEADER = 'drover-unbegun';

/** Headers that belong to one connection only, and `Expect`, which this server has already answered. */
const HOP_BY_HOP = new Set([
  INDEX_HEADER,
  UNBEGUN_HEADER,
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'expect',
  'te',
]);
/** The name Docker's own client sends over a unix socket. */
const HOST = 'api.moby.localhost';

export interface ForwardOptions {
  /** Path and query for whom it goes to. */
  url: string;
  /** Headers to set on the answer, in place of the engine's. */
  answerHeaders: Record<string, string>;
  /** Sent instead of the client's body, which has been read. */
  body?: Buffer;
  /** Changes the text of an answer that is good: such an answer is held whole until it has all come. */
  rewrite?: (text: string) => string;
  log: Log;
}

/** Whom a request goes to. */
export interface Upstream {
  /** How it is reached: by a connection that is used once. */
  connection: Pick<RequestOptions, 'agent' | 'createConnection' | 'host' | 'port' | 'socketPath'>;
  /** The sentence of the 503 for one that broke off before it answered. */
  away(error: Error): string;
  /** Headers to add to its answer, once that may be relayed. */
  answered?(answer: IncomingMessage): Promise<Record<string, string>>;
  /** What is done in place of relaying this answer: the request is answered another way then. */
  instead?(answer: IncomingMessage): (() => Promise<void>) | undefined;
}

/** Whom requests go to that are not answered here: the host's engine. */
export function engineUpstream(address: EngineAddress): Upstream {
  // A connection each: on a reused one a closing engine could swallow a request that must not be sent twice.
  return { connection: { ...address, agent: false }, away: (error) => engineAway(address, error) };
}

/** Forwards one request and answers it on `response`, whatever happens. Its body must not have been touched, or be given. */
export function forward(
  client: IncomingMessage,
  response: ServerResponse,
  to: Upstream,
  options: ForwardOptions,
): void {
  const upstream = httpRequest({
    ...to.connection,
    method: client.method,
    path: options.url,
    headers: requestHeaders(client, options.body),
  });
  const hangUp = (): void => void upstream.destroy();
  response.once('close', hangUp);
  // An engine that answers before it has read everything: the rest of the client's body goes nowhere, but is read, so
  // that the client gets its answer and its hanging up is noticed.
  upstream.once('close', () => client.unpipe(upstream).resume());
  let answered = false;
  upstream.once('response', (answer) => {
    answered = true;
    const instead = to.instead?.(answer);
    if (instead === undefined) void relay(answer, response, to, options);
    else {
      answer.resume();
      response.off('close', hangUp);
      void instead();
    }
  });
  upstream.on('error', (error) => {
    if (response.destroyed || response.writableEnded) return;
    if (answered || response.headersSent) {
      options.log.debug({ err: error, url: options.url }, 'an answer was broken off in the middle');
      response.destroy();
      return;
    }
    sendError(response, 503, to.away(error), options.answerHeaders);
  });
  if (options.body !== undefined) upstream.end(options.body);
  else if (hasBody(client)) client.pipe(upstream);
  else upstream.end();
}

/** The sentence for an engine that cannot be reached. */
export function engineAway(address: EngineAddress, error: Error): string {
  return (
    `Cannot reach the Docker Engine of this host at ${formatEngineAddress(address)}: ${error.message}. ` +
    'Its containers, images and volumes cannot be shown or changed until it is back.'
  );
}

/** Writes an error body as Docker does, with a Content-Type of exactly `application/json`. */
export function sendError(
  response: ServerResponse,
  status: number,
  message: string,
  headers: Record<string, string>,
): void {
  const body = JSON.stringify({ message });
  response.writeHead(status, {
    ...headers,
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
  });
  response.end(body);
}

async function relay(
  answer: IncomingMessage,
  response: ServerResponse,
  to: Upstream,
  options: ForwardOptions,
): Promise<void> {
  const { rewrite } = options;
  const own = { ...options.answerHeaders, ...(await to.answered?.(answer)) };
  if (response.destroyed) return;
  if (rewrite !== undefined && answer.statusCode === 200) {
    relayRewritten(answer, response, own, rewrite);
    return;
  }
  response.writeHead(answer.statusCode ?? 502, answer.statusMessage, answerHeaders(answer, own));
  response.flushHeaders();
  answer.pipe(response);
  // A stream cut in the middle must not look like its end.
  answer.on('error', () => response.destroy());
}

function relayRewritten(
  answer: IncomingMessage,
  response: ServerResponse,
  own: Record<string, string>,
  rewrite: (text: string) => string,
): void {
  const chunks: Buffer[] = [];
  answer.on('data', (chunk: Buffer) => chunks.push(chunk));
  answer.on('error', () => response.destroy());
  answer.on('end', () => {
    const body = Buffer.from(rewrite(Buffer.concat(chunks).toString()));
    const headers = answerHeaders(answer, { ...own, 'Content-Length': String(body.length) });
    response.writeHead(200, answer.statusMessage, headers);
    response.end(body);
  });
}

/** The engine's headers, fit for another connection, with `own` in place of its own. As pairs in one flat list. */
function answerHeaders(answer: IncomingMessage, own: Record<string, string>): string[] {
  const replaced = new Set(Object.keys(own).map((name) => name.toLowerCase()));
  const headers = withoutHops(answer.rawHeaders).filter(([name]) => !replaced.has(name.toLowerCase()));
  return [...headers, ...Object.entries(own)].flat();
}

function requestHeaders(client: IncomingMessage, body: Buffer | undefined): string[] {
  const headers = withoutHops(client.rawHeaders).filter(
    ([name]) => !['host', 'content-length'].includes(name.toLowerCase()),
  );
  // Not `close`, although the connection is not used again: Node writes an empty chunk behind a body, and an engine that
  // has answered and closed by then would make that an EPIPE in place of its answer.
  headers.push(['Host', HOST], ['Connection', 'keep-alive']);
  const length = body === undefined ? client.headers['content-length'] : String(body.length);
  if (length !== undefined) headers.push(['Content-Length', length]);
  else if (client.headers['transfer-encoding'] !== undefined) headers.push(['Transfer-Encoding', 'chunked']);
  else if (client.method !== 'GET' && client.method !== 'HEAD') headers.push(['Content-Length', '0']);
  return headers.flat();
}

/** True if a request says that a body comes with it. */
export function hasBody(client: IncomingMessage): boolean {
  const length = client.headers['content-length'];
  return client.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

function withoutHops(rawHeaders: string[]): [string, string][] {
  const headers: [string, string][] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    if (!HOP_BY_HOP.has(name.toLowerCase())) headers.push([name, rawHeaders[i + 1] ?? '']);
  }
  return headers;
}
