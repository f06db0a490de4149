/** A binary heap: the item that comes before all others on top. */
export class Heap<T> {
  readonly #items: T[];
  readonly #before: (a: T, b: T) => boolean;

  /** Takes over `items`. `before` must be a strict order, and may follow what changes as long as `settle` is told. */
  constructor(items: T[], before: (a: T, b: T) => boolean) {
    this.#items = items;
    this.#before = before;
    for (let at = (items.length >>> 1) - 1; at >= 0; at--) this.#down(at);
  }

  get top(): T | undefined {
    return this.#items[0];
  }

  /** Puts the top where it belongs, now that it may have grown. */
  settle(): void {
    if (this.#items.length > 1) this.#down(0);
  }

  /** Takes the top out. */
  drop(): void {
    const last = this.#items.pop();
    if (last === undefined || this.#items.length === 0) return;
    this.#items[0] = last;
    this.#down(0);
  }

  #down(from: number): void {
    const items = this.#items;
    const before = this.#before;
    const moving = items[from]!;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && before(items[child + 1]!, items[child]!)) child += 1;
      if (!before(items[child]!, moving)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = moving;
  }
}
