/**
 * What holds where a user said nothing (orchestration.md 2.2): the constants, and the policies of a spec with every
 * field filled in. Durations are in nanoseconds, as in the specs.
 */
import type { RestartPolicy, ServiceSpec, TaskSpec, UpdateConfig } from './specs.ts';

const SECOND_NS = 1_000_000_000;

export const DEFAULT_RESTART_POLICY: Readonly<Required<RestartPolicy>> = Object.freeze({
  Condition: 'any',
  Delay: 5 * SECOND_NS,
  MaxAttempts: 0,
  Window: 0,
});

/** Holds for updates and for rollbacks. */
export const DEFAULT_UPDATE_CONFIG: Readonly<Required<UpdateConfig>> = Object.freeze({
  Parallelism: 1,
  Delay: 0,
  FailureAction: 'pause',
  Monitor: 5 * SECOND_NS,
  MaxFailureRatio: 0,
  Order: 'stop-first',
});

export const DEFAULT_STOP_GRACE_PERIOD_NS = 10 * SECOND_NS;
export const DEFAULT_REPLICAS = 1;
/** Dead tasks kept in each slot. */
export const DEFAULT_TASK_HISTORY_RETENTION_LIMIT = 5;

/** The restart policy in force. An empty condition is none said, as in Docker's API; a delay of 0 is one. */
export function restartPolicyOf(spec: TaskSpec): Required<RestartPolicy> {
  const { Condition, Delay, MaxAttempts, Window } = spec.RestartPolicy ?? {};
  return {
    Condition: Condition || DEFAULT_RESTART_POLICY.Condition,
    Delay: Delay ?? DEFAULT_RESTART_POLICY.Delay,
    MaxAttempts: MaxAttempts ?? DEFAULT_RESTART_POLICY.MaxAttempts,
    Window: Window ?? DEFAULT_RESTART_POLICY.Window,
  };
}

export function updateConfigOf(spec: ServiceSpec): Required<UpdateConfig> {
  return filledIn(spec.UpdateConfig);
}

export function rollbackConfigOf(spec: ServiceSpec): Required<UpdateConfig> {
  return filledIn(spec.RollbackConfig);
}

/** Nanoseconds between the stop signal and the kill. */
export function stopGracePeriodOf(spec: TaskSpec): number {
  return spec.ContainerSpec?.StopGracePeriod ?? DEFAULT_STOP_GRACE_PERIOD_NS;
}

/** How many slots a replicated service is to have. */
export function replicasOf(spec: ServiceSpec): number {
  return spec.Mode.Replicated?.Replicas ?? DEFAULT_REPLICAS;
}

/** Parallelism 0 (all at once) is a choice; a monitor of 0, an empty action or order is none said. */
function filledIn(config: UpdateConfig = {}): Required<UpdateConfig> {
  return {
    Parallelism: config.Parallelism ?? DEFAULT_UPDATE_CONFIG.Parallelism,
    Delay: config.Delay ?? DEFAULT_UPDATE_CONFIG.Delay,
    FailureAction: config.FailureAction || DEFAULT_UPDATE_CONFIG.FailureAction,
    Monitor: config.Monitor || DEFAULT_UPDATE_CONFIG.Monitor,
    MaxFailureRatio: config.MaxFailureRatio ?? DEFAULT_UPDATE_CONFIG.MaxFailureRatio,
    Order: config.Order || DEFAULT_UPDATE_CONFIG.Order,
  };
}
