/**
 * The slots of a rollout, kept from one look to the next: a look costs the slots that have changed since, and those on which
 * something still depends on time (on their way, resting, watched). It does not cost the slots that wait or are done.
 *
 * Promises, kept by a property test: as long as every event goes through `touchBooks` before the next `read`, the sums are
 * those that `nextStep` makes of all slots.
 */
import type { Service } from '../../model/objects.ts';
import { slotKey } from '../../store/schema.ts';
import type { Event, View } from '../../store/store.ts';
import { altersDemand } from '../per-node.ts';
import { isRunning, slotOf, slotsOf, standing, type Slot } from '../tasks.ts';
import {
  count,
  inTurn,
  isAtRest,
  noSums,
  turnOf,
  type Age,
  type Policy,
  type RolloutSlot,
  type Sums,
  type Waiting,
} from './decide.ts';
import { dirtiness, rolloutSlot, type Dirtiness } from './slots.ts';

export class RolloutBooks {
  /** Whom all that is kept is true of; undefined: nothing is. */
  #service: Service | undefined;
  #isDirty: Dirtiness | undefined;
  /** The keys of all slots the rollout is about. */
  readonly #slots = new Set<string>();
  readonly #touched = new Set<string>();
  /** Slots that a look has to ask again. */
  readonly #open = new Map<string, RolloutSlot>();
  readonly #waiting = new WaitingLine();
  /** Of those at rest, the ones that count as failures. */
  readonly #failed = new Set<string>();

  /** What stands in the slot of that key, or where it stands, has changed. */
  touch(key: string): void {
    this.#touched.add(key);
  }

  /** Nothing of what is kept need be true any more. */
  touchAll(): void {
    this.#service = undefined;
  }

  /** Reads what has changed; all of it, if the service itself has. Returns how many slots the rollout is about. */
  read(view: View, service: Service): number {
    if (service === this.#service) for (const key of this.#touched) this.#readSlot(view, key);
    else this.#readAll(view, service);
    this.#touched.clear();
    return this.#slots.size;
  }

  /** How many slots the next look has to ask. */
  get open(): number {
    return this.#open.size;
  }

  /** What the turns of all slots come to. The service, and with it the policy, are those of the last `read`. */
  sums(id: number, policy: Policy, age: Age): Sums {
    const sums = { ...noSums(this.#slots.size, this.#waiting), failures: this.#failed.size };
    for (const [key, slot] of this.#open) {
      const turn = turnOf(slot, id, policy, age);
      count(sums, turn);
      if (!isAtRest(turn)) continue;
      this.#open.delete(key);
      if (turn.waits) this.#waiting.put(key, slot);
      if (turn.failed) this.#failed.add(key);
    }
    return sums;
  }

  #readAll(view: View, service: Service): void {
    this.#service = service;
    this.#isDirty = dirtiness(service);
    this.#slots.clear();
    this.#open.clear();
    this.#waiting.clear();
    this.#failed.clear();
    for (const slot of slotsOf(view.tasks.by('service', service.id))) this.#add(view, slotKey(slot.current), slot);
  }

  #readSlot(view: View, key: string): void {
    this.#slots.delete(key);
    this.#open.delete(key);
    this.#waiting.delete(key);
    this.#failed.delete(key);
    const slot = slotOf(view.tasks.by('slot', key));
    if (slot !== undefined) this.#add(view, key, slot);
  }

  #add(view: View, key: string, slot: Slot): void {
    const known = rolloutSlot(view, this.#service!, slot, this.#isDirty!);
    if (known === undefined) return;
    this.#slots.add(key);
    this.#open.set(key, known);
  }
}

/** Takes note of what an event changes in the books of services: `of` finds them, for those that have any. */
export function touchBooks(event: Event, view: View, of: (serviceId: string) => RolloutBooks | undefined): void {
  if (event.table === 'tasks') {
    const { before, after } = event;
    const books = of((after ?? before)!.serviceId);
    if (books === undefined) return;
    // The place of a task is given for life, but nothing here has to rely on that.
    if (before !== undefined) books.touch(slotKey(before));
    if (after !== undefined) books.touch(slotKey(after));
  } else if (event.table === 'nodes') {
    const { before, after } = event;
    if (!altersDemand(before, after)) return;
    for (const task of view.tasks.by('node', (after ?? before)!.id)) of(task.serviceId)?.touch(slotKey(task));
  } else if (event.table === 'serviceSpecs') {
    of((event.after ?? event.before)!.serviceId)?.touchAll();
  }
}

/** Slots in turn. Those that do not run are few, and are sorted when asked for; the others are sorted once. */
class WaitingLine implements Waiting {
  readonly #idle = new Map<string, RolloutSlot>();
  readonly #running = new Map<string, RolloutSlot>();
  /** Keys of `#running` in turn, and of such as wait no more. */
  #order: string[] = [];
  /** Where a key stands in `#order`. */
  #places = new Map<string, number>();
  /** All before it wait no more. */
  #head = 0;
  /** Somebody waits whom `#order` does not have. */
  #isStale = false;

  get size(): number {
    return this.#idle.size + this.#running.size;
  }

  put(key: string, slot: RolloutSlot): void {
    if (!isRunning(standing(slot))) {
      this.#idle.set(key, slot);
      return;
    }
    this.#running.set(key, slot);
    this.#isStale ||= (this.#places.get(key) ?? -1) < this.#head;
  }

  delete(key: string): void {
    this.#idle.delete(key);
    this.#running.delete(key);
  }

  clear(): void {
    this.#idle.clear();
    this.#running.clear();
    this.#isStale = true;
  }

  first(howMany: number): RolloutSlot[] {
    if (howMany <= 0) return [];
    const chosen = [...this.#idle.values()].sort(inTurn).slice(0, howMany);
    if (chosen.length < howMany && this.#isStale) this.#sort();
    while (this.#head < this.#order.length && !this.#running.has(this.#order[this.#head]!)) this.#head += 1;
    for (let at = this.#head; at < this.#order.length && chosen.length < howMany; at++) {
      const slot = this.#running.get(this.#order[at]!);
      if (slot !== undefined) chosen.push(slot);
    }
    return chosen;
  }

  #sort(): void {
    this.#order = [...this.#running].sort(([, a], [, b]) => inTurn(a, b)).map(([key]) => key);
    this.#places = new Map(this.#order.map((key, at) => [key, at]));
    this.#head = 0;
    this.#isStale = false;
  }
}
