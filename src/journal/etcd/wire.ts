/** What the journal asks and is told (api.ts) as etcd's messages have it (messages.ts). */
import type { Condition, Operation, Row, RowEvent, Rows, Txn, TxnOutcome } from './api.ts';
import { asNumber, type Wide } from './messages.ts';

interface WireHeader {
  revision: Wide;
}

interface WireRow {
  /** A Buffer; an empty array, if nothing was sent. */
  key: Uint8Array;
  value: Uint8Array;
  modRevision: Wide;
}

export interface WireRange {
  header: WireHeader;
  kvs: WireRow[];
  more: boolean;
}

export interface WireTxn {
  header: WireHeader;
  succeeded: boolean;
  responses: { responseRange?: WireRange }[];
}

export interface WireEvent {
  type: number;
  kv: WireRow;
}

/** etcd's numbers for what is compared. */
const TARGET = { create: 1, value: 3 };
const REMOVED = 1;

export function rowsOf({ header, kvs, more }: WireRange): Rows {
  return { rows: kvs.map(rowOf), more, revision: asNumber(header.revision) };
}

export function eventOf({ type, kv }: WireEvent): RowEvent {
  const { key, value, modRevision } = rowOf(kv);
  return { key, value: type === REMOVED ? null : value, revision: modRevision };
}

export function txnRequest({ when, write, otherwise }: Txn): object {
  return {
    compare: when.map(compare),
    success: write.map(operation),
    failure: otherwise.map((key) => ({ requestRange: { key: Buffer.from(key) } })),
  };
}

export function txnOutcome({ header, succeeded, responses }: WireTxn): TxnOutcome {
  const read = succeeded ? [] : responses.map(({ responseRange }) => responseRange?.kvs.map(rowOf)[0]);
  return { applied: succeeded, revision: asNumber(header.revision), read };
}

function compare({ key, value }: Condition): object {
  if (value === null) return { target: TARGET.create, key: Buffer.from(key), createRevision: 0 };
  return { target: TARGET.value, key: Buffer.from(key), value: Buffer.from(value) };
}

function operation(operation: Operation): object {
  if ('put' in operation) {
    const { put, value } = operation;
    return { requestPut: { key: Buffer.from(put), value: Buffer.from(value) } };
  }
  if ('remove' in operation) return { requestDeleteRange: { key: Buffer.from(operation.remove) } };
  const { from, to } = operation.removeRange;
  return { requestDeleteRange: { key: Buffer.from(from), rangeEnd: Buffer.from(to) } };
}

function rowOf({ key, value, modRevision }: WireRow): Row {
  return { key: textOf(key), value: textOf(value), modRevision: asNumber(modRevision) };
}

function textOf(bytes: Uint8Array): string {
  return bytes.length === 0 ? '' : (bytes as Buffer).toString('utf8');
}
