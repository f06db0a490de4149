/**
 * Nearly all that agents say are reports, and nearly all reports have nothing unusual in them. Those are known for well-formed at
 * a glance: the schema of all messages (messages.ts) makes several objects for each field that it looks at, and what it gives
 * back, which the store keeps, takes more room than what was read. Promises that the schema takes, as it is, whatever is taken here; all
 * else is for the schema to judge.
 */
import { z } from 'zod';
import type { TaskStatusReport } from '../model/assignments.ts';
import { TaskState } from '../model/states.ts';

/** What a report may be at most. */
export const REPORT_LIMITS = { reports: 10_000, taskId: 64, containerId: 128, text: 4096 };

/** The states that are an agent's to report: those below are the manager's, and so are REMOVE and ORPHANED. */
export const OBSERVED_STATES = [
  TaskState.ACCEPTED,
  TaskState.PREPARING,
  TaskState.READY,
  TaskState.STARTING,
  TaskState.RUNNING,
  TaskState.COMPLETE,
  TaskState.SHUTDOWN,
  TaskState.FAILED,
  TaskState.REJECTED,
] as const;

type ObservedState = (typeof OBSERVED_STATES)[number];
type UsualStatus = Omit<TaskStatusReport['status'], 'state'> & { state: ObservedState };

export interface UsualReports {
  type: 'status';
  number: number;
  reports: { taskId: string; status: UsualStatus }[];
}

const DATE_TIME = z.regexes.datetime({});
const STATES: ReadonlySet<unknown> = new Set(OBSERVED_STATES);
const FIELDS = {
  message: ['type', 'number', 'reports'],
  report: ['taskId', 'status'],
  status: ['timestamp', 'state', 'message', 'container', 'runningSince'],
  container: ['id', 'pid'],
};

/** True for a message of reports in which nothing is wrong, unknown or seldom said. */
export function isUsualReports(message: unknown): message is UsualReports {
  if (!hasOnly(message, FIELDS.message)) return false;
  const { type, number, reports } = message;
  if (type !== 'status' || !isCount(number)) return false;
  return Array.isArray(reports) && reports.length <= REPORT_LIMITS.reports && reports.every(isUsualReport);
}

function isUsualReport(report: unknown): boolean {
  if (!hasOnly(report, FIELDS.report)) return false;
  return isText(report['taskId'], REPORT_LIMITS.taskId) && isUsualStatus(report['status']);
}

function isUsualStatus(status: unknown): boolean {
  if (!hasOnly(status, FIELDS.status)) return false;
  const { timestamp, state, message, container, runningSince } = status;
  return (
    isDateTime(timestamp) &&
    STATES.has(state) &&
    isText(message, REPORT_LIMITS.text) &&
    (container === undefined || isUsualContainer(container)) &&
    (runningSince === undefined || isDateTime(runningSince))
  );
}

function isUsualContainer(container: unknown): boolean {
  if (!hasOnly(container, FIELDS.container)) return false;
  return isText(container['id'], REPORT_LIMITS.containerId) && isCount(container['pid']);
}

function hasOnly(value: unknown, fields: readonly string[]): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  for (const field in value) if (!fields.includes(field)) return false;
  return true;
}

function isText(value: unknown, most: number): boolean {
  return typeof value === 'string' && value.length <= most;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isDateTime(value: unknown): boolean {
  return typeof value === 'string' && DATE_TIME.test(value);
}
