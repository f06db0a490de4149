/**
 * The shared journal under faults from a seed: managers that lead one after the other count up one row, each from what it knows
 * once it has followed up to its leadership. So a number that is left out or written twice in the keeper's history is a write
 * that was lost, made twice, or made by one who did not lead.
 */
import { expect, test } from 'vitest';
import { PausableClock } from '../journal/shared-world.fixture.ts';
import { NotLeading, type Following, type Leadership } from '../journal/shared.ts';
import type { Clock } from '../model/clock.ts';
import { FakeClock } from './fake-clock.ts';
import { Chance } from './seeded.ts';
import { Cluster, type ClusterClient, type Edge } from './shared-journal.ts';

const MANAGERS = 3;
const TTL_MS = 1_000;

/** A process that can be paused. */
class Host implements Edge {
  readonly clock: PausableClock;
  paused = false;
  #waiting: (() => void)[] = [];

  constructor(clock: Clock) {
    this.clock = new PausableClock(clock);
  }

  take(fn: () => void): void {
    if (this.paused) this.#waiting.push(fn);
    else fn();
  }

  pause(): void {
    this.paused = true;
    this.clock.pause();
  }

  resume(unnoticed: boolean): void {
    this.paused = false;
    this.clock.resume({ unnoticed });
    for (const fn of this.#waiting.splice(0)) fn();
  }
}

/** What all managers of a run share. */
class Run {
  readonly clock = new FakeClock();
  readonly chance: Chance;
  readonly cluster: Cluster;
  readonly managers: Manager[] = [];
  /** What row `n` was, one after the other, in the keeper: `<number> <who wrote it, and which of his tries>`. */
  readonly history: string[] = [];
  readonly acknowledged: string[] = [];
  readonly refused: string[] = [];
  tries = 0;
  readonly wrong: string[] = [];
  terms = 0;

  constructor(seed: number) {
    this.chance = new Chance(seed);
    const random = this.chance.of('etcd').random;
    // So little at once that large transactions have several parts, and take several writes.
    this.cluster = new Cluster({ clock: this.clock, random, ttlMs: TTL_MS, maxOps: 16, maxBytes: 700 });
    this.cluster.etcd.watch((events) => {
      for (const { key, value } of events) if (key.endsWith('/rows/n')) this.history.push(value!);
    });
  }
}

class Manager {
  readonly #run: Run;
  readonly name: string;
  host: Host;
  client: ClusterClient;
  following: Following | undefined;
  rows = new Map<string, string>();
  leading = false;
  /** Its clock fell behind, unnoticed, in this leadership or candidacy: only the fence keeps it from writing. */
  halted = false;
  #life = 0;

  constructor(run: Run, name: string) {
    this.#run = run;
    this.name = name;
    this.host = new Host(run.clock);
    this.client = run.cluster.client(this.host);
  }

