/**
 * `/events`: the engine's stream and the cluster's messages in one, whole lines only; what was before (`since`) comes
 * first, in the order of time. It ends when the engine's does (`until`, or the engine goes), when the client goes, or when
 * the daemon stops; a manager whose engine is away tells of the cluster alone.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import type { Timer } from '../../model/clock.ts';
import { passes, type EventMessage } from '../cluster-events.ts';
import type { ApiContext } from '../context.ts';
import { parseFilters } from '../filters.ts';
import { parseMoment } from '../moments.ts';

/** A client that reads no more than this behind is cut off. */
const MAX_BUFFERED_BYTES = 16 * 1024 * 1024;

/** How long the engine has to begin its stream. */
const SUBSCRIBE_TIMEOUT_MS = 10_000;

interface Query {
  filters?: string;
  since?: string;
  until?: string;
}

export function eventRoutes(app: FastifyInstance, api: ApiContext): void {
  app.get<{ Querystring: Query }>('/events', async (request, reply) => {
    const now = api.deps.clock.now();
    const filters = parseFilters(request.query.filters);
    const { since: sinceText = '', until: untilText = '' } = request.query;
    const since = sinceText === '' ? now : parseMoment(sinceText, now);
    const until = untilText === '' ? undefined : parseMoment(untilText, now);
    const gone = new AbortController();
    const response = reply.raw;
    response.once('close', () => gone.abort());
    const ask = (span: Span): Promise<IncomingMessage> =>
      api.deps.engine.client.stream('GET', engineUrl(api, request, span), {
        unversioned: true,
        signal: gone.signal,
        answerTimeoutMs: SUBSCRIBE_TIMEOUT_MS,
      });
    const replay = since < now;
    const over = until !== undefined && until <= now;
    let engine: IncomingMessage | undefined;
    let past: Line[] = [];
    try {
      if (replay) past = linesOf(await text(await ask({ since: engineTime(since), until: engineTime(until ?? now) })));
      // A nanosecond on, so that nothing comes twice.
      if (!over) engine = await ask(replay ? { since: engineTime(now, 1) } : {});
    } catch (error) {
      if (api.deps.store() === undefined) throw error;
      api.deps.log.warn({ err: error }, 'events without those of the engine: it does not answer');
    }
    reply.hijack();
    response.writeHead(200, { ...api.facts.negotiation(), 'Content-Type': 'application/json' });
    response.flushHeaders();
    const write = (line: string | Buffer): void => {
      response.write(line);
      if (response.writableLength > MAX_BUFFERED_BYTES) response.destroy();
    };
    const tell = (message: EventMessage): void => {
      if (passes(message, filters)) write(`${JSON.stringify(message)}\n`);
    };
    const ours = api.events.between(since, until ?? Infinity).filter((message) => passes(message, filters));
    const before = [...past, ...ours.map((each) => ({ timeNano: each.timeNano, line: JSON.stringify(each) }))];
    for (const { line } of before.sort((a, b) => a.timeNano - b.timeNano)) write(`${line}\n`);
    const end = (): void => void response.end();
    if (over) {
      end();
      return reply;
    }
    const stop = api.events.listen({ tell, ended: end });
    const timer: Timer | undefined = until === undefined ? undefined : api.deps.clock.after(until - now, end);
    response.once('close', () => {
      stop();
      timer?.cancel();
      engine?.destroy();
    });
    if (engine !== undefined) copyLines(engine, response, write, end);
    return reply;
  });
}

/** What is asked of the engine other than by the client. */
interface Span {
  since?: string;
  until?: string;
}

interface Line {
  timeNano: number;
  line: string;
}

/** The client's query for the engine, its span replaced by `span` if that says one. */
function engineUrl(api: ApiContext, request: FastifyRequest<{ Querystring: Query }>, span: Span): string {
  if (span.since === undefined) return api.target(request.raw).engineUrl;
  return api.engineUrl(request, `/events?${new URLSearchParams({ ...request.query, ...span }).toString()}`);
}

/** Seconds since the epoch with nine digits behind the point, as engines read it. */
function engineTime(ms: number, plusNanos = 0): string {
  const nanos = Math.floor(ms % 1000) * 1e6 + plusNanos;
  return `${Math.floor(ms / 1000)}.${String(nanos).padStart(9, '0')}`;
}

/** The engine's messages word for word: their times have more digits than a number of ours. */
function linesOf(answer: string): Line[] {
  const lines = answer.split('\n').filter((line) => line.trim() !== '');
  return lines.map((line) => {
    const message: { timeNano?: number } = JSON.parse(line);
    return { timeNano: message.timeNano ?? 0, line };
  });
}

/** Copies whole lines, so that another writer's lines never fall into the middle of one. */
function copyLines(from: IncomingMessage, to: ServerResponse, write: (line: Buffer) => void, ended: () => void): void {
  let pending = Buffer.alloc(0);
  from.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    const end = pending.lastIndexOf(0x0a) + 1;
    if (end === 0) return;
    write(pending.subarray(0, end));
    pending = pending.subarray(end);
    if (!to.writableNeedDrain) return;
    from.pause();
    to.once('drain', () => from.resume());
  });
  from.once('end', ended);
  from.on('error', () => to.destroy());
}
