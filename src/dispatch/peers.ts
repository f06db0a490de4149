/**
 * Who asks something of the manager port: by the certificate that the connection came with, or as a manager says that asks for
 * another. Whether such a node is still part of the cluster is a second question, which the store answers.
 */
import type { Http2Session, ServerHttp2Stream } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../model/clock.ts';
import type { Node } from '../model/objects.ts';
import {
  CertificateNotCurrent,
  UntrustedCertificate,
  verifyCertificate,
  type CertifiedNode,
  type Identity,
} from '../pki/identity.ts';
import type { Store } from '../store/store.ts';
import { CountedIssuers } from './authority.ts';
import { RequestError } from './http.ts';
import { parseAssertedPeer, PEER_HEADER, type AssertedPeer } from './messages.ts';

/** Who asks: `node` if its certificate is of this cluster, else why it is not. */
export interface Peer {
  address: string;
  node?: CertifiedNode;
  refusal: string;
}

export interface PeersDeps {
  store: Store;
  clock: Clock;
  /** What this manager proves itself by now. */
  identity(): Identity;
}

export const NO_CERTIFICATE = 'a certificate of this cluster is needed';

export class Peers {
  readonly #deps: PeersDeps;
  readonly #issuers: CountedIssuers;
  /**
   * Who has proved on a connection to be a node. It counts for as long as the connection lasts: a certificate that expires
   * under a session ends nothing.
   */
  readonly #nodes = new WeakMap<Http2Session, CertifiedNode>();

  constructor(deps: PeersDeps) {
    this.#deps = deps;
    this.#issuers = new CountedIssuers(deps.store);
  }

  /** Who asks on this stream. */
  of(stream: ServerHttp2Stream): Peer {
    const connection = stream.session;
    const socket = connection?.socket as TLSSocket | undefined;
    const address = (socket?.remoteAddress ?? '').replace(/^::ffff:/, '');
    const known = connection === undefined ? undefined : this.#nodes.get(connection);
    if (known !== undefined) return { address, node: known, refusal: '' };
    const certificate = socket?.getPeerX509Certificate();
    if (connection === undefined || certificate === undefined) return { address, refusal: NO_CERTIFICATE };
    try {
      const { clusterId, rootCertificate } = this.#deps.identity();
      const node = verifyCertificate(certificate, this.#issuers.get(rootCertificate), this.#deps.clock.now());
      if (node.clusterId !== clusterId) throw new UntrustedCertificate('the certificate is not of this cluster');
      this.#nodes.set(connection, node);
      return { address, node, refusal: '' };
    } catch (error) {
      if (error instanceof CertificateNotCurrent)
        return { address, refusal: new CertificateNotCurrent(error.life, error.nowMs, "the manager's clock").message };
      if (!(error instanceof UntrustedCertificate)) throw error;
      return { address, refusal: error.message };
    }
  }

  /** The row of the node that asks; undefined if it is none, or was removed. */
  rowOf({ node }: Peer): Node | undefined {
    return node && this.#deps.store.view((view) => view.nodes.get(node.nodeId));
  }

  /** Both its certificate and its row say so. */
  isManager(peer: Peer): boolean {
    return peer.node?.role === 'manager' && this.rowOf(peer)?.spec.Role === 'manager';
  }

  /** Whom a manager speaks for. @throws RequestError 403, FrameError */
  assertedBy(peer: Peer, said: string): AssertedPeer {
    if (!this.isManager(peer)) throw new RequestError(403, 'only managers may speak for others');
    try {
      return parseAssertedPeer(JSON.parse(said));
    } catch (error) {
      throw error instanceof SyntaxError ? new RequestError(400, `the header ${PEER_HEADER} is not JSON`) : error;
    }
  }
}
