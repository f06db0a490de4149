/** `MemberApi` over the client of etcd (../etcd/client.ts), which is made when it is first needed. */
import type { Clock } from '../../model/clock.ts';
import { EtcdError } from '../etcd/api.ts';
import type { EtcdIdentity } from '../etcd/channels.ts';
import { EtcdClient, type Call } from '../etcd/client.ts';
import { asId, asNumber, type Wide } from '../etcd/messages.ts';
import {
  EtcdRefused,
  EtcdUnreachable,
  type Alarm,
  type AlarmKind,
  type Connect,
  type Member,
  type MemberApi,
} from './api.ts';

export interface ConnectDeps {
  /** This node's certificate as it is now: asked at each call, so that a renewed one is used at once. */
  identity: () => EtcdIdentity;
  clock: Clock;
  /** How long one endpoint may take to answer. */
  tryMs?: number;
}

const TRY_MS = 2_000;
/** Defragmentation rewrites the whole file. */
const DEFRAGMENT_MS = 120_000;
const NOSPACE = 1;
const CORRUPT = 2;
const [GET, DEACTIVATE] = [0, 2];

interface WireMember {
  ID: Wide;
  name: string;
  peerURLs: string[];
  clientURLs: string[];
  isLearner: boolean;
}

interface WireStatus {
  header: { memberId: Wide; revision: Wide };
  version: string;
  dbSize: Wide;
  leader: Wide;
  raftIndex: Wide;
  raftAppliedIndex: Wide;
  dbSizeInUse: Wide;
  isLearner: boolean;
}

/** How to reach members with this node's certificate. */
export function connectWith(deps: ConnectDeps): Connect {
  return (endpoints) => new ClientMemberApi(endpoints, deps);
}

class ClientMemberApi implements MemberApi {
  readonly #endpoints: readonly string[];
  readonly #deps: ConnectDeps;
  #client: Promise<EtcdClient> | undefined;
  #certificate = '';
  #closed = false;

  constructor(endpoints: readonly string[], deps: ConnectDeps) {
    this.#endpoints = endpoints;
    this.#deps = deps;
  }

  async members() {
    const { members } = await this.#ask<{ members: WireMember[] }>({
      method: 'Cluster/MemberList',
      request: ['MemberListRequest', { linearizable: true }],
      answer: 'MembersResponse',
      again: true,
    });
    return members.map(memberOf);
  }

  async addLearner(peerUrl: string) {
    const { member, members } = await this.#ask<{ member: WireMember; members: WireMember[] }>({
      method: 'Cluster/MemberAdd',
      request: ['MemberAddRequest', { peerURLs: [peerUrl], isLearner: true }],
      answer: 'MemberAddResponse',
      again: false,
    });
    return { added: memberOf(member), members: members.map(memberOf) };
  }

  async promote(memberId: string) {
    await this.#about('MemberPromote', 'MemberIdRequest', memberId);
  }

  async remove(memberId: string) {
    await this.#about('MemberRemove', 'MemberIdRequest', memberId);
  }

  async setPeerUrl(memberId: string, peerUrl: string) {
    await this.#about('MemberUpdate', 'MemberUpdateRequest', memberId, { peerURLs: [peerUrl] });
  }

  async status() {
    const status = await this.#ask<WireStatus>(maintenance('Status', 'StatusResponse'));
    return {
      memberId: asId(status.header.memberId),
      leaderId: asId(status.leader),
      version: status.version,
      learner: status.isLearner,
      dbSizeBytes: asNumber(status.dbSize),
      dbSizeInUseBytes: asNumber(status.dbSizeInUse),
      raftIndex: asNumber(status.raftIndex),
      raftAppliedIndex: asNumber(status.raftAppliedIndex),
      revision: asNumber(status.header.revision),
    };
  }

  async agreedRevision() {
    const { header } = await this.#ask<{ header: { revision: Wide } }>({
      method: 'KV/Range',
      request: ['RangeRequest', { key: Buffer.from('\0') }],
      answer: 'HeaderOnly',
      again: true,
    });
    return asNumber(header.revision);
  }

  async compact(revision: number) {
    const request: Call['request'] = ['CompactionRequest', { revision }];
    await this.#ask({ method: 'KV/Compact', request, answer: 'HeaderOnly', again: true });
  }

  async defragment() {
    await this.#ask({ ...maintenance('Defragment', 'Empty'), again: false, tryMs: DEFRAGMENT_MS });
  }

  async alarms() {
    const { alarms } = await this.#ask<{ alarms: { memberID: Wide; alarm: number }[] }>(alarmCall({ action: GET }));
    return alarms.flatMap(({ memberID, alarm }) => {
      const kind = kindOf(alarm);
      return kind === undefined ? [] : [{ memberId: asId(memberID), kind }];
    });
  }

  async disarm({ memberId, kind }: Alarm) {
    const alarm = kind === 'nospace' ? NOSPACE : CORRUPT;
    await this.#ask(alarmCall({ action: DEACTIVATE, memberID: wide(memberId), alarm }));
  }

  async *snapshot() {
    const client = await this.#connected();
    try {
      for await (const part of client.stream(maintenance('Snapshot', 'SnapshotResponse')))
        yield (part as { blob: Uint8Array }).blob;
    } catch (error) {
      throw readable(error);
    }
  }

  close() {
    this.#closed = true;
    void this.#client?.then((client) => client.close());
  }

  async #about(method: string, message: string, memberId: string, more: object = {}): Promise<void> {
    const request: Call['request'] = [message, { ID: wide(memberId), ...more }];
    await this.#ask({ method: `Cluster/${method}`, request, answer: 'MembersResponse', again: false });
  }

  async #ask<T>(call: Call): Promise<T> {
    const client = await this.#connected();
    try {
      return await client.ask<T>(call);
    } catch (error) {
      throw readable(error);
    }
  }

  async #connected(): Promise<EtcdClient> {
    if (this.#closed) throw new EtcdUnreachable('etcd is asked no longer');
    const { clock, tryMs = TRY_MS } = this.#deps;
    const identity = this.#deps.identity();
    const before = this.#certificate;
    this.#certificate = identity.certificate;
    this.#client ??= EtcdClient.make({ endpoints: this.#endpoints, identity, clock, tryMs });
    const client = await this.#client;
    if (before !== '' && before !== identity.certificate) client.setIdentity(identity);
    return client;
  }
}

function maintenance(method: string, answer: string): Call {
  return { method: `Maintenance/${method}`, request: ['Empty', {}], answer, again: true };
}

function alarmCall(request: object): Call {
  return { method: 'Maintenance/Alarm', request: ['AlarmRequest', request], answer: 'AlarmResponse', again: true };
}

/** A member's id as messages take a number of 64 bits: in decimal. */
function wide(id: string): string {
  return BigInt(`0x${id}`).toString();
}

/** Undefined for a kind that is not known here. */
function kindOf(alarm: number): AlarmKind | undefined {
  if (alarm === NOSPACE) return 'nospace';
  return alarm === CORRUPT ? 'corrupt' : undefined;
}

function memberOf({ ID, name, peerURLs: peerUrls, clientURLs: clientUrls, isLearner: learner }: WireMember): Member {
  return { id: asId(ID), name, peerUrls, clientUrls, learner };
}

function readable(error: unknown): unknown {
  if (!(error instanceof EtcdError)) return error;
  const silent = error.failure === 'unsent' || error.failure === 'unknown';
  return silent
    ? new EtcdUnreachable(error.message, { cause: error })
    : new EtcdRefused(error.message, { cause: error });
}
