/**
 * A journal that several managers share: etcd, or its twin in the simulator. One compliance suite for both. One manager
 * leads and writes; the others follow.
 *
 * - `follow` gives all rows as of one revision and then every later transaction, in order, none lost and none twice.
 * - `campaign` waits until this manager leads. The journal of a leadership is fenced: what it commits is applied only while
 *   this leadership lasts, so a manager that was paused or cut off cannot write, whatever it believes.
 * - A leadership ends for good: by `resign`, by its time running out unseen, or by another's being seen. The same manager may
 *   campaign again.
 */
import type { Change, Journal } from './journal.ts';

/** Whoever leads, as everybody may see it. */
export interface Leader {
  nodeId: string;
  /** host:port by which nodes and other managers reach it. */
  address: string;
}

export interface FollowListener {
  /**
   * All rows as of `revision`; first, and again whenever the gap to what was told before cannot be filled (compaction). Must
   * not throw.
   */
  replace(rows: Map<string, string>, revision: number): void;
  /** One transaction, or several in order that were committed together, with the revision that made. Must not throw. */
  apply(changes: readonly Change[], revision: number): void;
  /** What came after the first rows cannot be read (JournalDamaged): nothing more is told. */
  damaged?(error: Error): void;
}

export interface Following {
  /** The newest revision that the listener was told of. */
  readonly revision: number;
  /** Resolves once the listener was told of everything up to `revision`; rejects if it is stopped before. */
  reached(revision: number): Promise<void>;
  /** Ends it. The listener hears nothing afterwards. Idempotent. */
  stop(): Promise<void>;
}

export interface Leadership {
  /**
   * The fenced journal, to write with as long as this leadership lasts. Its `commit` rejects with NotLeading, and applies
   * nothing, once the leadership is over; with JournalUnavailable, and applies nothing, if the keeper took nothing; with
   * anything else if the outcome is not known, and then the leadership is over too. `close` does not resign.
   */
  readonly journal: Journal;
  /** The revision of everything that any leader before this one has written: who has followed up to it knows all. */
  readonly revision: number;
  /** Resolves, with why in words, when this manager can no longer count on leading: before anybody else can lead. */
  readonly over: Promise<string>;
  /** Gives it up, so that another may lead at once. Idempotent, never rejects: an unreachable keeper lets it run out. */
  resign(): Promise<void>;
}

export interface SharedJournal {
  /** Rejects with JournalUnavailable if the first rows cannot be read in time; later interruptions are mended by itself. */
  follow(listener: FollowListener): Promise<Following>;
  /** Resolves when this manager leads; rejects with the signal's reason when aborted. Keeps trying while the keeper is away. */
  campaign(self: Leader, signal: AbortSignal): Promise<Leadership>;
  /** Calls `listener` with whoever leads now and whenever that changes; undefined: nobody, or nobody knows. Returns the end of it. */
  observe(listener: (leader: Leader | undefined) => void): () => void;
  /** Whether the keeper answers reads that are agreed upon by a majority. Never rejects. */
  hasQuorum(): Promise<boolean>;
  /** Releases all of it. Idempotent. */
  close(): Promise<void>;
}

/** This manager does not lead (any more); nothing was applied. */
export class NotLeading extends Error {
  override readonly name = 'NotLeading';
}
