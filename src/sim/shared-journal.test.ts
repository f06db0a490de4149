import { describe, expect, test } from 'vitest';
import { sharedJournalContract } from '../journal/shared.contract.ts';
import { PausableClock } from '../journal/shared-world.fixture.ts';
import { FakeClock } from './fake-clock.ts';
import { Cluster, type Edge } from './shared-journal.ts';
import { seeded } from './seeded.ts';

sharedJournalContract('the twin', async (ttlMs) => {
  const clock = new FakeClock();
  const cluster = new Cluster({ clock, random: seeded(1), ttlMs });
  const clients: { close(): Promise<void> }[] = [];
  return {
    clock,
    ttlMs,
    async client() {
      const own = new PausableClock(clock);
      const edge: Edge = { clock: own, take: (fn) => fn() };
      const client = cluster.client(edge);
      clients.push(client.journal);
      return {
        journal: client.journal,
        clock: own,
        cut: () => client.cut(),
        loseAnswers: () => client.loseAnswers(),
        mend: () => client.mend(),
      };
    },
    compact: async () => cluster.compact(),
    loseQuorum: () => cluster.loseQuorum(),
    regainQuorum: () => cluster.regainQuorum(),
    async run(scenario) {
      const running = { over: false };
      const end = () => (running.over = true);
      const result = scenario();
      result.then(end, end);
      while (!running.over) await clock.advance(5);
      return result;
    },
    async dispose() {
      await Promise.all(clients.map((journal) => journal.close()));
    },
  };
});

describe('the time of a leader that was too busy', () => {
  async function leading() {
    const clock = new FakeClock();
    const cluster = new Cluster({ clock, random: seeded(1), ttlMs: 1_000 });
    const own = new PausableClock(clock);
    const client = cluster.client({ clock: own, take: (fn) => fn() });
    const { journal } = client;
    /** Leads for so long, counted from the election. */
    const lead = async (forMs: number) => {
      const elected = new AbortController();
      const campaign = journal
        .campaign({ nodeId: 'a', address: 'a:2377' }, new AbortController().signal)
        .finally(() => elected.abort());
      while (!elected.signal.aborted) await clock.advance(10);
      await clock.advance(forMs);
      const [leader] = cluster.etcd.range({ from: '/drover/', to: '/drover0' }).rows;
      return { term: await campaign, ttlMs: (JSON.parse(leader!.value) as { ttlMs: number }).ttlMs };
    };
    const block = async () => {
      own.pause();
      await clock.advance(9_000);
      own.resume();
    };
    return { clock, client, journal, lead, block };
  }

  test('is doubled if it came to nothing after its election, until one ends otherwise', async () => {
    const { clock, journal, lead, block } = await leading();
    const times: number[] = [];
    for (let i = 0; i < 4; i++) {
      const { term, ttlMs } = await lead(200);
      times.push(ttlMs);
      await block();
      expect(await term.over).toMatch(/time ran out/);
    }
    const { term } = await lead(200);
    void term.resign();
    await clock.advance(1_000);
    times.push((await lead(0)).ttlMs);
    expect(times).toEqual([1_000, 2_000, 2_000, 2_000, 1_000]);
    await journal.close();
  });

  // Found with faults ten times each: who was cut off or paused some times in a row took 8, then 16 s, for which all waited in the end.
  test('stays as it is if it was cut off', async () => {
    const { clock, client, journal, lead } = await leading();
    for (let i = 0; i < 3; i++) {
      const { term, ttlMs } = await lead(200);
      expect(ttlMs).toBe(1_000);
      client.cut();
      await clock.advance(9_000);
      client.mend();
      expect(await term.over).toBe('its time ran out');
    }
    await journal.close();
  });

  test('stays as it is if it had led for a while', async () => {
    const { journal, lead, block } = await leading();
    for (let i = 0; i < 3; i++) {
      const { term, ttlMs } = await lead(3_000);
      expect(ttlMs).toBe(1_000);
      await block();
      expect(await term.over).toMatch(/time ran out/);
    }
    await journal.close();
  });
});
