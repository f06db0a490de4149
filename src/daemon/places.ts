/**
 * A manager's place among the others, seen from both sides: the leader says who may become a manager, and lets them in; the
 * others ask it. And the one step by which what a single manager kept alone becomes what all of them share.
 */
import { RequestError } from '../dispatch/http.ts';
import type { EtcdKind } from '../dispatch/messages.ts';
import { askForPlace, type PlaceAnswer, type PlaceRequest } from '../dispatch/place.ts';
import { DataKey, type KeyFile } from '../journal/key-file.ts';
import type { Peer } from '../journal/member/arguments.ts';
import { EtcdUnusable } from '../journal/member/binary.ts';
import { nodeOf, type Membership as Members } from '../journal/member/membership.ts';
import type { Leader, Leadership, SharedJournal } from '../journal/shared.ts';
import type { Clock } from '../model/clock.ts';
import { CLUSTER_ROW } from '../model/objects.ts';
import type { Identity, NodeRole } from '../pki/identity.ts';
import { parseUnlockKey } from '../pki/unlock-key.ts';
import type { Store, Transaction } from '../store/store.ts';
import type { OutsideState } from './outside-state.ts';
import type { SharedState } from './shared-state.ts';

export interface PlacesDeps {
  store: Store;
  self: Leader;
  /** host:port of the managers this node has last heard of. */
  managers: () => readonly string[];
  keyFile: KeyFile;
  shared: SharedState | OutsideState;
  identity: () => Identity;
  /** Makes of what this manager keeps alone what several can share, if it is not yet. */
  share: () => Promise<void>;
  /** Whether it is. */
  isShared: () => boolean;
  /** Those of the managers' own etcd; undefined: this manager does not lead. */
  members: () => Members | undefined;
  clock: Clock;
}

const CAMPAIGN_MS = 30_000;
/** Another manager is let in within this time, or asks again. */
const ADMIT_MS = 8_000;
const PLACE_MS = 20_000;

/** What somebody is told who would keep the state in the other kind of etcd than this swarm does. */
const WRONG_KIND: Record<EtcdKind, string> = {
  elsewhere:
    'this swarm keeps its state in an etcd that stands elsewhere: start droverd on this node with the --etcd-endpoints of the other managers',
  own: 'the managers of this swarm keep its state by themselves: start droverd on this node without --etcd-endpoints',
};

export class Places {
  readonly #deps: PlacesDeps;

  constructor(deps: PlacesDeps) {
    this.#deps = deps;
  }

  /** Before anybody is let in as a manager. @throws RequestError 400, 503 */
  async checkRole(role: NodeRole, etcd: EtcdKind): Promise<void> {
    if (role === 'worker') return;
    const { shared, isShared } = this.#deps;
    if (etcd !== shared.kind) throw new RequestError(400, WRONG_KIND[shared.kind]);
    if (isShared() || shared.kind === 'elsewhere') return;
    try {
      await shared.member.preflight();
    } catch (error) {
      throw cannotShare(error);
    }
  }

  /** While this manager leads. @throws RequestError */
  async give(nodeId: string, { address, peer, etcd }: PlaceRequest): Promise<PlaceAnswer> {
    const { shared } = this.#deps;
    if (etcd !== shared.kind) throw new RequestError(409, WRONG_KIND[shared.kind]);
    try {
      const peers = shared.kind === 'elsewhere' ? [] : await this.#admit(nodeId, peer);
      return await this.#enter(nodeId, address, peers);
    } catch (error) {
      throw error instanceof RequestError ? error : new RequestError(503, (error as Error).message);
    }
  }

  /** Asks the leader for a place, with this manager's member of etcd, if it has one; takes the keys of the state up. */
  async ask(peer?: Peer): Promise<readonly Peer[]> {
    const { keyFile } = this.#deps;
    const { peers, keys, unlockKey } = await this.#ask(peer);
    if (keyFile.exists()) return peers;
    // So that the keys never lie on this disk as they are.
    if (unlockKey !== undefined) keyFile.lockWith(parseUnlockKey(unlockKey));
    keyFile.write(keys.map(({ id, key }) => new DataKey(id, Buffer.from(key, 'base64'))));
    return peers;
  }

