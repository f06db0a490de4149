/** Durations as people write them in labels, in Go's notation: `1m30s`, `250ms`, `0`. Pure. */

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};
const PART = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/y;

/** Milliseconds of a duration in Go's notation, or undefined if it is none. Only `0` may stand without a unit; none is negative. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0;
  if (text === '') return undefined;
  let totalMs = 0;
  PART.lastIndex = 0;
  while (PART.lastIndex < text.length) {
    const part = PART.exec(text);
    if (part === null) return undefined;
    totalMs += Number(part[1]) * (UNIT_MS[part[2] ?? ''] ?? 0);
  }
  return totalMs;
}
