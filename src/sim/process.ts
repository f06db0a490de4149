/**
 * A simulated process: the clock its parts are given, and the edge that everything from outside has to cross. One that is
 * paused (SIGSTOP) does nothing, and afterwards finds its timers late and what came meanwhile waiting, in that order, as a
 * real one does. One that is dead does nothing ever again: what it still waits for never comes.
 */
import type { Clock, Timer } from '../model/clock.ts';
import type { EventLoop } from './event-loop.ts';

/** What the host's clock shows; shared by the processes of one host. */
export interface HostTime {
  /** Milliseconds since the epoch at the world's beginning, as this host has it. */
  epochMs: number;
}

const START_MS = Date.UTC(2026, 0, 1);

export function hostTime(): HostTime {
  return { epochMs: START_MS };
}

export class Process {
  readonly name: string;
  readonly clock: Clock;
  readonly #loop: EventLoop;
  #state: 'running' | 'paused' | 'dead' = 'running';
  #late: (() => void)[] = [];
  #waiting: (() => void)[] = [];
  readonly #onEnd = new Set<() => void>();

  constructor(loop: EventLoop, name: string, time: HostTime) {
    this.#loop = loop;
    this.name = name;
    this.clock = {
      now: () => Math.floor(time.epochMs + loop.now),
      monotonic: () => loop.now,
      after: (delayMs, fn) => this.#after(delayMs, fn),
    };
  }

  get alive(): boolean {
    return this.#state !== 'dead';
  }

  get running(): boolean {
    return this.#state === 'running';
  }

  /** Something from outside: what came over the network or from the kernel. */
  take(fn: () => void): void {
    if (this.#state === 'running') fn();
    else if (this.#state === 'paused') this.#waiting.push(fn);
  }

  /** What a call out of this process comes to, seen from inside. */
  call<T>(result: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      result.then(
        (value) => this.take(() => resolve(value)),
        (error: unknown) => this.take(() => reject(error)),
      );
    });
  }

  pause(): void {
    if (this.#state === 'running') this.#state = 'paused';
  }

  resume(): void {
    if (this.#state !== 'paused') return;
    this.#state = 'running';
    const held = [...this.#late.splice(0), ...this.#waiting.splice(0)];
    for (const fn of held) this.#loop.after(0, `${this.name} resumes`, () => this.take(fn));
  }

  /** Ends it as SIGKILL does, or, if `silently`, as a power cut does: then nobody is told. */
  kill({ silently = false } = {}): void {
    if (this.#state === 'dead') return;
    this.#state = 'dead';
    this.#late = [];
    this.#waiting = [];
    if (!silently) for (const fn of this.#onEnd) fn();
  }

  /** Calls `fn` when it is killed: what the kernel closes for it. */
  onEnd(fn: () => void): void {
    this.#onEnd.add(fn);
  }

  #after(delayMs: number, fn: () => void): Timer {
    let cancelled = false;
    const timer = this.#loop.after(delayMs, this.name, () => {
      const fire = () => {
        if (!cancelled) fn();
      };
      if (this.#state === 'running') fire();
      else if (this.#state === 'paused') this.#late.push(fire);
    });
    return {
      cancel() {
        cancelled = true;
        timer.cancel();
      },
    };
  }
}
