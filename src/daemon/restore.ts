/**
 * Making a machine the one manager of a cluster from its backup. Everything is put into the data directory and read back as
 * the next start would read it before the membership is written, by the caller and last: until then it is a leftover.
 */
import { networkInterfaces } from 'node:os';
import type { Restored, RestoreRequest } from '../api/cluster-control.ts';
import { KeyFileLocked, parseKeys, writeKeyFile, type KeyFile } from '../journal/key-file.ts';
import { CLUSTER_ROW, type Node } from '../model/objects.ts';
import type { NodeSpec } from '../model/specs.ts';
import { identityAtAnyTime, type Identity } from '../pki/identity.ts';
import { damaged, type Backup, type BackupHeader } from './backup.ts';
import { splitAddress } from './manager.ts';
import type { Membership } from './membership.ts';
import { openRawJournal, openState } from './state-files.ts';

/**
 * Added to the number of the last transaction: no number that was given out after the backup was taken is given out again, for
 * something else.
 */
const INDEX_LEAP = 1_000_000_000;

/** How the other nodes reach the manager now. */
export interface ManagerPlace {
  /** host:port. */
  address: string;
  advertiseAddress: string;
  /** RFC 3339. */
  now: string;
}

/**
 * The rows of the restored cluster: its manager is the one that the backup was taken on, at its present place; the others are
 * managers no more. Pure.
 *
 * @throws BackupRefused if the manager, or the index, is not among them
 */
export function restoredRows(
  { header, rows }: Backup,
  place: ManagerPlace,
): { rows: Backup['rows']; formerManagers: Restored['formerManagers'] } {
  const index = header.index + INDEX_LEAP;
  const formerManagers: Restored['formerManagers'] = [];
  let manager: Node | undefined;
  const restored = rows.map(({ key, value }) => {
    if (key === 'index') return { key, value: String(index) };
    if (!key.startsWith('nodes/')) return { key, value };
    const node = parseNode(key, value);
    if (node.id === header.manager.nodeId) {
      manager = theManager(node, place);
      return { key, value: JSON.stringify(manager) };
    }
    if (node.manager === undefined && node.spec.Role !== 'manager') return { key, value };
    const { id: nodeId, description, status } = node;
    const address = node.manager?.address ?? status.address;
    formerManagers.push({ nodeId, hostname: description?.hostname ?? nodeId, address });
    return { key, value: JSON.stringify(withoutManager(node, { index, now: place.now })) };
  });
  if (manager === undefined) throw damaged('its manager is not among its nodes');
  if (!rows.some(({ key }) => key === 'index')) throw damaged('it has no index');
  return { rows: restored, formerManagers };
}

function parseNode(key: string, value: string): Node {
  try {
    return JSON.parse(value);
  } catch {
    throw damaged(`its row ${key} is no JSON`);
  }
}

function theManager(node: Node, { address, advertiseAddress, now }: ManagerPlace): Node {
  return {
    ...node,
    spec: withRole(node, 'manager'),
    status: { ...node.status, address: advertiseAddress },
    manager: { address, leader: true, reachability: 'reachable' },
    meta: { ...node.meta, updatedAt: now },
  };
}

function withoutManager(former: Node, { index, now }: { index: number; now: string }): Node {
  const { manager: _, ...node } = former;
  return { ...node, spec: withRole(node, 'worker'), meta: { ...node.meta, version: index, updatedAt: now } };
}

function withRole({ spec }: Pick<Node, 'spec'>, Role: NodeSpec['Role']): NodeSpec {
  return { ...spec, Role };
}

/**
 * Where the restored manager is to be, if its user does not say: where it was, as far as this host has those addresses
 * (`own`). What is undefined then is for the daemon to choose. Pure.
 */
