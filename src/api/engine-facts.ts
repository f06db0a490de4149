/**
 * What the host's engine last said of itself, remembered while it is away: the API version that clients are offered,
 * the headers of a ping, its `/version` and `/info`.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { olderVersion, type DockerClient } from '../docker/client.ts';
import type { Log } from '../model/clock.ts';

/** What the API needs of a client of the engine. */
export type EngineClient = Pick<DockerClient, 'address' | 'ping' | 'request' | 'stream'>;

/** The newest API offered, whatever the engine speaks (decisions-and-traps.md 1). */
const NEWEST_API = '1.51';
/** Offered until the engine has answered once: the oldest engine supported (design.md 1). */
const OLDEST_ENGINE_API = '1.41';
/** The oldest API clients may ask for. */
export const MINIMUM_API = '1.24';
const PING_TIMEOUT_MS = 2_000;

/** Headers of the engine's ping that are passed on to clients. */
const PING_HEADERS = ['Builder-Version', 'Docker-Experimental'] as const;

export type EngineAnswer = Record<string, unknown>;

export class EngineFacts {
  readonly #client: EngineClient;
  readonly #log: Log;
  readonly #ownServer: string;
  #headers: IncomingHttpHeaders = {};
  #reachable: boolean | undefined;
  readonly #last = new Map<string, EngineAnswer>();

  constructor(client: EngineClient, version: string, log: Log) {
    this.#client = client;
    this.#ownServer = `Docker/${version} (linux)`;
    this.#log = log;
  }

  /** min(1.51, what the engine speaks). */
  get apiVersion(): string {
    return olderVersion(this.#header('api-version') ?? OLDEST_ENGINE_API, NEWEST_API);
  }

  /** The headers that every response carries. */
  negotiation(): Record<string, string> {
    return {
      Server: this.#header('server') ?? this.#ownServer,
      'Api-Version': this.apiVersion,
      Ostype: this.#header('ostype') ?? 'linux',
    };
  }

  /** The further headers of a ping, as the engine last said them. */
  pingHeaders(): Record<string, string> {
    const headers: Record<string, string> = { 'Docker-Experimental': 'false' };
    for (const name of PING_HEADERS) {
      const value = this.#header(name.toLowerCase());
      if (value !== undefined) headers[name] = value;
    }
    return headers;
  }

  /** Asks the engine again; returns whether it answered, and never throws. */
  async refresh(): Promise<boolean> {
    try {
      const { headers } = await this.#client.ping({ timeoutMs: PING_TIMEOUT_MS });
      this.#headers = headers;
      if (this.#reachable === false) this.#log.info({ apiVersion: this.apiVersion }, 'the engine answers again');
      this.#reachable = true;
    } catch (error) {
      if (this.#reachable !== false) this.#log.warn({ err: error }, 'the engine does not answer');
      this.#reachable = false;
    }
    return this.#reachable;
  }

  /**
   * The engine's answer to `GET <url>`, or the last one given under `key` with the reason why it is not a new one.
   * `answer` is undefined if there never was one.
   */
  async ask(key: string, url: string, timeoutMs: number): Promise<{ answer?: EngineAnswer; error?: Error }> {
    try {
      const answer = await this.#client.request<EngineAnswer>('GET', url, { unversioned: true, timeoutMs });
      this.#last.set(key, answer);
      return { answer };
    } catch (error) {
      return { answer: this.#last.get(key), error: error instanceof Error ? error : new Error(String(error)) };
    }
  }

  #header(name: string): string | undefined {
    const value = this.#headers[name];
    return Array.isArray(value) ? value[0] : value;
  }
}
