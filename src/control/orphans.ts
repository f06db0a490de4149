/**
 * Tasks of nodes that will not report again: removed ones at once, ones that are down after a day. They are called
 * ORPHANED, the one observed state that no agent writes (decisions-and-traps.md 4), so that nothing waits for them.
 *
 * Keys: node ids.
 */
import { timestamp } from '../model/clock.ts';
import type { Node } from '../model/objects.ts';
import { isTerminal, TaskState } from '../model/states.ts';
import { updateInChunks } from './chunks.ts';
import { Loop, type LoopDeps } from './loop.ts';

const GIVEN_UP_MS = 24 * 3_600_000;

/** In how many milliseconds the tasks of a node are orphans; 0: now; undefined: not as things are. */
export function orphansInMs(node: Node | undefined, nowMs: number): number | undefined {
  if (node === undefined) return 0;
  if (node.status.state !== 'down') return undefined;
  return Math.max(0, Date.parse(node.status.since) + GIVEN_UP_MS - nowMs);
}

export function orphansLoop(deps: LoopDeps): Loop {
  const { store, clock } = deps;
  const loop: Loop = new Loop(deps, {
    name: 'orphans',

    *initial(view) {
      for (const node of view.nodes.all()) if (node.status.state === 'down') yield node.id;
      for (const nodeId of view.tasks.keys('node')) if (view.nodes.get(nodeId) === undefined) yield nodeId;
    },

    affected(event, view, mark) {
      if (event.table === 'nodes') {
        const { before, after } = event;
        const went = after === undefined || (after.status.state === 'down' && before?.status.state !== 'down');
        if (went) mark((after ?? before)!.id);
      } else if (event.table === 'tasks' && event.after !== undefined) {
        const { nodeId } = event.after;
        if (nodeId !== (event.before?.nodeId ?? '') && view.nodes.get(nodeId) === undefined) mark(nodeId);
      }
    },

    async reconcile(keys) {
      const orphans = store.view((view) =>
        [...keys].flatMap((nodeId) => {
          const delayMs = orphansInMs(view.nodes.get(nodeId), clock.now());
          if (delayMs === 0) return view.tasks.by('node', nodeId);
          if (delayMs !== undefined) loop.mark(nodeId, delayMs);
          return [];
        }),
      );
      await updateInChunks(store, orphans, (tx, { id }) => {
        const task = tx.tasks.get(id);
        if (task === undefined || isTerminal(task.status.state)) return;
        const node = tx.nodes.get(task.nodeId);
        if (orphansInMs(node, clock.now()) !== 0) return;
        const now = timestamp(clock.now());
        const message =
          node === undefined ? 'the node of the task was removed' : 'the node of the task has been down for a day';
        const status = { ...task.status, timestamp: now, state: TaskState.ORPHANED, message };
        tx.tasks.update({ ...task, status, meta: { ...task.meta, updatedAt: now } });
      });
    },
  });
  return loop;
}
