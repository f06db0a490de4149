/** Single containers in overlays, as the API asks the agent of a node for them. */
import type { NetworkAssignment } from './assignments.ts';

/** An overlay that stands on this node, or is to; `engineNetwork` is the engine's own name for its part. */
export type OverlayHere = NetworkAssignment & { engineNetwork: string };

export interface AddressRequest {
  environment: string;
  /** Name, id, or the beginning of an id. */
  network: string;
  wantedAddress?: string;
  aliases: string[];
}

/** An address for a container that is about to be made or connected. */
export interface Reservation {
  id: string;
  networkId: string;
  address: string;
  engineNetwork: string;
  /** This node's own address in the network: our resolver answers there. */
  gateway: string;
}
