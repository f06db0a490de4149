/** A task as Docker's API shows it. Pure. */
import type { Network, ServiceSpecVersion, Task } from '../../model/objects.ts';
import { taskStateName } from '../../model/states.ts';
import { networkReference } from './network.ts';
import { hiddenAuth } from './service.ts';
import { portJson } from './ports.ts';

/** `spec` is the version the task was made from; `networkOf` finds the overlays it is attached to. */
export function taskJson(
  task: Task,
  spec: ServiceSpecVersion | undefined,
  networkOf: (id: string) => Network | undefined,
): object {
  const { meta, status } = task;
  return {
    ID: task.id,
    Version: { Index: meta.version },
    CreatedAt: meta.createdAt,
    UpdatedAt: meta.updatedAt,
    Labels: {},
    Spec: spec === undefined ? {} : hiddenAuth(spec.spec).TaskTemplate,
    ServiceID: task.serviceId,
    ...(task.slot === 0 ? {} : { Slot: task.slot }),
    ...(task.nodeId === '' ? {} : { NodeID: task.nodeId }),
    Status: {
      Timestamp: status.timestamp,
      State: taskStateName(status.state),
      Message: status.message,
      ...(status.error === undefined ? {} : { Err: status.error }),
      ...(status.container === undefined ? {} : { ContainerStatus: containerJson(status.container) }),
      PortStatus: status.ports === undefined || status.ports.length === 0 ? {} : { Ports: status.ports.map(portJson) },
    },
    DesiredState: taskStateName(task.desiredState),
    ...(task.genericResources === undefined ? {} : { GenericResources: task.genericResources }),
    ...(task.networks.length === 0 ? {} : { NetworksAttachments: attachments(task, networkOf) }),
  };
}

function containerJson(container: NonNullable<Task['status']['container']>): object {
  return { ContainerID: container.id, PID: container.pid, ExitCode: container.exitCode ?? 0 };
}

function attachments(task: Task, networkOf: (id: string) => Network | undefined): object[] {
  return task.networks.flatMap(({ networkId, address }) => {
    const network = networkOf(networkId);
    if (network === undefined) return [];
    const prefix = network.allocation?.subnet.split('/')[1] ?? '32';
    return [{ Network: networkReference(network), Addresses: [`${address}/${prefix}`] }];
  });
}
