/**
 * The compliance suite of a shared journal (shared.ts): etcd and its twin in the simulator run it. A scenario is an async
 * function that the world runs; in the simulator time goes on while it waits.
 */
import { describe, expect, test } from 'vitest';
import { JournalUnavailable, type Change } from './journal.ts';
import { journalContract } from './journal.contract.ts';
import {
  count,
  Follower,
  leaderOf,
  LONG_MS,
  never,
  outcome,
  SHORT_MS,
  state,
  upTo,
  type SharedClient,
  type SharedWorld,
} from './shared-world.fixture.ts';
import { NotLeading, type Leadership } from './shared.ts';

export function sharedJournalContract(name: string, makeWorld: (ttlMs: number) => Promise<SharedWorld>): void {
  const scenarioOf = (ttlMs: number) => (title: string, body: (world: SharedWorld) => Promise<void>) =>
    // oxlint-disable-next-line vitest/valid-title, vitest/expect-expect -- each scenario below has a title, and expects
    test(title, async () => {
      const world = await makeWorld(ttlMs);
      try {
        await world.run(() => body(world));
      } finally {
        await world.dispose();
      }
    });
  const scenario = scenarioOf(LONG_MS);
  /** One that waits for a leadership to run out. */
  const timed = scenarioOf(SHORT_MS);

  const sleep = (world: SharedWorld, delayMs: number) =>
    new Promise<void>((resolve) => world.clock.after(delayMs, resolve));

  const until = async (world: SharedWorld, what: () => boolean) => {
    while (!what()) await sleep(world, 10);
  };

  async function leading(world: SharedWorld, nodeId = 'a'): Promise<{ client: SharedClient; term: Leadership }> {
    const client = await world.client();
    return { client, term: await client.journal.campaign(leaderOf(nodeId), never()) };
  }

  journalContract(`${name}, the journal of a leadership`, async () => {
    const world = await makeWorld(LONG_MS);
    return {
      async open() {
        const { client, term } = await world.run(() => leading(world));
        const run =
          <A extends unknown[], R>(fn: (...args: A) => Promise<R>) =>
          (...args: A) =>
            world.run(() => fn(...args));
        return {
          load: run(() => term.journal.load()),
          commit: run((transactions: readonly (readonly Change[])[]) => term.journal.commit(transactions)),
          close: run(async () => {
            await term.journal.close();
            await term.resign();
            await client.journal.close();
          }),
        };
      },
      dispose: () => world.dispose(),
    };
  });

  describe(`shared journal contract: ${name}`, () => {
    scenario(
      'a follower of an empty journal is told of nothing, then of each transaction, once and in order',
      async (world) => {
        const { client, term } = await leading(world);
        const follower = new Follower();
        const other = await world.client();
        const following = await other.journal.follow(follower);
        expect([follower.rows.size, follower.replaced]).toEqual([0, 1]);
        for (let i = 1; i <= 20; i++) await term.journal.commit(count(i));
        await term.journal.commit([
          [
            { key: 'n', value: null },
            { key: 'last', value: 'ü' },
          ],
        ]);
        await until(world, () => follower.rows.has('last'));
        expect(follower.counted).toEqual([...upTo(20), 'null']);
        expect(follower.rows).toEqual(new Map([['last', 'ü']]));
        expect(follower.revisions).toEqual([...new Set(follower.revisions)].sort((a, b) => a - b));
        expect([following.revision, follower.replaced]).toEqual([follower.revisions.at(-1), 1]);
        await following.stop();
        await term.journal.commit(count(99));
        expect(await client.journal.hasQuorum()).toBe(true);
        expect(follower.rows.has('n')).toBe(false);
      },
    );

    scenario('a follower who comes later begins with all rows, however many', async (world) => {
      const { term } = await leading(world);
      const rows = Array.from({ length: 4500 }, (_, i) => [{ key: `tasks/${i}`, value: `v${i}` }]);
      await term.journal.commit(rows);
      const follower = new Follower();
      const following = await (await world.client()).journal.follow(follower);
      expect(follower.rows.size).toBe(4500);
      expect(follower.rows).toEqual(await term.journal.load());
      await term.journal.commit(count(1));
      await until(world, () => follower.rows.has('n'));
      expect(follower.replaced).toBe(1);
      await following.stop();
    });

    scenario('reached resolves for a revision that changed no row, and rejects when it is stopped', async (world) => {
      const { client, term } = await leading(world);
      const other = await world.client();
      const follower = new Follower();
      const following = await other.journal.follow(follower);
      await term.resign();
      const { revision, journal } = await client.journal.campaign(leaderOf('b'), never());
      await following.reached(revision);
      expect(following.revision).toBeGreaterThanOrEqual(revision);
      await journal.commit(count(1));
      const waiting = outcome(following.reached(revision + 1_000_000));
      await following.stop();
      expect(await waiting).toBeInstanceOf(Error);
      expect(follower.replaced).toBe(1);
    });

    scenario('each event is told once and in order, although the way breaks again and again', async (world) => {
      const { term } = await leading(world);
      const other = await world.client();
      const follower = new Follower();
      const following = await other.journal.follow(follower);
      for (let i = 1; i <= 60; i++) {
        if (i % 15 === 5) other.cut();
        if (i % 15 === 9) other.mend();
        await term.journal.commit(count(i));
      }
      await until(world, () => follower.rows.get('n') === '60');
      expect(follower.counted).toEqual(upTo(60));
      expect(follower.replaced).toBe(1);
      await following.stop();
    });

    scenario('what was compacted before it was told is told as a whole', async (world) => {
      const { term } = await leading(world);
      await term.journal.commit([[{ key: 'gone', value: 'x' }]]);
      const other = await world.client();
      const follower = new Follower();
      const following = await other.journal.follow(follower);
      other.cut();
      for (let i = 1; i <= 5; i++) await term.journal.commit(count(i));
      await term.journal.commit([[{ key: 'gone', value: null }]]);
      await world.compact();
      other.mend();
      await until(world, () => follower.replaced === 2);
      expect(follower.rows).toEqual(new Map([['n', '5']]));
      await term.journal.commit(count(6));
      await until(world, () => follower.rows.get('n') === '6');
      expect([follower.counted, follower.replaced]).toEqual([['6'], 2]);
      await following.stop();
    });

    timed('who was halted, and does not know it, writes nothing any more', async (world) => {
      const { client, term } = await leading(world);
      await term.journal.commit(count(1));
      client.clock.pause();
      client.cut();
      const { term: next } = await leading(world, 'b');
      await next.journal.commit(count(2));
      client.mend();
      client.clock.resume({ unnoticed: true });
      const error = await outcome(term.journal.commit(count(3)));
      // The way broke as well: then a first try may be in doubt.
      if (!(error instanceof NotLeading)) expect(String(error)).toMatch(/not known/);
      expect(await term.over).toEqual(expect.any(String));
      expect(await outcome(term.journal.commit(count(4)))).toBeInstanceOf(NotLeading);
      expect(await next.journal.load()).toEqual(new Map([['n', '2']]));
    });

    timed('who was paused for too long refuses to write before it asks', async (world) => {
      const { client, term } = await leading(world);
      client.clock.pause();
      client.cut();
      await sleep(world, 3 * world.ttlMs);
      client.clock.resume();
      expect(await outcome(term.journal.commit(count(1)))).toBeInstanceOf(NotLeading);
      expect(await term.over).toMatch(/time ran out/);
      client.mend();
      while (!(await client.journal.hasQuorum())) await sleep(world, 10);
    });

    timed('there are never two leaders: a leadership is over before the next one begins', async (world) => {
      const clients = await Promise.all([world.client(), world.client(), world.client()]);
      const history: { who: string; from: number; to: number }[] = [];
      const end = new AbortController();
      const parts = clients.map(async (client, i) => {
        const who = `m${i}`;
        for (;;) {
          const term = await client.journal.campaign(leaderOf(who), end.signal);
          const entry = { who, from: world.clock.monotonic(), to: Infinity };
          history.push(entry);
          void term.over.then(() => (entry.to = world.clock.monotonic()));
          const fault = history.length % 3;
          if (fault === 0) client.cut();
          if (fault === 1) client.loseAnswers();
          if (fault === 2) void term.resign();
          await term.over;
          await sleep(world, 20);
          client.mend();
          await term.resign();
          if (history.length >= 7) end.abort(new Error('enough'));
        }
      });
      const ends = await Promise.allSettled(parts);
      expect(ends.map((one) => (one.status === 'rejected' ? String(one.reason) : 'went on'))).toEqual(
        Array.from({ length: 3 }, () => 'Error: enough'),
      );
      expect(history.length).toBeGreaterThanOrEqual(7);
      for (const [i, { from }] of history.slice(1).entries()) expect(from).toBeGreaterThanOrEqual(history[i]!.to);
    });

    timed('a commit whose answer was lost for a moment is made once, and succeeds', async (world) => {
      const { client, term } = await leading(world);
      const follower = new Follower();
      const following = await (await world.client()).journal.follow(follower);
      client.loseAnswers();
      const made = outcome(term.journal.commit(count(1)));
      await until(world, () => follower.rows.has('n'));
      client.mend();
      expect(await made).toBe('done');
      await term.journal.commit(count(2));
      await until(world, () => follower.rows.get('n') === '2');
      expect(follower.counted).toEqual(['1', '2']);
      await following.stop();
    });

    timed('a write that a later try finds made counts from the first try on', async (world) => {
      const { client, term } = await leading(world);
      const other = await world.client();
      const follower = new Follower();
      await other.journal.follow(follower);
      const won = other.journal.campaign(leaderOf('b'), never());
      const ended = { over: false };
      void term.over.then(() => (ended.over = true));
      client.loseAnswers();
      const made = outcome(term.journal.commit(count(1)));
      await until(world, () => follower.rows.has('n'));
      client.mend();
      expect(await made).toBe('done');
      client.cut();
      await won;
      expect(ended.over).toBe(true);
    });

    timed('a commit whose outcome stays unknown says so, and ends the leadership', async (world) => {
      const { client, term } = await leading(world);
      const follower = new Follower();
      const following = await (await world.client()).journal.follow(follower);
      client.loseAnswers();
      const error = await outcome(term.journal.commit(count(1)));
      expect([error instanceof NotLeading, error instanceof JournalUnavailable, error === 'done']).toEqual(
        Array.from({ length: 3 }, () => false),
      );
      expect(await term.over).toEqual(expect.any(String));
      expect(await outcome(term.journal.commit(count(2)))).toBeInstanceOf(NotLeading);
      client.mend();
      const { term: next } = await leading(world, 'b');
      await following.reached(next.revision);
      // It was made, but nobody who asked for it knew.
      expect([...(await next.journal.load())]).toEqual([['n', '1']]);
      expect(follower.counted).toEqual(['1']);
      await following.stop();
    });

    scenario('who resigns hands over at once', async (world) => {
      const { term } = await leading(world);
      const other = await world.client();
      const won = other.journal.campaign(leaderOf('b'), never());
      // It waits by now.
      await sleep(world, 200);
      await term.journal.commit(count(1));
      const fromMs = world.clock.monotonic();
      await term.resign();
      await term.resign();
      const next = await won;
      expect(world.clock.monotonic() - fromMs).toBeLessThan(world.ttlMs / 2);
      expect(await outcome(term.journal.commit(count(2)))).toBeInstanceOf(NotLeading);
      expect(await next.journal.load()).toEqual(new Map([['n', '1']]));
    });

    scenario('who follows up to a leadership knows all that was written before it', async (world) => {
      let { client, term } = await leading(world);
      const follower = new Follower();
      const following = await (await world.client()).journal.follow(follower);
      for (let i = 1; i <= 5; i++) {
        await term.journal.commit(count(i));
        await term.resign();
        ({ client, term } = await leading(world, `m${i}`));
        await following.reached(term.revision);
        expect(follower.rows.get('n')).toBe(String(i));
      }
      expect(await client.journal.hasQuorum()).toBe(true);
      await following.stop();
    });

    timed('everybody sees who leads', async (world) => {
      const other = await world.client();
      const seen: (string | undefined)[] = [];
      const stop = other.journal.observe((leader) => seen.push(leader?.address));
      expect(seen).toEqual([undefined]);
      const { client, term } = await leading(world);
      await until(world, () => seen.at(-1) === 'a:2377');
      for (let i = 1; i <= 5; i++) await term.journal.commit(count(i));
      await term.resign();
      await until(world, () => seen.at(-1) === undefined);
      await client.journal.campaign(leaderOf('c'), never());
      await until(world, () => seen.at(-1) === 'c:2377');
      expect(seen).toEqual([undefined, 'a:2377', undefined, 'c:2377']);
      // Who is cut off does not know for long.
      other.cut();
      await until(world, () => seen.at(-1) === undefined);
      other.mend();
      await until(world, () => seen.at(-1) === 'c:2377');
      stop();
    });

    scenario('a campaign that is given up leaves nothing behind', async (world) => {
      const { term } = await leading(world);
      const other = await world.client();
      const quit = new AbortController();
      const campaign = outcome(other.journal.campaign(leaderOf('b'), quit.signal));
      await sleep(world, 100);
      quit.abort(new Error('no more'));
      expect(String(await campaign)).toMatch('no more');
      expect(String(await outcome(other.journal.campaign(leaderOf('b'), quit.signal)))).toMatch('no more');
      await term.resign();
      const fromMs = world.clock.monotonic();
      await leading(world, 'c');
      expect(world.clock.monotonic() - fromMs).toBeLessThan(world.ttlMs / 2);
    });

    timed('without a majority nothing is read or written, and afterwards all goes on', async (world) => {
      const { client, term } = await leading(world);
      await term.journal.commit(count(1));
      await world.loseQuorum();
      const other = await world.client();
      const [follow, commit, quorum] = await Promise.all([
        outcome(other.journal.follow(new Follower())),
        outcome(term.journal.commit(count(2))),
        other.journal.hasQuorum(),
      ]);
      expect(follow).toBeInstanceOf(JournalUnavailable);
      expect(commit).toBeInstanceOf(Error);
      expect(quorum).toBe(false);
      expect(await term.over).toEqual(expect.any(String));
      const again = client.journal.campaign(leaderOf('a'), never());
      await sleep(world, 500);
      world.regainQuorum();
      const next = await again;
      await next.journal.commit(count(3));
      const rows = await next.journal.load();
      expect(rows).toEqual(new Map([['n', '3']]));
    });

    scenario('a transaction larger than the keeper takes at once is whole for all who look', async (world) => {
      const { term } = await leading(world);
      const early = new Follower();
      const following = await (await world.client()).journal.follow(early);
      await term.journal.commit([[{ key: 'tasks/gone', value: 'x' }]]);
      const large = Array.from({ length: 400 }, (_, i) => ({ key: `tasks/${i}`, value: `${'v'.repeat(1000)}${i}` }));
      const whole: Change[] = [...large, { key: 'tasks/gone', value: null }];
      const looks: number[] = [];
      const made = state(term.journal.commit([[{ key: 'before', value: 'x' }], whole, [{ key: 'after', value: 'x' }]]));
      while (made.pending) {
        const late = new Follower();
        const other = await (await world.client()).journal.follow(late);
        looks.push([...late.rows.keys()].filter((key) => key.startsWith('tasks/')).length);
        await until(world, () => late.rows.has('after'));
        expect(late.rows.size).toBe(402);
        await other.stop();
        await sleep(world, 1);
      }
      await made.promise;
      expect(looks.filter((rows) => ![0, 1, 400].includes(rows))).toEqual([]);
      await until(world, () => early.rows.has('after'));
      expect(early.rows).toEqual(await term.journal.load());
      const sizes = early.applied.map((changes) => changes.length).filter((size) => size > 1);
      expect(sizes).toEqual([401]);
      await following.stop();
    });

    scenario('what is too large for the keeper at all is refused, and nothing else is lost', async (world) => {
      const { term } = await leading(world);
      const huge = { key: 'configs/a', value: 'x'.repeat(3 * 1024 * 1024) };
      const error = await outcome(term.journal.commit([[{ key: 'n', value: '1' }, huge]]));
      expect(error).toBeInstanceOf(JournalUnavailable);
      expect(await term.journal.load()).toEqual(new Map());
      await term.journal.commit(count(1));
      expect(await term.journal.load()).toEqual(new Map([['n', '1']]));
    });

    timed(
      'a leader who falls silent in the middle of a large transaction leaves all of it or nothing',
      async (world) => {
        const large = Array.from({ length: 400 }, (_, i) => ({ key: `tasks/${i}`, value: 'v'.repeat(10_000) }));
        const kept: number[] = [];
        for (const afterMs of [0, 5, 15, 40]) {
          const { client, term } = await leading(world);
          const follower = new Follower();
          const following = await (await world.client()).journal.follow(follower);
          const made = outcome(term.journal.commit([large.map(({ key, value }) => ({ key, value: afterMs + value }))]));
          await sleep(world, afterMs);
          client.cut();
          const { term: next } = await leading(world, 'b');
          const answer = await made;
          const rows = [...(await next.journal.load()).values()].filter((value) => value.startsWith(`${afterMs}v`));
          kept.push(rows.length);
          if (answer === 'done') expect(rows.length).toBe(400);
          await following.reached(next.revision);
          expect(follower.rows).toEqual(await next.journal.load());
          await next.journal.commit([large.map(({ key }) => ({ key, value: null }))]);
          await next.resign();
          await following.stop();
        }
        expect(kept.filter((rows) => rows !== 0 && rows !== 400)).toEqual([]);
      },
    );
  });
}
