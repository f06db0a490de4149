/** Who waits for what: keys of a loop by the scarce thing they found missing, first come first. */

export class Waiters {
  readonly #byThing = new Map<string, Set<string>>();
  readonly #thingOf = new Map<string, string>();

  /** `key` waits for `thing`, and for nothing else any more. Who waits for it already keeps its place. */
  wait(key: string, thing: string): void {
    if (this.#thingOf.get(key) === thing) return;
    this.forget(key);
    this.#thingOf.set(key, thing);
    let keys = this.#byThing.get(thing);
    if (keys === undefined) this.#byThing.set(thing, (keys = new Set()));
    keys.add(key);
  }

  forget(key: string): void {
    const thing = this.#thingOf.get(key);
    if (thing === undefined) return;
    this.#thingOf.delete(key);
    const keys = this.#byThing.get(thing)!;
    keys.delete(key);
    if (keys.size === 0) this.#byThing.delete(thing);
  }

  waits(key: string, thing: string): boolean {
    return this.#thingOf.get(key) === thing;
  }

  /** True if anyone waits for it. */
  has(thing: string): boolean {
    return this.#byThing.has(thing);
  }

  /** The first `count` who wait for `thing`; they go on waiting until forgotten. */
  first(thing: string, count = Infinity): string[] {
    const keys: string[] = [];
    for (const key of this.#byThing.get(thing) ?? []) {
      if (keys.length >= count) break;
      keys.push(key);
    }
    return keys;
  }

  get size(): number {
    return this.#thingOf.size;
  }
}
