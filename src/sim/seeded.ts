/** Chance from a seed: the same seed gives the same numbers, and a stream of its own to whoever asks by name. */
import type { Random } from '../model/clock.ts';

/** mulberry32: quick, and good enough to choose by. */
export function seeded(seed: number): Random {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** The 32-bit FNV-1a hash of a text, going on from `from`. */
export function hashOf(text: string, from = 0x811c9dc5): number {
  let hash = from;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Choices from one stream of chance. */
export class Chance {
  readonly random: Random;
  readonly #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
    this.random = seeded(seed);
  }

  /** A stream of its own: what is drawn from it changes nothing here. */
  of(name: string): Chance {
    return new Chance(hashOf(name, this.#seed ^ 0x9e3779b9));
  }

  /** Uniform in [least, most). */
  between(least: number, most: number): number {
    return least + this.random() * (most - least);
  }

  /** A whole number from `least` to `most`, both included. */
  whole(least: number, most: number): number {
    return Math.floor(this.between(least, most + 1));
  }

  happens(probability: number): boolean {
    return this.random() < probability;
  }

  /** @throws RangeError if there is nothing to choose from */
  pick<T>(from: readonly T[]): T {
    if (from.length === 0) throw new RangeError('nothing to choose from');
    return from[Math.floor(this.random() * from.length)]!;
  }
}
