/**
 * Reading what a client sent: JSON bodies and queries, checked by zod at the edge. Keys that no schema knows are kept;
 * complaints name the place and what would be right.
 */
import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import type { Clock } from '../model/clock.ts';
import { ApiError, badRequest } from './errors.ts';

/** Specs are small; streams to the engine are not bounded by this. */
export const BODY_LIMIT_BYTES = 4 * 1024 * 1024;
/** What is read whole is held until then. */
export const BODY_WITHIN_MS = 60_000;

/** The part of a request that a body is read from; `body` holds the raw bytes, if any came. */
export interface BodySource {
  headers: { 'content-type'?: string | undefined };
  body?: unknown;
}

/** Ten times what any of Docker's bodies needs. */
const MAX_DEPTH = 100;

/** The body as JSON of the schema's shape. @throws ApiError 400 with a sentence. */
export function parseBody<S extends z.ZodType>(source: BodySource, schema: S): z.output<S> {
  return checked(schema, parseJson(source));
}

/** The body as JSON, null members taken as absent (Go clients send `null` for every empty field). @throws ApiError 400 */
export function parseJson(source: BodySource): unknown {
  const bytes = Buffer.isBuffer(source.body) ? source.body : Buffer.alloc(0);
  if (bytes.length === 0) throw badRequest('invalid JSON: got EOF while reading request body');
  const type = source.headers['content-type'] ?? '';
  if (type.split(';')[0]?.trim().toLowerCase() !== 'application/json') {
    throw badRequest(`unsupported Content-Type header (${type}): must be 'application/json'`);
  }
  try {
    return asGoReads(JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw badRequest(`invalid JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/**
 * An object with these members. Their names are read as Go reads them, whatever their case (docker-py sends
 * `Mode: {replicated: …}`), and written as here; members that are not listed are kept.
 */
export function struct<S extends z.ZodRawShape>(shape: S) {
  const names = new Map(Object.keys(shape).map((name) => [name.toLowerCase(), name]));
  return z.preprocess((value) => withNames(value, names), z.looseObject(shape));
}

function withNames(value: unknown, names: ReadonlyMap<string, string>): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const named = Object.entries(value).map(([key, member]): [string, unknown] => {
    const name = names.get(key.toLowerCase()) ?? key;
    // Said in both ways: what has the very name counts.
    return [Object.hasOwn(value, name) ? key : name, member];
  });
  return Object.fromEntries(named);
}

/** `value` in the schema's shape, members that are undefined left out. @throws ApiError 400 */
export function checked<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const result = schema.safeParse(value);
  if (!result.success) throw badRequest(result.error.issues.map(sentence).join('; '));
  // Through JSON, because that is how it will be stored: members that are undefined are gone.
  const clean: z.output<S> = JSON.parse(JSON.stringify(result.data));
  return clean;
}

/** True if a query value says yes, as Go's `BoolValue` reads it: anything but '', 0, no, false, none. */
export function isTrue(value: string | undefined): boolean {
  return !['', '0', 'no', 'false', 'none'].includes((value ?? '').trim().toLowerCase());
}

/** The body of a request that nobody has touched. Rejects with ApiError 413, or if it breaks off or takes too long. */
export async function readWhole(request: IncomingMessage, clock: Clock): Promise<Buffer> {
  const deadline = clock.after(BODY_WITHIN_MS, () => request.destroy());
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      chunks.push(chunk as Buffer);
      bytes += (chunk as Buffer).length;
      if (bytes > BODY_LIMIT_BYTES) throw new ApiError(413, 'Request body is too large');
    }
  } finally {
    deadline.cancel();
    // The client gets its answer only if what it still sends is read.
    request.resume();
  }
  return Buffer.concat(chunks);
}

/** The `version` of an object that an update was based on. @throws ApiError 400 */
export function versionQuery(kind: string, text: string | undefined): number {
  if (text === undefined || !/^\d+$/.test(text)) {
    throw badRequest(
      `invalid ${kind} version '${text ?? ''}': must be the Version.Index of the ${kind} as it was inspected`,
    );
  }
  return Number(text);
}

function sentence(issue: z.core.$ZodIssue): string {
  const place = issue.path.length === 0 ? 'the request body' : issue.path.map(String).join('.');
  return `invalid value for ${place}: ${issue.message.replace(/^Invalid (input|option): /, '')}`;
}

/**
 * Members that are null left out, and half a surrogate pair made U+FFFD, both as Go's decoder does it.
 * @throws if it is nested too deep for whatever walks through it later
 */
function asGoReads(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return value.toWellFormed();
  if (typeof value !== 'object' || value === null) return value;
  if (depth > MAX_DEPTH) throw new RangeError(`nested deeper than ${MAX_DEPTH} levels`);
  if (Array.isArray(value)) return value.map((member) => asGoReads(member, depth + 1));
  const kept = Object.entries(value).filter(([, member]) => member !== null);
  return Object.fromEntries(kept.map(([key, member]) => [key.toWellFormed(), asGoReads(member, depth + 1)]));
}
