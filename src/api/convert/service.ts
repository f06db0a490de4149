/** A service as Docker's API shows it: with or without the defaults that hold where its spec says nothing. Pure. */
import {
  DEFAULT_STOP_GRACE_PERIOD_NS,
  replicasOf,
  restartPolicyOf,
  rollbackConfigOf,
  updateConfigOf,
} from '../../model/defaults.ts';
import type { Network, Service, Task, UpdateStatus } from '../../model/objects.ts';
import type { ServiceSpec } from '../../model/specs.ts';
import { TaskState } from '../../model/states.ts';
import { portJson } from './ports.ts';

export interface ServiceView {
  /** Fill in the defaults (`insertDefaults=true`). */
  defaults?: boolean;
  /** Its tasks, when the status is asked for (`status=true`). */
  tasks?: readonly Task[];
}

export function serviceJson(
  service: Service,
  networkOf: (id: string) => Network | undefined,
  view: ServiceView = {},
): object {
  const shown = (spec: ServiceSpec): ServiceSpec =>
    view.defaults === true ? withDefaults(hiddenAuth(spec)) : hiddenAuth(spec);
  return {
    ID: service.id,
    Version: { Index: service.meta.version },
    CreatedAt: service.meta.createdAt,
    UpdatedAt: service.meta.updatedAt,
    Spec: shown(service.spec),
    ...(service.previousSpec === undefined ? {} : { PreviousSpec: shown(service.previousSpec) }),
    Endpoint: endpointJson(service, networkOf),
    ...(service.updateStatus === undefined ? {} : { UpdateStatus: updateStatusJson(service.updateStatus) }),
    ...(view.tasks === undefined ? {} : { ServiceStatus: serviceStatus(service, view.tasks) }),
  };
}

/** The spec without what is never shown: credentials for the registry. */
export function hiddenAuth(spec: ServiceSpec): ServiceSpec {
  const container = spec.TaskTemplate.ContainerSpec;
  if (container?.PullOptions === undefined) return spec;
  const { PullOptions: _, ...shown } = container;
  return { ...spec, TaskTemplate: { ...spec.TaskTemplate, ContainerSpec: shown } };
}

/** The spec with every default in it that Docker shows (orchestration.md 2.2). */
export function withDefaults(spec: ServiceSpec): ServiceSpec {
  const task = spec.TaskTemplate;
  return {
    ...spec,
    TaskTemplate: {
      ...task,
      ...(task.ContainerSpec === undefined
        ? {}
        : { ContainerSpec: { StopGracePeriod: DEFAULT_STOP_GRACE_PERIOD_NS, DNSConfig: {}, ...task.ContainerSpec } }),
      Resources: { Limits: {}, Reservations: {}, ...task.Resources },
      RestartPolicy: { ...task.RestartPolicy, ...restartPolicyOf(task) },
      Placement: { ...task.Placement },
      ForceUpdate: task.ForceUpdate ?? 0,
      Runtime: task.Runtime || 'container',
    },
    UpdateConfig: updateConfigOf(spec),
    RollbackConfig: rollbackConfigOf(spec),
    EndpointSpec: { ...spec.EndpointSpec, Mode: spec.EndpointSpec?.Mode ?? 'vip' },
  };
}

/**
 * Counts as Docker's `service ls` shows them. Running: observed and wanted, so that a task on a lost host or one being
 * stopped does not count. Desired, for a global service: the nodes it is to run on.
 */
export function serviceStatus(service: Service, tasks: readonly Task[]): object {
  const wanted = tasks.filter((task) => task.desiredState <= TaskState.RUNNING);
  return {
    RunningTasks: wanted.filter((task) => task.status.state === TaskState.RUNNING).length,
    DesiredTasks: service.spec.Mode.Global === undefined ? replicasOf(service.spec) : wanted.length,
    CompletedTasks: 0,
  };
}

function endpointJson(service: Service, networkOf: (id: string) => Network | undefined): object {
  const { endpoint } = service;
  if (endpoint === undefined) return { Spec: {} };
  return {
    Spec: {
      Mode: endpoint.spec.Mode ?? 'vip',
      ...(endpoint.spec.Ports === undefined ? {} : { Ports: endpoint.spec.Ports }),
    },
    ...(endpoint.ports.length === 0 ? {} : { Ports: endpoint.ports.map(portJson) }),
    ...(endpoint.virtualIps.length === 0
      ? {}
      : {
          VirtualIPs: endpoint.virtualIps.map(({ networkId, address }) => ({
            NetworkID: networkId,
            Addr: `${address}/${networkOf(networkId)?.allocation?.subnet.split('/')[1] ?? '32'}`,
          })),
        }),
  };
}

function updateStatusJson(status: UpdateStatus): object {
  return {
    State: status.state,
    StartedAt: status.startedAt,
    ...(status.completedAt === undefined ? {} : { CompletedAt: status.completedAt }),
    Message: status.message,
  };
}
