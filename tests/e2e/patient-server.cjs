/**
 * What a server does that wants none of its clients to notice its stop: with its stop signal it lets in who is waiting
 * already (on a busy machine that may be many) and nobody else, says `Connection: close` with every further answer, and
 * leaves when no connection is left; who says nothing more for a while is let go. With IMPATIENT it leaves at once.
 * `/slow` takes a second, `/long?ms=N` so long. Runs in a container as `node -e`.
 */
const { createServer } = require('node:http');
const { Server } = require('node:net');

const { VERSION, SLOT, IMPATIENT } = process.env;
const QUIET_MS = 2_000;
const QUEUE_MS = 50;
let stopping = false;
let came = false;

const server = createServer((request, response) => {
  const answer = () => {
    if (stopping) response.setHeader('Connection', 'close');
    response.end(JSON.stringify({ version: VERSION, slot: SLOT }));
  };
  const { pathname, searchParams } = new URL(request.url, 'http://server');
  if (pathname === '/slow') setTimeout(answer, 1_000);
  else if (pathname === '/long') setTimeout(answer, Number(searchParams.get('ms')));
  else answer();
});
server.on('connection', () => (came = true));
server.keepAliveTimeout = 60_000;
server.listen(8080, '0.0.0.0');

process.on('SIGTERM', () => {
  if (IMPATIENT) process.exit(0);
  stopping = true;
  const letIn = setInterval(() => {
    if (!came) {
      clearInterval(letIn);
      // The HTTP server's own close() would hang up on connections that are merely between two requests.
      Server.prototype.close.call(server, () => process.exit(0));
    }
    came = false;
  }, QUEUE_MS);
  setTimeout(() => server.closeIdleConnections(), QUIET_MS);
});
