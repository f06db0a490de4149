/**
 * Forgets nodes that joined and never came: who got a certificate and was broken off before its agent's first session asks
 * for another one, and the row of the first would stay for ever. This loop and the API are the ones that remove nodes.
 *
 * Keys: ids of nodes without a description.
 */
import type { Node } from '../model/objects.ts';
import type { View } from '../store/store.ts';
import { Elapsed } from './elapsed.ts';
import { Loop, type LoopDeps } from './loop.ts';

/** How long after it joined a node is waited for: whose engine has yet to be started by hand has time to be. */
const FIRST_SESSION_MS = 15 * 60_000;
/** What of that a manager waits itself, however long nobody could have come because there was none. */
const LAST_CHANCE_MS = 60_000;

/** True of a node whose agent never had a session. A manager's row is there before its agent is. */
export function neverCame(node: Node | undefined): node is Node {
  return node !== undefined && node.description === undefined && node.manager === undefined;
}

export function newcomersLoop(deps: LoopDeps): Loop {
  const { store, clock, log } = deps;
  const elapsed = new Elapsed(clock);
  /** In how many milliseconds a node that never came is given up; undefined if it has come, or is gone. */
  const waitOf = (view: View, id: string): number | undefined => {
    const node = view.nodes.get(id);
    if (!neverCame(node)) return undefined;
    const joinedMs = Date.parse(node.meta.createdAt);
    const knownMs = Math.min(Math.max(0, clock.now() - joinedMs), FIRST_SESSION_MS - LAST_CHANCE_MS);
    return Math.max(0, FIRST_SESSION_MS - elapsed.since(id, joinedMs, knownMs));
  };
  const loop: Loop = new Loop(deps, {
    name: 'newcomers',

    *initial(view) {
      for (const node of view.nodes.all()) if (neverCame(node)) yield node.id;
    },

    affected(event, _, mark) {
      if (event.table !== 'nodes') return;
      const { before, after } = event;
      // Joined just now; or has come, and need not be remembered any more.
      if ((before === undefined && neverCame(after)) || (neverCame(before) && !neverCame(after)))
        mark((after ?? before)!.id);
    },

    async reconcile(keys) {
      for (const id of keys) {
        const waitMs = store.view((view) => waitOf(view, id));
        if (waitMs !== undefined && waitMs > 0) {
          loop.mark(id, waitMs);
          continue;
        }
        // In the transaction, because it may have come meanwhile.
        const forgotten = await store.update((tx) => {
          if (waitOf(tx, id) !== 0) return false;
          tx.nodes.remove(id);
          return true;
        });
        elapsed.forget(id);
        if (forgotten) log.info({ node: id }, 'a node that joined and never came is forgotten');
      }
    },
  });
  return loop;
}
