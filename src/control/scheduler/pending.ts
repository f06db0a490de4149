/**
 * The tasks that are to get a node: by spec version, or, made for a node (global services), by that node.
 */
import type { Task } from '../../model/objects.ts';
import type { View } from '../../store/store.ts';
import type { Needs } from './needs.ts';
import { isPending, type NodeSet } from './node-set.ts';

/** The pending tasks of one spec version. */
export interface PendingGroup {
  readonly needs: Needs;
  /** The newest rows, by id. */
  readonly tasks: Map<string, Task>;
  /** Tasks that have not been told why they wait. */
  readonly untold: Set<string>;
  /** Why they wait, as last found. */
  reason: string | undefined;
  /** The ranking's revision at which nothing fitted; undefined: look. */
  revision: number | undefined;
  /** The tasks that may have been told an older reason; undefined: all know this one. */
  retold: Iterator<Task> | undefined;
}

export class Pending {
  readonly #nodes: NodeSet;
  readonly #groups = new Map<Needs, PendingGroup>();
  /** Tasks made for one node (global services), by that node. */
  readonly #bound = new Map<string, Set<string>>();

  constructor(nodes: NodeSet) {
    this.#nodes = nodes;
  }

  get groups(): Iterable<PendingGroup> {
    return this.#groups.values();
  }

  get isEmpty(): boolean {
    return this.#groups.size === 0 && this.#bound.size === 0;
  }

  /** Pending tasks made for the node. */
  boundTo(nodeId: string): Iterable<string> {
    return this.#bound.get(nodeId) ?? [];
  }

  rebuild(view: View): void {
    this.#groups.clear();
    this.#bound.clear();
    for (const task of view.tasks.all()) if (isPending(task)) this.add(task);
  }

  /** Takes in a pending task that the node set knows already. */
  add(task: Task): void {
    if (task.nodeId !== '') {
      const tasks = this.#bound.get(task.nodeId) ?? new Set();
      this.#bound.set(task.nodeId, tasks.add(task.id));
      const info = this.#nodes.get(task.nodeId);
      if (info !== undefined) this.#nodes.changes.touch(info.slot);
      return;
    }
    const needs = this.#nodes.needs.of(task);
    let group = this.#groups.get(needs);
    if (group === undefined) {
      group = { needs, tasks: new Map(), untold: new Set(), reason: undefined, revision: undefined, retold: undefined };
      this.#groups.set(needs, group);
    }
    group.tasks.set(task.id, task);
    group.untold.add(task.id);
  }

  /** Takes in a change of a task that goes on waiting. */
  replace(task: Task): void {
    if (task.nodeId === '') this.#groups.get(this.#nodes.needs.of(task))?.tasks.set(task.id, task);
  }

  /** Lets go of a task that was pending, before the node set hears of it. */
  remove(task: Task): void {
    if (task.nodeId !== '') {
      const tasks = this.#bound.get(task.nodeId);
      tasks?.delete(task.id);
      if (tasks?.size === 0) this.#bound.delete(task.nodeId);
      return;
    }
    const needs = this.#nodes.needs.of(task);
    const group = this.#groups.get(needs);
    if (group === undefined) return;
    group.tasks.delete(task.id);
    group.untold.delete(task.id);
    if (group.tasks.size === 0) this.#groups.delete(needs);
  }

  /** Looks again at a task whose placement did not come about, if it still waits for a node. */
  restore(task: Task): void {
    const needs = this.#nodes.needs.find(task);
    const group = needs && this.#groups.get(needs);
    if (group === undefined || !group.tasks.has(task.id)) return;
    group.untold.add(task.id);
    group.revision = undefined;
  }
}