  /** Why this manager cannot take part: without an etcd on this host, the leader may know that none is needed. */
  async explained(error: Error): Promise<Error> {
    if (!(error instanceof EtcdUnusable) || this.#deps.keyFile.exists()) return error;
    const refused = await this.#ask().catch((refusal: unknown) => refusal);
    return refused instanceof RequestError && refused.status === 409 ? refused : error;
  }

  #ask(peer?: Peer): Promise<PlaceAnswer> {
    const { managers, self, shared, identity, clock } = this.#deps;
    const addresses = managers().filter((other) => other !== self.address);
    const request: PlaceRequest = { address: self.address, etcd: shared.kind, ...(peer && { peer }) };
    return askForPlace({ addresses, identity: identity(), request, clock, timeoutMs: PLACE_MS });
  }

  async #admit(nodeId: string, peer: Peer | undefined): Promise<readonly Peer[]> {
    const { share, members: membersNow, clock } = this.#deps;
    if (peer === undefined) throw new RequestError(400, 'a member of etcd is to be named');
    if (nodeOf(peer.name) !== nodeId)
      throw new RequestError(403, `${peer.name} is not a name of node ${nodeId}'s etcd`);
    await share().catch((error: unknown) => Promise.reject(cannotShare(error)));
    const members = membersNow();
    if (members === undefined) throw new RequestError(503, 'this manager leads no more');
    const late = new AbortController();
    const timer = clock.after(ADMIT_MS, () => late.abort(new Error('another manager is just joining; try again')));
    try {
      return await members.admit(peer, late.signal);
    } finally {
      timer.cancel();
    }
  }

  async #enter(nodeId: string, address: string, peers: readonly Peer[]): Promise<PlaceAnswer> {
    const { store, keyFile } = this.#deps;
    await store.update((tx) => addManager(tx, nodeId, address));
    const keys = keyFile.read()?.map((key) => key.toJSON()) ?? [];
    const unlockKey = store.view((view) => view.clusters.get(CLUSTER_ROW)?.unlockKey);
    return { peers: [...peers], keys, ...(unlockKey !== undefined && { unlockKey }) };
  }
}

function cannotShare(error: unknown): RequestError {
  return new RequestError(503, `this swarm cannot have several managers: ${(error as Error).message}`);
}

/** @throws RequestError 410 */
function addManager(tx: Transaction, nodeId: string, address: string): void {
  const node = tx.nodes.get(nodeId);
  if (node === undefined) throw new RequestError(410, 'node is not part of this cluster any more');
  if (node.manager?.address === address) return;
  tx.nodes.update({ ...node, manager: { address, leader: false, reachability: 'unknown' } });
}

export interface MoveDeps {
  store: Store;
  shared: SharedState;
  self: Leader;
  /** Makes durable that the state is there from now on. */
  remember: () => void;
  clock: Clock;
}

/**
 * Moves what a store keeps in a database of its own into an etcd that begins with this manager alone: resolves with the journal
 * and the leadership on which the store writes from then on. If that fails, all is as it was and no etcd is left.
 */
export async function moveToEtcd({
  store,
  shared,
  self,
  remember,
  clock,
}: MoveDeps): Promise<{ journal: SharedJournal; leadership: Leadership }> {
  await shared.member.bootstrap();
  const journal = await shared.journal();
  try {
    const leadership = await campaignWithin(CAMPAIGN_MS, { journal, self, clock });
    try {
      await store.moveTo(leadership.journal, async () => remember());
    } catch (error) {
      await leadership.resign();
      throw error;
    }
    return { journal, leadership };
  } catch (error) {
    await journal.close();
    await shared.leave();
    throw error;
  }
}

/** Rejects if this manager does not lead within `limitMs`. */
export async function campaignWithin(
  limitMs: number,
  { journal, self, clock }: { journal: SharedJournal; self: Leader; clock: Clock },
): Promise<Leadership> {
  const late = new AbortController();
  const timer = clock.after(limitMs, () => late.abort(new Error('etcd elects nobody')));
  try {
    return await journal.campaign(self, late.signal);
  } finally {
    timer.cancel();
  }
}
