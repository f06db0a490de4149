/** A service as Docker's API shows it: with or without the defaults that hold where its spec says nothing. Pure. */
import {
  DEFAULT_STOP_GRACE_PERIOD_NS,
  replicasOf,
  restartPolicyOf,
  rollbackConfigOf,
  updateConfigOf,
} from '../../model/defaults.ts';
import { isJob, type Network, type Service, type Task, type UpdateStatus } from '../../model/objects.ts';
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
    ...(service.jobStatus === undefined ? {} : { JobStatus: jobStatusJson(service.jobStatus) }),
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
    ...(isJob({ spec }) ? {} : { UpdateConfig: updateConfigOf(spec), RollbackConfig: rollbackConfigOf(spec) }),
    EndpointSpec: { ...spec.EndpointSpec, Mode: spec.EndpointSpec?.Mode ?? 'vip' },
  };
}

/**
 * Counts as Docker's `service ls` shows them. Running: observed and wanted, so that a task on a lost host or one being
 * stopped does not count. Desired, for a global service: the nodes it is to run on.
 *
 * Of a job only the present run counts. Desired: how many may run at once or, of a global one, the tasks that have not
 * completed; clients add the completed ones.
 */
export function serviceStatus(service: Service, tasks: readonly Task[]): object {
  const { jobStatus } = service;
  const present = tasks.filter((task) => task.jobIteration === jobStatus?.iteration);
  const isDone = (task: Task): boolean => jobStatus !== undefined && task.status.state === TaskState.COMPLETE;
  // One that was being stopped may have completed, and the one in its place as well.
  const completed = new Set(present.filter(isDone).map((task) => task.slot || task.nodeId));
  const wanted = present.filter((task) => task.desiredState <= TaskState.COMPLETE && !isDone(task));
  return {
    RunningTasks: wanted.filter((task) => task.status.state === TaskState.RUNNING).length,
    // Start-first, a node may have two for a while.
    DesiredTasks: desiredTasks(service.spec) ?? new Set(wanted.map(({ nodeId }) => nodeId)).size,
    CompletedTasks: completed.size,
  };
}

/** Undefined for the global modes, where the nodes decide. */
function desiredTasks({ Mode, ...spec }: ServiceSpec): number | undefined {
  if (Mode.Global !== undefined || Mode.GlobalJob !== undefined) return undefined;
  return Mode.ReplicatedJob === undefined ? replicasOf({ Mode, ...spec }) : (Mode.ReplicatedJob.MaxConcurrent ?? 1);
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

function jobStatusJson({ iteration, lastExecution }: NonNullable<Service['jobStatus']>): object {
  return { JobIteration: { Index: iteration }, LastExecution: lastExecution };
}

function updateStatusJson(status: UpdateStatus): object {
  return {
    State: status.state,
    StartedAt: status.startedAt,
    ...(status.completedAt === undefined ? {} : { CompletedAt: status.completedAt }),
    Message: status.message,
  };
}
