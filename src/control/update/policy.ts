/** Which policy a rollout follows: Docker's update or rollback config, and Drover's labels. Pure. */
import { rollbackConfigOf, updateConfigOf } from '../../model/defaults.ts';
import { isHeldBack } from '../../model/depends-on.ts';
import type { Service } from '../../model/objects.ts';
import { canariesOf, progressDeadlineMsOf } from '../../model/rollouts.ts';
import type { ServiceSpec } from '../../model/specs.ts';
import type { Policy } from './decide.ts';

const NS_PER_MS = 1_000_000;

export function policyOf(service: Service, slots: number): Policy {
  const { spec, rollout, startOrder } = service;
  const back = isRollback(service);
  const config = back ? rollbackConfigOf(spec) : updateConfigOf(spec);
  const delayMs = config.Delay / NS_PER_MS;
  const monitorMs = config.Monitor / NS_PER_MS;
  // What was kept for it makes a rollback cheap: unless the user wants it slow, it is at once.
  const atOnce = rollout?.toKept === true && spec.RollbackConfig?.Parallelism === undefined;
  const canaries = back || service.promoted === service.specVersion ? undefined : canariesOf(spec.Labels, slots);
  return {
    parallelism: (atOnce ? 0 : config.Parallelism) || Infinity,
    delayMs,
    // As in Docker: a task is watched at least until the next one's turn.
    monitorMs: delayMs >= monitorMs ? delayMs + 1000 : monitorMs,
    // No task has to arrive before it may start.
    deadlineMs: isHeldBack(service) ? Infinity : progressDeadlineMsOf(spec.Labels),
    ...(startOrder?.metAt === undefined ? {} : { deadlineFrom: startOrder.metAt }),
    maxFailureRatio: config.MaxFailureRatio,
    // A rollback is never rolled back.
    action: back && config.FailureAction === 'rollback' ? 'pause' : config.FailureAction,
    startFirst: config.Order === 'start-first' && canStandTwice(spec),
    canaries: canaries ?? Infinity,
  };
}

export function isRollback({ updateStatus }: Service): boolean {
  return updateStatus?.state === 'rollback_started';
}

/** Two tasks of a global service cannot have the same port of their node. */
function canStandTwice(spec: ServiceSpec): boolean {
  const ports = spec.EndpointSpec?.Ports ?? [];
  return spec.Mode.Global === undefined || !ports.some((port) => port.PublishMode === 'host' && port.PublishedPort);
}
