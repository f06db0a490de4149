/** What is to be brought in line: gathered from many changes, done at once, so that each thing is done once. */
import type { Touch } from './facts.ts';

export class Work {
  /** What an earlier life left is to be removed. */
  leftovers = false;
  /** The host's firewall is to be looked at, even if no network changed. */
  firewall = false;
  /** Networks that came, went or changed as such. */
  readonly networks = new Set<string>();
  /** Network → addresses whose place changed. */
  readonly addresses = new Map<string, Set<string>>();
  /** Network → keys of its services that changed. */
  readonly services = new Map<string, Set<string>>();
  readonly #done = Promise.withResolvers<void>();

  get empty(): boolean {
    return !this.leftovers && !this.firewall && this.concerned().size === 0;
  }

  /** Resolves once all of it has been tried. */
  get done(): Promise<void> {
    return this.#done.promise;
  }

  finish(): void {
    this.#done.resolve();
  }

  add(touch: Touch): void {
    if (touch.kind === 'network') this.networks.add(touch.networkId);
    else if (touch.kind === 'address') addTo(this.addresses, touch.networkId, touch.address);
    else addTo(this.services, touch.networkId, touch.serviceKey);
  }

  /** Takes over what another could not finish. */
  addAll(other: Work): void {
    this.leftovers ||= other.leftovers;
    this.firewall ||= other.firewall;
    for (const networkId of other.networks) this.networks.add(networkId);
    for (const [networkId, addresses] of other.addresses)
      for (const each of addresses) addTo(this.addresses, networkId, each);
    for (const [networkId, services] of other.services)
      for (const each of services) addTo(this.services, networkId, each);
  }

  /** Networks with a change of any kind. */
  concerned(): Set<string> {
    return new Set([...this.networks, ...this.addresses.keys(), ...this.services.keys()]);
  }
}

function addTo(map: Map<string, Set<string>>, key: string, value: string): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([value]));
  else set.add(value);
}
