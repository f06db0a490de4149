/**
 * Containers attached on nodes that are gone: nobody will ever say that they were removed, so their addresses are taken
 * back at once. Keys: ids of nodes that are gone.
 */
import { updateInChunks } from './chunks.ts';
import { Loop, type LoopDeps } from './loop.ts';

export function attachmentsLoop(deps: LoopDeps): Loop {
  const { store } = deps;
  return new Loop(deps, {
    name: 'attachments',

    *initial(view) {
      for (const { nodeId } of view.attachments.all()) if (view.nodes.get(nodeId) === undefined) yield nodeId;
    },

    affected(event, _, mark) {
      // Attachments are made in transactions that see their node, so none appears after its end.
      if (event.table === 'nodes' && event.after === undefined) mark(event.before!.id);
    },

    async reconcile(keys) {
      const lost = store.view((view) => [...keys].flatMap((nodeId) => view.attachments.by('node', nodeId)));
      await updateInChunks(store, lost, (tx, { id, nodeId }) => {
        if (tx.attachments.get(id) !== undefined && tx.nodes.get(nodeId) === undefined) tx.attachments.remove(id);
      });
    },
  });
}
