/**
 * The secrets and configs that managers have told this node of, and the files that tasks get of them. What a secret holds
 * is in the memory of this process alone: after a restart without a manager a task that needs one waits for a manager.
 */
import type { FileMount, TaskPlace } from '../engine/engine.ts';
import { missingPayload, payloadFiles, type FindPayload } from '../engine/payload-files.ts';
import type { AssignmentChange, PayloadAssignment, TaskAssignment } from '../model/assignments.ts';
import type { Log } from '../model/clock.ts';
import { PAYLOAD_KINDS, payloadReferences, type PayloadKind } from '../model/payloads.ts';
import type { TaskFiles } from './task-files.ts';

export class Payloads {
  readonly #files: TaskFiles;
  readonly #log: Log;
  readonly #told: Record<PayloadKind, Map<string, PayloadAssignment>> = { secret: new Map(), config: new Map() };

  constructor(deps: { files: TaskFiles; log: Log }) {
    this.#files = deps.files;
    this.#log = deps.log;
  }

  /** These are all facts: what is not among them is forgotten. */
  replace(facts: readonly AssignmentChange[]): void {
    for (const kind of PAYLOAD_KINDS) this.#told[kind].clear();
    this.apply(facts);
  }

  apply(changes: readonly AssignmentChange[]): void {
    for (const { kind, key, value } of changes) {
      if (kind !== 'secret' && kind !== 'config') continue;
      if (value === null) this.#told[kind].delete(key);
      else this.#told[kind].set(key, value);
    }
  }

  /**
   * Makes the files of the task on this host. `told`: a manager has said all there is; without that, the answer is
   * undefined if something is missing, because it may still come.
   * @throws Error if something does not exist or a template cannot be filled in: nothing a secret holds is in its message
   */
  async filesOf(task: TaskAssignment, node: TaskPlace['node'], told: boolean): Promise<FileMount[] | undefined> {
    if (PAYLOAD_KINDS.every((kind) => payloadReferences(task.spec, kind).length === 0)) return [];
    const find: FindPayload = (kind, id) => this.#told[kind].get(id);
    const missing = missingPayload(task, find);
    if (missing === undefined) return this.#files.put(task.id, payloadFiles(task, node, find));
    if (told) throw new Error(`${missing.kind} ${missing.name} does not exist any more`);
    this.#log.info({ task: task.id, ...missing }, 'the task waits for a manager to tell what it needs');
    return undefined;
  }

  /** The task has ended: so have its files. */
  release(taskId: string): void {
    this.#quietly(this.#files.release(taskId));
  }

  /** As `release`, for every task that is not named. */
  keepOnly(taskIds: ReadonlySet<string>): void {
    this.#quietly(this.#files.keepOnly(taskIds));
  }

  /** What could not be released is tried again with the next `keepOnly`. */
  #quietly(work: Promise<void>): void {
    work.catch((error: unknown) =>
      this.#log.warn({ error: String(error) }, 'could not remove the files of a task that has ended'),
    );
  }
}
