/** The bodies of swarm init, join and update: shape, addresses, ranges, Docker's defaults and sentences. Pure. */
import { isIP } from 'node:net';
import { z } from 'zod';
import { struct } from '../body.ts';
import { parseSubnet, subnetsOverlap } from '../../model/addresses.ts';
import { DEFAULT_TASK_HISTORY_RETENTION_LIMIT } from '../../model/defaults.ts';
import type { NodeSpec, SwarmSpec } from '../../model/specs.ts';
import { InvalidToken, parseJoinToken } from '../../pki/token.ts';
import type { HostPort, InitRequest, JoinRequest, RestoreRequest } from '../cluster-control.ts';
import { badRequest, notBuilt } from '../errors.ts';

const SWARM_PORT = 2377;
const DATA_PATH_PORT = 4789;
const DEFAULT_POOL = '10.0.0.0/8';
/** decisions-and-traps.md 6: a /24 runs out at 250 endpoints. */
const DEFAULT_SUBNET_SIZE = 20;
const SECOND_NS = 1e9;
const HOUR_NS = 3600 * SECOND_NS;
const DAY_NS = 24 * HOUR_NS;

const text = z.string().default('');
const labels = z.record(z.string(), z.string());
const availability = text.transform((value): NodeSpec['Availability'] => {
  if (value === '') return 'active';
  if (value === 'active' || value === 'pause' || value === 'drain') return value;
  throw badRequest(`invalid Availability: "${value}"`);
});

const count = z.int().min(0);
export const swarmSpecShape = struct({
  Name: text,
  Labels: labels.default({}),
  Orchestration: struct({ TaskHistoryRetentionLimit: z.int().optional() }).default({}),
  Raft: struct({
    SnapshotInterval: count.optional(),
    KeepOldSnapshots: count.optional(),
    LogEntriesForSlowFollowers: count.optional(),
    ElectionTick: count.optional(),
    HeartbeatTick: count.optional(),
  }).default({}),
  Dispatcher: struct({ HeartbeatPeriod: count.optional() }).default({}),
  CAConfig: struct({
    NodeCertExpiry: count.optional(),
    ForceRotate: count.optional(),
    SigningCACert: text,
    SigningCAKey: text,
    ExternalCAs: z.array(z.unknown()).optional(),
  }).prefault({}),
  TaskDefaults: struct({ LogDriver: struct({ Name: text, Options: labels.optional() }).optional() }).default({}),
  EncryptionConfig: struct({ AutoLockManagers: z.boolean().optional() }).default({}),
}).prefault({});

export const initShape = struct({
  ListenAddr: text,
  AdvertiseAddr: text,
  DataPathAddr: text,
  DataPathPort: z.int().default(0),
  DefaultAddrPool: z.array(z.string()).default([]),
  SubnetSize: z.int().default(0),
  ForceNewCluster: z.boolean().default(false),
  AutoLockManagers: z.boolean().default(false),
  Availability: availability,
  Spec: swarmSpecShape,
});

export const unlockShape = struct({ UnlockKey: text });

export const joinShape = struct({
  ListenAddr: text,
  AdvertiseAddr: text,
  DataPathAddr: text,
  RemoteAddrs: z.array(z.string()).default([]),
  JoinToken: text,
  Availability: availability,
});

/** What the daemon is asked on `swarm init`. @throws ApiError 400 or 501 */
export function initRequest(body: z.output<typeof initShape>): InitRequest {
  return {
    ...addresses(body),
    forceNewCluster: body.ForceNewCluster,
    dataPathPort: dataPathPort(body.DataPathPort),
    defaultAddressPool: addressPool(body.DefaultAddrPool),
    subnetSize: subnetSize(body.SubnetSize, body.DefaultAddrPool.length > 0),
    availability: body.Availability,
    spec: swarmSpec(withAutolock(body)),
  };
}

/** `--autolock` comes beside the spec, in it, or both. */
function withAutolock({ Spec, AutoLockManagers }: z.output<typeof initShape>): z.output<typeof swarmSpecShape> {
  return AutoLockManagers ? { ...Spec, EncryptionConfig: { AutoLockManagers } } : Spec;
}

/** What the daemon is asked on `swarm join`. @throws ApiError 400 */
export function joinRequest(body: z.output<typeof joinShape>): JoinRequest {
  if (body.RemoteAddrs.length === 0) throw badRequest('at least 1 RemoteAddr is required to join');
  try {
    parseJoinToken(body.JoinToken);
  } catch (error) {
    throw error instanceof InvalidToken ? badRequest(error.message) : error;
  }
  return {
    ...addresses(body),
    remoteAddrs: body.RemoteAddrs.map((address) => ({
      port: SWARM_PORT,
      ...hostPort(address, `invalid remote address "${address}": it should look like 192.0.2.1:2377`),
    })),
    joinToken: body.JoinToken.trim(),
    availability: body.Availability,
  };
}

/** How the manager is reached that a backup is restored on. @throws ApiError 400 */
export function restoreRequest(query: {
  listenAddr?: string;
  advertiseAddr?: string;
  dataPathAddr?: string;
}): RestoreRequest {
  const { listenAddr = '', advertiseAddr = '', dataPathAddr = '' } = query;
  return addresses({ ListenAddr: listenAddr, AdvertiseAddr: advertiseAddr, DataPathAddr: dataPathAddr });
}

