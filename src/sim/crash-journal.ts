/**
 * A manager's own disk and the journal on it. A commit is on the disk only once its sync has ended: a crash before that keeps
 * some of its transactions, from the first on, or none. The disk may be full for a while, and a sync may fail so that nobody
 * knows what it wrote.
 */
import { JournalUnavailable, type Change, type Journal } from '../journal/journal.ts';
import type { Process } from './process.ts';
import type { Chance } from './seeded.ts';

type Transactions = readonly (readonly Change[])[];

export class Disk {
  readonly rows = new Map<string, string>();
  readonly #chance: Chance;
  full = false;
  /** Milliseconds of a sync. */
  sync = { leastMs: 0.5, mostMs: 8 };
  /** The next sync fails, and its outcome is not known. */
  failsNext = false;
  #underWay: Transactions | undefined;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  syncMs(): number {
    return this.#chance.between(this.sync.leastMs, this.sync.mostMs);
  }

  begin(transactions: Transactions): void {
    this.#underWay = transactions;
  }

  end(): void {
    for (const transaction of this.#underWay ?? []) this.#apply(transaction);
    this.#underWay = undefined;
  }

  /** Power or process is gone: of what was not synced, some is there. */
  crash(): void {
    const all = this.#underWay ?? [];
    const kept = this.#chance.whole(0, all.length);
    for (const transaction of all.slice(0, kept)) this.#apply(transaction);
    this.#underWay = undefined;
  }

  #apply(transaction: readonly Change[]): void {
    for (const { key, value } of transaction) {
      if (value === null) this.rows.delete(key);
      else this.rows.set(key, value);
    }
  }
}

export class CrashJournal implements Journal {
  readonly #disk: Disk;
  readonly #process: Process;

  constructor(disk: Disk, process: Process) {
    this.#disk = disk;
    this.#process = process;
  }

  async load(): Promise<Map<string, string>> {
    await this.#pass(this.#disk.syncMs());
    return new Map(this.#disk.rows);
  }

  async commit(transactions: Transactions): Promise<void> {
    if (this.#disk.full) throw new JournalUnavailable('no space left on device');
    // Values are made when they are read: before anything else can change.
    const written = transactions.map((changes) => changes.map(({ key, value }) => ({ key, value })));
    this.#disk.begin(written);
    await this.#pass(this.#disk.syncMs());
    if (this.#disk.failsNext) {
      this.#disk.failsNext = false;
      this.#disk.crash();
      throw new Error('disk I/O error');
    }
    this.#disk.end();
  }

  async close(): Promise<void> {}

  #pass(ms: number): Promise<void> {
    return new Promise((resolve) => this.#process.clock.after(ms, resolve));
  }
}
