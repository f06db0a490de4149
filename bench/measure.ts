/** What benches share: rounds that interleave the contestants, and medians as ratios of one run. Times are in milliseconds. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export async function timed(body: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await body();
  return performance.now() - start;
}

const POLL_MS = 10;

/** Asks until the answer is yes. Rejects after `withinMs`. */
export async function until(what: string, probe: () => Promise<boolean>, withinMs = 120_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await probe())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${withinMs} ms`);
    await new Promise((next) => setTimeout(next, POLL_MS));
  }
}

/**
 * Runs each contestant once a round, in turns, and prints medians and their ratio to the first one's.
 * Each contestant resolves with its own time, so that preparing and cleaning up do not count.
 */
export async function compare(
  title: string,
  rounds: number,
  contestants: Record<string, () => Promise<number>>,
): Promise<void> {
  const names = Object.keys(contestants);
  const times = new Map<string, number[]>(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const name of names) times.get(name)!.push(await contestants[name]!());
  }
  const [first] = names;
  const base = median(times.get(first!)!);
  console.log(`\n${title} (median of ${rounds} interleaved rounds)`);
  for (const name of names) {
    const list = times.get(name)!;
    const spread = `${Math.round(Math.min(...list))}–${Math.round(Math.max(...list))}`;
    console.log(
      `  ${name.padEnd(28)} ${String(Math.round(median(list))).padStart(7)} ms  (${spread})  ${(median(list) / base).toFixed(2)} ×`,
    );
  }
}
