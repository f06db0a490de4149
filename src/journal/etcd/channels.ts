/**
 * The ways to etcd: one channel to each endpoint, made when it is first needed. Calls go to one of them as long as it answers,
 * at first the one that was named first. Endpoints and certificate can be exchanged while calls are under way.
 */
import type * as Grpc from '@grpc/grpc-js';
import { EtcdError } from './api.ts';

/** PEM texts by which this manager shows who it is, and knows the others. */
export interface EtcdIdentity {
  certificate: string;
  key: string;
  rootCertificate: string;
}

/**
 * PEM texts for an etcd that stands elsewhere: it has to show by its certificate that it is the host that the endpoint names.
 * Absent: the CAs that Node trusts; no certificate is shown.
 */
export interface EtcdTls {
  caCertificate?: string;
  certificate?: string;
  key?: string;
}

/** Who is on either end of the way to etcd: managers and their etcd, or (`tls`) somebody else's. Neither: no TLS. */
export interface EtcdParties {
  identity?: EtcdIdentity;
  tls?: EtcdTls;
}

/** What the certificates of the cluster's managers name, in the place of a host; those of other nodes do not. */
const MANAGER_NAME = 'swarm-manager';

const CHANNEL: Grpc.ChannelOptions = {
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  // etcd takes a connection down that is asked more often than every 5 s; watches notice silence by themselves.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 3_000,
  // Else a channel is shared with one of an older certificate.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.enable_retries': 0,
};
const TO_MANAGERS: Grpc.ChannelOptions = { ...CHANNEL, 'grpc.ssl_target_name_override': MANAGER_NAME };

/** How channels are made. */
interface Way {
  credentials: Grpc.ChannelCredentials;
  options: Grpc.ChannelOptions;
}

/** A channel, and the streams that stand on it. */
export class Channel {
  readonly endpoint: string;
  readonly client: Grpc.Client;
  readonly #grpc: typeof Grpc;
  readonly #streams = new Set<() => void>();
  #calls = 0;
  #retired = false;

  constructor(grpc: typeof Grpc, endpoint: string, { credentials, options }: Way) {
    this.#grpc = grpc;
    this.endpoint = endpoint;
    this.client = new grpc.Client(endpoint, credentials, options);
  }

  /** True once it takes no more calls: there is another in its place, unless all are closed. */
  get retired(): boolean {
    return this.#retired;
  }

  /**
   * Resolves once it is connected, or has just failed to be: then a call says why, and was not sent. Rejects with EtcdError
   * `unsent`.
   */
  async ready(withinMs: number): Promise<void> {
    const { READY, TRANSIENT_FAILURE } = this.#grpc.connectivityState;
    const untilMs = Date.now() + withinMs;
    for (;;) {
      if (this.#retired) throw new EtcdError('unsent', `the client of etcd at ${this.endpoint} is closed`);
      const state = this.client.getChannel().getConnectivityState(true);
      if (state === READY || state === TRANSIENT_FAILURE) return;
      await new Promise<void>((resolve, reject) => {
        this.client.getChannel().watchConnectivityState(state, untilMs, (error) => {
          if (error === undefined) resolve();
          else reject(new EtcdError('unsent', `etcd at ${this.endpoint} does not answer`));
        });
      });
    }
  }

  /** What `call` comes to; the channel stays until then. */
  async hold<T>(call: Promise<T>): Promise<T> {
    this.#calls++;
    try {
      return await call;
    } finally {
      this.#calls--;
      this.#closeIfIdle();
    }
  }

  /** `end` is called when the channel is retired. Returns what says that the stream has ended. */
  stream(end: () => void): () => void {
    this.#streams.add(end);
    return () => this.#streams.delete(end);
  }

  /** Takes no more calls, ends its streams, and closes once the calls under way have ended. */
  retire(): void {
    this.#retired = true;
    for (const end of this.#streams) end();
    this.#closeIfIdle();
  }

  #closeIfIdle(): void {
    if (this.#retired && this.#calls === 0) this.client.close();
  }
}

export class Channels {
  readonly #grpc: typeof Grpc;
  #endpoints: readonly string[];
  #way: Way;
  readonly #open = new Map<string, Channel>();
  #at = 0;
  #closed = false;

  constructor(grpc: typeof Grpc, endpoints: readonly string[], parties: EtcdParties) {
    this.#grpc = grpc;
    this.#endpoints = endpoints;
    this.#way = wayOf(grpc, parties);
  }

  get endpoints(): readonly string[] {
    return this.#endpoints;
  }

  /** The one that calls go to now. Throws EtcdError `unsent` once closed. */
  current(): Channel {
    return this.to(this.#endpoints[this.#at % this.#endpoints.length]!);
  }

  to(endpoint: string): Channel {
    if (this.#closed) throw new EtcdError('unsent', 'the client of etcd is closed');
    let channel = this.#open.get(endpoint);
    if (channel === undefined) {
      channel = new Channel(this.#grpc, endpoint, this.#way);
      this.#open.set(endpoint, channel);
    }
    return channel;
  }

  /** `channel` did not do: later calls go to the next one, unless they do already. */
  turnFrom(channel: Channel): void {
    if (this.#endpoints[this.#at % this.#endpoints.length] === channel.endpoint) this.#at++;
  }

  setEndpoints(endpoints: readonly string[]): void {
    if (endpoints.length === 0) throw new Error('etcd has at least one endpoint');
    const current = this.#endpoints[this.#at % this.#endpoints.length]!;
    this.#endpoints = [...endpoints];
    this.#at = Math.max(0, endpoints.indexOf(current));
    for (const [endpoint, channel] of this.#open) {
      if (endpoints.includes(endpoint)) continue;
      this.#open.delete(endpoint);
      channel.retire();
    }
  }

  setIdentity(identity: EtcdIdentity): void {
    this.#way = wayOf(this.#grpc, { identity });
    this.#retireAll();
  }

  close(): void {
    this.#closed = true;
    this.#retireAll();
  }

  #retireAll(): void {
    const channels = [...this.#open.values()];
    this.#open.clear();
    for (const channel of channels) channel.retire();
  }
}

function wayOf({ credentials }: typeof Grpc, { identity, tls }: EtcdParties): Way {
  if (identity !== undefined) {
    const { rootCertificate, key, certificate } = identity;
    const shown = { caCertificate: rootCertificate, key, certificate };
    return { credentials: overTls(credentials, shown), options: TO_MANAGERS };
  }
  return {
    credentials: tls === undefined ? credentials.createInsecure() : overTls(credentials, tls),
    options: CHANNEL,
  };
}

function overTls(
  credentials: typeof Grpc.credentials,
  { caCertificate, key, certificate }: EtcdTls,
): Grpc.ChannelCredentials {
  const [ca, ...shown] = [caCertificate, key, certificate].map((pem) => (pem === undefined ? null : Buffer.from(pem)));
  return credentials.createSsl(ca, ...shown);
}
