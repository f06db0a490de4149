/** A further process in a task's container, its input and output on one stream: what `drover exec` runs. */
import type { Duplex } from 'node:stream';
import type { DockerClient } from '../../docker/client.ts';
import type { Log } from '../../model/clock.ts';
import type { StreamRequest } from '../../model/streams.ts';
import { CALL_TIMEOUT_MS, type StreamPort } from './container-streams.ts';

export interface ExecDeps {
  client: DockerClient;
  log: Log;
  /** Aborted when the manager has closed the stream. */
  gone: AbortSignal;
}

/**
 * Runs the command to its end and tells its exit code. A manager that goes away closes the process's terminal or input; the
 * engine has no way to end such a process, so one that heeds neither goes on, as with `docker exec`.
 */
export async function serveExec(
  deps: ExecDeps,
  containerId: string,
  { exec }: Extract<StreamRequest, { kind: 'exec' }>,
  channel: StreamPort,
): Promise<void> {
  const { client, gone } = deps;
  const call = { signal: gone, timeoutMs: CALL_TIMEOUT_MS };
  const body = { ...exec, AttachStdout: true, AttachStderr: true };
  const { Id } = await client.request<{ Id: string }>('POST', `/containers/${containerId}/exec`, { ...call, body });
  const start = { ...call, body: { Detach: false, Tty: exec.Tty } };
  const { socket } = await client.hijack('POST', `/exec/${Id}/start`, start);
  gone.addEventListener('abort', () => socket.destroy(), { once: true });
  await channel.tell({ type: 'opened', tty: exec.Tty });
  const input = copyInput(deps, Id, channel, socket);
  // Its end is the socket's, whose reader below tells of it.
  input.catch((error: unknown) => {
    deps.log.debug({ err: error }, 'the input of an exec broke off');
    socket.destroy();
  });
  for await (const chunk of socket as AsyncIterable<Buffer>) await channel.write(chunk);
  const { ExitCode } = await client.request<{ ExitCode: number | null }>('GET', `/exec/${Id}/json`, call);
  await channel.tell({ type: 'end', exitCode: ExitCode ?? 0 });
}

/** What the user types, and the size of the terminal, until the stream ends. */
async function copyInput(deps: ExecDeps, execId: string, channel: StreamPort, socket: Duplex): Promise<void> {
  for await (const frame of channel.frames()) {
    if (Buffer.isBuffer(frame)) await written(socket, frame);
    else if (frame.type === 'end') socket.end();
    else if (frame.type === 'resize') {
      const query = { h: frame.height, w: frame.width };
      // Too early, or the process has just ended: the size is of no importance then.
      await deps.client
        .request('POST', `/exec/${execId}/resize`, { query, timeoutMs: CALL_TIMEOUT_MS })
        .catch((error: unknown) => deps.log.debug({ err: error }, 'the terminal of an exec could not be resized'));
    }
  }
}

function written(socket: Duplex, data: Buffer): Promise<void> {
  // What a process that has ended no longer reads goes nowhere.
  if (!socket.writable) return Promise.resolve();
  return new Promise((resolve, reject) => {
    socket.write(data, (error) => (error === undefined || error === null ? resolve() : reject(error)));
  });
}
