/**
 * What agents report, on its way into the store. Each agent reports as soon as something has changed, so there are far more
 * reports than rows are worth a transaction each: those that wait for the store's next turn go into it together, whoever
 * they are from. A report waits for nothing but that turn.
 */
import type { TaskStatusReport } from '../model/assignments.ts';
import type { Clock } from '../model/clock.ts';
import type { Store, Transaction } from '../store/store.ts';
import { inParts, ROWS_AT_ONCE, takeReports } from './node-writes.ts';

interface Said {
  readonly nodeId: string;
  readonly reports: readonly TaskStatusReport[];
  /** Those that were not the node's to make, known once the transaction has run. */
  foreign: readonly TaskStatusReport[];
}

/** One transaction; more may join until it runs. */
interface Batch {
  readonly said: Said[];
  rows: number;
  readonly stored: Promise<void>;
}

export class ReportWrites {
  readonly #store: Store;
  readonly #clock: Clock;
  /** The last one that was asked for, while it has yet to run and has room. */
  #open: Batch | undefined;

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Takes a node's reports over. Resolves, once they are stored, with those that were not its to make. */
  async take(nodeId: string, reports: readonly TaskStatusReport[]): Promise<readonly TaskStatusReport[]> {
    // Nearly all are one part.
    if (reports.length <= ROWS_AT_ONCE) return this.#add(nodeId, reports);
    return (await Promise.all(inParts(reports).map((part) => this.#add(nodeId, part)))).flat();
  }

  async #add(nodeId: string, reports: readonly TaskStatusReport[]): Promise<readonly TaskStatusReport[]> {
    const batch = this.#batchFor(reports.length);
    const said: Said = { nodeId, reports, foreign: [] };
    batch.said.push(said);
    batch.rows += reports.length;
    await batch.stored;
    return said.foreign;
  }

  #batchFor(rows: number): Batch {
    if (this.#open !== undefined && this.#open.rows + rows <= ROWS_AT_ONCE) return this.#open;
    const said: Said[] = [];
    const stored = this.#store.update((tx) => {
      this.#close(batch);
      this.#write(tx, said);
    });
    const batch: Batch = { said, rows: 0, stored };
    this.#open = batch;
    stored.catch(() => this.#close(batch));
    return batch;
  }

  #close(batch: Batch): void {
    if (this.#open === batch) this.#open = undefined;
  }

  #write(tx: Transaction, all: readonly Said[]): void {
    const nowMs = this.#clock.now();
    for (const said of all) said.foreign = takeReports(tx, said.nodeId, said.reports, nowMs);
  }
}
