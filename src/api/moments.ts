/** Moments as Docker's clients write them in queries and filters. Pure. */
import { badRequest } from './errors.ts';

const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/**
 * Milliseconds since the epoch of: seconds since it with an optional fraction, RFC 3339, or a duration before `nowMs`
 * such as `1h30m`. @throws ApiError 400
 */
export function parseMoment(text: string, nowMs: number): number {
  const seconds = text === '' ? NaN : Number(text);
  if (Number.isFinite(seconds)) return seconds * 1000;
  if (/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) {
    const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
    return nowMs - parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (UNIT_MS[unit ?? ''] ?? 0), 0);
  }
  const ms = Date.parse(text);
  if (Number.isNaN(ms))
    throw badRequest(`invalid time "${text}": seconds since 1970, RFC 3339 or a duration such as 10m is needed`);
  return ms;
}
