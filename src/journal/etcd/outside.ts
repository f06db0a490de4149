/**
 * An etcd that stands elsewhere and is somebody else's (`--etcd-endpoints`): managers keep the cluster's state in it, below a
 * prefix that one cluster has for itself, and touch nothing else of it. Its members, its compaction, its space and its backups
 * are its owner's business.
 */
import type { Clock } from '../../model/clock.ts';
import { isNewEnough } from '../member/binary.ts';
import { EtcdError } from './api.ts';
import type { EtcdTls } from './channels.ts';
import { EtcdClient } from './client.ts';
import { below, claimKey, Keys, only } from './keys.ts';

export interface OutsideEtcdSettings {
  /** host:port each; at least one. */
  endpoints: readonly string[];
  /** Absent: plain HTTP. */
  tls?: EtcdTls;
  /** Begins and ends with `/`. */
  prefix: string;
}

/** It cannot be used: out of reach, too old, or not this cluster's. The message is for users; nothing was changed. */
export class EtcdUnfit extends Error {
  override readonly name = 'EtcdUnfit';
}

const TRY_MS = 2_000;

export class OutsideEtcd {
  readonly settings: OutsideEtcdSettings;
  readonly #clock: Clock;

  constructor(settings: OutsideEtcdSettings, clock: Clock) {
    this.settings = settings;
    this.#clock = clock;
  }

  /** How people are told of it. */
  get name(): string {
    return `the etcd at ${this.settings.endpoints.join(', ')}`;
  }

  /** A client of it, which the caller closes. Connects when it is first asked. */
  client(): Promise<EtcdClient> {
    return this.#clientOf(this.settings.endpoints);
  }

  /** Whether a new cluster could begin here. Changes nothing. @throws EtcdUnfit */
  async assertFree(): Promise<void> {
    await this.#assertNewEnough();
    await this.#asked(async (client) => this.#assertEmpty(client));
  }

  /** Takes the prefix for a new cluster; of several who try, one gets it. @throws EtcdUnfit */
  claim(clusterId: string): Promise<void> {
    const { claim } = new Keys(clusterId, this.settings.prefix);
    return this.#asked(async (client) => {
      await this.#assertEmpty(client);
      const when = [{ key: claim.key, value: null }];
      const write = [{ put: claim.key, value: clusterId }];
      const { applied } = await client.txn({ when, write, otherwise: [] });
      if (applied) return;
      await this.#assertEmpty(client);
      throw new EtcdUnfit(`${this.name}: another swarm was just begun and given up below ${claim.key}; try again`);
    });
  }

  /** Whether the cluster's state is here. @throws EtcdUnfit */
  async assertHolds(clusterId: string): Promise<void> {
    const holder = await this.#asked((client) => this.#claimant(client));
    if (holder === clusterId) return;
    const { prefix } = this.settings;
    const found = holder === undefined ? 'no swarm' : `another swarm, ${holder},`;
    throw new EtcdUnfit(
      `${this.name} holds ${found} below ${prefix}: --etcd-endpoints and --etcd-prefix must be the same on all managers of a swarm`,
    );
  }

  /** Removes all that is kept of a cluster, its claim last. For who began it, or is its last manager. @throws EtcdUnfit */
  erase(clusterId: string): Promise<void> {
    const { cluster, claim } = new Keys(clusterId, this.settings.prefix);
    return this.#asked(async (client) => {
      const write = [{ removeRange: cluster }, { remove: claim.key }];
      await client.txn({ when: [claim], write, otherwise: [] });
    });
  }

  /** @throws EtcdUnfit if anything lies below the prefix */
  async #assertEmpty(client: EtcdClient): Promise<void> {
    const { prefix } = this.settings;
    const { rows } = await client.range(below(prefix), { limit: 1 });
    if (rows.length === 0) return;
    const holder = await this.#claimant(client);
    if (holder === undefined)
      throw new EtcdUnfit(`${this.name} holds keys of something else below ${prefix}: give another --etcd-prefix`);
    throw new EtcdUnfit(
      `${this.name} already holds a swarm below ${prefix} (${holder}): join it, or give another --etcd-prefix; if that swarm is gone for good, remove what is left of it with "etcdctl del --prefix ${prefix}"`,
    );
  }

  async #claimant(client: EtcdClient): Promise<string | undefined> {
    const { rows } = await client.range(only(claimKey(this.settings.prefix)));
    return rows[0]?.value;
  }

  /** All that answer. @throws EtcdUnfit if none does, or one is too old */
  async #assertNewEnough(): Promise<void> {
    const { endpoints } = this.settings;
    const asked = await Promise.allSettled(endpoints.map((endpoint) => this.#version(endpoint)));
    if (asked.every(({ status }) => status === 'rejected')) throw (asked[0] as PromiseRejectedResult).reason;
    for (const [at, answer] of asked.entries()) {
      if (answer.status === 'rejected' || isNewEnough(answer.value)) continue;
      throw new EtcdUnfit(`etcd 3.4 or newer is needed, and that at ${endpoints[at]} is version ${answer.value}`);
    }
  }

  #version(endpoint: string): Promise<string> {
    return this.#asked(
      async (client) => {
        const { version } = await client.ask<{ version: string }>({
          method: 'Maintenance/Status',
          request: ['Empty', {}],
          answer: 'StatusResponse',
          again: true,
        });
        return version;
      },
      [endpoint],
    );
  }

  async #asked<T>(ask: (client: EtcdClient) => Promise<T>, endpoints = this.settings.endpoints): Promise<T> {
    const client = await this.#clientOf(endpoints);
    try {
      return await ask(client);
    } catch (error) {
      if (!(error instanceof EtcdError)) throw error;
      throw new EtcdUnfit(`the etcd that --etcd-endpoints names cannot be used: ${error.message}`, { cause: error });
    } finally {
      client.close();
    }
  }

  #clientOf(endpoints: readonly string[]): Promise<EtcdClient> {
    const { tls } = this.settings;
    return EtcdClient.make({ endpoints, ...(tls && { tls }), clock: this.#clock, tryMs: TRY_MS });
  }
}