  /** Starts it, anew if it runs. */
  start(): void {
    this.client.crash();
    this.host = new Host(this.#run.clock);
    this.client = this.#run.cluster.client(this.host);
    this.rows = new Map();
    this.following = undefined;
    this.leading = false;
    this.halted = false;
    void this.#live(++this.#life);
  }

  async stop(): Promise<void> {
    this.#life++;
    await this.client.journal.close();
  }

  async #live(life: number): Promise<void> {
    while (life === this.#life) {
      try {
        this.following ??= await this.client.journal.follow({
          replace: (rows) => life === this.#life && (this.rows = new Map(rows)),
          apply: (changes) => {
            for (const { key, value } of changes) if (life === this.#life) this.rows.set(key, value!);
          },
        });
        const self = { nodeId: this.name, address: this.name };
        if (life === this.#life) this.halted = false;
        const term = await this.client.journal.campaign(self, new AbortController().signal);
        if (life === this.#life) await this.#lead(term, life);
        await term.resign();
      } catch {
        // Not the first rows in time: again.
      }
    }
  }

  async #lead(term: Leadership, life: number): Promise<void> {
    const { managers, wrong, chance } = this.#run;
    const others = managers.filter((other) => other !== this && other.leading && !other.host.paused && !other.halted);
    if (others.length > 0) wrong.push(`${this.name} leads beside ${others.map(({ name }) => name).join()}`);
    this.#run.terms++;
    this.leading = true;
    const term1 = { over: false };
    void term.over.then(() => {
      term1.over = true;
      if (life === this.#life) this.leading = this.halted = false;
    });
    await Promise.race([this.following!.reached(term.revision), term.over]);
    let last = numberOf(this.rows.get('n'));
    while (!term1.over && life === this.#life) {
      last = await this.#count(term, last);
      if (last === 0) return;
      await new Promise<void>((resolve) => this.host.clock.after(chance.between(1, 120), resolve));
      if (chance.happens(0.01)) return;
    }
  }

  /** Writes the next number, at times within a transaction larger than the keeper takes. 0: it was not acknowledged. */
  async #count(term: Leadership, last: number): Promise<number> {
    const { chance, acknowledged, refused } = this.#run;
    const n = last + 1;
    const written = `${n} ${this.name}.${++this.#run.tries}`;
    const size = chance.happens(0.1) ? chance.whole(16, 60) : 1;
    const rows = Array.from({ length: size }, (_, i) => ({ key: `r${i}`, value: String(n) }));
    try {
      await term.journal.commit([[...rows, { key: 'n', value: written }]]);
      acknowledged.push(written);
      return n;
    } catch (error) {
      if (error instanceof NotLeading) refused.push(written);
      return 0;
    }
  }
}

function numberOf(written: string | undefined): number {
  return written === undefined ? 0 : Number(written.split(' ')[0]);
}

function fault({ chance, cluster, managers, clock }: Run): void {
  const manager = chance.pick(managers);
  const { client, host } = manager;
  const forMs = chance.between(50, 4_000);
  const later = (fn: () => void) => clock.after(forMs, fn);
  switch (chance.whole(0, 6)) {
    case 0:
      client.cut();
      later(() => client.mend());
      break;
    case 1:
      client.loseAnswers();
      later(() => client.mend());
      break;
    case 2: {
      if (host.paused) break;
      const unnoticed = chance.happens(0.5);
      host.pause();
      later(() => {
        if (manager.host === host && unnoticed) manager.halted = true;
        host.resume(unnoticed);
      });
      break;
    }
    case 3:
      cluster.loseQuorum();
      later(() => cluster.regainQuorum());
      break;
    case 4:
      cluster.compact();
      break;
    case 5:
      manager.start();
      break;
    default:
      client.faults = { leastMs: 1, mostMs: chance.pick([20, 300, 1_500]), requestLost: 0.05, answerLost: 0.05 };
      later(() => (client.faults = { leastMs: 0.2, mostMs: 2, requestLost: 0, answerLost: 0 }));
  }
}

async function run(seed: number, faults: number, wreck: (cluster: Cluster) => void = () => {}): Promise<Run> {
  const world = new Run(seed);
  wreck(world.cluster);
  for (let i = 0; i < MANAGERS; i++) world.managers.push(new Manager(world, `m${i}`));
  for (const manager of world.managers) manager.start();
  for (let i = 0; i < faults; i++) {
    await world.clock.advance(world.chance.between(100, 1_500));
    fault(world);
  }
  // All faults have ended, and what they caused.
  await world.clock.advance(20_000);
  const { history, managers, cluster, wrong } = world;
  const before = history.length;
  await world.clock.advance(5_000);
  if (history.length === before) wrong.push('nobody leads although all is well');
  const odd = history.findIndex((written, i) => numberOf(written) !== i + 1);
  if (odd >= 0) wrong.push(`the keeper got … ${history.slice(Math.max(0, odd - 3), odd + 3).join(', ')} …`);
  const made = new Set(history);
  for (const written of world.acknowledged) if (!made.has(written)) wrong.push(`${written} was acknowledged and lost`);
  for (const written of world.refused) if (made.has(written)) wrong.push(`${written} was refused and made`);
  for (const { name, rows } of managers) {
    const behind = numberOf(cluster.rows.get('n')) - numberOf(rows.get('n'));
    if (behind > 1) wrong.push(`${name} is ${behind} behind`);
  }
  for (const manager of managers) await manager.stop();
  return world;
}

test(
  'no number is lost, left out or written twice, and nobody leads beside another',
  { timeout: 120_000 },
  async () => {
    let [terms, writes] = [0, 0];
    for (let seed = 1; seed <= 40; seed++) {
      const world = await run(seed, 40);
      expect(world.wrong, `seed ${seed}`).toEqual([]);
      terms += world.terms;
      writes += world.history.length;
    }
    expect(terms).toBeGreaterThan(40 * 5);
    expect(writes).toBeGreaterThan(40 * 100);
  },
);

test('the same seed is the same run', async () => {
  const [one, two, other] = [await run(7, 30), await run(7, 30), await run(8, 30)];
  expect([two.terms, two.history, two.acknowledged]).toEqual([one.terms, one.history, one.acknowledged]);
  expect(two.clock.monotonic()).toBe(one.clock.monotonic());
  expect(other.acknowledged).not.toEqual(one.acknowledged);
});

test('a keeper that does not look at the fence is found out', async () => {
  const withoutFence = ({ etcd }: Cluster) => {
    const txn = etcd.txn.bind(etcd);
    etcd.txn = (asked) =>
      txn({ ...asked, when: asked.write.some((one) => 'put' in one && one.put.endsWith('/n')) ? [] : asked.when });
  };
  const found: number[] = [];
  for (let seed = 1; seed <= 10; seed++) if ((await run(seed, 40, withoutFence)).wrong.length > 0) found.push(seed);
  expect(found.length).toBeGreaterThan(0);
});
