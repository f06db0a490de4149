/** The body that makes or changes a secret or a config: its shape, and Docker's rules and sentences. Pure. */
import { z } from 'zod';
import type { PayloadKind } from '../../model/payloads.ts';
import type { PayloadSpec } from '../../model/specs.ts';
import { struct } from '../body.ts';
import { badRequest, notBuilt } from '../errors.ts';

/** Docker's: what a payload holds is less than this, in bytes. */
const MAX_BYTES: Record<PayloadKind, number> = { secret: 500 * 1024, config: 1000 * 1024 };
const MAX_NAME_LENGTH = 64;
const NAME = /^[a-zA-Z0-9](?:[-_.a-zA-Z0-9]*[a-zA-Z0-9])?$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

const labels = z.record(z.string(), z.string());
const driver = struct({ Name: z.string().default(''), Options: labels.optional() });
const base64 = z
  .string()
  .transform((text) => text.replaceAll(/[\r\n]/g, ''))
  .refine((text) => BASE64.test(text), 'must be base64');

/** Data is absent where an update leaves it as it is. */
export const payloadShape = struct({
  Name: z.string().default(''),
  Labels: labels.default({}),
  Data: base64.optional(),
  Driver: driver.optional(),
  Templating: driver.optional(),
});

export type PayloadBody = z.output<typeof payloadShape>;

/** The body that rotates one: its next value. */
export const rotationShape = struct({ Data: base64.default('') });

/** What is to be kept of the body that makes one. @throws ApiError 400, or 501 for a secret that a plugin would hold */
export function newPayloadSpec(kind: PayloadKind, body: PayloadBody): PayloadSpec {
  const { Name, Labels, Data = '', Driver, Templating } = body;
  checkPayloadName(Name);
  if (kind === 'secret' && Driver !== undefined) {
    if (Driver.Name === '') throw badRequest('secret driver must have a name');
    throw notBuilt(`secret driver ${Driver.Name}: secrets that a plugin holds are not supported`);
  }
  checkPayloadData(kind, Data);
  if (Templating !== undefined && Templating.Name !== 'golang')
    throw badRequest(`template driver ${JSON.stringify(Templating.Name)} is not known: use golang`);
  return { Name, Labels, Data, ...(Templating === undefined ? {} : { Templating }) };
}

function checkPayloadName(name: string): void {
  if (name === '') throw badRequest('name must be provided');
  if (name.length > MAX_NAME_LENGTH || !NAME.test(name))
    throw badRequest(
      'invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]',
    );
}

/** @throws ApiError 400 */
export function checkPayloadData(kind: PayloadKind, base64Data: string): void {
  const bytes = Buffer.byteLength(base64Data, 'base64');
  if (bytes < 1 || bytes >= MAX_BYTES[kind])
    throw badRequest(`${kind} data must be larger than 0 and less than ${MAX_BYTES[kind]} bytes`);
}
