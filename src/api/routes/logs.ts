/** `/services/{id}/logs` and `/tasks/{id}/logs`: what containers on all nodes said, as one stream (docker-api.md 1.8). */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { setMaxListeners } from 'node:events';
import { compareVersions } from '../../docker/client.ts';
import { serviceSpecId, type Task } from '../../model/objects.ts';
import type { View } from '../../store/store.ts';
import type { ApiContext } from '../context.ts';
import { FollowedLog } from '../logs/followed-log.ts';
import { reasonOf } from '../logs/missing.ts';
import { parseLogQuery } from '../logs/query.ts';
import { hasLog, ofService, ofTask, type LogSelection } from '../logs/selection.ts';
import { LogSink, ReaderGone } from '../logs/sink.ts';
import { writeWholeLog } from '../logs/whole-log.ts';
import { resolveService, resolveTask } from '../references.ts';

type LogRequest = FastifyRequest<{ Params: { id: string }; Querystring: Record<string, string> }>;

/** From this version on, clients tell framed logs by their content type. */
const FRAMES_NAMED = '1.42';

export function logRoutes(app: FastifyInstance, api: ApiContext): void {
  app.get('/services/:id/logs', async (request: LogRequest, reply) =>
    sendLog(api, request, reply, (view, environment) => {
      const service = resolveService(view, environment, request.params.id);
      return { selection: ofService(service.id), tty: service.spec.TaskTemplate.ContainerSpec?.TTY === true };
    }),
  );
  app.get('/tasks/:id/logs', async (request: LogRequest, reply) =>
    sendLog(api, request, reply, (view, environment) => {
      const task = resolveTask(view, environment, request.params.id);
      return { selection: ofTask(task.id), tty: hasTerminal(view, task) };
    }),
  );
}

async function sendLog(
  api: ApiContext,
  request: LogRequest,
  reply: FastifyReply,
  select: (view: View, environment: string) => { selection: LogSelection; tty: boolean },
): Promise<FastifyReply> {
  const store = api.store();
  const query = parseLogQuery(request.query);
  const { selection, tty } = store.view((view) => select(view, api.environment(request)));
  const streams = api.streams();
  const { clock, log } = api.deps;
  const gone = new AbortController();
  // One for each task.
  setMaxListeners(0, gone.signal);
  const response = reply.hijack().raw;
  response.once('close', () => gone.abort(new ReaderGone()));
  const framed = !tty && compareVersions(api.target(request.raw).version ?? api.facts.apiVersion, FRAMES_NAMED) >= 0;
  const contentType = `application/vnd.docker.${framed ? 'multiplexed' : 'raw'}-stream`;
  response.writeHead(200, { ...api.facts.negotiation(), 'Content-Type': contentType });
  response.flushHeaders();
  const node = (nodeId: string) => store.view((view) => view.nodes.get(nodeId));
  const deps = {
    streams,
    clock,
    query,
    signal: gone.signal,
    sink: new LogSink(response),
    format: { timestamps: query.timestamps, details: query.details, raw: tty },
    reason: (task: Task, error: Error) => reasonOf(error, node(task.nodeId)),
    hostname: (nodeId: string) => node(nodeId)?.description?.hostname ?? nodeId,
  };
  try {
    if (query.follow) await new FollowedLog(deps, store, selection).run();
    else await writeWholeLog(deps, store.view((view) => selection.tasks(view)).filter(hasLog));
    response.end();
  } catch (error) {
    if (!(error instanceof ReaderGone)) log.error({ err: error, url: request.url }, 'a log broke off');
    // A log that was cut must not look whole.
    response.destroy();
    gone.abort(error);
  }
  return reply;
}

function hasTerminal(view: View, task: Task): boolean {
  const version = view.serviceSpecs.get(serviceSpecId(task.serviceId, task.specVersion));
  return version?.spec.TaskTemplate.ContainerSpec?.TTY === true;
}
