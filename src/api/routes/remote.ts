/**
 * What `drover exec`, `top` and `stats` ask of a task on whichever node it runs: `/drover/tasks/{id}/top`, `/stats` and
 * `/exec`. The first two answer as the engine's routes of the same name; the last becomes a two-way stream of frames
 * (model/streams.ts) after `101`: input and sizes of the terminal one way, output and the exit code the other.
 */
import type { FastifyInstance } from 'fastify';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { z } from 'zod';
import { NodeAway } from '../../dispatch/streams.ts';
import { Channel, ChannelBroken, ChannelRefused } from '../../dispatch/streams-channel.ts';
import { taskName, type Task } from '../../model/objects.ts';
import { DEFAULT_ENVIRONMENT } from '../../model/objects.ts';
import { isTerminal } from '../../model/states.ts';
import type { ExecSpec, StreamRequest } from '../../model/streams.ts';
import { isTrue, parseBody, struct } from '../body.ts';
import type { ApiContext } from '../context.ts';
import { answerFor, ApiError, badRequest, conflict, unavailable } from '../errors.ts';
import { plainError } from '../hijack.ts';
import { resolveTask } from '../references.ts';

/** As fastify knows it. */
export const EXEC_ROUTE = '/drover/tasks/:id/exec';
const EXEC = /^\/drover\/tasks\/([^/?]+)\/exec(?:\?|$)/;
/** A command line, not a file. */
const MAX_BODY_BYTES = 1024 * 1024;

const execShape = struct({
  Cmd: z.array(z.string()).min(1),
  Tty: z.boolean().default(false),
  AttachStdin: z.boolean().default(false),
  Env: z.array(z.string()).optional(),
  User: z.string().optional(),
  WorkingDir: z.string().optional(),
  Privileged: z.boolean().optional(),
}).transform(({ Cmd, Tty, AttachStdin, Env, User, WorkingDir, Privileged }): ExecSpec => {
  return { Cmd, Tty, AttachStdin, Env, User, WorkingDir, Privileged };
});

export function remoteRoutes(app: FastifyInstance, api: ApiContext): void {
  for (const what of ['top', 'stats'] as const) {
    app.get<{ Params: { id: string }; Querystring: Record<string, string> }>(
      `/drover/tasks/:id/${what}`,
      async (request, reply) => {
        const task = runningTask(api, api.environment(request), request.params.id);
        const { ps_args: psArgs = '-ef', stream = '' } = request.query;
        const query: Record<string, string> = what === 'top' ? { ps_args: psArgs } : { stream: String(isTrue(stream)) };
        const gone = new AbortController();
        const response = reply.raw;
        response.once('close', () => gone.abort(new Error('the client has gone')));
        const channel = await openStream(api, task, { kind: 'read', what, taskId: task.id, query }, gone.signal);
        reply.hijack();
        response.writeHead(200, { ...api.facts.negotiation(), 'Content-Type': 'application/json' });
        response.flushHeaders();
        try {
          for await (const chunk of channel.data()) await written(response, chunk);
          response.end();
        } catch (error) {
          api.deps.log.debug({ err: error, task: task.id }, `the ${what} of a task broke off`);
          response.destroy();
        }
        return reply;
      },
    );
  }
  app.post<{ Params: { id: string } }>(EXEC_ROUTE, async (request) => {
    runningTask(api, api.environment(request), request.params.id);
    throw badRequest('this route becomes a stream: send "Connection: Upgrade" and "Upgrade: tcp"');
  });
}

/** Whether a request that asks to be upgraded is for `execUpgrade`. */
export function isExec(method: string | undefined, route: string): boolean {
  return method === 'POST' && EXEC.test(route);
}

