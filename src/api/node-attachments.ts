/**
 * What the API asks of the daemon for single containers in overlays, on whatever node it stands. The agent implements
 * it. What the managers refuse comes as RequestError (dispatch), that none can be asked as SessionLost.
 */
import { SessionLost } from '../dispatch/agent-session.ts';
import type { AddressRequest, OverlayHere, Reservation } from '../model/attachments.ts';
import type { Network } from '../model/objects.ts';
import { EngineUnreachable } from '../docker/errors.ts';
import { RequestError } from '../dispatch/http.ts';
import { ApiError, answerFor, unavailable } from './errors.ts';

export interface NodeAttachments {
  overlays(): readonly OverlayHere[];
  /** `settled` must follow, whatever becomes of the container. */
  reserve(request: AddressRequest): Promise<Reservation>;
  /** The container of these reservations is made, or will not be: what no container has goes back. */
  settled(reservations: readonly Reservation[], containerId: string | undefined): Promise<void>;
  /** A container was connected or disconnected. */
  look(containerId: string): Promise<void>;
}

/** An overlay as far as a worker knows it, in the words of the managers. */
export function asNetwork(here: OverlayHere): Network {
  const { id, environment, name, labels, internal, ingress, attachable, options, subnet, vni } = here;
  return {
    id,
    environment,
    meta: { version: 0, createdAt: '0001-01-01T00:00:00Z', updatedAt: '' },
    spec: {
      Name: name,
      Labels: labels,
      Driver: 'overlay',
      Internal: internal,
      Attachable: attachable === true,
      Ingress: ingress,
      EnableIPv6: false,
      Options: options,
      IPAM: { Driver: 'default', Config: [] },
    },
    allocation: { subnet, vni },
  };
}

/** Why a container did not get into `network`, as an answer. */
export function attachError(error: unknown, network: string): Error {
  if (error instanceof ApiError || error instanceof EngineUnreachable) return error;
  if (error instanceof RequestError) return new ApiError(error.status, error.message);
  if (error instanceof SessionLost) {
    return unavailable(
      `Could not attach to network ${network}: no manager of the swarm can be asked for an address (${error.message}). Containers that run go on; try again when a manager is back.`,
    );
  }
  const { status, message } = answerFor(error);
  return status === 500
    ? unavailable(`Could not attach to network ${network}: ${message}`)
    : new ApiError(status, message);
}
