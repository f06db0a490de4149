/** The few calls the lab makes to a Docker Engine API on a unix socket: JSON in, JSON out, errors with their message. */
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';

/** An answer of 400 and above: Docker's sentence, and the status. */
export class ApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface Call {
  /** Pairs where a name comes more than once. */
  query?: Record<string, string> | [string, string][];
  headers?: Record<string, string>;
  /** An object is sent as JSON, a stream as a tar. */
  body?: object | Readable;
  /** Milliseconds without a byte after which the call fails; 60 s unless said. */
  timeoutMs?: number;
}

function isStream(body: object): body is Readable {
  return 'pipe' in body;
}

async function send(socketPath: string, method: string, path: string, call: Call): Promise<IncomingMessage> {
  const { query, headers, body, timeoutMs = 60_000 } = call;
  const type = body === undefined ? undefined : isStream(body) ? 'application/x-tar' : 'application/json';
  const search = query === undefined ? '' : `?${new URLSearchParams(query).toString()}`;
  const outgoing = request({
    socketPath,
    method,
    path: path + search,
    headers: { host: 'lab', ...(type === undefined ? {} : { 'content-type': type }), ...headers },
    timeout: timeoutMs,
    agent: false,
  });
  outgoing.once('timeout', () => outgoing.destroy(new Error(`${method} ${path}: no answer in ${timeoutMs} ms`)));
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
  });
  if (body !== undefined && isStream(body)) await Promise.race([pipeline(body, outgoing), answered]);
  else outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  return answered;
}

function messageIn(body: string): string {
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === 'object' && parsed !== null && 'message' in parsed) return String(parsed.message);
  } catch {
    // Not JSON: the body itself is the message.
  }
  return body.trim();
}

/** Makes one call and returns the body; throws ApiError for statuses from 400 on. */
export async function callText(socketPath: string, method: string, path: string, call: Call = {}): Promise<string> {
  const response = await send(socketPath, method, path, call);
  const body = await text(response);
  const status = response.statusCode ?? 0;
  if (status >= 400) throw new ApiError(status, messageIn(body) || `${method} ${path}: status ${status}`);
  return body;
}

/** Makes one call and returns what its JSON says; the caller names the part of Docker's shape it reads. */
export async function callJson<Answer>(
  socketPath: string,
  method: string,
  path: string,
  call: Call = {},
): Promise<Answer> {
  const answer: Answer = JSON.parse(await callText(socketPath, method, path, call));
  return answer;
}

/** Calls of the image API answer 200 and a line of JSON per step; a failed step says `error`, which this throws. */
export async function callProgress(socketPath: string, path: string, call: Call = {}): Promise<void> {
  for (const line of (await callText(socketPath, 'POST', path, call)).split('\n')) {
    if (line.trim() === '') continue;
    const step: { error?: string } = JSON.parse(line);
    if (step.error !== undefined) throw new Error(step.error);
  }
}

/** True when something answers `GET /_ping` with 200 on that socket. */
export async function answers(socketPath: string): Promise<boolean> {
  try {
    await callText(socketPath, 'GET', '/_ping', { timeoutMs: 2_000 });
    return true;
  } catch {
    // Whatever the reason, it does not serve yet: the caller waits, and shows the daemon's log if that lasts.
    return false;
  }
}
