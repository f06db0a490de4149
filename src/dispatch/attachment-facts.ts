/** What nodes are to know of single containers in overlays: part of facts.ts, whose promise holds for it too. Pure. */
import type { AttachmentAssignment, EndpointAssignment } from '../model/assignments.ts';
import type { ContainerAttachment } from '../model/objects.ts';
import type { View } from '../store/store.ts';

/** As many characters of its id as a container goes by. */
const SHORT_ID = 12;

/** What its own node is told of an attachment, once it has its address and the node its gateway. */
export function attachmentOf(view: View, nodeId: string, id: string): AttachmentAssignment | null {
  const row = view.attachments.get(id);
  if (row?.address === undefined || row.nodeId !== nodeId) return null;
  if (view.nodes.get(nodeId)?.gateways[row.networkId] === undefined) return null;
  const { networkId, address, aliases, container } = row;
  return { id, networkId, address, aliases, ...(container === undefined ? {} : { container }) };
}

/**
 * What every node of the network is told: where its address is, and under which names. They lead to it while it runs on
 * a node that is there.
 */
export function attachedEndpointOf(view: View, networkId: string, id: string): EndpointAssignment | null {
  const row = view.attachments.get(id);
  if (row?.address === undefined || row.networkId !== networkId) return null;
  const node = view.nodes.get(row.nodeId);
  const dataPathAddress = node?.description?.dataPathAddress;
  if (node === undefined || dataPathAddress === undefined) return null;
  const { nodeId, address, aliases, container } = row;
  return {
    networkId,
    taskId: id,
    serviceId: '',
    slot: 0,
    nodeId,
    address,
    dataPathAddress,
    serving: container?.running === true && node.status.state !== 'down',
    aliases: container === undefined ? aliases : [container.name, ...aliases, container.id.slice(0, SHORT_ID)],
  };
}

/** Which facts a change of an attachment touches. */
export function markAttachment(
  before: ContainerAttachment | undefined,
  after: ContainerAttachment | undefined,
  marks: {
    own(nodeId: string, fact: `attachment ${string}`): void;
    shared(networkId: string, fact: `endpoint ${string}`): void;
  },
): void {
  for (const { id, nodeId, networkId } of [before, after].filter((row) => row !== undefined)) {
    marks.own(nodeId, `attachment ${id}`);
    marks.shared(networkId, `endpoint ${networkId}/${id}`);
  }
}
