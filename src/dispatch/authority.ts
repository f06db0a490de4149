/** What the store says of the cluster's authority, for those who dial: it moves during a rotation of the root. */
import type { X509Certificate } from 'node:crypto';
import { CLUSTER_ROW, type ClusterRootCa } from '../model/objects.ts';
import { parseCertificate } from '../pki/identity.ts';
import { authorityOf, countedIssuers, type Authority } from '../pki/rotation.ts';
import type { Event, Store, View } from '../store/store.ts';

/** How many renewals a second nodes are to ask for when all of them have to: a manager makes several hundred on one core. */
const RENEWALS_PER_SECOND = 50;

/** The authority as a node is told of it, and the time over which the nodes that have to renew spread. */
export interface AuthorityNews extends Authority {
  spreadMs: number;
}

/** The cluster's authority; undefined while the store has no cluster. */
export function rootCaOf(store: Store): ClusterRootCa | undefined {
  return store.view((view) => view.clusters.get(CLUSTER_ROW)?.rootCa);
}

/** What nodes are to be told now; undefined while the store has no cluster. */
export function authorityNews(view: View): AuthorityNews | undefined {
  const cluster = view.clusters.get(CLUSTER_ROW);
  if (cluster === undefined) return undefined;
  return { ...authorityOf(cluster.rootCa), spreadMs: (view.nodes.size * 1_000) / RENEWALS_PER_SECOND };
}

/** Whether nodes have to be told anew after this event. */
export function changesAuthority(event: Event): boolean {
  if (event.table !== 'clusters' || event.after === undefined) return false;
  return event.before?.rootCa !== event.after.rootCa;
}

/** By whom a certificate must have been issued for its holder to be a node of the cluster. Reads certificates only when they change. */
export class CountedIssuers {
  readonly #store: Store;
  #read: { rootCa: ClusterRootCa; issuers: X509Certificate[] } | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  /** `trusted` (PEM) is what counts while the store has no cluster: a manager that has just joined. */
  get(trusted: string): readonly X509Certificate[] {
    const rootCa = rootCaOf(this.#store);
    if (rootCa === undefined) return [parseCertificate(trusted)];
    if (this.#read?.rootCa !== rootCa)
      this.#read = { rootCa, issuers: countedIssuers(rootCa).map((pem) => parseCertificate(pem)) };
    return this.#read.issuers;
  }
}
