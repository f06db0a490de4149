/**
 * Tasks whose service is gone: they are asked to end and to be forgotten. Keys: ids of services that are gone.
 */
import { TaskState } from '../model/states.ts';
import { updateInChunks } from './chunks.ts';
import { Loop, type LoopDeps } from './loop.ts';
import { endTask } from './tasks.ts';

export function removalLoop(deps: LoopDeps): Loop {
  const { store } = deps;
  return new Loop(deps, {
    name: 'removal',

    *initial(view) {
      for (const serviceId of view.tasks.keys('service'))
        if (view.services.get(serviceId) === undefined) yield serviceId;
    },

    affected(event, _, mark) {
      // Tasks are made in transactions that see the service, so none appears after its end.
      if (event.table === 'services' && event.after === undefined) mark(event.before!.id);
    },

    async reconcile(keys) {
      const tasks = store.view((view) => [...keys].flatMap((serviceId) => view.tasks.by('service', serviceId)));
      await updateInChunks(store, tasks, (tx, { id }) => {
        const task = tx.tasks.get(id);
        if (task !== undefined && tx.services.get(task.serviceId) === undefined)
          endTask(tx, task, TaskState.REMOVE, deps);
      });
    },
  });
}
