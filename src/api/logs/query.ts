/** What a client asks of a log, read from the query of `/services/{id}/logs` and `/tasks/{id}/logs` (docker-api.md 1.8). Pure. */
import { isTrue } from '../body.ts';
import { badRequest } from '../errors.ts';

export interface LogQuery {
  stdout: boolean;
  stderr: boolean;
  /** Goes on with what comes, from tasks that start later too. */
  follow: boolean;
  /** Each line begins with its time. */
  timestamps: boolean;
  /** Each line names its node, service and task, and the attributes its log driver adds. */
  details: boolean;
  /** Lines of each task from the end; undefined: all. */
  tail: number | undefined;
  /** Seconds since the epoch, with up to nine digits behind the point. */
  since: string | undefined;
  until: string | undefined;
}

/** @throws ApiError 400 in Docker's words */
export function parseLogQuery(query: Record<string, string | undefined>): LogQuery {
  const stdout = isTrue(query['stdout']);
  const stderr = isTrue(query['stderr']);
  if (!stdout && !stderr) throw badRequest('Bad parameters: you must choose at least one stream');
  return {
    stdout,
    stderr,
    follow: isTrue(query['follow']),
    timestamps: isTrue(query['timestamps']),
    details: isTrue(query['details']),
    tail: tailOf(query['tail'] ?? ''),
    since: secondsOf('since', query['since'] ?? ''),
    until: secondsOf('until', query['until'] ?? ''),
  };
}

function tailOf(text: string): number | undefined {
  if (text === '' || text === 'all') return undefined;
  if (/^-\d+$/.test(text)) throw badRequest('negative tail values not supported');
  if (!/^\d{1,15}$/.test(text)) throw badRequest('tail value must be a positive integer or "all"');
  return Number(text);
}

function secondsOf(name: string, text: string): string | undefined {
  if (text === '' || text === '0') return undefined;
  if (/^\d{1,12}(\.\d{1,9})?$/.test(text)) return text;
  throw badRequest(
    `could not parse ${name} timestamp: "${text}" is not a number of seconds since 1970 such as 1700000000.5`,
  );
}

/** The engine's query for one task's log, from `since` on if that is given. Times are always asked for: lines are ordered by them. */
export function engineQuery(query: LogQuery, since = query.since): Record<string, string> {
  return {
    stdout: String(query.stdout),
    stderr: String(query.stderr),
    follow: String(query.follow),
    details: String(query.details),
    timestamps: 'true',
    tail: query.tail === undefined ? 'all' : String(query.tail),
    ...(since === undefined ? {} : { since }),
    ...(query.until === undefined ? {} : { until: query.until }),
  };
}
