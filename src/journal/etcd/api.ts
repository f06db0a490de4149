/**
 * What the journal asks of etcd, in JavaScript's terms: `client.ts` asks it over gRPC, the simulator's twin answers it in
 * memory. Keys and values are text; a range is all keys from `from` up to, not including, `to`.
 */

export interface Row {
  key: string;
  value: string;
  modRevision: number;
}

export interface Range {
  from: string;
  to: string;
}

/** What must hold for a transaction to be applied; `value: null` means that there is no such key. */
export interface Condition {
  key: string;
  value: string | null;
}

export type Operation = { put: string; value: string } | { remove: string } | { removeRange: Range };

export interface Txn {
  when: readonly Condition[];
  write: readonly Operation[];
  /** Keys that are read if a condition does not hold. */
  otherwise: readonly string[];
}

export interface TxnOutcome {
  applied: boolean;
  /** That of the keeper after it. */
  revision: number;
  /** What `otherwise` asked for, in its order. */
  read: readonly (Row | undefined)[];
}

export interface Rows {
  rows: Row[];
  /** There are more rows than `limit`. */
  more: boolean;
  /** That of the keeper when it was asked. */
  revision: number;
}

/** `value: null`: the key was removed. */
export interface RowEvent {
  key: string;
  value: string | null;
  revision: number;
}

export interface WatchListener {
  /** Whole revisions, in order. */
  events(events: readonly RowEvent[]): void;
  /** Last: it has broken off, and whoever wants to go on has to watch anew. Not called after `stop`. */
  ended(error: EtcdError): void;
}

/**
 * How a call failed:
 * - `unsent`: it never reached etcd;
 * - `refused`: etcd answered that it does not do this, and it is not done;
 * - `full`: etcd answered that its database is full; a write may be in it all the same (that which fills it);
 * - `compacted`: the revision that was asked for is not kept any more;
 * - `unknown`: whatever it was, it may have been done, or may be done yet.
 */
export type Failure = 'unsent' | 'refused' | 'full' | 'compacted' | 'unknown';

export class EtcdError extends Error {
  override readonly name = 'EtcdError';
  readonly failure: Failure;

  constructor(failure: Failure, message: string) {
    super(message);
    this.failure = failure;
  }
}

/** Every call rejects with EtcdError, and ends by itself within a deadline. */
export interface EtcdApi {
  /** As a majority agrees at some moment after it was asked; of an older `revision`, if given. */
  range(range: Range, options?: { limit?: number; revision?: number }): Promise<Rows>;
  /** Never tried twice: a failure may be `unknown`. `tryMs`: how long to wait for the answer. */
  txn(txn: Txn, tryMs?: number): Promise<TxnOutcome>;
  /** All events from `fromRevision` on. Ends with `compacted` if they are not kept any more, and when etcd falls silent. */
  watch(range: Range, fromRevision: number, listener: WatchListener): { stop(): void };
  /** Releases what it holds; calls under way end as `unknown`. Idempotent. */
  close(): void;
}
