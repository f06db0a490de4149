/**
 * How a host becomes a node: it asks a manager's address for the cluster's root, checks that against its token, and then
 * sends the token's secret only to a manager whose certificate that root has signed. And how a node gets its next
 * certificate: by the present one. Keys are made on the node and stay.
 */
import type { ClientHttp2Session } from 'node:http2';
import type { Clock } from '../model/clock.ts';
import type { NodeSpec } from '../model/specs.ts';
import { createCertificateRequest } from '../pki/authority.ts';
import { identityOf, parseCertificate, UntrustedCertificate, type Identity } from '../pki/identity.ts';
import { parseJoinToken, rootDigest } from '../pki/token.ts';
import { clockDifference, explainTimes } from './clocks.ts';
import { dialAnyone, dialManager, isAddress, withPort } from './connect.ts';
import { FrameError } from './frames.ts';
import { exchange, onConnection, RequestError } from './http.ts';
import {
  parseCaAnswer,
  parseCertificateAnswer,
  parseRenewalAnswer,
  PATHS,
  type CaAnswer,
  type EtcdKind,
} from './messages.ts';

export interface JoinRequest {
  /** host:port of a manager; port 2377 unless said. */
  address: string;
  token: string;
  availability: NodeSpec['Availability'];
  /** IPv4 address under which the others reach this node; without it, the one the manager sees. */
  advertiseAddress?: string;
  /** Where this node would keep the cluster's state as a manager. */
  etcd?: EtcdKind;
  clock: Clock;
  /** Default 20 s, the time after which Docker's clients are told that joining goes on. */
  timeoutMs?: number;
}

export interface RenewalRequest {
  /** host:port of managers, at least one; asked in turn until one answers. */
  addresses: readonly string[];
  identity: Identity;
  csr: string;
  clock: Clock;
  /** For each manager. Default 10 s. */
  timeoutMs?: number;
}

/** Why there is no certificate; the message is for who asked. `status` is that of the manager's refusal, if it refused. */
export class NoCertificate extends Error {
  override readonly name = 'NoCertificate';
  readonly status: number | undefined;

  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.status = cause instanceof RequestError ? cause.status : undefined;
  }
}

const JOIN_TIMEOUT_MS = 20_000;
const RENEWAL_TIMEOUT_MS = 10_000;

/** Joins: resolves with this node's new identity. Rejects with InvalidToken or NoCertificate; then nothing was kept. */
export async function requestCertificate(request: JoinRequest): Promise<Identity> {
  const { clock, token, availability, advertiseAddress, etcd, timeoutMs = JOIN_TIMEOUT_MS } = request;
  if (!isAddress(request.address)) throw new NoCertificate(`not the address of a manager: ${request.address}`);
  const address = withPort(request.address);
  const expected = parseJoinToken(token).rootDigest;
  const limits = { address, clock, timeoutMs, deadline: clock.monotonic() + timeoutMs };

  const anyone = dialAnyone(address);
  const offered = await asking(anyone, limits, async () => parseCaAnswer(await exchange(anyone, 'GET', PATHS.ca)));
  const rootCertificate = offered.certificate;
  checkDigest(rootCertificate, expected, address);
  checkClock(offered, clock.now());

  const { key, csr } = await createCertificateRequest();
  const manager = dialManager(address, { rootCertificate }, clock);
  const body = { token: token.trim(), csr, availability, advertiseAddress, etcd };
  const answer = await asking(manager, limits, async () =>
    parseCertificateAnswer(await exchange(manager, 'POST', PATHS.certificate, body)),
  );
  try {
    return identityOf({ certificate: answer.certificate, key, rootCertificate }, clock.now());
  } catch (error) {
    throw new NoCertificate(
      `the manager at ${address} sent a certificate that is of no use: ${(error as Error).message}`,
      error,
    );
  }
}

/**
 * The next certificate (PEM) of the node that `identity` is, for the key of `csr`. Rejects with NoCertificate: a refusal
 * at once, whichever manager it came from, unless it is that it cannot say now; that none could be reached, with the last
 * one's reason.
 */
export async function renewCertificate(request: RenewalRequest): Promise<string> {
  const { identity, csr, clock, timeoutMs = RENEWAL_TIMEOUT_MS } = request;
  let failure = new NoCertificate('this node knows no manager to ask');
  for (const address of request.addresses) {
    const manager = dialManager(address, identity, clock, identity);
    const limits = { address, clock, timeoutMs, deadline: clock.monotonic() + timeoutMs };
    try {
      return await asking(manager, limits, async () => {
        return parseRenewalAnswer(await exchange(manager, 'POST', PATHS.renewal, { csr })).certificate;
      });
    } catch (error) {
      // Unavailable: a manager that is just starting, or knows no leader. Another may.
      if (!(error instanceof NoCertificate) || (error.status !== undefined && error.status !== 503)) throw error;
      failure = error;
    }
  }
  throw failure;
}

function checkDigest(rootCertificate: string, expected: string, address: string): void {
  let actual: string;
  try {
    parseCertificate(rootCertificate);
    actual = rootDigest(rootCertificate);
  } catch (error) {
    throw new NoCertificate(`what answers at ${address} is not a manager: it offers no certificate`, error);
  }
  if (actual !== expected) throw new NoCertificate(`remote CA does not match fingerprint. Expected: ${expected}`);
}

/** Before the token is used: a certificate that does not hold here would leave a node behind that never comes. */
function checkClock({ time }: CaAnswer, nowMs: number): void {
  const difference = time === undefined ? '' : clockDifference(nowMs, Date.parse(time));
  if (difference !== '') throw new NoCertificate(`this host cannot join yet: ${difference}, and join again`);
}

interface Limits {
  address: string;
  clock: Clock;
  timeoutMs: number;
  deadline: number;
}

/** Runs one exchange on its connection, within the time left, and says in words what went wrong. */
async function asking<R>(connection: ClientHttp2Session, limits: Limits, ask: () => Promise<R>): Promise<R> {
  const { address, clock, timeoutMs, deadline } = limits;
  const late = `it did not answer within ${timeoutMs / 1000} s`;
  try {
    return await onConnection(connection, { clock, limitMs: deadline - clock.monotonic(), late }, ask);
  } catch (error) {
    throw await inWords(error as Error, address, clock);
  }
}

async function inWords(error: Error, address: string, clock: Clock): Promise<NoCertificate> {
  const message = await explainTimes(error, address, clock);
  if (error instanceof RequestError) return new NoCertificate(message, error);
  if (error instanceof UntrustedCertificate)
    return new NoCertificate(`who answers at ${address} cannot be trusted: ${message}`, error);
  if (error instanceof FrameError)
    return new NoCertificate(`what answers at ${address} is not a manager: ${message}`, error);
  return new NoCertificate(`cannot reach a manager at ${address}: ${message}`, error);
}
