/** A task as Docker's API shows it. Pure. */
import { shownSlot, type Network, type Service, type ServiceSpecVersion, type Task } from '../../model/objects.ts';
import { crashLoop } from '../../model/restart-backoff.ts';
import { taskStateName, TaskState } from '../../model/states.ts';
import { networkReference } from './network.ts';
import { hiddenAuth } from './service.ts';
import { portJson } from './ports.ts';

/**
 * `spec` is the version the task was made from; `networkOf` finds the overlays it is attached to. `service`: a task that
 * its start order holds back says what it waits for.
 */
export function taskJson(
  task: Task,
  spec: ServiceSpecVersion | undefined,
  networkOf: (id: string) => Network | undefined,
  service?: Pick<Service, 'startOrder'>,
): object {
  const { meta, status } = task;
  const waits = task.desiredState === TaskState.READY ? service?.startOrder : undefined;
  const error = status.error ?? waits?.waitsFor ?? crashLoop(task);
  return {
    ID: task.id,
    Version: { Index: meta.version },
    CreatedAt: meta.createdAt,
    UpdatedAt: meta.updatedAt,
    Labels: {},
    Spec: spec === undefined ? {} : hiddenAuth(spec.spec).TaskTemplate,
    ServiceID: task.serviceId,
    ...(shownSlot(task) === 0 ? {} : { Slot: shownSlot(task) }),
    ...(task.nodeId === '' ? {} : { NodeID: task.nodeId }),
    Status: {
      Timestamp: status.timestamp,
      State: taskStateName(status.state),
      Message: waits?.waitsFor ?? status.message,
      ...(error === undefined ? {} : { Err: error }),
      ...(status.container === undefined ? {} : { ContainerStatus: containerJson(status.container) }),
      PortStatus: status.ports === undefined || status.ports.length === 0 ? {} : { Ports: status.ports.map(portJson) },
    },
    DesiredState: taskStateName(task.desiredState),
    ...(task.jobIteration === undefined ? {} : { JobIteration: { Index: task.jobIteration } }),
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
