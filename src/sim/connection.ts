/**
 * One session's connection in the simulated network, with as much of node:http2 at both ends as both ends of a session use:
 * one request, frames both ways, ends in order and ends without. Either end only ever runs inside its own process.
 */
import { EventEmitter } from 'node:events';
import type { ClientHttp2Session, ClientHttp2Stream, ServerHttp2Stream } from 'node:http2';
import type { Network, Pipe } from './network.ts';
import type { Process } from './process.ts';

export interface Peer {
  /** The host's name in the network. */
  host: string;
  process: Process;
  /** Whether its kernel answers for a process that has ended: not while the host is off. */
  isOn: () => boolean;
}

/** More than this on its way, and whoever writes is told to wait. */
const WINDOW_BYTES = 64 * 1024;

type Headers = Record<string, string | number>;

/** One end of the stream. */
class End extends EventEmitter {
  readonly session: Connection;
  destroyed = false;
  closed = false;
  headersSent = false;
  writableEnded = false;
  writableNeedDrain = false;
  readonly #self: Peer;
  readonly #out: Pipe;
  #other: End | undefined;
  #refused: () => void = () => {};
  #ended = false;
  #onItsWay = 0;
  readonly #body: Buffer[] = [];
  #bodyEnded = Promise.withResolvers<void>();

  constructor(session: Connection, self: Peer, out: Pipe) {
    super();
    this.session = session;
    this.#self = self;
    this.#out = out;
    // As node: an error nobody listens for must not end the simulator; the close that follows says it as well.
    this.on('error', () => {});
  }

  /** `refused` is called when something arrives at `other` whose process has ended. */
  connect(other: End, refused: () => void): void {
    this.#other = other;
    this.#refused = refused;
  }

  respond(headers: Headers): void {
    this.headersSent = true;
    this.#tell((other) => other.emit('response', headers));
  }

  write(chunk: Buffer, taken?: () => void): boolean {
    if (this.destroyed || this.writableEnded) return false;
    this.#onItsWay += chunk.length;
    this.writableNeedDrain = this.#onItsWay > WINDOW_BYTES;
    this.#tell((other) => other.#receive(chunk));
    const { loop } = this.session.network;
    if (taken !== undefined) loop.after(0, 'written', () => this.#self.process.take(taken));
    return !this.writableNeedDrain;
  }

  end(text?: string): void {
    if (this.writableEnded || this.destroyed) return;
    if (text !== undefined) this.write(Buffer.from(text));
    this.writableEnded = true;
    this.#tell((other) => other.#finish());
    this.#closeIfDone();
  }

  resume(): void {}

  close(): void {
    this.session.destroy();
  }

  /** The body of a refusal. */
  async *iterator(): AsyncGenerator<Buffer> {
    await this.#bodyEnded.promise;
    yield* this.#body;
  }

  /** Nothing comes or goes any more. */
  shut(error?: Error): void {
    if (this.closed) return;
    this.closed = true;
    this.destroyed = true;
    this.#bodyEnded.resolve();
    if (error !== undefined) this.emit('error', error);
    this.emit('close');
  }

  #tell(arrive: (other: End) => void): void {
    this.#out.send(() => {
      const other = this.#other;
      if (other === undefined) return;
      const { process, isOn } = other.#self;
      if (!process.alive && isOn()) this.#refused();
      process.take(() => {
        if (!other.closed) arrive(other);
      });
    });
  }

  #receive(chunk: Buffer): void {
    this.#body.push(chunk);
    this.#other!.#arrived(chunk.length);
    if (this.listenerCount('data') > 0) {
      this.#body.length = 0;
      this.emit('data', chunk);
    }
  }

  #arrived(bytes: number): void {
    this.#onItsWay -= bytes;
    if (!this.writableNeedDrain || this.#onItsWay > WINDOW_BYTES / 2) return;
    this.#self.process.take(() => {
      if (this.closed || !this.writableNeedDrain) return;
      this.writableNeedDrain = false;
      this.emit('drain');
    });
  }

  #finish(): void {
    this.#ended = true;
    this.#bodyEnded.resolve();
    this.emit('end');
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    if (!this.#ended || !this.writableEnded || this.closed) return;
    this.session.network.loop.after(0, 'stream done', () => this.#self.process.take(() => this.#done()));
  }

  #done(): void {
    if (this.closed) return;
    this.closed = true;
    this.emit('close');
  }
}

