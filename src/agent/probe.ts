/** One readiness probe of a task, as an HTTP request or a TCP connection. */
import { request } from 'node:http';
import { connect } from 'node:net';
import type { Probe } from '../model/readiness.ts';

/** Resolves with undefined if it passed, else with the reason in words. Never rejects. */
export type AskReadiness = (address: string, probe: Probe, signal: AbortSignal) => Promise<string | undefined>;

/** Passes with a status from 200 to 399, or, without a path, with a connection that opens; within the probe's time-out. */
export const askReadiness: AskReadiness = (address, { port, path, timeoutMs }, signal) => {
  const within = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const asked = path === undefined ? tcp(address, port, within) : http(address, port, path, within);
  return asked.catch((error: unknown) => {
    if (within.aborted) return `${nameOf(port, path)}: no answer within ${timeoutMs} ms`;
    const { code, message } = error as Error & { code?: string };
    return `${nameOf(port, path)}: ${code ?? message}`;
  });
};

function nameOf(port: number, path: string | undefined): string {
  return path === undefined ? `connection to port ${port}` : `GET :${port}${path}`;
}

function http(host: string, port: number, path: string, signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const headers = { host: `${host}:${port}`, 'user-agent': 'drover-readiness' };
    const call = request({ host, port, path, headers, agent: false, signal }, (answer) => {
      const status = answer.statusCode ?? 0;
      resolve(status >= 200 && status < 400 ? undefined : `${nameOf(port, path)} answers ${status}`);
      // The status is all that is asked for.
      call.destroy();
    });
    call.on('error', reject);
    call.end();
  });
}

function tcp(host: string, port: number, signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, signal });
    socket.on('error', reject);
    socket.on('connect', () => {
      resolve(undefined);
      socket.destroy();
    });
  });
}
