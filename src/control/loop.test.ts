import { expect, test } from 'vitest';
import { MemoryJournal } from '../journal/memory.ts';
import { silentLog } from '../model/clock.ts';
import { FakeClock } from '../sim/fake-clock.ts';
import { Store } from '../store/store.ts';
import { Loop } from './loop.ts';

async function looped(reconcile: (keys: ReadonlySet<string>) => Promise<void>, initial: string[] = []) {
  const clock = new FakeClock();
  const store = await Store.open(new MemoryJournal());
  const loop = new Loop(
    { store, clock, log: silentLog },
    { name: 'test', initial: () => initial, affected: () => {}, reconcile },
  );
  loop.start();
  return { clock, loop };
}

test('a key that always fails holds up no other, and is tried again ever more rarely', async () => {
  const done: string[] = [];
  let tries = 0;
  const { clock, loop } = await looped(
    async (keys) => {
      if (keys.has('bad')) {
        tries += 1;
        throw new Error('bad');
      }
      done.push(...keys);
    },
    ['a', 'bad', 'b'],
  );
  await clock.advance(0);
  expect(done).toEqual(['a', 'b']);
  loop.mark('c');
  await clock.advance(0);
  expect(done).toEqual(['a', 'b', 'c']);
  await clock.advance(60_000);
  expect(tries).toBeGreaterThan(8);
  expect(tries).toBeLessThan(20);
  await loop.stop();
});

test('a journal that takes nothing is asked again for all keys at once', async () => {
  let refusals = 3;
  const runs: string[][] = [];
  const { clock, loop } = await looped(
    async (keys) => {
      if (refusals-- > 0) throw Object.assign(new Error('disk full'), { name: 'JournalUnavailable' });
      runs.push([...keys]);
    },
    ['a', 'b'],
  );
  await clock.advance(5000);
  expect(runs.flat().sort()).toEqual(['a', 'b']);
  await loop.stop();
});

test('a key has one alarm, the earliest, and none after stop', async () => {
  const at: number[] = [];
  const { clock, loop } = await looped(async () => {
    at.push(clock.monotonic());
  });
  loop.mark('k', 500);
  loop.mark('k', 200);
  loop.mark('k', 900);
  await clock.advance(1000);
  expect(at).toEqual([200]);
  loop.mark('k', 100);
  await loop.stop();
  await clock.advance(1000);
  expect(at).toEqual([200]);
});

// Found by fuzzing: an update with a delay of 4,194,304 ns was looked at for ever, ever closer to its time.
test('an alarm rings at a whole millisecond, not before its time', async () => {
  const at: number[] = [];
  const { clock, loop } = await looped(async () => {
    at.push(clock.monotonic());
  });
  loop.mark('k', 4.194304);
  await clock.advance(10);
  expect(at).toEqual([5]);
  await loop.stop();
});
