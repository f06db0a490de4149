/**
 * The one subscription to what happens to this node's containers. Promises: after each time the engine was away,
 * `onUp` runs once the new subscription stands, so that nothing that happened between is missed; it never gives up.
 */
import type { Clock, Log, Random, Timer } from '../model/clock.ts';
import type { Engine } from '../engine/engine.ts';
import { backoffMs } from './backoff.ts';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 3_000;

export interface EngineWatchDeps {
  engine: Pick<Engine, 'watch'>;
  nodeId: string;
  clock: Clock;
  random: Random;
  log: Log;
  /** The engine answers; `again`: it did so before and was away since. A rejection counts as away. */
  onUp: (again: boolean) => Promise<void>;
  /** Something happened to what is watched: by default, to this task's container. */
  onHint: (id: string) => void;
}

export class EngineWatch {
  readonly #deps: EngineWatchDeps;
  readonly #halt = new AbortController();
  /** The subscription there is, or is to be. */
  #attempt: AbortController | undefined;
  #state: 'up' | 'away' = 'away';
  #wasUp = false;
  #running: Promise<void> | undefined;

  constructor(deps: EngineWatchDeps) {
    this.#deps = deps;
  }

  get state(): 'up' | 'away' {
    return this.#state;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** A call got no answer: an engine that hangs keeps its event stream open, and only a new one tells when it is back. */
  doubt(reason: Error): void {
    if (this.#state === 'away') return;
    this.#state = 'away';
    this.#attempt?.abort(reason);
  }

  async stop(): Promise<void> {
    this.#halt.abort(new Error('the agent stops'));
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, random, log } = this.#deps;
    let failures = 0;
    while (!this.#halt.signal.aborted) {
      try {
        await this.#subscribe(() => (failures = 0));
        log.warn({}, 'the engine ended the event stream');
      } catch (error) {
        if (this.#halt.signal.aborted) return;
        log.warn({ error: String(error) }, 'the engine is away');
      }
      this.#state = 'away';
      failures++;
      await this.#pause(backoffMs(failures, FIRST_RETRY_MS, LAST_RETRY_MS, random), clock);
    }
  }

  /** One subscription from beginning to end. */
  async #subscribe(established: () => void): Promise<void> {
    const { engine, nodeId, onUp, onHint } = this.#deps;
    const attempt = new AbortController();
    this.#attempt = attempt;
    const halt = (): void => attempt.abort(this.#halt.signal.reason);
    this.#halt.signal.addEventListener('abort', halt);
    try {
      const hints = await engine.watch(nodeId, attempt.signal);
      await onUp(this.#wasUp);
      this.#state = 'up';
      this.#wasUp = true;
      established();
      for await (const taskId of hints) onHint(taskId);
    } finally {
      this.#halt.signal.removeEventListener('abort', halt);
      attempt.abort(new Error('subscription over'));
    }
  }

  #pause(delayMs: number, clock: Clock): Promise<void> {
    if (this.#halt.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (timer: Timer): void => {
        timer.cancel();
        this.#halt.signal.removeEventListener('abort', stop);
        resolve();
      };
      const timer = clock.after(delayMs, () => done(timer));
      const stop = (): void => done(timer);
      this.#halt.signal.addEventListener('abort', stop);
    });
  }
}
