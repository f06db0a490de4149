/** What users ask for, as the simulator sees it: who says how a request becomes a write is given from outside. */
import type { Transaction, View } from '../store/store.ts';
import type { Subject } from './invariants/acknowledged.ts';
import type { Chance } from './seeded.ts';

/** A request that a user has made up by looking at the state. */
export interface Request {
  what: string;
  subject: Subject;
  /** It asks for the subject to be removed. */
  removes: boolean;
  /** The number of the write whose label the spec carries afterwards; absent: this one's. */
  label?: number;
  /** @throws if it is refused */
  write(tx: Transaction): void;
}

export interface Users {
  /** The first rows of a cluster of these nodes. */
  begin(tx: Transaction, nodes: readonly { id: string; address: string }[]): void;
  /**
   * What some user asks for next, by chance; undefined: nothing to ask for. `write` numbers the request: the spec that it makes
   * carries it as a label.
   */
  next(view: View, chance: Chance, write: number): Request | undefined;
}
