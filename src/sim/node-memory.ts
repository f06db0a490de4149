/**
 * What an agent remembers (AgentMemory) on a disk that may lose the last moments before a power cut, but never the order of
 * what was written.
 */
import type { AgentMemory, Remembered } from '../agent/memory.ts';
import type { AssignmentChange } from '../model/assignments.ts';
import type { TaskStatus } from '../model/objects.ts';
import type { Chance } from './seeded.ts';

type Memory = Pick<
  AgentMemory,
  'load' | 'replace' | 'apply' | 'saveStatus' | 'forgetStatus' | 'saveBootId' | 'catchUp'
>;

interface Content {
  facts: Map<string, string> | undefined;
  statuses: Map<string, string>;
  bootId: string | undefined;
}

/** So many writes may wait for the disk at most. */
const UNSYNCED = 32;

export class NodeMemory implements Memory {
  #synced: Content = { facts: undefined, statuses: new Map(), bootId: undefined };
  #unsynced: ((content: Content) => void)[] = [];
  #now: Content = copy(this.#synced);

  load(): Remembered {
    const { facts, statuses, bootId } = this.#now;
    return {
      facts: facts && [...facts.values()].map((text): AssignmentChange => JSON.parse(text)),
      statuses: new Map([...statuses].map(([id, text]): [string, TaskStatus] => [id, JSON.parse(text)])),
      bootId,
    };
  }

  replace(facts: readonly AssignmentChange[]): void {
    this.#write((content) => {
      content.facts = new Map();
      put(content.facts, facts);
    });
  }

  apply(changes: readonly AssignmentChange[]): void {
    this.#write((content) => put((content.facts ??= new Map()), changes));
  }

  saveStatus(taskId: string, status: TaskStatus): void {
    const text = JSON.stringify(status);
    this.#write(({ statuses }) => void statuses.set(taskId, text));
  }

  forgetStatus(taskId: string): void {
    this.#write(({ statuses }) => void statuses.delete(taskId));
  }

  saveBootId(bootId: string): void {
    this.#write((content) => void (content.bootId = bootId));
  }

  /** Its disk always has room. */
  catchUp(): void {}

  /** The host lost its power: the last writes may be missing. */
  powerCut(chance: Chance): void {
    const kept = chance.whole(0, this.#unsynced.length);
    for (const write of this.#unsynced.splice(0).slice(0, kept)) write(this.#synced);
    this.#now = copy(this.#synced);
  }

  #write(write: (content: Content) => void): void {
    write(this.#now);
    this.#unsynced.push(write);
    while (this.#unsynced.length > UNSYNCED) this.#unsynced.shift()!(this.#synced);
  }
}

function put(facts: Map<string, string>, changes: readonly AssignmentChange[]): void {
  for (const change of changes) {
    const key = `${change.kind} ${change.key}`;
    if (change.value === null) facts.delete(key);
    else if (change.kind !== 'secret') facts.set(key, JSON.stringify(change));
  }
}

function copy({ facts, statuses, bootId }: Content): Content {
  return { facts: facts && new Map(facts), statuses: new Map(statuses), bootId };
}