/** One end of the connection. */
class Connection extends EventEmitter {
  readonly network: Network;
  readonly self: Peer;
  destroyed = false;
  #hangUp: () => void = () => {};
  stream!: End;

  constructor(network: Network, self: Peer) {
    super();
    this.network = network;
    this.self = self;
  }

  wire(stream: End, hangUp: () => void): void {
    this.stream = stream;
    this.#hangUp = hangUp;
  }

  /** The kernel tells the other side, if it can. */
  destroy(): void {
    if (this.destroyed) return;
    this.#hangUp();
    this.over();
  }

  close(): void {
    if (this.stream.closed) this.destroy();
  }

  over(error?: Error): void {
    if (this.destroyed) return;
    this.destroyed = true;
    if (error !== undefined && this.listenerCount('error') > 0) this.emit('error', error);
    this.stream.shut(error);
    this.emit('close');
  }
}

export interface Dial {
  network: Network;
  client: Peer;
  /** Where it is dialled to; asked when the call arrives there. */
  server(): { peer: Peer; accept: ((stream: ServerHttp2Stream) => void) | undefined } | undefined;
  serverHost: string;
}

/** What is on the wire, for whoever breaks connections. */
export interface Wire {
  readonly hosts: readonly [string, string];
  /** Both ends hear, each in its time, that the connection was reset. */
  reset(): void;
}

/**
 * Begins to dial. The server's `accept` gets the stream of the first request. Nobody there: the connection is refused; a host
 * that cannot be reached, or is off (`server` is undefined): nothing is heard.
 */
export function dial(options: Dial, opened: (wire: Wire) => void): ClientHttp2Session {
  const { network, client, serverHost } = options;
  const name = `${client.host}>${serverHost}`;
  const forth = network.pipe(client.host, serverHost, name);
  const back = network.pipe(serverHost, client.host, `${serverHost}>${client.host}`);
  const here = new Connection(network, client);
  const clientEnd = new End(here, client, forth);
  let there: Connection | undefined;
  const failHere = (message: string) => client.process.take(() => here.over(new Error(message)));
  const failThere = (message: string) => there?.self.process.take(() => there!.over(new Error(message)));
  here.wire(clientEnd, () => {
    // What was written before goes first; what was on its way here is lost.
    forth.send(() => failThere('the other side has gone'));
    back.break();
  });
  client.process.onEnd(() => forth.send(() => failThere('the other side has gone')));

  forth.send(() => {
    const server = options.server();
    if (server === undefined) return;
    const { peer, accept } = server;
    if (accept === undefined) {
      back.send(() => failHere(`connect ECONNREFUSED ${serverHost}`));
      return;
    }
    there = new Connection(network, peer);
    const serverEnd = new End(there, peer, back);
    clientEnd.connect(serverEnd, () => back.send(() => failHere('read ECONNRESET')));
    serverEnd.connect(clientEnd, () => forth.send(() => failThere('read ECONNRESET')));
    there.wire(serverEnd, () => {
      back.send(() => failHere('the connection was closed'));
      forth.break();
    });
    peer.process.onEnd(() => back.send(() => failHere('read ECONNRESET')));
    opened({
      hosts: [client.host, serverHost],
      reset: () => {
        forth.break();
        back.break();
        network.loop.after(network.delayMs(), name, () => failHere('read ECONNRESET'));
        network.loop.after(network.delayMs(), name, () => failThere('read ECONNRESET'));
      },
    });
    peer.process.take(() => accept(serverEnd as unknown as ServerHttp2Stream));
  });
  Object.assign(here, { request: () => clientEnd as unknown as ClientHttp2Stream });
  return here as unknown as ClientHttp2Session;
}
