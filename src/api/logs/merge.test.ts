import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { LogLine } from './lines.ts';
import { merge, type LogSource } from './merge.ts';

const lineAt = (ms: number, text: string): LogLine => ({
  at: new Date(ms).toISOString().replace('Z', '000000Z'),
  stream: 1,
  rest: Buffer.from(text),
});

/** Gives its lines in batches, some of them empty, each only when asked, and counts what it has given ahead. */
class Batches implements LogSource {
  readonly name: string;
  readonly #batches: LogLine[][];
  held = 0;
  mostHeld = 0;

  constructor(name: string, batches: LogLine[][]) {
    this.name = name;
    this.#batches = [...batches];
  }

  async next(): Promise<LogLine[] | undefined> {
    await Promise.resolve();
    const batch = this.#batches.shift();
    this.held += batch?.length ?? 0;
    this.mostHeld = Math.max(this.mostHeld, this.held);
    return batch;
  }
}

const sources = fc.array(fc.array(fc.array(fc.nat(60), { maxLength: 6 }), { maxLength: 6 }), { maxLength: 9 });

test('nothing lost or doubled, each in its own order, by time where each is by time, no more than a batch held', async () => {
  await fc.assert(
    fc.asyncProperty(sources, fc.boolean(), fc.integer({ min: 1, max: 9 }), async (times, sorted, room) => {
      const given = times.map((batches, s) => {
        const all = batches.flat();
        if (sorted) all.sort((a, b) => a - b);
        let at = 0;
        return new Batches(
          `s${s}`,
          batches.map((batch) => batch.map(() => lineAt(all[at]!, `s${s} ${at++}`))),
        );
      });
      const out: LogLine[] = [];
      let pending = 0;
      await merge(
        given,
        (source, line) => {
          source.held -= 1;
          out.push(line);
          return (pending += 1) >= room;
        },
        async () => {
          expect(pending).toBeLessThanOrEqual(room);
          pending = 0;
          await Promise.resolve();
        },
      );
      times.forEach((batches, s) => {
        const mine = out.map(({ rest }) => rest.toString()).filter((text) => text.startsWith(`s${s} `));
        expect(mine).toEqual(batches.flat().map((_, at) => `s${s} ${at}`));
        expect(given[s]!.mostHeld).toBeLessThanOrEqual(Math.max(0, ...batches.map((batch) => batch.length)));
      });
      if (sorted) expect(out.map(({ at }) => at)).toEqual(out.map(({ at }) => at).toSorted());
    }),
  );
});
