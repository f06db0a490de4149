/**
 * The pass-through of requests that turn into raw two-way streams (`Upgrade: tcp` of attach and exec, `h2c` of
 * BuildKit, websockets), to the host's engine or to the manager that leads. All bytes after the client's head, a body among
 * them, go there as they came; its answer is parsed only to see whether it agreed. Each side may close its direction while the
 * other still talks.
 */
import { request as httpRequest, STATUS_CODES, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import type { EngineAddress } from '../docker/client.ts';
import type { Log } from '../model/clock.ts';

export interface HijackOptions {
  /** To whom the request goes; both ends may be closed by themselves. */
  upstream: Duplex;
  /** The sentence of the 503 for one that broke off before it answered. */
  away(error: Error): string;
  url: string;
  /** Headers of an answer that refuses the upgrade. */
  answerHeaders: Record<string, string>;
  log: Log;
}

/** Takes over `client`, the socket of an upgrade request whose head has been parsed; `head`: the bytes read beyond it. */
export function forwardUpgrade(request: IncomingMessage, client: Duplex, head: Buffer, options: HijackOptions): void {
  const engine = options.upstream;
  let answered = false;
  const upstream = httpRequest({
    createConnection: () => engine,
    method: request.method,
    path: options.url,
    headers: withHost(request.rawHeaders),
  });
  // Either end gone for good takes the other with it; a half-close is passed on by the pipes.
  client.once('close', () => engine.destroy());
  client.on('error', (error) => {
    options.log.debug({ err: error, url: options.url }, 'a client broke off a stream');
    engine.destroy();
  });
  const engineFailed = (error: Error): void => {
    options.log.debug({ err: error, url: options.url }, 'the engine broke off a stream');
    client.destroy();
  };
  upstream.on('error', (error) => {
    if (answered || !client.writable) return engineFailed(error);
    client.end(plainError(503, options.away(error), options.answerHeaders));
  });
  upstream.once('upgrade', (answer, _socket, rest) => {
    answered = true;
    client.write(headOf(answer.statusCode ?? 101, answer.statusMessage, answer.rawHeaders));
    if (rest.length > 0) client.write(rest);
    engine.on('error', engineFailed);
    engine.once('close', () => {
      if (!client.writableEnded) client.destroy();
    });
    engine.pipe(client);
  });
  upstream.once('response', (answer) => {
    answered = true;
    refuse(answer, client, options);
  });
  upstream.flushHeaders();
  // What follows the head is written past Node's request, because the body has the client's own framing and stdin may
  // follow it at once; not before Node, having got its socket, has written the head.
  upstream.once('socket', () =>
    setImmediate(() => {
      if (head.length > 0) engine.write(head);
      client.pipe(engine);
    }),
  );
}

/** The engine said no: its answer goes to the client, and the connection, whose input went to the engine, ends with it. */
function refuse(answer: IncomingMessage, client: Duplex, options: HijackOptions): void {
  const own = new Set([
    'connection',
    'keep-alive',
    'transfer-encoding',
    ...Object.keys(options.answerHeaders).map((n) => n.toLowerCase()),
  ]);
  const kept: string[] = [];
  for (let i = 0; i + 1 < answer.rawHeaders.length; i += 2) {
    const name = answer.rawHeaders[i] ?? '';
    if (!own.has(name.toLowerCase())) kept.push(name, answer.rawHeaders[i + 1] ?? '');
  }
  const headers = [...kept, ...Object.entries(options.answerHeaders).flat(), 'Connection', 'close'];
  client.write(headOf(answer.statusCode ?? 502, answer.statusMessage, headers));
  answer.pipe(client);
  answer.on('error', () => client.destroy());
}

/** As `plainAnswer`, an error as Docker says it. */
export function plainError(status: number, message: string, headers: Record<string, string>): string {
  return plainAnswer(status, JSON.stringify({ message }), { ...headers, 'Content-Type': 'application/json' });
}

/** A whole answer for a client that waits on a raw socket. */
export function plainAnswer(status: number, body: string, headers: Record<string, string>): string {
  const all = { ...headers, 'Content-Length': String(Buffer.byteLength(body)), Connection: 'close' };
  return headOf(status, undefined, Object.entries(all).flat()) + body;
}

function headOf(status: number, reason: string | undefined, rawHeaders: string[]): string {
  let head = `HTTP/1.1 ${status} ${reason ?? STATUS_CODES[status] ?? ''}\r\n`;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) head += `${rawHeaders[i]}: ${rawHeaders[i + 1]}\r\n`;
  return `${head}\r\n`;
}

/** Begins to dial the engine for a raw stream. */
export function dialEngine(address: EngineAddress): Duplex {
  const target = 'socketPath' in address ? { path: address.socketPath } : address;
  return connect({ ...target, allowHalfOpen: true });
}

function withHost(rawHeaders: string[]): string[] {
  const headers: string[] = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    headers.push(name, name.toLowerCase() === 'host' ? 'api.moby.localhost' : (rawHeaders[i + 1] ?? ''));
  }
  return headers;
}
