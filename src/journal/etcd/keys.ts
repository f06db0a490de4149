/**
 * Where a cluster's state lies in etcd, below `/drover/<clusterId>/` (`/drover/`: or another prefix):
 *
 * - `leader`: who leads, and the id of this leadership;
 * - `redo/<part>`: the changes of a large transaction that is being written;
 * - `round`: `<id of the leadership>.<number of its last write>`. Every write sets it. So a write that nobody knows the outcome
 *   of can be told from one that was not made, who has seen the newest round has seen all, and a leader who lives is seen;
 * - `rows/<key>`: the rows;
 * - `turns`: whose etcd is just being started again (../member/turns.ts).
 *
 * They sort like this: one watch sees all but the first and the last in order, and another one what tells whether the leader lives.
 *
 * In an etcd that stands elsewhere, `<prefix>swarm` names the one cluster that has the prefix.
 */
import type { Condition, Range } from './api.ts';

/** Below which keys lie if nobody says otherwise. Begins and ends with `/`, as any other. */
export const DEFAULT_PREFIX = '/drover/';

export class Keys {
  /** What stands where this cluster has claimed the prefix for itself. */
  readonly claim: Condition;
  readonly leader: string;
  readonly round: string;
  readonly turns: string;
  readonly redo: Range;
  /** What a follower reads and watches: `redo/`, `round` and `rows/`. */
  readonly all: Range;
  /** What an elector watches: from `leader` to `round`. */
  readonly pulse: Range;
  /** All that is kept of this cluster, but for the claim. */
  readonly cluster: Range;
  readonly #rows: string;

  constructor(clusterId: string, prefix = DEFAULT_PREFIX) {
    const base = `${prefix}${clusterId}/`;
    this.claim = { key: claimKey(prefix), value: clusterId };
    this.cluster = below(base);
    this.leader = `${base}leader`;
    this.round = `${base}round`;
    this.turns = `${base}turns`;
    this.#rows = `${base}rows/`;
    this.pulse = { from: this.leader, to: only(this.round).to };
    this.redo = below(`${base}redo/`);
    this.all = { from: this.redo.from, to: below(this.#rows).to };
  }

  row(key: string): string {
    return this.#rows + key;
  }

  /** The journal's key of what lies at `key`; undefined: it is no row. */
  keyOfRow(key: string): string | undefined {
    return key.startsWith(this.#rows) ? key.slice(this.#rows.length) : undefined;
  }

  /** Parts sort as they follow each other. */
  redoPart(part: number): string {
    return this.redo.from + String(part).padStart(6, '0');
  }

  isRedo(key: string): boolean {
    return key.startsWith(this.redo.from);
  }
}

/** Where a claim to a prefix stands. */
export function claimKey(prefix: string): string {
  return `${prefix}swarm`;
}

/** The range that holds `key` alone. */
export function only(key: string): Range {
  return { from: key, to: `${key}\0` };
}

/** All keys that begin with `prefix`, which ends with `/`. */
export function below(prefix: string): Range {
  return { from: prefix, to: `${prefix.slice(0, -1)}0` };
}
