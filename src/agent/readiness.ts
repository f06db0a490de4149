/**
 * Whether a running task wants connections, by the probe its service asks for. A task begins as not ready, or as what
 * was last known of it; one probe that passes makes it ready, several in a row that fail make it not ready again. It is
 * never ended for that.
 */
import type { Clock, Timer } from '../model/clock.ts';
import type { Probe } from '../model/readiness.ts';
import type { AskReadiness } from './probe.ts';

/** Until it first passes a task is asked more often, so that it need not wait for its next turn; doubled up to the interval. */
const FIRST_PAUSE_MS = 100;
/** The reason of a task that is not ready may change with every probe: it is told this often at most. */
const TELL_REASON_MS = 5_000;

export interface ReadinessDeps {
  clock: Clock;
  ask: AskReadiness;
  /** `ready` or `reason` is another than before. */
  onChange: () => void;
}

export class Readiness {
  readonly #deps: ReadinessDeps;
  readonly #probe: Probe;
  readonly #address: string;
  readonly #halt = new AbortController();
  #ready: boolean;
  #reason = 'its readiness probe has not passed yet';
  #toldReasonMs = -Infinity;
  #failures = 0;
  #pauseMs = FIRST_PAUSE_MS;
  #timer: Timer | undefined;

  /** Begins to ask at once; `ready` is what was last known. */
  constructor(deps: ReadinessDeps, probe: Probe, address: string, ready: boolean) {
    this.#deps = deps;
    this.#probe = probe;
    this.#address = address;
    this.#ready = ready;
    void this.#ask();
  }

  get ready(): boolean {
    return this.#ready;
  }

  /** Why it is not ready, in words; undefined if it is. */
  get reason(): string | undefined {
    return this.#ready ? undefined : this.#reason;
  }

  stop(): void {
    this.#timer?.cancel();
    this.#halt.abort(new Error('not asked any more'));
  }

  async #ask(): Promise<void> {
    const fault = await this.#deps.ask(this.#address, this.#probe, this.#halt.signal);
    if (this.#halt.signal.aborted) return;
    if (fault === undefined) this.#passed();
    else this.#failed(fault);
    const { intervalMs } = this.#probe;
    const pauseMs = this.#ready ? intervalMs : Math.min(this.#pauseMs, intervalMs);
    this.#pauseMs = pauseMs * 2;
    this.#timer = this.#deps.clock.after(pauseMs, () => void this.#ask());
  }

  #passed(): void {
    this.#failures = 0;
    if (this.#ready) return;
    this.#ready = true;
    this.#deps.onChange();
  }

  #failed(fault: string): void {
    this.#failures++;
    if (this.#ready && this.#failures < this.#probe.failures) return;
    const nowMs = this.#deps.clock.monotonic();
    const isNews = this.#reason !== fault && nowMs >= this.#toldReasonMs + TELL_REASON_MS;
    if (!this.#ready && !isNews) return;
    this.#ready = false;
    this.#reason = fault;
    this.#toldReasonMs = nowMs;
    this.#deps.onChange();
  }
}
