/**
 * How a node gets into the cluster, and stays: by a token it becomes a certificate and a row in the store, both or neither;
 * by its certificate it gets the next one, as long as it has its row.
 */
import type { Clock, Log, Random } from '../model/clock.ts';
import { newId } from '../model/ids.ts';
import { CLUSTER_ROW, type Cluster, type Node } from '../model/objects.ts';
import type { SwarmSpec } from '../model/specs.ts';
import { InvalidCertificateRequest, issueNodeCertificate } from '../pki/authority.ts';
import type { CertifiedNode, NodeRole } from '../pki/identity.ts';
import { signerOf } from '../pki/rotation.ts';
import { roleOfToken } from '../pki/token.ts';
import type { Store } from '../store/store.ts';
import { RequestError } from './http.ts';
import { parseCertificateRequest, type CertificateAnswer, type EtcdKind } from './messages.ts';
import { addNode, NodeRemoved } from './node-writes.ts';

const NS_PER_MS = 1_000_000;
/** Docker's sentence for a token that is one, but not of this cluster, or not any more. */
const WRONG_TOKEN = 'A valid join token is necessary to join this cluster';

/** What issuing a certificate takes. */
export interface IssueDeps {
  store: Store;
  clock: Clock;
  log: Log;
}

export interface JoinDeps extends IssueDeps {
  random: Random;
  /** Rejects with RequestError if nobody can take that role now. */
  checkRole?(role: NodeRole, etcd: EtcdKind): Promise<void>;
}

/**
 * Answers `POST /v1/certificate`. `peer` is who already asks with a certificate of this cluster.
 * Rejects with RequestError: 400 (not understood), 403 (token), 409 (is a node already), what `checkRole` rejects with.
 */
export async function join(
  deps: JoinDeps,
  body: unknown,
  peer: CertifiedNode | undefined,
  peerAddress: string,
): Promise<CertificateAnswer> {
  const { store, clock, random, log } = deps;
  const request = parseCertificateRequest(body);
  if (peer !== undefined && store.view((view) => view.nodes.get(peer.nodeId)) !== undefined) {
    throw new RequestError(409, `this node is already part of this cluster, as node ${peer.nodeId}`);
  }
  const cluster = store.view((view) => view.clusters.get(CLUSTER_ROW));
  if (cluster === undefined) throw new RequestError(503, 'this manager has no cluster yet');
  const role = roleOfToken(request.token, cluster.joinTokens);
  if (role === undefined) throw new RequestError(403, WRONG_TOKEN);
  await deps.checkRole?.(role, request.etcd);

  const nodeId = newId(random);
  const address = request.advertiseAddress ?? peerAddress;
  const certificate = await issue(deps, cluster, request.csr, { nodeId, role, address });
  await store.update((tx) => {
    // The token may have been rotated meanwhile; it counts what it is now.
    const tokens = tx.clusters.get(CLUSTER_ROW)?.joinTokens;
    if (tokens === undefined || roleOfToken(request.token, tokens) !== role) throw new RequestError(403, WRONG_TOKEN);
    addNode(tx, { id: nodeId, role, availability: request.availability, address }, clock.now());
  });
  log.info({ node: nodeId, role, address: peerAddress }, 'a node has joined');
  return { certificate, rootCertificate: cluster.rootCa.certificate };
}

/**
 * The next certificate (PEM, with its links) of a node that proved to be `nodeId`: for the key of `csr`, in the role that it has
 * now (`certifiedRole`), for as long as the cluster's spec says now. Rejects with RequestError: 400 (not understood), 410 (the
 * node was removed), 503.
 */
export async function renew(deps: IssueDeps, csr: string, nodeId: string): Promise<string> {
  const { cluster, node } = deps.store.view((view) => ({
    cluster: view.clusters.get(CLUSTER_ROW),
    node: view.nodes.get(nodeId),
  }));
  if (cluster === undefined) throw new RequestError(503, 'this manager has no cluster yet');
  if (node === undefined) throw new RequestError(410, new NodeRemoved().message);
  const role = certifiedRole(node);
  const certificate = await issue(deps, cluster, csr, { nodeId, role, address: node.status.address });
  deps.log.info({ node: nodeId, role }, 'a node has renewed its certificate');
  return certificate;
}

/**
 * The role that a node's certificate has now. One that was demoted keeps a manager's until the leader has taken it out of the
 * journal: it would end its part in that at once, and with two managers the vote that takes it out is its own.
 */
export function certifiedRole({ spec, manager }: Node): NodeRole {
  return manager === undefined ? spec.Role : 'manager';
}

async function issue(
  { clock }: IssueDeps,
  { clusterId, spec, rootCa }: Cluster,
  csr: string,
  { nodeId, role, address }: { nodeId: string; role: NodeRole; address: string },
): Promise<string> {
  const { root, links } = signerOf(rootCa);
  // Managers dial each other's etcd, which looks at addresses.
  const addresses = role === 'manager' && address !== '' ? [address] : [];
  try {
    const lifeMs = nodeCertificateLifeMs(spec);
    const subject = { nodeId, role, clusterId, addresses };
    return (await issueNodeCertificate(root, csr, subject, clock.now(), lifeMs)) + links;
  } catch (error) {
    throw error instanceof InvalidCertificateRequest ? new RequestError(400, error.message) : error;
  }
}

/** How long certificates made now are to hold. */
export function nodeCertificateLifeMs(spec: Pick<SwarmSpec, 'CAConfig'>): number {
  return spec.CAConfig.NodeCertExpiry / NS_PER_MS;
}
