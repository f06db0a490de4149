/**
 * A shared journal whose confidential rows are encrypted (row-seal.ts): etcd sees sealed values, the stores of all managers
 * clear ones. All managers have the same key file, which exists before the first row is written here. A row that cannot be
 * opened is never told as it is: the follower hears JournalDamaged instead, and nothing after it.
 */
import type { Change } from './journal.ts';
import { RowSeal, type RowSealOptions } from './row-seal.ts';
import { SealedJournal } from './sealed.ts';
import type { Following, FollowListener, Leader, Leadership, SharedJournal } from './shared.ts';

export interface SealedSharedJournalOptions extends RowSealOptions {
  /** The keeper below; closed with this. */
  journal: SharedJournal;
}

export class SealedSharedJournal implements SharedJournal {
  readonly #options: SealedSharedJournalOptions;
  readonly #journal: SharedJournal;
  readonly #seal: RowSeal;

  constructor(options: SealedSharedJournalOptions) {
    this.#options = options;
    this.#journal = options.journal;
    this.#seal = new RowSeal(options);
  }

  /** Rejects with JournalUnavailable as the keeper does, and with JournalDamaged if one of the first rows cannot be opened. */
  async follow(listener: FollowListener): Promise<Following> {
    const opening = new OpeningListener(listener, this.#seal);
    const following = await this.#journal.follow(opening);
    opening.stop = () => following.stop();
    if (opening.damage === undefined) return opening.over(following);
    await following.stop();
    throw opening.damage;
  }

  async campaign(self: Leader, signal: AbortSignal): Promise<Leadership> {
    const leadership = await this.#journal.campaign(self, signal);
    const sealed = new SealedJournal({ ...this.#options, journal: leadership.journal }, this.#seal);
    return {
      journal: sealed,
      revision: leadership.revision,
      over: leadership.over,
      resign: () => leadership.resign(),
    };
  }

  observe(listener: (leader: Leader | undefined) => void): () => void {
    return this.#journal.observe(listener);
  }

  hasQuorum(): Promise<boolean> {
    return this.#journal.hasQuorum();
  }

  close(): Promise<void> {
    return this.#journal.close();
  }
}

/** Opens what the keeper tells on its way to the listener above. */
class OpeningListener implements FollowListener {
  readonly #listener: FollowListener;
  readonly #seal: RowSeal;
  /** Until it was told all rows for the first time, damage is what `follow` rejects with. */
  #begun = false;
  readonly #damaged = Promise.withResolvers<never>();
  damage: Error | undefined;
  stop: () => Promise<void> = async () => {};

  constructor(listener: FollowListener, seal: RowSeal) {
    this.#listener = listener;
    this.#seal = seal;
    // Nobody may be waiting for a revision.
    this.#damaged.promise.catch(() => {});
  }

  replace(rows: Map<string, string>, revision: number): void {
    const opened = this.#tried(
      () => new Map([...rows].map(([key, value]) => [key, this.#seal.open(key, value).value])),
    );
    if (opened === undefined) return;
    this.#begun = true;
    this.#listener.replace(opened, revision);
  }

  apply(changes: readonly Change[], revision: number): void {
    const opened = this.#tried(() => this.#seal.openAll(changes));
    if (opened !== undefined) this.#listener.apply(opened, revision);
  }

  /** `following`, whose waiters hear of damage too. */
  over(following: Following): Following {
    return {
      get revision() {
        return following.revision;
      },
      reached: (revision) =>
        this.damage === undefined
          ? Promise.race([following.reached(revision), this.#damaged.promise])
          : Promise.reject(this.damage),
      stop: () => following.stop(),
    };
  }

  #tried<T>(open: () => T): T | undefined {
    if (this.damage !== undefined) return undefined;
    try {
      return open();
    } catch (error) {
      this.damage = error as Error;
      this.#damaged.reject(error);
      if (this.#begun) {
        this.#listener.damaged?.(this.damage);
        void this.stop();
      }
      return undefined;
    }
  }
}