/** Answers an upgrade to `/drover/tasks/{id}/exec`, whatever happens; `head`: the bytes read beyond the request's head. */
export async function execUpgrade(
  api: ApiContext,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const { log } = api.deps;
  socket.on('error', (error) => log.debug({ err: error }, 'a client broke off an exec'));
  const gone = new AbortController();
  socket.once('close', () => gone.abort(new Error('the client has gone')));
  try {
    const { route, environment = DEFAULT_ENVIRONMENT } = api.target(request);
    const reference = decodeURIComponent(EXEC.exec(route)![1]!);
    const body = await readBody(request, socket, head);
    const exec = parseBody({ headers: request.headers, body }, execShape);
    const task = runningTask(api, environment, reference);
    const node = await openStream(api, task, { kind: 'exec', taskId: task.id, exec }, gone.signal);
    socket.write('HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
    await join(new Channel(socket), node);
  } catch (error) {
    const { status, message, unexpected } = answerFor(error);
    if (unexpected) log.error({ err: error, url: request.url }, 'an exec failed unexpectedly');
    socket.end(plainError(status, message, api.facts.negotiation()));
  }
}

/** Passes frames both ways until the node's side has ended. Each side is read only as fast as the other takes it. */
async function join(client: Channel, node: Channel): Promise<void> {
  const input = copy(client, node);
  // A client that goes away; the process sees its input or its terminal close.
  input.catch(() => node.destroy());
  try {
    await copy(node, client);
  } catch (error) {
    await client.tell({ type: 'error', status: 503, message: `the node broke off: ${(error as Error).message}` }).catch(
      // Nobody is there to be told.
      () => {},
    );
  }
  client.end();
  node.destroy();
}

async function copy(from: Channel, to: Channel): Promise<void> {
  for await (const frame of from.frames()) await (Buffer.isBuffer(frame) ? to.write(frame) : to.tell(frame));
}

/** @throws ApiError 404, 409 if it does not run */
function runningTask(api: ApiContext, environment: string, reference: string): Task {
  const task = api.store().view((view) => resolveTask(view, environment, reference));
  if (task.nodeId === '' || isTerminal(task.status.state)) throw conflict(`task ${taskName(task)} is not running`);
  return task;
}

async function openStream(api: ApiContext, task: Task, request: StreamRequest, signal: AbortSignal): Promise<Channel> {
  try {
    return (await api.streams().open(task.nodeId, request, { signal })).channel;
  } catch (error) {
    if (error instanceof ChannelRefused) throw new ApiError(error.status, error.message);
    if (error instanceof NodeAway || error instanceof ChannelBroken) {
      const node = api.store().view((view) => view.nodes.get(task.nodeId));
      const name = node?.description?.hostname ?? task.nodeId;
      throw unavailable(`node ${name}, which runs task ${taskName(task)}, cannot be asked now: ${error.message}`);
    }
    throw error;
  }
}

function written(stream: NodeJS.WritableStream, chunk: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(chunk, (error) => (error === undefined || error === null ? resolve() : reject(error)));
  });
}

/** The body of a request whose connection is raw already; what came behind it stays on the socket. @throws ApiError 400 */
async function readBody(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<Buffer> {
  const length = Number(request.headers['content-length']);
  if (!Number.isInteger(length) || length < 0 || length > MAX_BODY_BYTES)
    throw badRequest(`a Content-Length of at most ${MAX_BODY_BYTES} bytes is needed`);
  let bytes = head;
  while (bytes.length < length) {
    const chunk: Buffer | null = socket.read();
    if (chunk !== null) bytes = Buffer.concat([bytes, chunk]);
    else if (!socket.readable) throw badRequest('the request body ended early');
    else await new Promise<void>((resolve) => settled(socket, resolve));
  }
  if (bytes.length > length) socket.unshift(bytes.subarray(length));
  return bytes.subarray(0, length);
}

/** Calls `then` once something is there to read, or nothing more will come. */
function settled(socket: Duplex, then: () => void): void {
  const events = ['readable', 'end', 'close'] as const;
  const happened = (): void => {
    for (const event of events) socket.off(event, happened);
    then();
  };
  for (const event of events) socket.on(event, happened);
}
