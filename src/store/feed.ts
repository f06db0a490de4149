/**
 * What a shared journal tells, on its way into a store that follows. If the store cannot take it (a row that this version does
 * not understand, something told twice), the feed is broken: it tells the store nothing more, and must be opened anew.
 */
import type { Following, SharedJournal } from '../journal/shared.ts';
import type { Store } from './store.ts';
import { orAborted } from './waiting.ts';

export class Feed {
  readonly #following: Following;
  readonly #broken: AbortSignal;

  private constructor(following: Following, broken: AbortSignal) {
    this.#following = following;
    this.#broken = broken;
  }

  /**
   * Resolves once `store` shows what `journal` holds. Rejects with JournalUnavailable, with why the store cannot take the
   * rows, or with the signal's reason if that is aborted first.
   */
  static async open(journal: SharedJournal, store: Store, signal: AbortSignal): Promise<Feed> {
    const broken = new AbortController();
    const tell = (change: () => void) => {
      if (broken.signal.aborted || signal.aborted) return;
      try {
        change();
      } catch (error) {
        broken.abort(error);
      }
    };
    const asked = journal.follow({
      replace: (rows) => tell(() => store.replace(rows)),
      apply: (changes) => tell(() => store.apply(changes)),
      damaged: (error) => broken.abort(error),
    });
    try {
      const feed = new Feed(await orAborted(asked, signal), broken.signal);
      broken.signal.throwIfAborted();
      return feed;
    } catch (error) {
      // If it was rejected, there is nothing to stop.
      asked.then((following) => following.stop()).catch(() => {});
      throw error;
    }
  }

  /** Aborted, with why, when the store was not able to take something, or the journal to read it. */
  get broken(): AbortSignal {
    return this.#broken;
  }

  /** Resolves once the store shows everything up to `revision`. */
  reached(revision: number): Promise<void> {
    return this.#following.reached(revision);
  }

  /** Ends it. The store is told nothing afterwards. Idempotent. */
  close(): Promise<void> {
    return this.#following.stop();
  }
}
