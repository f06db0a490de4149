/** What a node says of making, joining and leaving clusters: Docker's sentences where Docker has one. */
import { ApiError, badRequest, unavailable } from '../api/errors.ts';
import { NoCertificate } from '../dispatch/request-certificate.ts';
import { EtcdUnfit } from '../journal/etcd/outside.ts';
import { InvalidToken } from '../pki/token.ts';
import { AddressError } from './addresses.ts';
import { BackupRefused } from './backup.ts';

export const ALREADY_PART =
  'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.';
export const NOT_PART = 'This node is not part of a swarm';
export const JOIN_TIMEOUT =
  'Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the "docker info" command to see the current swarm status of your node.';
export const LEAVING = 'This node has not left its swarm in full (use "docker swarm leave --force" to go on)';
export const REMOVED =
  'This node has been removed from its swarm. What it runs goes on until "docker swarm leave", after which it can join again.';
export const NOT_MANAGER = 'This node is not a swarm manager, or is locked: it has no state to go on with.';
export const NOT_ALONE_YET =
  'This manager does not lead yet. It goes on in the background; ask again with --force-new-cluster until it does.';
export const NO_FORCE =
  'This swarm keeps its state in an etcd that stands elsewhere: each manager that reaches it goes on without the others, so no new cluster is made. Demote the managers that are lost with "docker node demote".';
export const NOT_ELECTED =
  'The etcd that --etcd-endpoints names does not let this manager lead in time; nothing was changed.';
/** For the log. */
export const ENDED = 'the state of a swarm that has ended';
export const BUSY = 'This node is just joining or leaving a swarm. Try again in a moment.';

/** Why a node does not leave while its engine is away. */
export function cannotLeave(error: unknown): ApiError {
  return unavailable(
    `This node cannot leave the swarm now, because its containers have to be removed: ${(error as Error).message}`,
  );
}

/** Errors of addresses, tokens, managers and their etcd as Docker's clients expect them; any other as it is. */
export function asApiError(error: unknown): unknown {
  if (error instanceof AddressError || error instanceof InvalidToken || error instanceof BackupRefused)
    return badRequest(error.message);
  if (error instanceof EtcdUnfit) return unavailable(error.message);
  // A wrong token is bad input to Docker's clients, whatever the manager calls it.
  if (error instanceof NoCertificate)
    return new ApiError(error.status === 403 ? 400 : (error.status ?? 503), error.message);
  return error;
}
