/**
 * How a cluster begins: its root, its first manager's certificate, its first rows. They are written into a database of that
 * manager, or into an etcd that stands elsewhere.
 */
import { randomBytes } from 'node:crypto';
import type { InitRequest } from '../api/cluster-control.ts';
import { nodeCertificateLifeMs } from '../dispatch/join.ts';
import type { OutsideEtcd } from '../journal/etcd/outside.ts';
import { DataKey, type KeyFile } from '../journal/key-file.ts';
import { timestamp, type Clock, type Log, type Random } from '../model/clock.ts';
import { newId } from '../model/ids.ts';
import { createRootCa } from '../pki/authority.ts';
import type { Identity } from '../pki/identity.ts';
import { createJoinToken } from '../pki/token.ts';
import { createUnlockKey, parseUnlockKey } from '../pki/unlock-key.ts';
import { Store, type Transaction } from '../store/store.ts';
import type { ChosenAddresses } from './addresses.ts';
import { ownIdentity } from './certify.ts';
import type { Membership } from './membership.ts';
import { createCluster } from './new-cluster.ts';
import { outsideJournal } from './outside-state.ts';
import { campaignWithin } from './places.ts';
import { openState } from './state-files.ts';

export interface FoundingDeps {
  addresses: ChosenAddresses;
  /** Without any state. */
  dataDir: string;
  keyFile: KeyFile;
  /** Absent: a database in the data directory. */
  etcd?: OutsideEtcd;
  clock: Clock;
  random: Random;
  log: Log;
}

/** A cluster whose state is there: the caller makes the rest durable, the membership last. */
export interface Founded {
  membership: Membership;
  identity: Identity;
  /** Removes what lies elsewhere than in the data directory. Never rejects. */
  undo: () => Promise<void>;
}

const CAMPAIGN_MS = 10_000;

/**
 * Rejects with EtcdUnfit if the etcd cannot be reached or holds a cluster already, JournalUnavailable if there is no room; then
 * nothing is left, but in the data directory: that is forgotten by the caller.
 */
export async function foundCluster(request: InitRequest, deps: FoundingDeps): Promise<Founded> {
  const { clock, random, keyFile, etcd, log } = deps;
  const { advertisePort, ...addresses } = deps.addresses;
  const rootCa = await createRootCa(clock.now());
  const [nodeId, clusterId] = [newId(random), newId(random)];
  const subject = { nodeId, clusterId, addresses: [addresses.advertiseAddress] };
  const times = { nowMs: clock.now(), lifeMs: nodeCertificateLifeMs(request.spec) };
  const identity = await ownIdentity(rootCa, subject, times);
  const managerAddress = `${addresses.advertiseAddress}:${advertisePort}`;
  const membership: Membership = {
    nodeId,
    clusterId,
    role: 'manager',
    ...(etcd && { keeper: 'outside-etcd' as const }),
    ...addresses,
    managerAddress,
    managers: [managerAddress],
  };
  const unlockKey = request.spec.EncryptionConfig.AutoLockManagers ? createUnlockKey(randomBytes) : undefined;
  if (unlockKey !== undefined) keyFile.lockWith(parseUnlockKey(unlockKey));
  const joinToken = () => createJoinToken(rootCa.certificate, randomBytes);
  const rows = {
    ...request,
    nodeId,
    clusterId,
    ingressId: newId(random),
    rootCa,
    joinTokens: { worker: joinToken(), manager: joinToken() },
    ...(unlockKey === undefined ? {} : { unlockKey }),
    managerAddress,
    now: timestamp(clock.now()),
  };
  const undo = () => eraseCluster({ etcd: () => etcd, clusterId, log }, 'what was begun of a swarm');
  await write((tx) => createCluster(tx, rows), { ...deps, clusterId, nodeId, managerAddress }).catch(
    async (error: unknown) => {
      await undo();
      throw error;
    },
  );
  return { membership, identity, undo };
}

type Fill = (tx: Transaction) => void;
type Place = FoundingDeps & { clusterId: string; nodeId: string; managerAddress: string };

async function write(fill: Fill, place: Place): Promise<void> {
  const { etcd, dataDir, keyFile } = place;
  if (etcd !== undefined) return writeOutside(fill, { ...place, etcd });
  const state = await openState(dataDir, keyFile);
  try {
    await state.store.update(fill);
  } finally {
    await state.close();
  }
}

async function writeOutside(fill: Fill, place: Place & { etcd: OutsideEtcd }): Promise<void> {
  const { etcd, keyFile, clusterId, nodeId, managerAddress, clock } = place;
  // What several managers share makes no key by itself: all of them are to have this one.
  keyFile.write([DataKey.random()]);
  await etcd.claim(clusterId);
  const journal = await outsideJournal(place);
  try {
    const self = { nodeId, address: managerAddress };
    const leadership = await campaignWithin(CAMPAIGN_MS, { journal, self, clock });
    try {
      const store = await Store.open(leadership.journal);
      await store.update(fill);
      await store.close();
    } finally {
      await leadership.resign();
    }
  } finally {
    await journal.close();
  }
}

/**
 * Removes all of a cluster from the etcd that it has for its state. Never rejects: if that fails the log says what is left, and
 * whoever begins another cluster there is told.
 */
export async function eraseCluster(
  { etcd, clusterId, log }: { etcd: () => OutsideEtcd | undefined; clusterId: string; log: Log },
  what: string,
): Promise<void> {
  try {
    await etcd()?.erase(clusterId);
  } catch (error) {
    log.error({ err: error, cluster: clusterId }, `${what} is left in its etcd`);
  }
}
