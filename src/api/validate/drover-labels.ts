/**
 * The labels of a service that mean something to Drover (docs/reference.md). A value that cannot be meant is refused
 * with what would be right. Pure.
 */
import { parseDuration } from '../../model/durations.ts';
import { DRAIN_LABEL, parseCount, parseHttpTarget, parseTcpTarget, READY } from '../../model/readiness.ts';
import { parseCanary, parseSwitch, ROLLOUT } from '../../model/rollouts.ts';
import { parseRebalance, REBALANCE_LABEL } from '../../model/rebalance.ts';
import { BACKOFF_LABEL, parseBackoff } from '../../model/restart-backoff.ts';
import type { Labels } from '../../model/specs.ts';
import { badRequest } from '../errors.ts';
import { checkDependsOn } from '../stacks/start-order.ts';

const DAY_MS = 86_400_000;

/** @throws ApiError 400 at the first label that breaks a rule */
export function checkDroverLabels(labels: Labels): void {
  checkDuration(labels, DRAIN_LABEL, { zero: true });
  checkReadiness(labels);
  checkRollout(labels);
  checkDependsOn(labels);
  check(labels, BACKOFF_LABEL, parseBackoff, 'off is needed, or the longest delay between restarts such as 30s or 5m');
  check(labels, REBALANCE_LABEL, parseRebalance, 'auto or off is needed');
}

function checkRollout(labels: Labels): void {
  checkDuration(labels, ROLLOUT.deadline, { zero: false });
  check(labels, ROLLOUT.canary, parseCanary, 'a number of tasks from 1, or a percentage from 1% to 100% is needed');
  check(labels, ROLLOUT.confirm, parseSwitch, 'true or false is needed');
  const known: readonly string[] = Object.values(ROLLOUT);
  const unknown = Object.keys(labels).find((label) => label.startsWith('drover.update.') && !known.includes(label));
  if (unknown !== undefined) throw badRequest(`label ${unknown}: there is none of that name, only ${known.join(', ')}`);
}

function checkReadiness(labels: Labels): void {
  check(labels, READY.http, parseHttpTarget, 'a port and a path such as :8080/healthz are needed');
  check(labels, READY.tcp, parseTcpTarget, 'a port from 1 to 65535 is needed');
  checkDuration(labels, READY.interval, { zero: false });
  checkDuration(labels, READY.timeout, { zero: false });
  check(labels, READY.failures, parseCount, 'a whole number from 1 to 1000 is needed');
  const probes = [READY.http, READY.tcp].filter((label) => labels[label] !== undefined);
  if (probes.length === 2) throw badRequest(`labels ${READY.http} and ${READY.tcp}: only one of the two can be given`);
  const detail = [READY.interval, READY.timeout, READY.failures].find((label) => labels[label] !== undefined);
  if (detail !== undefined && probes.length === 0)
    throw badRequest(`label ${detail}: there is no probe it could be about: ${READY.http} or ${READY.tcp} is needed`);
}

/** A duration in Go's notation up to a day; `zero` says whether none at all may be asked for. */
export function checkDuration(labels: Labels, label: string, { zero }: { zero: boolean }): void {
  const parse = (text: string): number | undefined => {
    const ms = parseDuration(text) ?? NaN;
    return ms <= DAY_MS && ms >= (zero ? 0 : 1) ? ms : undefined;
  };
  const least = zero ? '0 for none, or ' : '';
  check(labels, label, parse, `${least}a duration such as 5s or 1m30s is needed, at least 1ms and at most 24h`);
}

function check(labels: Labels, label: string, parse: (text: string) => unknown, rule: string): void {
  const text = labels[label];
  if (text !== undefined && parse(text) === undefined)
    throw badRequest(`label ${label}: ${JSON.stringify(text)} is not understood: ${rule}`);
}
