/**
 * `droverd`: one process that serves the API, and whose parts follow this node's membership. It starts whatever the data
 * directory says it was, keeps serving the engine when the cluster's part fails, and stops in order: clients first, then the
 * node, then the manager. Containers stay.
 */
import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Duplex } from 'node:stream';
import { createApi, type Api, type Endpoint } from '../api/server.ts';
import { rebalancePlan } from '../control/rebalance/plan.ts';
import { DockerClient, parseEngineAddress } from '../docker/client.ts';
import type { Clock, Log, Random } from '../model/clock.ts';
import { ClusterMember } from './cluster-member.ts';
import { isExposed } from './etcd-option.ts';
import { lockDataDir } from './lock.ts';
import type { HostOption, Options } from './options.ts';

export interface DaemonDeps {
  options: Options;
  version: string;
  clock: Clock;
  random: Random;
  log: Log;
}

export class Daemon {
  readonly #deps: DaemonDeps;
  #stops: (() => Promise<void> | void)[] = [];

  constructor(deps: DaemonDeps) {
    this.#deps = deps;
  }

  /** Resolves when the API is served. Rejects with a sentence for the operator; nothing is left running then. */
  async start(): Promise<void> {
    const { options, version, clock, random, log } = this.#deps;
    try {
      if (options.etcd !== undefined && isExposed(options.etcd))
        log.warn(
          { endpoints: options.etcd.endpoints },
          'the etcd is used without TLS: whoever is on the way to it owns the swarm',
        );
      mkdirSync(options.dataDir, { recursive: true, mode: 0o711 });
      const lock = lockDataDir(options.dataDir);
      this.#stops.push(() => lock.release());
      const client = new DockerClient(parseEngineAddress(options.engine));
      this.#stops.push(() => client.close());
      // Made before there is an API to serve: nobody leads here until then.
      const served = Promise.withResolvers<Api>();
      const serveApi = (stream: Duplex) => void served.promise.then((api) => api.serveTunnel(stream));
      const cluster = new ClusterMember({ options, client, serveApi, clock, random, log });
      this.#stops.push(() => cluster.stop());
      await cluster.start();
      const api = await createApi({
        store: () => cluster.store(),
        streams: () => cluster.streams(),
        leadership: () => cluster.leadership(),
        tunnel: (signal) => cluster.tunnel(signal),
        cluster,
        attachments: () => cluster.attachments(),
        engine: { client },
        rebalancePlan,
        clock,
        random,
        log: log.child({ room: 'api' }),
        version,
      });
      this.#stops.push(() => api.close());
      served.resolve(api);
      for (const host of options.hosts) await this.#serve(api, host);
    } catch (error) {
      await this.stop();
      throw error;
    }
    log.info({ version, pid: process.pid, hosts: options.hosts, engine: options.engine }, 'droverd serves');
  }

  /** Ends in order; what fails to end is logged and does not keep the rest. Idempotent. */
  async stop(): Promise<void> {
    for (let stop = this.#stops.pop(); stop !== undefined; stop = this.#stops.pop()) {
      try {
        await stop();
      } catch (error) {
        this.#deps.log.error({ err: error }, 'a part did not stop in order');
      }
    }
  }

  async #serve(api: Api, host: HostOption): Promise<void> {
    await api.listen(await this.#endpoint(host));
  }

  async #endpoint(host: HostOption): Promise<Endpoint> {
    const { tls } = this.#deps.options;
    if (host.kind === 'unix') {
      mkdirSync(dirname(host.path), { recursive: true });
      return { path: host.path, mode: 0o660, group: 'docker' };
    }
    if (tls === undefined) {
      this.#deps.log.warn(
        { host: host.host, port: host.port },
        'the API is served without TLS: whoever reaches this port owns this machine',
      );
      return { host: host.host, port: host.port };
    }
    const [cert, key, ca] = await Promise.all([readFile(tls.certFile), readFile(tls.keyFile), readFile(tls.caFile)]);
    return { host: host.host, port: host.port, tls: { cert, key, ca } };
  }
}