export function restoredPlace(
  before: BackupHeader['manager'],
  request: RestoreRequest,
  own: ReadonlySet<string>,
): RestoreRequest {
  const listen = splitAddress(before.listenAddress);
  const host = listen.host === '0.0.0.0' || own.has(listen.host) ? listen.host : '0.0.0.0';
  const port = request.listenAddr?.port ?? splitAddress(before.address).port;
  const advertised =
    request.advertiseAddr ?? (own.has(before.advertiseAddress) ? { host: before.advertiseAddress } : undefined);
  return {
    listenAddr: request.listenAddr ?? { host, port: listen.port },
    advertiseAddr: advertised && { port, ...advertised },
    dataPathAddr: request.dataPathAddr ?? (own.has(before.dataPathAddress) ? before.dataPathAddress : undefined),
  };
}

/** Who the restored manager is. @throws BackupRefused if the certificates in the backup are not its */
export function identityIn({ clusterId, manager, certificates }: BackupHeader): Identity {
  let identity: Identity;
  try {
    identity = identityAtAnyTime(certificates);
  } catch (error) {
    throw damaged(`its certificates: ${(error as Error).message}`);
  }
  if (identity.nodeId !== manager.nodeId || identity.clusterId !== clusterId || identity.role !== 'manager')
    throw damaged('its certificates are not those of its manager');
  return identity;
}

export interface RestoreDeps {
  /** How its user wants it to be reached. */
  request: RestoreRequest;
  dataDir: string;
  keyFile: KeyFile;
  /** What to listen on and what to tell others. @throws AddressError */
  addresses: (wanted: RestoreRequest) => Addresses;
  /** RFC 3339. */
  now: string;
}

export interface Addresses {
  listenAddress: string;
  advertiseAddress: string;
  advertisePort: number;
  dataPathAddress: string;
}

/**
 * Writes the state into a data directory without any. What is returned is for the caller to make durable, the membership last.
 *
 * @throws BackupRefused, AddressError; JournalUnavailable if there is no room for it
 */
export async function restoreCluster(
  backup: Backup,
  { request, dataDir, keyFile, addresses, now }: RestoreDeps,
): Promise<{ membership: Membership; identity: Identity; restored: Restored }> {
  const { clusterId, manager, at } = backup.header;
  const identity = identityIn(backup.header);
  const { advertisePort, ...place } = addresses(restoredPlace(manager, request, ownAddresses()));
  const address = `${place.advertiseAddress}:${advertisePort}`;
  const { rows, formerManagers } = restoredRows(backup, { address, advertiseAddress: place.advertiseAddress, now });
  const locked = isLocked(backup.header.keyFile);
  writeKeyFile(keyFile.path, backup.header.keyFile);
  await writeRows(dataDir, rows);
  if (!locked) await assertReadable(dataDir, { keyFile, clusterId });
  const { nodeId } = manager;
  const otherPort = splitAddress(place.listenAddress).port !== advertisePort;
  return {
    membership: {
      nodeId,
      clusterId,
      role: 'manager',
      ...place,
      ...(otherPort ? { managerAddress: address } : {}),
      managers: [address],
    },
    identity,
    restored: { clusterId, nodeId, at, locked, addresses: { before: manager.address, now: address }, formerManagers },
  };
}

/** Whether an unlock key is needed for what a key file held. */
function isLocked(keyFileText: string): boolean {
  try {
    parseKeys('its key file', keyFileText);
    return false;
  } catch (error) {
    if (error instanceof KeyFileLocked) return true;
    throw damaged('its key file cannot be read');
  }
}

function ownAddresses(): ReadonlySet<string> {
  return new Set(Object.values(networkInterfaces()).flatMap((own = []) => own.map(({ address }) => address)));
}

async function writeRows(dataDir: string, rows: Backup['rows']): Promise<void> {
  const journal = openRawJournal(dataDir);
  try {
    await journal.commit([rows]);
  } finally {
    await journal.close();
  }
}

/** Reads the state as the next start would. @throws BackupRefused if it is not that of the cluster, or cannot be understood */
async function assertReadable(
  dataDir: string,
  { keyFile, clusterId }: { keyFile: KeyFile; clusterId: string },
): Promise<void> {
  const state = await openState(dataDir, keyFile).catch((error: unknown) => {
    throw damaged((error as Error).message);
  });
  const cluster = state.store.view((view) => view.clusters.get(CLUSTER_ROW));
  await state.close();
  if (cluster?.clusterId !== clusterId) throw damaged('its state is not that of its cluster');
}
