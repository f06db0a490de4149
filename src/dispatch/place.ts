/**
 * How a node takes its place among the managers. It proves by its certificate that it is to be one and asks the leader, which
 * lets its member of the journal in (none, where that stands elsewhere), and gives it what only managers have: the key of the
 * cluster's state.
 */
import { z } from 'zod';
import type { Clock } from '../model/clock.ts';
import type { Identity } from '../pki/identity.ts';
import { dialManager, isAddress } from './connect.ts';
import { FrameError } from './frames.ts';
import { exchange, NotTheLeader, onConnection, RequestError } from './http.ts';
import { etcdKind, PATHS } from './messages.ts';

const peer = z.object({ name: z.string().min(1).max(128), peerUrl: z.url().max(256) });
const placeRequest = z.object({
  /** host:port by which nodes reach this manager. */
  address: z.string().max(64).refine(isAddress, 'not host:port'),
  /** What takes part in the managers' own etcd. */
  peer: peer.optional(),
  etcd: etcdKind,
});
const placeAnswer = z.object({
  /** All members of the managers' own etcd, this one among them. */
  peers: z.array(peer),
  /** With which the cluster's state is encrypted, the newest last; each in base64. */
  keys: z.array(z.object({ id: z.string().min(1), key: z.string().min(1) })).min(1),
  /** What the managers lock those keys with on their disks; absent: nothing. */
  unlockKey: z.string().optional(),
});

export type PlaceRequest = z.infer<typeof placeRequest>;
export type PlaceAnswer = z.infer<typeof placeAnswer>;

/** On the leader: lets a manager in. Rejects with RequestError: 503 when it is to ask again. */
export type GivePlace = (nodeId: string, request: PlaceRequest) => Promise<PlaceAnswer>;

/** @throws FrameError */
export function parsePlaceRequest(body: unknown): PlaceRequest {
  const parsed = placeRequest.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new FrameError(`not a request for a place among the managers: ${z.prettifyError(parsed.error)}`);
}

export interface PlaceAsk {
  /** host:port of managers, at least one. */
  addresses: readonly string[];
  identity: Identity;
  request: PlaceRequest;
  clock: Clock;
  /** For each manager that is asked. */
  timeoutMs: number;
}

/**
 * Asks one manager after the other, and the leader that one of them names. Rejects with the last refusal, or with why none
 * could be reached.
 */
export async function askForPlace(ask: PlaceAsk): Promise<PlaceAnswer> {
  const asked = new Set<string>();
  const left = [...ask.addresses];
  let failure: unknown = new Error('this node knows no manager to ask');
  for (let address = left.shift(); address !== undefined; address = left.shift()) {
    if (asked.has(address)) continue;
    asked.add(address);
    try {
      return await askOne(address, ask);
    } catch (error) {
      failure = error;
      if (error instanceof NotTheLeader && error.leader !== '') left.unshift(error.leader);
      else if (error instanceof RequestError && error.status !== 503) throw error;
    }
  }
  throw failure;
}

async function askOne(address: string, { identity, request, clock, timeoutMs }: PlaceAsk): Promise<PlaceAnswer> {
  const connection = dialManager(address, identity, clock, identity);
  const limit = { clock, limitMs: timeoutMs, late: `the manager at ${address} did not answer` };
  return onConnection(connection, limit, async () => {
    const answer = placeAnswer.safeParse(await exchange(connection, 'POST', PATHS.place, request));
    if (answer.success) return answer.data;
    throw new Error(`the manager at ${address} gave an answer that is not understood`);
  });
}