/** A whole cluster spec, Docker's defaults where nothing was said, or what `old` had. @throws ApiError 400 or 501 */
export function swarmSpec(body: z.output<typeof swarmSpecShape>, old?: SwarmSpec): SwarmSpec {
  if (!['', 'default'].includes(body.Name)) throw badRequest('swarm spec must be named "default"');
  if ((body.CAConfig.ExternalCAs ?? []).length > 0)
    throw notBuilt('external certificate authorities are not supported yet');
  const { SigningCACert: certificate, SigningCAKey: key, ...caConfig } = body.CAConfig;
  if (old === undefined && certificate + key !== '')
    throw notBuilt('a root CA of your own cannot be given when the swarm is made: use "docker swarm ca --rotate" then');
  const expiry = body.CAConfig.NodeCertExpiry ?? 0;
  if (expiry !== 0 && expiry < HOUR_NS) throw badRequest('minimum certificate expiry time is: 1h0m0s');
  return {
    ...body,
    Name: 'default',
    Orchestration: {
      TaskHistoryRetentionLimit: body.Orchestration.TaskHistoryRetentionLimit ?? DEFAULT_TASK_HISTORY_RETENTION_LIMIT,
    },
    Raft: {
      SnapshotInterval: body.Raft.SnapshotInterval || 10_000,
      KeepOldSnapshots: body.Raft.KeepOldSnapshots ?? 0,
      LogEntriesForSlowFollowers: body.Raft.LogEntriesForSlowFollowers || 500,
      ElectionTick: body.Raft.ElectionTick || 10,
      HeartbeatTick: body.Raft.HeartbeatTick || 1,
    },
    Dispatcher: { HeartbeatPeriod: body.Dispatcher.HeartbeatPeriod || 5 * SECOND_NS },
    CAConfig: { ...old?.CAConfig, ...caConfig, NodeCertExpiry: expiry || old?.CAConfig.NodeCertExpiry || 90 * DAY_NS },
    EncryptionConfig: { AutoLockManagers: body.EncryptionConfig.AutoLockManagers ?? false },
  };
}

/** What a cluster's update wants of the root CA. */
export interface RootRequest {
  /** Another number than before: a new root, even if none is given. Undefined: as before. */
  forceRotate: number | undefined;
  /** PEM, '' for none: the root of the user's own, and its key. Not checked yet. */
  certificate: string;
  key: string;
}

/** The part of a cluster's update that its spec does not keep. */
export function rootRequest({ CAConfig }: z.output<typeof swarmSpecShape>): RootRequest {
  return { forceRotate: CAConfig.ForceRotate, certificate: CAConfig.SigningCACert, key: CAConfig.SigningCAKey };
}

function addresses(body: { ListenAddr: string; AdvertiseAddr: string; DataPathAddr: string }) {
  const { ListenAddr: listen, AdvertiseAddr: advertise, DataPathAddr: dataPath } = body;
  const advertised = 'advertise address must be a non-zero IP address or network interface (with optional port number)';
  const advertiseAddr = advertise === '' ? undefined : hostPort(advertise, advertised);
  if (advertiseAddr !== undefined && isUnspecified(advertiseAddr.host)) throw badRequest(advertised);
  if (dataPath !== '' && (isUnspecified(dataPath) || !isHost(dataPath))) {
    throw badRequest('data path address must be a non-zero IP address or network interface (without a port number)');
  }
  const listening = 'listen address must be an IP address or network interface (with optional port number)';
  return {
    listenAddr: listen === '' ? undefined : { port: SWARM_PORT, ...hostPort(listen, listening) },
    advertiseAddr,
    dataPathAddr: dataPath === '' ? undefined : dataPath,
  };
}

/** `host`, `host:port`, `[v6]`, `[v6]:port` or a plain IPv6 address. @throws ApiError 400 with `sentence` */
function hostPort(address: string, sentence: string): HostPort {
  const match = /^(?:\[([^\]]+)\]|([^:\s[\]]+))(?::(\d+))?$/.exec(address);
  const host = isIP(address) === 6 ? address : (match?.[1] ?? match?.[2]);
  const port = match?.[3] === undefined ? undefined : Number(match[3]);
  if (host === undefined || !isHost(host) || (port !== undefined && (port < 1 || port > 65535)))
    throw badRequest(sentence);
  return port === undefined ? { host } : { host, port };
}

/** An IP, a host name or an interface name; what looks like a failed IPv4 address is none of them. */
function isHost(host: string): boolean {
  return isIP(host) !== 0 || (!/^[\d.]+$/.test(host) && /^[A-Za-z0-9][A-Za-z0-9._@-]*$/.test(host));
}

function isUnspecified(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

function dataPathPort(port: number): number {
  if (port !== 0 && (port < 1024 || port > 49151))
    throw badRequest(`Datapath port number is not in valid range (1024-49151) : ${port}`);
  return port || DATA_PATH_PORT;
}

function addressPool(pool: string[]): string[] {
  const subnets = pool.map((cidr) => {
    const subnet = parseSubnet(cidr);
    if (subnet === undefined) throw badRequest(`invalid default address pool: invalid CIDR address: ${cidr}`);
    return subnet;
  });
  subnets.forEach((subnet, i) => {
    if (subnets.slice(0, i).some((other) => subnetsOverlap(subnet, other)))
      throw badRequest(`default address pool ${pool[i]} overlaps another`);
  });
  return pool.length > 0 ? pool : [DEFAULT_POOL];
}

/** Docker's CLI sends 24 when nothing was said: without a pool of the user's own that is no wish. */
function subnetSize(size: number, ownPool: boolean): number {
  if (size === 0 || (size === 24 && !ownPool)) return DEFAULT_SUBNET_SIZE;
  if (size < 8 || size > 29) throw badRequest(`subnet size is out of range: ${size}`);
  return size;
}
