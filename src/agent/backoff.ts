/** Growing waits with jitter, for what is tried again until it works. */
import type { Random } from '../model/clock.ts';

/** Milliseconds before try number `failures` (1 for the first repetition): doubling from `firstMs` up to `mostMs`, ± half. */
export function backoffMs(failures: number, firstMs: number, mostMs: number, random: Random): number {
  const full = Math.min(mostMs, firstMs * 2 ** Math.min(failures - 1, 30));
  return full * (0.5 + random() / 2);
}
