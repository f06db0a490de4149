/** Plain requests over HTTP/2: JSON bodies of bounded size, errors as `{"message": …}`. Both ends use it. */
import type { ClientHttp2Session, Http2Stream, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Clock } from '../model/clock.ts';
import { FrameError } from './frames.ts';
import { MAX_BODY_BYTES, parseErrorAnswer } from './messages.ts';

/** A request that is refused, and how. The message is for who asked. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Who is asked does not lead the swarm. `leader` is host:port of the manager that does; '' if none is known. */
export class NotTheLeader extends RequestError {
  readonly leader: string;

  constructor(
    leader: string,
    message = leader === '' ? NO_LEADER : `this manager does not lead the swarm: ask ${leader}`,
  ) {
    super(503, message);
    this.leader = leader;
  }
}

const NO_LEADER =
  "The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.";

/** Answers with a JSON body, unless the other side has gone. */
export function respondJson(stream: ServerHttp2Stream, status: number, body: object): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return;
  stream.respond({ ':status': status, 'content-type': 'application/json' });
  stream.end(JSON.stringify(body));
}

export function respondError(stream: ServerHttp2Stream, status: number, message: string): void {
  respondJson(stream, status, { message });
}

/** Says no, and who leads if that is why. */
export function respondRefusal(stream: ServerHttp2Stream, refusal: RequestError): void {
  const { status, message } = refusal;
  respondJson(stream, status, refusal instanceof NotTheLeader ? { message, leader: refusal.leader } : { message });
}

/** The JSON that a stream carries to its end. Rejects with RequestError if it is too long or none. */
export async function readJson(stream: Http2Stream): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  // Left whole when the body is refused, so that the refusal can still be sent.
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new RequestError(413, `the body is longer than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    throw new RequestError(400, 'the body is not JSON');
  }
}

/** One request, one answer. Rejects with RequestError (NotTheLeader) for a status other than 200, else with what broke. */
export async function exchange(
  connection: ClientHttp2Session,
  method: string,
  path: string,
  body?: object,
  headers: OutgoingHttpHeaders = {},
): Promise<unknown> {
  const stream = connection.request(
    { ...headers, ':method': method, ':path': path },
    { endStream: body === undefined },
  );
  if (body !== undefined) stream.end(JSON.stringify(body));
  const status = await new Promise<number>((resolve, reject) => {
    stream.once('response', (headers) => resolve(headers[':status'] ?? 0));
    stream.once('error', (error) => reject(brokenBy(error)));
    stream.once('close', () => reject(new Error('the connection ended without an answer')));
  });
  const answer = await readJson(stream);
  if (status !== 200) throw refusalOf(status, answer);
  return answer;
}

/**
 * Runs exchanges on a connection that was just dialled for them, and ends it. Rejects with what broke it, or with `late`
 * after `limitMs`.
 */
export async function onConnection<R>(
  connection: ClientHttp2Session,
  limit: { clock: Clock; limitMs: number; late: string },
  ask: () => Promise<R>,
): Promise<R> {
  const broken = Promise.withResolvers<never>();
  connection.on('error', broken.reject);
  const timer = limit.clock.after(Math.max(0, limit.limitMs), () => broken.reject(new Error(limit.late)));
  try {
    return await Promise.race([ask(), broken.promise]);
  } finally {
    timer.cancel();
    connection.destroy();
  }
}

/** What broke a stream: if its connection did, that is the reason and not that the stream was canceled. */
export function brokenBy(error: Error): Error {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ERR_HTTP2_STREAM_CANCEL' && error.cause instanceof Error ? error.cause : error;
}

/** An answer that is a refusal: what it says in its body, or its number. */
export function refusalOf(status: number, body: unknown): RequestError {
  try {
    const { message, leader } = parseErrorAnswer(body);
    return leader === undefined ? new RequestError(status, message) : new NotTheLeader(leader, message);
  } catch (error) {
    if (!(error instanceof FrameError)) throw error;
    return new RequestError(status, `refused with status ${status}`);
  }
}
