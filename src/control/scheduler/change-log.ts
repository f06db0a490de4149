/**
 * Which of many numbered slots changed since a moment. The slots stand in the order of their last change, so that a
 * look back costs what changed, and any number of readers look back each from its own moment.
 */

interface Entry {
  /** The moment of the last change. */
  at: number;
  newer: number;
  older: number;
}

const NONE = -1;

export class ChangeLog {
  #now = 0;
  #newest = NONE;
  readonly #entries: Entry[] = [];

  /** The moment of the newest change. Before the first one: 0. */
  get now(): number {
    return this.#now;
  }

  /** Says that `slot` changes now. A slot one greater than all before it is a new one. */
  touch(slot: number): void {
    this.#now += 1;
    const entry = this.#entries[slot];
    if (entry === undefined) this.#entries[slot] = { at: this.#now, newer: NONE, older: this.#newest };
    else {
      entry.at = this.#now;
      if (this.#newest === slot) return;
      this.#entries[entry.newer]!.older = entry.older;
      if (entry.older !== NONE) this.#entries[entry.older]!.newer = entry.newer;
      entry.newer = NONE;
      entry.older = this.#newest;
    }
    if (this.#newest !== NONE) this.#entries[this.#newest]!.newer = slot;
    this.#newest = slot;
  }

  /** The slots that changed after `moment`, each once, newest first. */
  since(moment: number): number[] {
    const slots: number[] = [];
    for (let slot = this.#newest; slot !== NONE; slot = this.#entries[slot]!.older) {
      if (this.#entries[slot]!.at <= moment) break;
      slots.push(slot);
    }
    return slots;
  }
}
