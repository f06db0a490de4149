/**
 * Whether a task must be replaced for its service's new spec to hold (rules of orchestration.md 2.5, last line).
 * Pure. What means the same counts as the same: a policy left out and its default, a missing list and an empty one.
 */
import { restartPolicyOf, stopGracePeriodOf } from './defaults.ts';
import type { Service, Task } from './objects.ts';
import type { EndpointSpec, ServiceSpec, TaskSpec } from './specs.ts';

/**
 * True if `task`, made from `taskSpec`, differs from what `service` declares now in something a task can feel.
 * Names, labels and replicas of the service are not that. If only the placement changed, the task may stay where
 * `nodeFits()` says that its node meets the new one; without `nodeFits` it may not. `nodeFits` is asked only then.
 */
export function isTaskDirty(
  task: Pick<Task, 'specVersion'>,
  taskSpec: ServiceSpec,
  service: Pick<Service, 'spec' | 'specVersion'>,
  nodeFits: () => boolean = () => false,
): boolean {
  if (task.specVersion === service.specVersion) return false;
  if (!same(felt(taskSpec), felt(service.spec))) return true;
  return !same(taskSpec.TaskTemplate.Placement, service.spec.TaskTemplate.Placement) && !nodeFits();
}

/** All that a task can feel of its service's spec but the placement. */
function felt(spec: ServiceSpec): object {
  return {
    task: feltOfTask(spec.TaskTemplate),
    networks: networksOf(spec),
    endpoint: feltOfEndpoint(spec.EndpointSpec),
  };
}

function feltOfTask(spec: TaskSpec): object {
  return {
    ...spec,
    Placement: undefined,
    Networks: undefined,
    ForceUpdate: spec.ForceUpdate ?? 0,
    Runtime: spec.Runtime || 'container',
    RestartPolicy: restartPolicyOf(spec),
    ContainerSpec: {
      ...spec.ContainerSpec,
      StopGracePeriod: stopGracePeriodOf(spec),
      Isolation: spec.ContainerSpec?.Isolation || 'default',
      // A task that runs does not care how its image was fetched.
      PullOptions: undefined,
    },
  };
}

function networksOf(spec: ServiceSpec): unknown {
  return spec.TaskTemplate.Networks ?? spec.Networks;
}

function feltOfEndpoint(spec: EndpointSpec = {}): object {
  return {
    mode: spec.Mode ?? 'vip',
    ports: (spec.Ports ?? []).map((port) => ({
      ...port,
      Protocol: port.Protocol ?? 'tcp',
      PublishedPort: port.PublishedPort ?? 0,
      PublishMode: port.PublishMode ?? 'ingress',
    })),
  };
}

/** Equal in depth, whatever the order of keys; undefined, null, {} and [] are all "nothing said". */
function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (isNothing(a) || isNothing(b)) return isNothing(a) && isNothing(b);
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, i) => same(item, b[i]));
  }
  if (!isRecord(a) || !isRecord(b)) return false;
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].every((key) => same(a[key], b[key]));
}

/** A record all of whose values are nothing is nothing too: `Resources: { Limits: {} }` limits nothing. */
function isNothing(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  if (Array.isArray(value)) return value.length === 0;
  return isRecord(value) && Object.values(value).every(isNothing);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
