/**
 * The simulated network: hosts that may be cut off from each other, and connections as TCP has them. What is sent on one
 * arrives whole and in order, late, or not at all: a cut holds it back, a broken connection loses it. Messages on two
 * connections overtake each other.
 */
import type { EventLoop } from './event-loop.ts';
import type { Chance } from './seeded.ts';

export interface Latency {
  leastMs: number;
  mostMs: number;
}

/** While two hosts are cut off, what was sent is sent again so often. */
const RESEND_MS = 200;

export class Network {
  readonly loop: EventLoop;
  readonly #chance: Chance;
  readonly #cuts = new Set<string>();
  latency: Latency = { leastMs: 0.2, mostMs: 3 };

  constructor(loop: EventLoop, chance: Chance) {
    this.loop = loop;
    this.#chance = chance;
  }

  /** Nothing from `from` reaches `to` any more. */
  cut(from: string, to: string): void {
    this.#cuts.add(`${from}>${to}`);
  }

  mend(from: string, to: string): void {
    this.#cuts.delete(`${from}>${to}`);
  }

  mendAll(): void {
    this.#cuts.clear();
  }

  reaches(from: string, to: string): boolean {
    return !this.#cuts.has(`${from}>${to}`);
  }

  /** Milliseconds that one message takes. */
  delayMs(): number {
    return this.#chance.between(this.latency.leastMs, this.latency.mostMs);
  }

  /** One way of a connection. */
  pipe(from: string, to: string, name: string): Pipe {
    return new Pipe(this, from, to, name);
  }
}

export class Pipe {
  readonly #network: Network;
  readonly #from: string;
  readonly #to: string;
  readonly #name: string;
  #lastAt = 0;
  #queue: (() => void)[] = [];
  #scheduled = false;
  #broken = false;

  constructor(network: Network, from: string, to: string, name: string) {
    this.#network = network;
    this.#from = from;
    this.#to = to;
    this.#name = name;
  }

  /** `arrive` is called when it comes to the other end, after all that was sent before. */
  send(arrive: () => void): void {
    if (this.#broken) return;
    this.#queue.push(arrive);
    if (!this.#scheduled) this.#schedule(this.#network.delayMs());
  }

  /** What is on its way is lost, and so is what is sent from now on. */
  break(): void {
    this.#broken = true;
    this.#queue = [];
  }

  #schedule(delayMs: number): void {
    this.#scheduled = true;
    const { loop } = this.#network;
    this.#lastAt = Math.max(this.#lastAt, loop.now + delayMs);
    loop.after(this.#lastAt - loop.now, this.#name, () => this.#arrive());
  }

  #arrive(): void {
    this.#scheduled = false;
    if (this.#broken) return;
    if (!this.#network.reaches(this.#from, this.#to)) {
      this.#schedule(RESEND_MS);
      return;
    }
    const [first] = this.#queue.splice(0, 1);
    first?.();
    if (this.#queue.length > 0) this.#schedule(this.#network.delayMs() / 4);
  }
}
