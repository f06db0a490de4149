/**
 * Ends a rotation of the root: once every node says that its certificate was issued by the root to come, that root takes the
 * other's place, and its join tokens those of the other. It waits for nodes that are down too, for after the end they could not
 * come back; one that will not come is removed (`docker node rm`). And it ends one that was given up: once every node is back
 * at the present root, what the other issued counts no more.
 *
 * Key: the cluster's row. Nodes are counted as they change, so an event costs the same however many there are.
 */
import { awaitedIssuer, hasIssuer } from '../model/ca-rotation.ts';
import { timestamp } from '../model/clock.ts';
import { CLUSTER_ROW, type CertificateIssuer, type Cluster } from '../model/objects.ts';
import type { View } from '../store/store.ts';
import { Loop, type LoopDeps } from './loop.ts';

/** How many of those that it waits for the log names. */
const NAMED = 10;

/** The cluster once every node has its certificate by the awaited issuer. Pure. */
export function withoutOldRoots(cluster: Cluster, now: string): Cluster {
  const { certificate, key, issuer, crossSigned, rotation } = cluster.rootCa;
  const meta = { ...cluster.meta, updatedAt: now };
  if (rotation !== undefined) {
    const { joinTokens, ...rootCa } = rotation;
    return { ...cluster, rootCa, joinTokens, meta };
  }
  const first = crossSigned === undefined ? {} : { crossSigned };
  return { ...cluster, rootCa: { certificate, key, ...(issuer && { issuer }), ...first }, meta };
}

export function caRotationLoop(deps: LoopDeps): Loop {
  const { store, clock, log } = deps;
  let awaited: CertificateIssuer | undefined;
  const waitsFor = new Set<string>();

  const count = (view: View): void => {
    const cluster = view.clusters.get(CLUSTER_ROW);
    awaited = cluster && awaitedIssuer(cluster);
    waitsFor.clear();
    if (awaited === undefined) return;
    for (const node of view.nodes.all()) if (!hasIssuer(node, awaited)) waitsFor.add(node.id);
  };
  const recount = (view: View, nodeId: string): void => {
    const node = view.nodes.get(nodeId);
    if (node === undefined || hasIssuer(node, awaited!)) waitsFor.delete(nodeId);
    else waitsFor.add(nodeId);
  };

  return new Loop(deps, {
    name: 'ca-rotation',

    *initial(view) {
      count(view);
      if (awaited !== undefined) yield CLUSTER_ROW;
    },

    affected(event, view, mark) {
      if (event.table === 'clusters' && event.before?.rootCa !== event.after?.rootCa) {
        count(view);
        if (awaited !== undefined) mark(CLUSTER_ROW);
      } else if (event.table === 'nodes' && awaited !== undefined) {
        recount(view, (event.after ?? event.before)!.id);
        if (waitsFor.size === 0) mark(CLUSTER_ROW);
      }
    },

    async reconcile() {
      if (awaited === undefined) return;
      if (waitsFor.size > 0) {
        const nodes = [...waitsFor].slice(0, NAMED);
        log.info({ waiting: waitsFor.size, nodes }, 'nodes have yet to renew their certificates by the other root');
        return;
      }
      const ended = await store.update((tx) => {
        const cluster = tx.clusters.get(CLUSTER_ROW);
        const issuer = cluster && awaitedIssuer(cluster);
        // Looked at anew: a node may have joined, or the rotation been replaced, meanwhile.
        if (issuer === undefined || [...tx.nodes.all()].some((node) => !hasIssuer(node, issuer))) return undefined;
        tx.clusters.update(withoutOldRoots(cluster!, timestamp(clock.now())));
        return cluster!.rootCa.rotation === undefined ? 'given up' : 'complete';
      });
      if (ended !== undefined) log.info({}, `the rotation of the root CA is ${ended}`);
    },
  });
}
