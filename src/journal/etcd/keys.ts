/**
 * Where a cluster's state lies in etcd, below `/drover/<clusterId>/`:
 *
 * - `leader`: who leads, and the id of this leadership;
 * - `redo/<part>`: the changes of a large transaction that is being written;
 * - `round`: `<id of the leadership>.<number of its last write>`. Every write sets it. So a write that nobody knows the outcome
 *   of can be told from one that was not made, who has seen the newest round has seen all, and a leader who lives is seen;
 * - `rows/<key>`: the rows.
 *
 * They sort like this: one watch sees all but the first in order, and another one what tells whether the leader lives.
 */
import type { Range } from './api.ts';

export class Keys {
  readonly leader: string;
  readonly round: string;
  readonly redo: Range;
  /** What a follower reads and watches: `redo/`, `round` and `rows/`. */
  readonly all: Range;
  /** What an elector watches: from `leader` to `round`. */
  readonly pulse: Range;
  readonly #rows: string;

  constructor(clusterId: string) {
    const base = `/drover/${clusterId}/`;
    this.leader = `${base}leader`;
    this.round = `${base}round`;
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

/** The range that holds `key` alone. */
export function only(key: string): Range {
  return { from: key, to: `${key}\0` };
}

/** All keys that begin with `prefix`, which ends with `/`. */
function below(prefix: string): Range {
  return { from: prefix, to: `${prefix.slice(0, -1)}0` };
}
