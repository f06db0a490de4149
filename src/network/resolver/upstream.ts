/**
 * Names that are not ours go to the host's own name servers, unchanged but for the message's id; each question from
 * a socket of its own, so that port and id are as hard to guess as the kernel makes them.
 */
import { createSocket } from 'node:dgram';
import { randomInt } from 'node:crypto';
import { connect } from 'node:net';

/** Milliseconds a name server gets, before the next one is asked. */
const TRY_MS = 2_000;
const ROUNDS = 2;
/** Questions under way; beyond it they fail at once instead of filling memory. */
const MAX_UNDER_WAY = 1_000;
const DEFAULT_PORT = 53;

export type Transport = 'udp' | 'tcp';

/** The name servers in the text of a resolv.conf; IPv4 and IPv6. */
export function parseResolvConf(text: string): string[] {
  return text.split('\n').flatMap((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? []);
}

export class Upstream {
  readonly #servers: () => readonly string[];
  #underWay = 0;

  constructor(servers: () => readonly string[]) {
    this.#servers = servers;
  }

  /** The reply of the first name server that has one; undefined if none answers in time. */
  async ask(message: Buffer, transport: Transport): Promise<Buffer | undefined> {
    if (this.#underWay >= MAX_UNDER_WAY) return undefined;
    this.#underWay++;
    try {
      for (let round = 0; round < ROUNDS; round++) {
        for (const server of this.#servers()) {
          const reply = await (transport === 'udp' ? askUdp(server, message) : askTcp(server, message));
          if (reply !== undefined) return reply;
        }
      }
      return undefined;
    } finally {
      this.#underWay--;
    }
  }
}

function askUdp(server: string, message: Buffer): Promise<Buffer | undefined> {
  const { address, port } = endpointOf(server);
  const id = randomInt(0x10000);
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  return new Promise((resolve) => {
    const done = (reply?: Buffer): void => {
      clearTimeout(timer);
      socket.close();
      resolve(reply);
    };
    const timer = setTimeout(done, TRY_MS);
    // An error here (unreachable, refused) is this server's answer: none. The next one is asked.
    socket.once('error', () => done());
    socket.on('message', (reply) => {
      if (reply.length >= 12 && reply.readUInt16BE(0) === id) done(withId(reply, message.readUInt16BE(0)));
    });
    // As an event: a callback of `connect` would be called with the error too, and the socket could not send then.
    socket.once('connect', () => socket.send(withId(message, id)));
    socket.connect(port, address);
  });
}

function askTcp(server: string, message: Buffer): Promise<Buffer | undefined> {
  const { address, port } = endpointOf(server);
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    let received = Buffer.alloc(0);
    const done = (reply?: Buffer): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(reply);
    };
    const timer = setTimeout(done, TRY_MS);
    socket.on('error', () => done());
    socket.on('close', () => done());
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      if (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        done(received.subarray(2, 2 + received.readUInt16BE(0)));
      }
    });
    socket.write(framed(message));
  });
}

/** A message as TCP carries it: its length in front. */
export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

function withId(message: Buffer, id: number): Buffer {
  const copy = Buffer.from(message);
  copy.writeUInt16BE(id);
  return copy;
}

function endpointOf(server: string): { address: string; port: number } {
  const match = /^(\d+\.\d+\.\d+\.\d+):(\d+)$/.exec(server);
  return match?.[1] === undefined
    ? { address: server, port: DEFAULT_PORT }
    : { address: match[1], port: Number(match[2]) };
}
