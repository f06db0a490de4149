/**
 * Adds two numbers: GET /sum?a=1&b=2 answers 3, from redis if it was asked before. GET /healthz answers ok.
 * X-Served-By says which container answered, X-Cache `hit`, `miss` or `unavailable`, X-Client who asked.
 * On SIGTERM it tells its callers to close, finishes what it is doing and ends with 0.
 */
import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { Redis } from './redis.js';

const cache = new Redis(process.env.REDIS_HOST ?? 'redis');
let stopping = false;

/** The sum and whether it was cached; without redis the sum is right all the same. */
async function sum(a, b) {
  const key = `sum:${a}:${b}`;
  try {
    const known = await cache.get(key);
    if (known !== undefined) return { text: known, found: 'hit' };
    const text = String(a + b);
    await cache.set(key, text);
    return { text, found: 'miss' };
  } catch (error) {
    console.error(`no cache: ${error.message}`);
    return { text: String(a + b), found: 'unavailable' };
  }
}

/** A query parameter that must be a number, or NaN. */
function number(url, name) {
  const text = url.searchParams.get(name);
  return text === null || text.trim() === '' ? Number.NaN : Number(text);
}

async function answer(request) {
  const url = new URL(request.url, 'http://calculator');
  if (url.pathname === '/healthz') return { status: 200, text: 'ok' };
  if (url.pathname !== '/sum') return { status: 404, text: 'try /sum?a=1&b=2' };
  const [a, b] = [number(url, 'a'), number(url, 'b')];
  if (!Number.isFinite(a) || !Number.isFinite(b)) return { status: 400, text: 'a and b must be numbers' };
  return { status: 200, ...(await sum(a, b)) };
}

const server = createServer(async (request, response) => {
  response.setHeader('X-Served-By', hostname());
  response.setHeader('X-Client', request.socket.remoteAddress ?? '');
  try {
    const { status, text, found } = await answer(request);
    if (found !== undefined) response.setHeader('X-Cache', found);
    if (stopping) response.setHeader('Connection', 'close');
    response.writeHead(status, { 'Content-Type': 'text/plain' }).end(`${text}\n`);
  } catch (error) {
    console.error(error);
    response.writeHead(400).end('bad request\n');
  }
});

process.on('SIGTERM', () => {
  stopping = true;
  // Stops listening and closes idle connections; those at work close with their answer.
  server.close(() => cache.close());
});

server.listen(Number(process.env.PORT ?? 8080), '0.0.0.0');
