/** What the live tasks ask for, read once per spec version and kept while one of them is left, for the row may go earlier. */
import { serviceSpecId, type Task } from '../../model/objects.ts';
import type { View } from '../../store/store.ts';
import { requirementsOf, type Requirements } from './requirements.ts';

/** One spec version in use. One object while it is in use, so it can be a key. */
export interface Needs {
  readonly specId: string;
  readonly serviceId: string;
  readonly wanted: Requirements;
  /** Equal for all that ask the same of nodes, limits per node aside, which are their service's own. */
  readonly shape: string;
  /** Live tasks made from it. */
  users: number;
}

/** For a task whose spec is not stored: the reaper keeps specs as long as tasks refer to them, so there is none. */
const NOTHING: Requirements = {
  nanoCpus: 0,
  memoryBytes: 0,
  generic: [],
  plugins: [],
  constraints: [],
  platforms: [],
  hostPorts: [],
  maxReplicas: 0,
  spreads: [],
};

export class NeedsBook {
  /** By service, then by version. */
  readonly #services = new Map<string, Map<number, Needs>>();

  /** What a live task asks for. */
  of(task: Task): Needs {
    const needs = this.find(task);
    if (needs === undefined)
      throw new Error(`no live task refers to ${serviceSpecId(task.serviceId, task.specVersion)}`);
    return needs;
  }

  /** What a task asks for, or undefined if no live one was made from its spec version. */
  find(task: Task): Needs | undefined {
    return this.#services.get(task.serviceId)?.get(task.specVersion);
  }

  use(task: Task, view: View): void {
    let versions = this.#services.get(task.serviceId);
    if (versions === undefined) this.#services.set(task.serviceId, (versions = new Map()));
    const known = versions.get(task.specVersion);
    if (known !== undefined) {
      known.users += 1;
      return;
    }
    const specId = serviceSpecId(task.serviceId, task.specVersion);
    const spec = view.serviceSpecs.get(specId)?.spec;
    const wanted = spec ? requirementsOf(spec, (id) => view.networks.get(id)?.spec.Driver) : NOTHING;
    const { maxReplicas: _, ...shared } = wanted;
    const shape = JSON.stringify(shared);
    versions.set(task.specVersion, { specId, serviceId: task.serviceId, wanted, shape, users: 1 });
  }

  unuse(task: Task): void {
    const versions = this.#services.get(task.serviceId);
    const known = versions?.get(task.specVersion);
    if (versions === undefined || known === undefined) return;
    known.users -= 1;
    if (known.users === 0) versions.delete(task.specVersion);
    if (versions.size === 0) this.#services.delete(task.serviceId);
  }

  clear(): void {
    this.#services.clear();
  }

  /** Every spec version in use and its live tasks. */
  *users(): Iterable<[specId: string, users: number]> {
    for (const versions of this.#services.values())
      for (const { specId, users } of versions.values()) yield [specId, users];
  }
}
