/** The overlays that a request may name: all of them on a manager, those that stand on it on a worker. */
import type { Network } from '../model/objects.ts';
import type { ApiContext } from './context.ts';
import { asNetwork } from './node-attachments.ts';
import { visibleNetworks } from './references.ts';

/** Undefined where there is no cluster. */
export function overlaysOf(api: ApiContext, environment: string): Network[] | undefined {
  const store = api.deps.store();
  if (store !== undefined) return store.view((view) => visibleNetworks(view, environment));
  return api.deps
    .attachments()
    ?.overlays()
    .filter((overlay) => overlay.environment === environment)
    .map(asNetwork);
}
