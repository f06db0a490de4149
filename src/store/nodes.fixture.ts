/** Nodes as tests of the store write them: an id, and a hostname that an index reads. */
import type { Node } from '../model/objects.ts';
import type { Store } from './store.ts';

export function node(id: string, hostname: string): Node {
  return {
    id,
    meta: { version: 1, createdAt: '', updatedAt: '' },
    spec: { Labels: {}, Role: 'worker', Availability: 'active' },
    description: { hostname } as Node['description'],
    status: { state: 'ready', message: '', address: '', since: '' },
    gateways: {},
  };
}

/** A journal's row of such a node. */
export function nodeRow(id: string, hostname: string): { key: string; value: string } {
  return { key: `nodes/${id}`, value: JSON.stringify(node(id, hostname)) };
}

/** Every row of a journal that holds these nodes (id → hostname) and has seen `index` transactions. */
export function nodeRows(nodes: Record<string, string>, index: number): Map<string, string> {
  const rows = Object.entries(nodes).map(([id, hostname]) => nodeRow(id, hostname));
  return new Map([...rows.map(({ key, value }) => [key, value] as const), ['index', String(index)]]);
}

/** The nodes of a store, id → hostname. */
export function nodesOf(store: Store): Record<string, string> {
  return store.view((view) =>
    Object.fromEntries([...view.nodes.all()].map(({ id, description }) => [id, description!.hostname])),
  );
}

export function hostnames(store: Store, key: string): string[] {
  return store.view((view) => view.nodes.by('hostname', key).map(({ id }) => id));
}
