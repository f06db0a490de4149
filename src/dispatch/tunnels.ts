/**
 * The leader's end of the streams by which other managers speak to its API (leader-link.ts is theirs). A manager that is
 * demoted or removed loses those that stand, after a moment for the answer to the very request that demoted it.
 */
import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Clock } from '../model/clock.ts';
import type { Event } from '../store/store.ts';
import { ByteStream } from './byte-stream.ts';

/** Speaks HTTP/1.1, as a server, on a stream that another manager has opened. */
export type ServeApi = (stream: Duplex) => void;

const ANSWER_MS = 2_000;

export class Tunnels {
  readonly #serve: ServeApi;
  readonly #clock: Clock;
  readonly #open = new Map<string, Set<ServerHttp2Stream>>();

  constructor(serve: ServeApi, clock: Clock) {
    this.#serve = serve;
    this.#clock = clock;
  }

  /** A manager opens one. */
  accept(stream: ServerHttp2Stream, nodeId: string): void {
    const ofNode = this.#open.get(nodeId) ?? new Set();
    this.#open.set(nodeId, ofNode.add(stream));
    stream.once('close', () => {
      ofNode.delete(stream);
      if (ofNode.size === 0 && this.#open.get(nodeId) === ofNode) this.#open.delete(nodeId);
    });
    stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' });
    this.#serve(new ByteStream(stream));
  }

  /** Whoever is no manager any more by these changes is cut off. */
  changed(events: readonly Event[]): void {
    for (const event of events) {
      if (event.table !== 'nodes' || event.before === undefined || event.after?.spec.Role === 'manager') continue;
      const lost = [...(this.#open.get(event.before.id) ?? [])];
      this.#clock.after(ANSWER_MS, () => lost.forEach((stream) => stream.close(constants.NGHTTP2_CANCEL)));
    }
  }

  /** How many stand. */
  get size(): number {
    return [...this.#open.values()].reduce((sum, streams) => sum + streams.size, 0);
  }
}
