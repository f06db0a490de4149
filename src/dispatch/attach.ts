/**
 * Single containers in overlays, the manager's part: an agent asks for an address for a container that it is about to
 * make, says what it sees of it, and gives the address back when it is gone. Every request may be repeated.
 */
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { parseIPv4 } from '../model/addresses.ts';
import { timestamp, type Clock, type Timer } from '../model/clock.ts';
import type { ContainerAttachment, Network } from '../model/objects.ts';
import { nameKey } from '../store/schema.ts';
import type { Event, Store, Transaction, View } from '../store/store.ts';
import { FrameError } from './frames.ts';
import { RequestError } from './http.ts';
import { NodeRemoved } from './node-writes.ts';

/** How long an address may take to come, in milliseconds: less than a plain request may take. */
const ALLOCATED_WITHIN_MS = 8_000;
/** Attachments in one request. */
export const MAX_ATTACHMENTS = 1_000;

const text = (max: number) => z.string().max(max);
const address = text(15).refine((value) => parseIPv4(value) !== undefined, 'not an IPv4 address');

const attachRequest = z.object({
  id: text(64).min(1),
  environment: text(253),
  /** Name, id, or the beginning of an id. */
  network: text(1024).min(1),
  wantedAddress: address.optional(),
  aliases: z.array(text(253)).max(256),
});
const seenRequest = z.object({
  containers: z
    .array(z.object({ id: text(64), container: z.object({ id: text(128), name: text(256), running: z.boolean() }) }))
    .max(MAX_ATTACHMENTS),
});
const releaseRequest = z.object({ ids: z.array(text(64)).max(MAX_ATTACHMENTS) });
const attachAnswer = z.object({ networkId: z.string(), address: z.string() });

/** What an agent asks for. */
export type AttachRequest = z.infer<typeof attachRequest>;
export type AttachAnswer = z.infer<typeof attachAnswer>;
/** What an agent sees: containers by attachment. */
export type SeenRequest = z.infer<typeof seenRequest>;
export type ReleaseRequest = z.infer<typeof releaseRequest>;

/** @throws FrameError */
export function parseAttachAnswer(value: unknown): AttachAnswer {
  return checked(attachAnswer, value);
}

export interface AttachDeps {
  store: Store;
  clock: Clock;
}

/**
 * Gives a container of `nodeId` an address in a network; resolves once its node has a gateway there too. Rejects with
 * RequestError and Docker's sentence: 404 (no such network), 403 (not attachable; address in use), 400 (address), 503.
 */
export async function attach(deps: AttachDeps, body: unknown, nodeId: string): Promise<AttachAnswer> {
  const { store, clock } = deps;
  const request = checked(attachRequest, body);
  await store.update((tx) => create(tx, request, nodeId, clock.now()));
  const row = await settled(deps, request.id);
  if (row?.error === undefined && row?.address !== undefined) return { networkId: row.networkId, address: row.address };
  await store.update((tx) => tx.attachments.get(request.id) && tx.attachments.remove(request.id));
  const reason = row?.error;
  if (reason === undefined) {
    throw new RequestError(
      503,
      `attaching to network ${request.network} failed: the manager gave no address within ${ALLOCATED_WITHIN_MS / 1000} s`,
    );
  }
  const status = reason.startsWith('Invalid address') ? 400 : reason === 'Address already in use' ? 403 : 503;
  throw new RequestError(status, reason);
}

/** Takes over what the node's agent sees of its containers. What is not the node's is passed over. */
export async function seen({ store }: AttachDeps, body: unknown, nodeId: string): Promise<void> {
  const { containers } = checked(seenRequest, body);
  await store.update((tx) => {
    for (const { id, container } of containers) {
      const row = tx.attachments.get(id);
      if (row?.nodeId !== nodeId || isDeepStrictEqual(row.container, container)) continue;
      tx.attachments.update({ ...row, container });
    }
  });
}

/** Takes addresses back. What is gone already, or not the node's, is passed over. */
export async function release({ store }: AttachDeps, body: unknown, nodeId: string): Promise<void> {
  const { ids } = checked(releaseRequest, body);
  await store.update((tx) => {
    for (const id of ids) if (tx.attachments.get(id)?.nodeId === nodeId) tx.attachments.remove(id);
  });
}

function create(tx: Transaction, request: AttachRequest, nodeId: string, nowMs: number): void {
  const { id, environment, network: reference, wantedAddress, aliases } = request;
  if (tx.nodes.get(nodeId) === undefined) throw new RequestError(410, new NodeRemoved().message);
  const known = tx.attachments.get(id);
  if (known !== undefined) {
    if (known.nodeId !== nodeId) throw new RequestError(409, `attachment ${id} is another node's`);
    return;
  }
  const network = findNetwork(tx, environment, reference);
  if (!network.spec.Attachable) {
    throw new RequestError(
      403,
      `Could not attach to network ${reference}: rpc error: code = PermissionDenied desc = network ${reference} not manually attachable`,
    );
  }
  tx.attachments.create({
    id,
    environment,
    networkId: network.id,
    nodeId,
    createdAt: timestamp(nowMs),
    ...(wantedAddress === undefined ? {} : { wantedAddress }),
    aliases,
  });
}

/** By id, name, or the beginning of an id, as everywhere in Docker. */
function findNetwork(view: View, environment: string, reference: string): Network {
  const visible = (network: Network | undefined): network is Network =>
    network !== undefined && network.environment === environment && network.removing !== true;
  const exact = view.networks.get(reference);
  if (visible(exact)) return exact;
  const named = view.networks.by('name', nameKey(environment, reference));
  const found =
    named.length > 0
      ? named
      : [...view.networks.all()].filter((each) => visible(each) && each.id.startsWith(reference));
  if (found.length > 1)
    throw new RequestError(400, `network ${reference} is ambiguous (${found.length} matches found)`);
  const [network] = found;
  if (network === undefined) throw new RequestError(404, `network ${reference} not found`);
  return network;
}

/** The row once the allocator has decided on it and on its node's gateway; as it is by then if that takes too long. */
function settled({ store, clock }: AttachDeps, id: string): Promise<ContainerAttachment | undefined> {
  return new Promise((resolve) => {
    const look = (view: View): boolean => {
      const row = view.attachments.get(id);
      const ready = row?.address !== undefined && view.nodes.get(row.nodeId)?.gateways[row.networkId] !== undefined;
      if (row !== undefined && row.error === undefined && !ready) return false;
      done(row);
      return true;
    };
    const concerns = (event: Event): boolean => event.table === 'attachments' || event.table === 'nodes';
    let timer: Timer | undefined;
    let stop: (() => void) | undefined;
    const done = (row: ContainerAttachment | undefined): void => {
      timer?.cancel();
      stop?.();
      resolve(row);
    };
    if (store.view(look)) return;
    stop = store.watch((events) => {
      if (events.some(concerns)) store.view(look);
    });
    timer = clock.after(ALLOCATED_WITHIN_MS, () => done(undefined));
  });
}

/** @throws FrameError */
function checked<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new FrameError(`a request that is not understood: ${issue.path.join('.') || 'it'}: ${issue.message}`);
}
