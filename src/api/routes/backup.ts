/** `/drover/cluster/backup` and `/drover/cluster/restore`: all of a cluster's state as one stream, out of a manager and into a fresh node. */
import type { FastifyInstance } from 'fastify';
import { Readable } from 'node:stream';
import type { ApiContext } from '../context.ts';
import { badRequest, unavailable } from '../errors.ts';
import { restoreRequest } from '../validate/swarm-requests.ts';

const TYPE = 'application/vnd.drover.backup';
const PIECE_BYTES = 64 * 1024;
const ALREADY_IN =
  'This node is already part of a swarm. A backup is restored on a node that is in none: use "docker swarm leave" to leave this swarm, and try again.';

interface RestoreQuery {
  listenAddr?: string;
  advertiseAddr?: string;
  dataPathAddr?: string;
}

export function backupRoutes(app: FastifyInstance, api: ApiContext): void {
  const { cluster } = api.deps;
  // It is not held in memory as it came: whoever restores it reads it as it comes.
  app.addContentTypeParser(TYPE, (_request, payload, done) => done(null, payload));

  app.get('/drover/cluster/backup', async (_request, reply) => {
    api.store();
    const lines = await cluster.backup();
    return reply.header('content-type', TYPE).send(Readable.from(inPieces(lines), { objectMode: false }));
  });
  app.post<{ Querystring: RestoreQuery }>('/drover/cluster/restore', async (request, reply) => {
    const { body } = request;
    if (!(body instanceof Readable)) throw badRequest(`a backup is expected as the body, of the type ${TYPE}`);
    try {
      const wanted = restoreRequest(request.query);
      if (cluster.state().localNodeState !== 'inactive') throw unavailable(ALREADY_IN);
      // A refusal in the middle must not end the connection that it is told on.
      const { clusterId, nodeId, at, locked, addresses, formerManagers } = await cluster.restore(
        body.iterator({ destroyOnReturn: false }),
        wanted,
      );
      api.events.follow(api.deps.store());
      return await reply.send({
        ClusterID: clusterId,
        NodeID: nodeId,
        BackupAt: at,
        Locked: locked,
        AddrBefore: addresses.before,
        Addr: addresses.now,
        FormerManagers: formerManagers.map((node) => ({
          NodeID: node.nodeId,
          Hostname: node.hostname,
          Addr: node.address,
        })),
      });
    } finally {
      await drained(body);
    }
  });
}

/** Reads the rest of a body that was refused: an answer before its end comes to a client that is still sending as an error. */
async function drained(body: Readable): Promise<void> {
  if (body.readableEnded || body.destroyed) return;
  const over = Promise.withResolvers<void>();
  // 'close' without an end: the client broke off, and waits for no answer.
  for (const event of ['end', 'close']) body.once(event, over.resolve);
  body.resume();
  await over.promise;
}

/** Lines put together: rows are small, and there may be a million of them. */
function* inPieces(lines: Iterable<string>): Generator<Buffer> {
  let piece: string[] = [];
  let length = 0;
  for (const line of lines) {
    piece.push(line);
    length += line.length;
    if (length < PIECE_BYTES) continue;
    yield Buffer.from(piece.join(''));
    piece = [];
    length = 0;
  }
  if (length > 0) yield Buffer.from(piece.join(''));
}
