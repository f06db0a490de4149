/**
 * What dispatch writes into the store: a node's presence and description, and what its agent saw of its tasks. Each
 * function is one decision inside a transaction, on the newest state.
 */
import { isDeepStrictEqual } from 'node:util';
import { timestamp } from '../model/clock.ts';
import type { Node, NodeDescription, Task } from '../model/objects.ts';
import type { NodeSpec } from '../model/specs.ts';
import { TaskState } from '../model/states.ts';
import type { TaskStatusReport } from '../model/assignments.ts';
import type { Transaction } from '../store/store.ts';

/** Rows in one transaction, where there may be many that need not be one: a journal takes no transaction of any size. */
export const ROWS_AT_ONCE = 100;

/** What makes so many rows, in parts of a transaction each. */
export function inParts<T>(rows: readonly T[]): T[][] {
  const count = Math.ceil(rows.length / ROWS_AT_ONCE);
  return Array.from({ length: count }, (_, at) => rows.slice(at * ROWS_AT_ONCE, (at + 1) * ROWS_AT_ONCE));
}

/** The node was taken out of the cluster; it must not come back with its old certificate. */
export class NodeRemoved extends Error {
  override readonly name = 'NodeRemoved';

  constructor() {
    super('node is not part of this cluster any more');
  }
}

export interface NewNode {
  id: string;
  role: NodeSpec['Role'];
  availability: NodeSpec['Availability'];
  address: string;
}

/** Adds a node that has just got its certificate and has not been heard yet. */
export function addNode(tx: Transaction, { id, role, availability, address }: NewNode, nowMs: number): void {
  const now = timestamp(nowMs);
  tx.nodes.create({
    id,
    meta: { version: tx.index, createdAt: now, updatedAt: now },
    spec: { Labels: {}, Role: role, Availability: availability },
    status: { state: 'unknown', message: 'joined; waiting for its agent', address, since: now },
    gateways: {},
  });
}

/** Ready, as of a new session. Throws NodeRemoved. */
export function markReady(
  tx: Transaction,
  nodeId: string,
  said: { description: NodeDescription; address: string },
  nowMs: number,
): void {
  const node = tx.nodes.get(nodeId);
  if (node === undefined) throw new NodeRemoved();
  const { status } = node;
  const now = timestamp(nowMs);
  const same = status.state === 'ready' && status.address === said.address && status.message === '';
  updateNode(tx, node, now, {
    // Kept as the same object when nothing changed: whoever watches can tell by reference.
    description: isDeepStrictEqual(node.description, said.description) ? node.description : said.description,
    status: same ? status : { state: 'ready', message: '', address: said.address, since: now },
  });
}

/** What the node says of itself now. A node that is gone is left alone. */
export function describeNode(tx: Transaction, nodeId: string, description: NodeDescription, nowMs: number): void {
  const node = tx.nodes.get(nodeId);
  if (node === undefined || isDeepStrictEqual(node.description, description)) return;
  updateNode(tx, node, timestamp(nowMs), { description });
}

/** Down, and why in words: nothing was heard of it in time, or it has left. */
export function markDown(tx: Transaction, nodeId: string, message: string, nowMs: number): void {
  const node = tx.nodes.get(nodeId);
  if (node === undefined || node.status.state === 'down') return;
  const since = timestamp(nowMs);
  updateNode(tx, node, since, { status: { ...node.status, state: 'down', message, since } });
}

/** Whether what is said of a node is what an earlier manager heard of it. */
export function isStale({ status }: Node): boolean {
  return status.state === 'ready' || status.state === 'disconnected';
}

/** A manager that has just begun has heard nobody: what was ready is unknown until its agent is back. */
export function markUnknown(tx: Transaction, nodeIds: readonly string[], nowMs: number): void {
  const since = timestamp(nowMs);
  const message = 'the manager has just started; waiting for the node';
  for (const id of nodeIds) {
    const node = tx.nodes.get(id);
    if (node !== undefined && isStale(node))
      updateNode(tx, node, since, { status: { ...node.status, state: 'unknown', message, since } });
  }
}

/** Takes an agent's reports over. Returns those that were not its own to make. Unknown tasks and steps back are ignored. */
export function takeReports(
  tx: Transaction,
  nodeId: string,
  reports: readonly TaskStatusReport[],
  nowMs: number,
): TaskStatusReport[] {
  const foreign: TaskStatusReport[] = [];
  for (const report of reports) {
    const task = tx.tasks.get(report.taskId);
    if (task === undefined) continue;
    if (task.nodeId !== nodeId || task.status.state < TaskState.ASSIGNED) foreign.push(report);
    else if (isNews(report.status, task.status)) {
      updateTask(tx, task, report.status, nowMs);
    }
  }
  return foreign;
}

/** What its agent says of a task now, against what it said last. */
function isNews(said: Task['status'], known: Task['status']): boolean {
  return said.state > known.state || (said.state === known.state && !isDeepStrictEqual(said, known));
}

function updateNode(tx: Transaction, node: Node, now: string, fields: Partial<Node>): void {
  const changed = (Object.keys(fields) as (keyof Node)[]).some((key) => fields[key] !== node[key]);
  if (changed) tx.nodes.update({ ...node, ...fields, meta: { ...node.meta, updatedAt: now } });
}

function updateTask(tx: Transaction, task: Task, status: Task['status'], nowMs: number): void {
  tx.tasks.update({ ...task, status, meta: { ...task.meta, updatedAt: timestamp(nowMs) } });
}
