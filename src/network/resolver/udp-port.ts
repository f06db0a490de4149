/**
 * A UDP port that a newer process can take over with no datagram lost: both listen on it for a moment, and the older
 * one, before it goes, answers what the kernel has queued for it already.
 */
import { createSocket } from 'node:dgram';
import type { RemoteInfo, Socket } from 'node:dgram';

/** The discard port. A socket that is connected to it gets nothing from anybody else, and is passed over by the kernel. */
const NOWHERE = 9;

export class UdpPort {
  readonly #socket: Socket = createSocket({ type: 'udp4', reusePort: true });
  #address = '';
  /** Once retired, replies go one after the other: for each, the socket is free of its connection for a moment. */
  #retired: Promise<void> | undefined;

  constructor(onMessage: (message: Buffer, from: RemoteInfo) => void, onError: (error: Error) => void) {
    this.#socket.on('message', onMessage).on('error', onError);
  }

  bind(address: string, port: number, bound: () => void): void {
    this.#address = address;
    this.#socket.bind({ address, port }, bound);
  }

  /** Sends a reply; a network that does not take it is the asker's to notice. */
  send(reply: Buffer, to: RemoteInfo): void {
    const send = (): Promise<void> =>
      new Promise((resolve) => this.#socket.send(reply, to.port, to.address, () => resolve()));
    if (this.#retired === undefined) void send();
    else {
      this.#retired = this.#retired.then(async () => {
        this.#socket.disconnect();
        await send();
        await this.#connectNowhere();
      });
    }
  }

  /** From now on new datagrams go to the other process on this port; those that are here already are still delivered. */
  retire(): void {
    this.#retired ??= this.#connectNowhere();
  }

  close(): void {
    this.#socket.close();
  }

  #connectNowhere(): Promise<void> {
    return new Promise((resolve) => this.#socket.connect(NOWHERE, this.#address, resolve));
  }
}
