/**
 * Where the API is served: unix sockets with mode and group, TCP with or without TLS. Promises: a socket file left by a
 * dead daemon is taken over, one that a living server answers on is not; a socket is never open to more than its mode
 * says, not even for a moment; closing says `Connection: close` first (trap 9) and waits for calls under way. Streams that come
 * from elsewhere are served as connections are.
 */
import { chmod, chown, lstat, readFile, unlink } from 'node:fs/promises';
import {
  createServer as createHttp,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttps } from 'node:https';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock, Log } from '../model/clock.ts';
import { NO_LEADER } from './errors.ts';
import { plainError } from './hijack.ts';
import { UNBEGUN_HEADER } from './proxy.ts';

export interface TlsFiles {
  /** PEM, all of them. */
  cert: string | Buffer;
  key: string | Buffer;
  /** Only clients with a certificate of this authority are served. */
  ca: string | Buffer;
}

export type Endpoint =
  | {
      path: string;
      /** Default 0660. */ mode?: number;
      /** Name or number; one that does not exist is left out, with a warning. */ group?: string | number;
    }
  | { host: string; port: number; tls?: TlsFiles };

export interface Handlers {
  request: RequestListener;
  /** Whether a request that carries `Upgrade` is to become a raw stream; else it is answered as any other. */
  shouldUpgrade: (request: IncomingMessage) => boolean;
  upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
}

/** Calls under way when closing starts get this long; streams are cut then. */
const CLOSE_GRACE_MS = 2_000;

/** Half-open as Node's plain server is: a client that has closed its input waits for the output of its container. */
const TLS = { requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2', allowHalfOpen: true } as const;

export class Listeners {
  readonly #handlers: Handlers;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #servers = new Set<Server>();
  /** For streams that nobody listens for; it knows none of them by itself. */
  #unbound: Server | undefined;
  readonly #streams = new Set<Duplex>();
  readonly #raw = new Set<Duplex>();
  readonly #open = new Set<ServerResponse>();
  #closing = false;

  constructor(handlers: Handlers, clock: Clock, log: Log) {
    this.#handlers = handlers;
    this.#clock = clock;
    this.#log = log;
  }

  /** Resolves with the address once clients can connect (`port` is the real one). Rejects if it cannot be had. */
  async listen(endpoint: Endpoint): Promise<Endpoint> {
    const server = this.#server('tls' in endpoint ? endpoint.tls : undefined);
    if ('path' in endpoint) await this.#listenUnix(server, endpoint);
    else await started(server, () => server.listen(endpoint.port, endpoint.host));
    this.#servers.add(server);
    const address = server.address();
    return 'path' in endpoint || typeof address === 'string' || address === null
      ? endpoint
      : { ...endpoint, port: address.port };
  }

  /** Serves HTTP/1.1 on a stream of another manager's; once closing, it is told that nothing was begun. */
  serve(stream: Duplex): void {
    if (this.#closing) {
      stream.on('error', (error) => this.#log.debug({ err: error }, 'a manager that was refused has gone'));
      stream.resume().end(plainError(503, NO_LEADER, { [UNBEGUN_HEADER]: '1' }));
      return;
    }
    this.#unbound ??= this.#server(undefined);
    this.#streams.add(stream);
    stream.once('close', () => this.#streams.delete(stream));
    this.#unbound.emit('connection', stream);
  }

  /** Takes no more calls, lets those under way end for two seconds, then cuts them. Idempotent. */
  async close(): Promise<void> {
    this.#closing = true;
    const closed = [
      ...[...this.#servers].map((server) => new Promise((resolve) => server.close(resolve))),
      ...[...this.#streams].map((stream) => new Promise((resolve) => stream.once('close', resolve))),
    ];
    for (const response of this.#open) if (!response.headersSent) response.setHeader('Connection', 'close');
    this.#servers.forEach((server) => server.closeIdleConnections());
    const timer = this.#clock.after(CLOSE_GRACE_MS, () => {
      this.#raw.forEach((socket) => socket.destroy());
      this.#streams.forEach((stream) => stream.destroy());
      this.#servers.forEach((server) => server.closeAllConnections());
    });
    await Promise.all(closed);
    timer.cancel();
    this.#servers.clear();
  }

  #server(tls: TlsFiles | undefined): Server {
    const options: ServerOptions = {
      shouldUpgradeCallback: this.#handlers.shouldUpgrade,
      // A build context or an image may take hours to arrive; heads may not.
      requestTimeout: 0,
      headersTimeout: 60_000,
      keepAliveTimeout: 75_000,
    };
    const server = tls === undefined ? createHttp(options) : createHttps({ ...options, ...tls, ...TLS });
    server.on('request', (request, response) => {
      if (this.#closing) response.setHeader('Connection', 'close');
      this.#open.add(response);
      response.once('close', () => this.#open.delete(response));
      this.#handlers.request(request, response);
    });
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#raw.add(socket);
      socket.once('close', () => this.#raw.delete(socket));
      this.#handlers.upgrade(request, socket, head);
    });
    server.on('clientError', (error: Error, socket: Duplex) => {
      this.#log.debug({ err: error }, 'a client sent what is no HTTP');
      if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      else socket.destroy();
    });
    return server;
  }

  async #listenUnix(server: Server, endpoint: Extract<Endpoint, { path: string }>): Promise<void> {
    await removeStaleSocket(endpoint.path);
    // The file is made by listen() itself, at once: until its mode and group are set only we may connect.
    const before = process.umask(0o177);
    const listening = started(server, () => server.listen(endpoint.path));
    process.umask(before);
    await listening;
    const gid = await this.#groupId(endpoint.group);
    if (gid !== undefined) await chown(endpoint.path, process.getuid?.() ?? 0, gid);
    await chmod(endpoint.path, endpoint.mode ?? 0o660);
  }

  async #groupId(group: string | number | undefined): Promise<number | undefined> {
    if (group === undefined || typeof group === 'number') return group;
    const line = (await readFile('/etc/group', 'utf8')).split('\n').find((text) => text.startsWith(`${group}:`));
    if (line === undefined) this.#log.warn({ group }, 'no such group: the socket stays with the group of the daemon');
    return line === undefined ? undefined : Number(line.split(':')[2]);
  }
}

function started(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      resolve();
    });
    listen();
  });
}

/** Removes a socket that nobody answers on. @throws if somebody does, or if the path is something else. */
async function removeStaleSocket(path: string): Promise<void> {
  const file = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (file === undefined) return;
  if (!file.isSocket()) throw new Error(`${path} exists and is no socket`);
  const failure = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    const probe = connect(path);
    probe.once('error', resolve);
    probe.once('connect', () => {
      probe.destroy();
      resolve(undefined);
    });
  });
  if (failure === undefined) throw new Error(`another server is answering on ${path}`);
  if (failure.code !== 'ECONNREFUSED') throw failure;
  await unlink(path);
}
