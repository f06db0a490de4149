/** No acknowledged write is ever lost: what users were told is done, and what came of it. */
import type { View } from '../../store/store.ts';

/** What a write is about. */
export interface Subject {
  table: 'services' | 'nodes' | 'networks';
  id: string;
}

interface Acknowledged {
  /** Number of the transaction. */
  index: number;
  /** Of the write; the spec it made is labelled with it. */
  write: number;
  removed: boolean;
}

export const WRITE_LABEL = 'sim.write';

export class Ledger {
  readonly #newest = new Map<string, Acknowledged & Subject>();
  /** Subjects that somebody has tried to remove: they may be gone, whether that was acknowledged or not. */
  readonly #mayBeGone = new Set<string>();
  acknowledged = 0;

  /** A removal is on its way. */
  removing(subject: Subject): void {
    this.#mayBeGone.add(keyOf(subject));
  }

  /** A user has been told that it is done. */
  done(subject: Subject, write: Acknowledged): void {
    this.acknowledged++;
    const last = this.#newest.get(keyOf(subject));
    if (last === undefined || last.index < write.index) this.#newest.set(keyOf(subject), { ...subject, ...write });
  }

  /** The first acknowledged write that a state of transaction `index` does not show; undefined: it shows all. */
  lost(view: View, index: number): string | undefined {
    for (const said of this.#newest.values()) {
      const name = `write ${said.write} (transaction ${said.index}) of ${said.table} ${said.id}`;
      if (said.index > index) return `${name} was acknowledged, and the state ends with transaction ${index}`;
      const row = view[said.table].get(said.id);
      // A network goes when its last task has gone.
      const isThere = row !== undefined && !('removing' in row && row.removing === true);
      if (said.removed && isThere) return `${name} removed it, and it is there`;
      if (said.removed) continue;
      if (row === undefined) {
        if (!this.#mayBeGone.has(keyOf(said))) return `${name} was acknowledged, and it is gone`;
      } else if (row.meta.version < said.index && said.table !== 'networks')
        return `${name} was acknowledged, and its version is ${row.meta.version}`;
      else if (row.meta.version === said.index && row.spec.Labels[WRITE_LABEL] !== String(said.write))
        return `${name} was acknowledged, and its spec is another's: ${row.spec.Labels[WRITE_LABEL]}`;
    }
    return undefined;
  }
}

function keyOf({ table, id }: Subject): string {
  return `${table}/${id}`;
}
