/**
 * etcd's gRPC messages (API v3, as of etcd 3.4), those fields of them that are used: name → [type, number], `[]` marks a list.
 * The library that reads and writes them is loaded when the first client is made: a worker never needs it.
 */
import type { Root, Type } from 'protobufjs';

type Fields = Record<string, readonly [type: string, number: number]>;

const MESSAGES: Record<string, Fields> = {
  Header: { revision: ['int64', 3] },
  HeaderOnly: { header: ['Header', 1] },
  Empty: {},
  KeyValue: {
    key: ['bytes', 1],
    modRevision: ['int64', 3],
    value: ['bytes', 5],
  },

  RangeRequest: { key: ['bytes', 1], rangeEnd: ['bytes', 2], limit: ['int64', 3], revision: ['int64', 4] },
  RangeResponse: { header: ['Header', 1], kvs: ['KeyValue[]', 2], more: ['bool', 3] },
  PutRequest: { key: ['bytes', 1], value: ['bytes', 2] },
  DeleteRangeRequest: { key: ['bytes', 1], rangeEnd: ['bytes', 2] },
  RequestOp: {
    requestRange: ['RangeRequest', 1],
    requestPut: ['PutRequest', 2],
    requestDeleteRange: ['DeleteRangeRequest', 3],
  },
  ResponseOp: { responseRange: ['RangeResponse', 1] },
  Compare: {
    result: ['int32', 1],
    target: ['int32', 2],
    key: ['bytes', 3],
    createRevision: ['int64', 5],
    value: ['bytes', 7],
  },
  TxnRequest: { compare: ['Compare[]', 1], success: ['RequestOp[]', 2], failure: ['RequestOp[]', 3] },
  TxnResponse: { header: ['Header', 1], succeeded: ['bool', 2], responses: ['ResponseOp[]', 3] },
  CompactionRequest: { revision: ['int64', 1] },

  WatchCreateRequest: { key: ['bytes', 1], rangeEnd: ['bytes', 2], startRevision: ['int64', 3] },
  WatchRequest: { createRequest: ['WatchCreateRequest', 1], progressRequest: ['Empty', 3] },
  Event: { type: ['int32', 1], kv: ['KeyValue', 2] },
  WatchResponse: {
    header: ['Header', 1],
    created: ['bool', 3],
    canceled: ['bool', 4],
    compactRevision: ['int64', 5],
    cancelReason: ['string', 6],
    events: ['Event[]', 11],
  },

  Member: {
    ID: ['uint64', 1],
    name: ['string', 2],
    peerURLs: ['string[]', 3],
    clientURLs: ['string[]', 4],
    isLearner: ['bool', 5],
  },
  MemberListRequest: { linearizable: ['bool', 1] },
  MemberAddRequest: { peerURLs: ['string[]', 1], isLearner: ['bool', 2] },
  MemberAddResponse: { member: ['Member', 2], members: ['Member[]', 3] },
  MemberIdRequest: { ID: ['uint64', 1] },
  MemberUpdateRequest: { ID: ['uint64', 1], peerURLs: ['string[]', 2] },
  MembersResponse: { members: ['Member[]', 2] },

  StatusResponse: {
    header: ['StatusHeader', 1],
    version: ['string', 2],
    dbSize: ['int64', 3],
    leader: ['uint64', 4],
    raftIndex: ['uint64', 5],
    raftTerm: ['uint64', 6],
    raftAppliedIndex: ['uint64', 7],
    errors: ['string[]', 8],
    dbSizeInUse: ['int64', 9],
    isLearner: ['bool', 10],
  },
  StatusHeader: { memberId: ['uint64', 2], revision: ['int64', 3] },
  AlarmRequest: { action: ['int32', 1], memberID: ['uint64', 2], alarm: ['int32', 3] },
  AlarmMember: { memberID: ['uint64', 1], alarm: ['int32', 2] },
  AlarmResponse: { alarms: ['AlarmMember[]', 2] },
  SnapshotResponse: { remainingBytes: ['uint64', 2], blob: ['bytes', 3] },
};

/** Writes and reads the messages by name. */
export class Codec {
  readonly #root: Root;

  private constructor(root: Root) {
    this.#root = root;
  }

  static async load(): Promise<Codec> {
    const { default: protobuf } = await import('protobufjs/light.js');
    const nested = Object.entries(MESSAGES).map(([name, fields]) => [name, { fields: fieldsOf(fields) }]);
    return new Codec(protobuf.Root.fromJSON({ nested: Object.fromEntries(nested) }));
  }

  encode(name: string, message: object): Buffer {
    return Buffer.from(this.#type(name).encode(message).finish());
  }

  /** Numbers of 64 bits are what `asNumber` and `asId` read; what was not sent has its type's default. */
  decode(name: string, bytes: Uint8Array): unknown {
    return this.#type(name).decode(bytes);
  }

  #type(name: string): Type {
    return this.#root.lookupType(name);
  }
}

function fieldsOf(fields: Fields): Record<string, { type: string; id: number; rule?: string }> {
  const entries = Object.entries(fields).map(([name, [type, id]]) => {
    const one = { type: type.replace('[]', ''), id };
    return [name, type === one.type ? one : { ...one, rule: 'repeated' }];
  });
  return Object.fromEntries(entries);
}

/** A number of 64 bits as the library reads it. */
export interface Wide {
  toNumber(): number;
  toUnsigned(): { toString(radix: number): string };
}

/** Revisions, leases, sizes: what stays below 2^53. */
export function asNumber(wide: Wide): number {
  return wide.toNumber();
}

/** Members have random numbers, of which every bit counts: in hexadecimal, as etcd's own tools print them. */
export function asId(wide: Wide): string {
  return wide.toUnsigned().toString(16);
}
