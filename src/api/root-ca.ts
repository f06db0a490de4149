/**
 * `docker swarm ca --rotate`: what a cluster's update asks of its root. Making and trying out a root takes time, so it is done
 * before the transaction that takes it in.
 */
import { randomBytes } from 'node:crypto';
import { awaitedIssuer, hasIssuer } from '../model/ca-rotation.ts';
import type { Clock } from '../model/clock.ts';
import { CLUSTER_ROW, type Cluster, type ClusterRootCa } from '../model/objects.ts';
import { InvalidRootCa, wantedRootCa } from '../pki/rotation.ts';
import type { Store, Transaction, View } from '../store/store.ts';
import { clusterOf } from './context.ts';
import { badRequest } from './errors.ts';
import type { RootRequest } from './validate/swarm-requests.ts';

/** How many of those that a rotation waits for are named. */
const NAMED = 10;

/** Which nodes a rotation waits for, and what to do about it, for `docker info`: undefined while it waits for none. */
export function rotationWaitsFor(view: View): string | undefined {
  const cluster = view.clusters.get(CLUSTER_ROW);
  const issuer = cluster?.rootCa.rotation && awaitedIssuer(cluster);
  if (issuer === undefined) return undefined;
  const waiting = [...view.nodes.all()].filter((node) => !hasIssuer(node, issuer));
  if (waiting.length === 0) return undefined;
  const named = waiting.slice(0, NAMED).map(({ id, description, status }) => {
    return `${description?.hostname ?? id}${status.state === 'ready' ? '' : ` (${status.state})`}`;
  });
  const more = waiting.length > NAMED ? ` and ${waiting.length - NAMED} more` : '';
  const nodes = `${waiting.length} ${waiting.length === 1 ? 'node' : 'nodes'}: ${named.join(', ')}${more}`;
  return `the rotation of the root CA waits for ${nodes}; who does not come back has to be removed (docker node rm --force)`;
}

/**
 * Updates the cluster with `update`, which is given its row and the root that the request wants in its place. Starts anew if the
 * root was changed meanwhile: a rotation that ends is no reason to refuse. @throws ApiError 400 with Docker's sentence
 */
export async function updateWithRoot(
  { store, clock }: { store: Store; clock: Clock },
  wanted: RootRequest,
  update: (tx: Transaction, old: Cluster, rootCa: ClusterRootCa) => void,
): Promise<void> {
  for (;;) {
    const before = store.view(clusterOf);
    const rootCa = await rootFor(before, wanted, clock.now());
    const done = await store.update((tx) => {
      const old = clusterOf(tx);
      if (old.rootCa !== before.rootCa) return false;
      update(tx, old, rootCa);
      return true;
    });
    if (done) return;
  }
}

async function rootFor({ rootCa, spec }: Cluster, wanted: RootRequest, nowMs: number): Promise<ClusterRootCa> {
  const { forceRotate = spec.CAConfig.ForceRotate ?? 0, certificate, key } = wanted;
  const force = forceRotate !== (spec.CAConfig.ForceRotate ?? 0);
  try {
    return await wantedRootCa(rootCa, { certificate, key, force }, nowMs, randomBytes);
  } catch (error) {
    throw error instanceof InvalidRootCa ? badRequest(error.message) : error;
  }
}
