import { expect, test } from 'vitest';
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

test('a leader who is too busy after its election takes more time at the next one, until one ends otherwise', async () => {
  const clock = new FakeClock();
  const cluster = new Cluster({ clock, random: seeded(1), ttlMs: 1_000 });
  const own = new PausableClock(clock);
  const { journal } = cluster.client({ clock: own, take: (fn) => fn() });
  const lead = async () => {
    const campaign = journal.campaign({ nodeId: 'a', address: 'a:2377' }, new AbortController().signal);
    await clock.advance(20_000);
    const [leader] = cluster.etcd.range({ from: '/drover/', to: '/drover0' }).rows;
    return { term: await campaign, ttlMs: (JSON.parse(leader!.value) as { ttlMs: number }).ttlMs };
  };
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    const { term, ttlMs } = await lead();
    times.push(ttlMs);
    own.pause();
    await clock.advance(9_000);
    own.resume();
    expect(await term.over).toMatch(/time ran out/);
  }
  const { term } = await lead();
  void term.resign();
  await clock.advance(1_000);
  times.push((await lead()).ttlMs);
  expect(times).toEqual([1_000, 2_000, 4_000, 8_000, 8_000, 1_000]);
  await journal.close();
});
