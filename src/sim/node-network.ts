/**
 * A node's network without a kernel: it knows the overlays it was told of, is slow to follow, and remembers which tasks are
 * attached.
 */
import type { NodeNetworkPort, RunningTask } from '../agent/ports.ts';
import type { AssignmentChange } from '../model/assignments.ts';
import type { Clock } from '../model/clock.ts';
import type { Chance } from './seeded.ts';

export class NodeNetworkTwin implements NodeNetworkPort {
  readonly #clock: Clock;
  readonly #chance: Chance;
  readonly #gateways = new Map<string, string>();

  constructor(clock: Clock, chance: Chance) {
    this.#clock = clock;
    this.#chance = chance;
  }

  replace(all: readonly AssignmentChange[]): void {
    this.#gateways.clear();
    this.apply(all);
  }

  apply(changes: readonly AssignmentChange[]): void {
    for (const change of changes) {
      if (change.kind !== 'network') continue;
      if (change.value === null) this.#gateways.delete(change.key);
      else this.#gateways.set(change.key, change.value.gateway);
    }
  }

  /** What was told is in force. */
  settled(): Promise<void> {
    return this.#pass(5, 150);
  }

  async prepare(networkId: string): Promise<{ engineNetwork: string; gateway: string }> {
    await this.#pass(1, 20);
    const gateway = this.#gateways.get(networkId);
    if (gateway === undefined) throw new Error(`network ${networkId} is not on this node`);
    return { engineNetwork: `drover-${networkId}`, gateway };
  }

  async expect(): Promise<void> {}

  async attach(task: RunningTask): Promise<'attached' | 'ended'> {
    await this.#pass(1, 30);
    return (await task.stillOurs()) ? 'attached' : 'ended';
  }

  async detach(): Promise<void> {}

  async connections(): Promise<number> {
    return this.#chance.happens(0.2) ? 1 : 0;
  }

  engineRestarted(): void {}

  degraded(): string[] {
    return [];
  }

  #pass(leastMs: number, mostMs: number): Promise<void> {
    return new Promise((resolve) => this.#clock.after(this.#chance.between(leastMs, mostMs), resolve));
  }
}
