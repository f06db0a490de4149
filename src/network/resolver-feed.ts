/**
 * The files the resolver reads (resolver/names.ts), written from the assigned facts and from which tasks' rules stand.
 * Each is replaced atomically, in the order of the calls.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { NetworkFacts } from './facts.ts';
import type { Askers, NetworkNames, Settings } from './resolver/names.ts';
import { ASKERS_FILE, networkFile, networkOfFile, SETTINGS_FILE } from './resolver/names.ts';

/** What the resolver is to know of a network; undefined if the network is not on this node. */
export function namesOf({ network, services, endpoints }: NetworkFacts): NetworkNames | undefined {
  if (network === undefined) return undefined;
  const { id, name, environment, subnet, gateway, ingress } = network;
  const here = [...services.values()].filter((service) => service.environment === environment && !ingress);
  return {
    id,
    name,
    environment,
    subnet,
    gateway,
    ingress,
    services: here.map((service) => ({
      id: service.serviceId,
      name: service.name,
      aliases: service.aliases,
      ...(service.vip === undefined ? {} : { vip: service.vip }),
    })),
    endpoints: ingress
      ? []
      : [...endpoints.values()].map(({ taskId, serviceId, nodeId, slot, address, serving, aliases }) => ({
          taskId,
          serviceId,
          nodeId,
          slot,
          address,
          serving,
          aliases,
        })),
  };
}

export class ResolverFeed {
  readonly #directory: string;
  #askers: Askers = {};
  #last: Promise<void> = Promise.resolve();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Makes the directory, and takes up which tasks an earlier `droverd` had made rules for. */
  async open(settings: Settings): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await this.#write(SETTINGS_FILE, settings);
    const askers = await readFile(join(this.#directory, ASKERS_FILE), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '{}';
      throw error;
    });
    this.#askers = JSON.parse(askers);
  }

  /** Ids of the networks there are files of. */
  async networks(): Promise<string[]> {
    const files = await readdir(this.#directory).catch((error: NodeJS.ErrnoException) => {
      // Never opened, or taken away by a removal that was broken off: nothing is known.
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    return files.flatMap((file) => networkOfFile(file) ?? []);
  }

  /** Promises that the file says what the facts say; `undefined` takes it away. */
  network(networkId: string, names: NetworkNames | undefined): Promise<void> {
    return this.#write(networkFile(networkId), names);
  }

  /** From now on questions from this task's addresses are answered. */
  release(taskId: string, networks: readonly { networkId: string; address: string }[]): Promise<void> {
    const ids = networks.map((network) => network.networkId);
    for (const { address } of networks) this.#askers[address] = { taskId, networks: ids };
    return this.#writeAskers();
  }

  /** From now on questions from this task's addresses, and from any given one, are held. */
  hold(taskId: string, addresses: readonly string[] = []): Promise<void> {
    const before = Object.keys(this.#askers).length;
    this.#askers = Object.fromEntries(
      Object.entries(this.#askers).filter(
        ([address, asker]) => asker.taskId !== taskId && !addresses.includes(address),
      ),
    );
    return Object.keys(this.#askers).length === before ? this.#last : this.#writeAskers();
  }

  #writeAskers(): Promise<void> {
    return this.#write(ASKERS_FILE, this.#askers);
  }

  #write(file: string, content: object | undefined): Promise<void> {
    const text = content === undefined ? undefined : JSON.stringify(content);
    const written = this.#last.catch(() => {}).then(() => this.#replace(file, text));
    // Whoever asked for this write hears of its failure; those after it must still be written.
    this.#last = written.catch(() => {});
    return written;
  }

  async #replace(file: string, text: string | undefined): Promise<void> {
    const path = join(this.#directory, file);
    if (text === undefined) return rm(path, { force: true });
    await writeFile(`${path}.new`, text, { mode: 0o600 });
    await rename(`${path}.new`, path);
  }
}
