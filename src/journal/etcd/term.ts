/**
 * The time of one leadership. Others take over once they have seen no write of this leader for `ttlMs` by their own clock. So
 * this manager counts on leading for that long, less a margin, from the moment it asked for the last write that was confirmed:
 * it knows that its leadership is over before anybody else can lead, unless it was paused; then its writes find the fence.
 */
import type { Clock, Timer } from '../../model/clock.ts';

/** Why a leadership has ended whose writes were not confirmed in time. */
const TIME_RAN_OUT = 'its time ran out';
/** … because this process had no time to ask for any. */
export const TOO_BUSY = 'its time ran out while this manager did not come to writing';

export interface TermDeps {
  clock: Clock;
  /** Unlike that of any other leadership. */
  id: string;
  ttlMs: number;
  /** When the first write was asked for, by the monotonic clock. */
  askedAtMs: number;
}

export class Term {
  readonly id: string;
  readonly ttlMs: number;
  readonly #clock: Clock;
  readonly #over = Promise.withResolvers<string>();
  readonly #ended = new AbortController();
  #askedAtMs: number;
  #triedAtMs: number;
  #timer: Timer | undefined;

  constructor({ clock, id, ttlMs, askedAtMs }: TermDeps) {
    this.id = id;
    this.ttlMs = ttlMs;
    this.#clock = clock;
    this.#askedAtMs = askedAtMs;
    this.#triedAtMs = askedAtMs;
    this.#watchTime();
  }

  /** Resolves with why it has ended. */
  get over(): Promise<string> {
    return this.#over.promise;
  }

  /** Aborted when it has ended. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** When the last write that was confirmed was first asked for, by the monotonic clock. */
  get confirmedMs(): number {
    return this.#askedAtMs;
  }

  /** A write is asked for now. Returns how long this try waits for its answer, in milliseconds. */
  begin(): number {
    this.#triedAtMs = this.#clock.monotonic();
    return this.ttlMs / 3;
  }

  /** Milliseconds until the next write has to be asked for, so that there is time for some tries. */
  get beatInMs(): number {
    return this.#askedAtMs + this.ttlMs / 5 - this.#clock.monotonic();
  }

  /** Whether this manager may count on leading at this moment: asked of the clock, which a timer that is late does not change. */
  isLive(): boolean {
    if (!this.#ended.signal.aborted && this.#leftMs() <= 0) {
      // Who has the time asks again before this.
      const silentMs = this.#clock.monotonic() - this.#triedAtMs;
      this.end(silentMs > this.ttlMs / 2 ? TOO_BUSY : TIME_RAN_OUT);
    }
    return !this.#ended.signal.aborted;
  }

  /** A write was confirmed that was first asked for at this moment of the monotonic clock. */
  confirm(askedAtMs: number): void {
    this.#askedAtMs = Math.max(this.#askedAtMs, askedAtMs);
  }

  end(why: string): void {
    if (this.#ended.signal.aborted) return;
    this.#timer?.cancel();
    this.#over.resolve(why);
    this.#ended.abort(new Error(why));
  }

  #leftMs(): number {
    // The margin: for clocks that do not run alike, and for what has to be done before another leads.
    return this.#askedAtMs + this.ttlMs * 0.9 - this.#clock.monotonic();
  }

  #watchTime(): void {
    // At least so long that the clock moves on.
    this.#timer = this.#clock.after(Math.max(1, this.#leftMs()), () => {
      if (this.isLive()) this.#watchTime();
    });
  }
}
