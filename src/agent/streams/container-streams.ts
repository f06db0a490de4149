/**
 * Serves the streams that managers ask of this node, from its engine: logs, processes and figures of a task's container as
 * the engine tells them, and further processes in it. Promises: what the manager does not read is not read from the engine;
 * who goes away ends the engine's call at once; the engine's refusals reach the manager in the engine's words.
 */
import { DockerError, EngineUnreachable, type DockerClient } from '../../docker/client.ts';
import { NODE_ID_LABEL, TASK_ID_LABEL } from '../../engine/labels.ts';
import type { Log } from '../../model/clock.ts';
import type { StreamMessage, StreamRequest } from '../../model/streams.ts';
import { serveExec } from './exec.ts';

/** One stream to a manager, as `dispatch` hands it over. */
export interface StreamPort {
  frames(): AsyncIterable<Buffer | StreamMessage>;
  /** Resolves once there is room for more; rejects when the manager is gone. */
  write(data: Uint8Array): Promise<void>;
  tell(message: StreamMessage): Promise<void>;
  /** Resolves when it is gone, for whatever reason. */
  readonly closed: Promise<void>;
}

export interface ContainerStreamsDeps {
  client: DockerClient;
  nodeId: string;
  log: Log;
}

/** Why a stream cannot be served, with the HTTP status for it. */
export class StreamRefusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The engine does little for them before it answers. */
export const CALL_TIMEOUT_MS = 10_000;

export class ContainerStreams {
  readonly #deps: ContainerStreamsDeps;

  constructor(deps: ContainerStreamsDeps) {
    this.#deps = deps;
  }

  /** Serves one stream to its end. Rejects with an error that has a `status`, or with what ended the channel. */
  async serve(request: StreamRequest, channel: StreamPort): Promise<void> {
    const gone = new AbortController();
    void channel.closed.then(() => gone.abort(new Error('the manager has closed the stream')));
    try {
      const container = await this.#containerOf(request.taskId, gone.signal);
      if (request.kind === 'exec')
        await serveExec({ ...this.#deps, gone: gone.signal }, container.id, request, channel);
      else await this.#read(container, request, channel, gone.signal);
    } catch (error) {
      if (error instanceof EngineUnreachable) throw new StreamRefusal(503, error.message);
      throw error;
    }
  }

  async #read(
    container: { id: string; tty: boolean },
    request: Extract<StreamRequest, { kind: 'read' }>,
    channel: StreamPort,
    signal: AbortSignal,
  ): Promise<void> {
    const { what, query } = request;
    const answer = await this.#deps.client.stream('GET', `/containers/${container.id}/${what}`, {
      query,
      signal,
      answerTimeoutMs: CALL_TIMEOUT_MS,
    });
    await channel.tell({ type: 'opened', tty: container.tty });
    for await (const chunk of answer as AsyncIterable<Buffer>) await channel.write(chunk);
    await channel.tell({ type: 'end' });
  }

  /** The task's container, running or not. @throws DockerError 404 */
  async #containerOf(taskId: string, signal: AbortSignal): Promise<{ id: string; tty: boolean }> {
    const { client, nodeId } = this.#deps;
    const call = { signal, timeoutMs: CALL_TIMEOUT_MS };
    const filters = JSON.stringify({ label: [`${TASK_ID_LABEL}=${taskId}`, `${NODE_ID_LABEL}=${nodeId}`] });
    const query = { all: true, filters };
    const [found] = await client.request<{ Id: string }[]>('GET', '/containers/json', { ...call, query });
    if (found === undefined) throw new DockerError(404, `No such container: the one of task ${taskId}`);
    const { Config } = await client.request<{ Config: { Tty?: boolean } }>('GET', `/containers/${found.Id}/json`, call);
    return { id: found.Id, tty: Config.Tty === true };
  }
}
