/** The ports published in the routing mesh: each belongs, per protocol, to one service of the cluster. */
import type { Protocol } from '../../model/specs.ts';

/** Where ports come from when the user leaves the choice to us; Docker Swarm's range. */
export const DYNAMIC_PORTS = { first: 30_000, last: 32_767 };

export class PortPool {
  readonly #owners = new Map<string, string>();
  readonly #range: { first: number; last: number };
  #cursor: number;

  constructor(range = DYNAMIC_PORTS) {
    this.#range = range;
    this.#cursor = range.first;
  }

  /** The service that has the port, if any. */
  owner(protocol: Protocol, port: number): string | undefined {
    return this.#owners.get(`${protocol}/${port}`);
  }

  /** Gives the port to a service. A port that another service has stays with that one: returns false. */
  claim(protocol: Protocol, port: number, serviceId: string): boolean {
    const owner = this.owner(protocol, port) ?? serviceId;
    if (owner !== serviceId) return false;
    this.#owners.set(`${protocol}/${port}`, serviceId);
    return true;
  }

  /** Takes the port from a service; nothing happens if it is another's. */
  release(protocol: Protocol, port: number, serviceId: string): void {
    if (this.owner(protocol, port) === serviceId) this.#owners.delete(`${protocol}/${port}`);
  }

  /**
   * The next port of the dynamic range that nobody has and `taken` has not either; undefined if there is none.
   * Goes round, so that a port just released is not given out at once. Does not claim it.
   */
  nextDynamic(protocol: Protocol, taken: ReadonlySet<number>): number | undefined {
    const { first, last } = this.#range;
    const count = last - first + 1;
    for (let i = 0; i < count; i++) {
      const port = first + ((this.#cursor - first + i) % count);
      if (taken.has(port) || this.owner(protocol, port) !== undefined) continue;
      this.#cursor = port === last ? first : port + 1;
      return port;
    }
    return undefined;
  }

  /** `protocol/port=service`, sorted: what tells two pools apart, but for where they go on. */
  inUse(): string[] {
    return [...this.#owners].map(([port, serviceId]) => `${port}=${serviceId}`).sort();
  }
}
