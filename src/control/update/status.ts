/** What the update loop writes on a service: how a rollout begins, goes on, stops and ends, in Docker's words. Pure. */
import { timestamp } from '../../model/clock.ts';
import type { Rollout, Service, UpdateStatus } from '../../model/objects.ts';
import type { Failure, RolloutSlot } from './decide.ts';
import { isRollback } from './policy.ts';
import { isUnderWay } from './slots.ts';

/** The rollout that `slots` ask for, begun in the transaction `index`. One that goes back says so already. */
export function begun(service: Service, slots: readonly RolloutSlot[], index: number, nowMs: number): Service {
  const kept = service.rollout?.waitsFor === 'confirm' && isRollback(service);
  const rollout: Rollout = {
    id: index,
    version: service.meta.version,
    slots: slots.filter((slot) => slot.dirty).length,
    startedAt: timestamp(nowMs),
    ...(kept ? { toKept: true } : {}),
  };
  const updateStatus: UpdateStatus = isUnderWay(service)
    ? service.updateStatus!
    : { state: 'updating', startedAt: timestamp(nowMs), message: 'update in progress' };
  return { ...service, rollout, updateStatus };
}

/** The same rollout with nothing to wait for, or with the word it waits for. */
export function waiting(service: Service, waitsFor: Rollout['waitsFor'], slots: readonly RolloutSlot[]): Service {
  const { rollout, updateStatus } = service;
  if (rollout === undefined || updateStatus === undefined || rollout.waitsFor === waitsFor) return service;
  const { waitsFor: _, ...rest } = rollout;
  if (waitsFor === undefined) {
    return { ...service, rollout: rest, updateStatus: { ...updateStatus, message: 'update in progress' } };
  }
  const message = waitingMessage(service, waitsFor, slots);
  return { ...service, rollout: { ...rest, waitsFor }, updateStatus: { ...updateStatus, message } };
}

function waitingMessage(
  { spec: { Name } }: Service,
  waitsFor: 'promote' | 'confirm',
  slots: readonly RolloutSlot[],
): string {
  if (waitsFor === 'confirm')
    return `waiting for confirmation, the old tasks are kept: "drover service confirm ${Name}" lets them go, "drover service rollback ${Name}" goes back`;
  const updated = slots.filter((slot) => !slot.dirty).length;
  return `waiting with ${updated} of ${slots.length} tasks updated: "drover service promote ${Name}" updates the rest, "drover service abort ${Name}" goes back`;
}

export function completed(service: Service, nowMs: number): Service {
  const completedAt = timestamp(nowMs);
  const { startedAt = completedAt, message = '' } = service.updateStatus ?? {};
  // Why an update went back is worth knowing afterwards, too.
  const because = message.startsWith('update ') ? ` (${message})` : '';
  const outcome = isRollback(service)
    ? ({ state: 'rollback_completed', message: `rollback completed${because}` } as const)
    : ({ state: 'completed', message: 'update completed' } as const);
  return { ...waiting(service, undefined, []), updateStatus: { ...outcome, startedAt, completedAt } };
}

/** A rollout that stops where it is. */
export function paused(service: Service, failure: Failure, nowMs: number): Service {
  const back = isRollback(service);
  const startedAt = service.updateStatus?.startedAt ?? timestamp(nowMs);
  const message = `${back ? 'rollback' : 'update'} paused due to ${cause(failure)}`;
  return { ...service, updateStatus: { state: back ? 'rollback_paused' : 'paused', startedAt, message } };
}

/**
 * An update that goes back by itself: as in Docker to the very version it came from, for whose tasks nothing has changed,
 * and with no spec before it. One that came from nowhere can only pause.
 */
export function rolledBack(service: Service, failure: Failure, index: number, nowMs: number): Service {
  const { previousSpec, previousSpecVersion, ...rest } = service;
  if (previousSpec === undefined || previousSpecVersion === undefined) return paused(service, failure, nowMs);
  const startedAt = service.updateStatus?.startedAt ?? timestamp(nowMs);
  return {
    ...rest,
    spec: previousSpec,
    specVersion: previousSpecVersion,
    meta: { ...service.meta, version: index, updatedAt: timestamp(nowMs) },
    updateStatus: { state: 'rollback_started', startedAt, message: `update rolled back due to ${cause(failure)}` },
  };
}

function cause({ task, reason }: Failure): string {
  return `failure or early termination of task ${task.id}${reason === undefined ? '' : `: ${reason}`}`;
}
