/**
 * Listens for DNS questions, UDP and TCP, on this node's gateway address in each overlay, and answers them. A
 * question of a task whose rules do not stand yet is held, so that what it does with the answer already works.
 */
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import type { Clock } from '../../model/clock.ts';
import type { Knowledge } from './answer.ts';
import { answer } from './answer.ts';
import { decodeQuery, encodeFailure, encodeReply, fitUdp } from './codec.ts';
import type { Query } from './codec.ts';
import { UdpPort } from './udp-port.ts';
import type { Transport, Upstream } from './upstream.ts';
import { framed } from './upstream.ts';

/** Milliseconds a question is held at most: below the 5 s after which a client's C library gives up. */
const HOLD_MS = 4_500;
/** Held at once; beyond it, questions are answered as if their time were up. */
const MAX_HELD = 1_000;
const TCP_IDLE_MS = 10_000;
const MAX_TCP_CONNECTIONS = 200;
/** Milliseconds without a question after which nothing can be left in the kernel's queues. */
const QUIET_MS = 100;

interface Listener {
  udp: UdpPort;
  tcp: Server;
}

export interface ResolverServerDeps {
  port: number;
  knowledge: () => Knowledge;
  upstream: Upstream;
  clock: Clock;
  /** Called whenever it begins or fails to listen on an address. */
  onListening: (address: string, error: string | undefined) => void;
  /** Called with what kept a question from being answered. */
  onFailure: (error: unknown) => void;
}

export class ResolverServer {
  readonly #deps: ResolverServerDeps;
  readonly #listeners = new Map<string, Listener>();
  readonly #held = new Set<(overdue: boolean) => void>();
  #turn = 0;
  /** Questions taken in and not yet answered. */
  #open = 0;
  /** Questions taken in since the start. */
  #taken = 0;

  constructor(deps: ResolverServerDeps) {
    this.#deps = deps;
  }

  /** Listens on exactly these addresses; call it again later for those that could not be bound. */
  listenOn(addresses: ReadonlySet<string>): void {
    for (const [address, { udp, tcp }] of this.#listeners) {
      if (addresses.has(address)) continue;
      this.#listeners.delete(address);
      udp.close();
      tcp.close();
    }
    for (const address of addresses) if (!this.#listeners.has(address)) this.#listen(address);
  }

  /** What is known has changed: whoever waits is looked at again. */
  changed(): void {
    for (const retry of this.#held) retry(false);
  }

  /** Takes no new questions where another resolver listens too; resolves when all that had come are answered. */
  async retire(): Promise<void> {
    for (const { udp, tcp } of this.#listeners.values()) {
      udp.retire();
      tcp.close();
    }
    for (let before = -1; this.#open > 0 || this.#taken !== before;) {
      before = this.#taken;
      await new Promise<void>((resolve) => this.#deps.clock.after(QUIET_MS, resolve));
    }
  }

  #listen(address: string): void {
    const { port, onListening } = this.#deps;
    const tcp = createServer({ allowHalfOpen: true }, (socket) => this.#serveTcp(socket));
    tcp.maxConnections = MAX_TCP_CONNECTIONS;
    let missing = 2;
    const bound = (): void => {
      if (--missing === 0 && this.#listeners.get(address) === listener) onListening(address, undefined);
    };
    const failed = (error: Error): void => {
      if (this.#listeners.get(address) !== listener) return;
      this.#listeners.delete(address);
      udp.close();
      tcp.close();
      onListening(address, error.message);
    };
    const udp = new UdpPort((message, from) => {
      this.#reply(message, from.address, 'udp').then((reply) => {
        if (reply !== undefined && this.#listeners.get(address) === listener) udp.send(reply, from);
      }, this.#deps.onFailure);
    }, failed);
    const listener = { udp, tcp };
    tcp.on('error', failed);
    this.#listeners.set(address, listener);
    udp.bind(address, port, bound);
    tcp.listen({ host: address, port, reusePort: true }, bound);
  }

  #serveTcp(socket: Socket): void {
    let received = Buffer.alloc(0);
    const asker = socket.remoteAddress;
    socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
    // A client that hangs up in the middle has its answer no more; there is nobody to tell.
    socket.on('error', () => socket.destroy());
    socket.on('end', () => socket.end());
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0);
        const message = received.subarray(2, end);
        received = received.subarray(end);
        if (asker === undefined) continue;
        this.#reply(message, asker, 'tcp').then((reply) => {
          if (reply !== undefined && socket.writable) socket.write(framed(reply));
        }, this.#deps.onFailure);
      }
    });
  }

  async #reply(message: Buffer, asker: string, transport: Transport): Promise<Buffer | undefined> {
    const query = decodeQuery(message);
    if (query === undefined) return undefined;
    this.#taken++;
    this.#open++;
    try {
      const found = await this.#answer(query, asker);
      if (found === undefined) return (await this.#deps.upstream.ask(message, transport)) ?? encodeFailure(query);
      return transport === 'udp' ? fitUdp(query, found) : found;
    } finally {
      this.#open--;
    }
  }

  /** The reply, once it may be given; undefined if the question is not ours. */
  #answer(query: Query, asker: string): Promise<Buffer | undefined> {
    return new Promise((resolve) => {
      const attempt = (overdue: boolean): boolean => {
        const found = answer(this.#deps.knowledge(), asker, query.question, overdue);
        if (found.kind === 'hold') return false;
        resolve(found.kind === 'forward' ? undefined : encodeReply(query, found, this.#turn++));
        return true;
      };
      if (attempt(this.#held.size >= MAX_HELD)) return;
      const retry = (overdue: boolean): void => {
        if (!attempt(overdue)) return;
        timer.cancel();
        this.#held.delete(retry);
      };
      const timer = this.#deps.clock.after(HOLD_MS, () => retry(true));
      this.#held.add(retry);
    });
  }
}
