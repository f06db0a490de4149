/** A single container in an overlay as Docker's API shows it: a task of the runtime `attachment`. Pure. */
import type { ContainerAttachment, Network } from '../../model/objects.ts';
import { networkReference } from './network.ts';

export function attachmentJson(row: ContainerAttachment, network: Network | undefined): object {
  const { id, nodeId, networkId, createdAt, aliases, address, error, container } = row;
  const prefix = network?.allocation?.subnet.split('/')[1] ?? '32';
  const addresses = address === undefined ? [] : [`${address}/${prefix}`];
  return {
    ID: id,
    Version: { Index: 0 },
    CreatedAt: createdAt,
    UpdatedAt: createdAt,
    Labels: {},
    Spec: {
      NetworkAttachmentSpec: { ContainerID: container?.id ?? '' },
      Networks: [{ Target: networkId, Aliases: aliases }],
      ForceUpdate: 0,
      Runtime: 'attachment',
    },
    NodeID: nodeId,
    Status: {
      Timestamp: createdAt,
      State: container?.running === true ? 'running' : 'ready',
      Message: container?.running === true ? 'started' : 'the container does not run',
      ...(error === undefined ? {} : { Err: error }),
      ...(container === undefined ? {} : { ContainerStatus: { ContainerID: container.id, PID: 0, ExitCode: 0 } }),
      PortStatus: {},
    },
    DesiredState: 'running',
    ...(network === undefined
      ? {}
      : { NetworksAttachments: [{ Network: networkReference(network), Addresses: addresses }] }),
  };
}
