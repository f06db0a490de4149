/**
 * Clocks that differ. Certificates hold between two times, so a host whose clock is off is refused, or refuses others, with
 * errors that do not say so. Here such a failure is put into words that name the certificate's time and both clocks'. What a
 * manager says of its clock is believed for that only.
 */
import type { TLSSocket } from 'node:tls';
import { timestamp, type Clock } from '../model/clock.ts';
import { CertificateNotCurrent, lifeOf, type Life } from '../pki/identity.ts';
import { dialAnyone } from './connect.ts';
import { exchange, onConnection, RequestError } from './http.ts';
import { parseCaAnswer, PATHS } from './messages.ts';

/** Half of the hour for which certificates are backdated: beyond it, what one host issues may not hold on another. */
const GREATEST_DIFFERENCE_MS = 30 * 60_000;
const ASK_MS = 2_000;
const MINUTE_MS = 60_000;
/** How TLS calls a certificate that is right, but not now. */
const TLS_CODES = new Set(['CERT_NOT_YET_VALID', 'CERT_HAS_EXPIRED']);

/** That two clocks are too far apart for a cluster, in words; '' if they are not. */
export function clockDifference(hereMs: number, managerMs: number): string {
  const apartMs = Math.abs(hereMs - managerMs);
  if (apartMs < GREATEST_DIFFERENCE_MS) return '';
  const apart = `${Math.round(apartMs / MINUTE_MS)} min ${hereMs < managerMs ? 'behind' : 'ahead of'}`;
  return `the clock here says ${timestamp(hereMs)}, ${apart} the manager's, which says ${timestamp(managerMs)}: set the clocks`;
}

/**
 * What an error met while dialling or asking the manager at `address` means. If it may be a matter of time, that manager is
 * asked for its clock, for at most 2 s. Never rejects.
 */
export async function explainTimes(error: Error, address: string, clock: Clock): Promise<string> {
  const byTls = TLS_CODES.has((error as NodeJS.ErrnoException).code ?? '');
  const refused = error instanceof RequestError && error.status === 401;
  if (!byTls && !refused && !(error instanceof CertificateNotCurrent)) return error.message;
  let there: { life: Life | undefined; timeMs: number | undefined };
  try {
    there = await askTimes(address, clock);
  } catch {
    return error.message; // The manager went away meanwhile: the first error is the better one.
  }
  const { life, timeMs } = there;
  const nowMs = clock.now();
  const what =
    byTls && life !== undefined ? `what the manager shows is of no use: ${lifeInWords(life, nowMs)}` : error.message;
  const difference = timeMs === undefined ? '' : clockDifference(nowMs, timeMs);
  return difference === '' ? what : `${what}; ${difference}`;
}

function lifeInWords(life: Life, nowMs: number): string {
  return new CertificateNotCurrent(life, nowMs).message;
}

async function askTimes(
  address: string,
  clock: Clock,
): Promise<{ life: Life | undefined; timeMs: number | undefined }> {
  const connection = dialAnyone(address);
  const limit = { clock, limitMs: ASK_MS, late: `${address} did not answer` };
  return onConnection(connection, limit, async () => {
    const { time } = parseCaAnswer(await exchange(connection, 'GET', PATHS.ca));
    const certificate = (connection.socket as TLSSocket).getPeerX509Certificate();
    return {
      life: certificate === undefined ? undefined : lifeOf(certificate),
      timeMs: time === undefined ? undefined : Date.parse(time),
    };
  });
}
