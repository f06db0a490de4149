/**
 * What a service's labels say of how its tasks come into balancing and go out of it. Pure. The API refuses values that
 * cannot be read (api/validate/drover-labels.ts); here one counts as not given, so that a task can always be stopped.
 */
import { parseDuration } from './durations.ts';
import type { Labels } from './specs.ts';

export const DRAIN_LABEL = 'drover.drain';
export const READY = {
  http: 'drover.ready.http',
  tcp: 'drover.ready.tcp',
  interval: 'drover.ready.interval',
  timeout: 'drover.ready.timeout',
  failures: 'drover.ready.failures',
} as const;

export const DEFAULT_DRAIN_MS = 5_000;
const DEFAULT_PROBE = { intervalMs: 1_000, timeoutMs: 1_000, failures: 3 };

/** How a task is asked whether it wants connections. */
export interface Probe {
  port: number;
  /** Of a GET request; absent: a connection that opens is enough. */
  path?: string;
  /** Between two probes, once it has passed. */
  intervalMs: number;
  timeoutMs: number;
  /** So many failed probes in a row make a task that was ready not ready. */
  failures: number;
}

/** How long a task's connections may take to end before it gets its stop signal, in milliseconds. */
export function drainMsOf(labels: Labels): number {
  return parseDuration(labels[DRAIN_LABEL] ?? '') ?? DEFAULT_DRAIN_MS;
}

/** The probe that a service's labels ask for, if they do. */
export function probeOf(labels: Labels): Probe | undefined {
  const target = parseHttpTarget(labels[READY.http] ?? '') ?? parseTcpTarget(labels[READY.tcp] ?? '');
  if (target === undefined) return undefined;
  return {
    ...target,
    intervalMs: parseDuration(labels[READY.interval] ?? '') || DEFAULT_PROBE.intervalMs,
    timeoutMs: parseDuration(labels[READY.timeout] ?? '') || DEFAULT_PROBE.timeoutMs,
    failures: parseCount(labels[READY.failures] ?? '') ?? DEFAULT_PROBE.failures,
  };
}

/** `:8080/healthz`, or `:8080` for its root; undefined if it is neither. */
export function parseHttpTarget(text: string): { port: number; path: string } | undefined {
  const [, port = '', path = '/'] = /^:(\d{1,5})(\/[!-~]*)?$/.exec(text) ?? [];
  return isPort(port) ? { port: Number(port), path } : undefined;
}

/** `8080`; undefined if it is no port. */
export function parseTcpTarget(text: string): { port: number } | undefined {
  const [, port = ''] = /^:?(\d{1,5})$/.exec(text) ?? [];
  return isPort(port) ? { port: Number(port) } : undefined;
}

/** A whole number from 1 to 1000, or undefined. */
export function parseCount(text: string): number | undefined {
  const count = Number(text);
  return /^\d{1,4}$/.test(text) && count >= 1 && count <= 1_000 ? count : undefined;
}

function isPort(text: string): boolean {
  return text !== '' && Number(text) >= 1 && Number(text) <= 65_535;
}
