/**
 * What is asked of a running etcd by those who look after its members: who takes part, how it is, its upkeep. The keys of the
 * journal are another's (../etcd). Every call has a deadline; what etcd refuses rejects with EtcdRefused, and what could not
 * be asked, or has no answer in time, with EtcdUnreachable: then it is not known whether it was done, so ask what is there.
 */

/** One that takes part, as the members have agreed. */
export interface Member {
  /** etcd's id of it, as its own tools print it: unique for ever. */
  id: string;
  /** Empty until it has been started. */
  name: string;
  peerUrls: readonly string[];
  /** Empty until it has been started. */
  clientUrls: readonly string[];
  /** A learner gets all writes and has no vote. */
  learner: boolean;
}

/** How one member is, by its own word: it needs no quorum to say so. */
export interface MemberStatus {
  memberId: string;
  /** '0' if it knows of no leader. */
  leaderId: string;
  version: string;
  learner: boolean;
  dbSizeBytes: number;
  dbSizeInUseBytes: number;
  raftIndex: number;
  raftAppliedIndex: number;
  revision: number;
}

export type AlarmKind = 'nospace' | 'corrupt';

export interface Alarm {
  memberId: string;
  kind: AlarmKind;
}

/** Calls to one member, or to whichever of several answers. */
export interface MemberApi {
  /** As agreed by a majority (by a version before 3.5: as the member asked has it). */
  members(): Promise<Member[]>;
  /** Adds a member without a vote and resolves with it and all the others. */
  addLearner(peerUrl: string): Promise<{ added: Member; members: Member[] }>;
  /** Gives a learner its vote; refused while it is far behind. */
  promote(memberId: string): Promise<void>;
  remove(memberId: string): Promise<void>;
  /** Where the others find it from now on. */
  setPeerUrl(memberId: string, peerUrl: string): Promise<void>;
  status(): Promise<MemberStatus>;
  /** The newest revision that a majority agrees on: resolves only while there is a quorum. */
  agreedRevision(): Promise<number>;
  /** Forgets history before `revision`. Rejects with EtcdRefused if that is done already. */
  compact(revision: number): Promise<void>;
  /** Gives back the space that compaction has freed; the member asked answers nobody meanwhile. */
  defragment(): Promise<void>;
  alarms(): Promise<Alarm[]>;
  disarm(alarm: Alarm): Promise<void>;
  /** The whole database of the member asked, as of one revision, with its SHA-256 behind it. */
  snapshot(): AsyncIterable<Uint8Array>;
  close(): void;
}

/** Makes calls to the member or members at `endpoints` (`host:port`). Connects when first asked something. */
export type Connect = (endpoints: readonly string[]) => MemberApi;

/** etcd's answer was no; nothing was done. The message has etcd's own sentence. */
export class EtcdRefused extends Error {
  override readonly name = 'EtcdRefused';
}

/** No answer in time, or no connection. */
export class EtcdUnreachable extends Error {
  override readonly name = 'EtcdUnreachable';
}

/** `host:port` of a URL that a member advertises. Throws TypeError if it is no URL. */
export function endpointOf(url: string): string {
  return new URL(url).host;
}

/** The address of a URL, without brackets: what a node calls its own. Throws TypeError if it is no URL. */
export function addressOf(url: string): string {
  return new URL(url).hostname.replaceAll(/^\[|\]$/g, '');
}

/** A URL of etcd's at an IP address. */
export function urlOf(address: string, port: number): string {
  return `https://${address.includes(':') ? `[${address}]` : address}:${port}`;
}
