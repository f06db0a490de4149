/**
 * A load generator, its own process: requests at a fixed rate to several hosts in turn, whether earlier ones were answered
 * or not; half over connections that are kept, half over fresh ones, one in twenty of a second's length. On each line that
 * it reads it prints what has been since the last, as JSON (Traffic).
 *
 * A request fails if it gets no whole answer with status 200 within 10 s. One exception (and it is counted): over a kept
 * connection a reset before the first byte may be the server's farewell crossing the request, which a client may
 * repeat once on a fresh connection.
 *
 * node traffic.ts RATE URL…
 */
import { Agent, request } from 'node:http';
import { createInterface } from 'node:readline';

export interface Traffic {
  requests: number;
  failed: number;
  /** The first of them: with what, where, after how long and when. */
  failures: string[];
  /** Resets before the first byte on a kept connection, repeated with success or counted in `failed` as well. */
  resets: number;
  /** Milliseconds from when it was due to its end, of all that are not slow on purpose. */
  p50: number;
  p99: number;
  max: number;
  /** How often which version answered. */
  versions: Record<string, number>;
}

const TIMEOUT_MS = 10_000;
const SLOW_EVERY = 20;
const FAILURES_TOLD = 10;
const LEAVES = new Set(['ECONNRESET', 'EPIPE']);

/** In turn, so that none idles for long; as a proxy would. */
const kept = new Agent({ keepAlive: true, maxSockets: 16, maxFreeSockets: 4, scheduling: 'fifo' });

const empty = () => ({
  requests: 0,
  failed: 0,
  failures: [] as string[],
  resets: 0,
  latencies: [] as number[],
  versions: {} as Record<string, number>,
});
let seen = empty();

class Reset extends Error {}

/** Resolves with the version that answered. */
function ask(url: string, agent: Agent | false): Promise<string> {
  return new Promise((resolve, reject) => {
    let answered = false;
    const call = request(url, { agent, timeout: TIMEOUT_MS }, (response) => {
      answered = true;
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
        else resolve((JSON.parse(body) as { version: string }).version);
      });
    });
    call.on('timeout', () => call.destroy(new Error(answered ? 'half an answer' : 'no answer')));
    call.on('error', (error: Error & { code?: string }) => {
      const reset = !answered && call.reusedSocket && LEAVES.has(error.code ?? '');
      reject(reset ? new Reset(error.message) : error);
    });
    call.end();
  });
}

async function once(number: number, dueMs: number, hosts: readonly string[]): Promise<void> {
  const slow = number % SLOW_EVERY === 0;
  const url = `${hosts[number % hosts.length]}${slow ? '/slow' : '/'}`;
  const into = seen;
  const sentMs = performance.now();
  into.requests++;
  try {
    // Runs of ten, so that kept and fresh, slow and quick go to every host.
    const version = await ask(url, Math.floor(number / 10) % 2 === 0 ? kept : false).catch((error: unknown) => {
      if (!(error instanceof Reset)) throw error;
      into.resets++;
      return ask(url, false);
    });
    into.versions[version] = (into.versions[version] ?? 0) + 1;
    if (!slow) into.latencies.push(performance.now() - dueMs);
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    const afterMs = Math.round(performance.now() - sentMs);
    into.failed++;
    if (into.failures.length < FAILURES_TOLD)
      into.failures.push(`${code ?? message}: ${url} after ${afterMs} ms, at ${new Date().toISOString()}`);
  }
}

function figures(): Traffic {
  const { latencies, ...counts } = seen;
  latencies.sort((a, b) => a - b);
  const at = (share: number) => Math.round((latencies[Math.floor((latencies.length - 1) * share)] ?? 0) * 10) / 10;
  return { ...counts, p50: at(0.5), p99: at(0.99), max: at(1) };
}

const [rate = '200', ...hosts] = process.argv.slice(2);
const startMs = performance.now();
const underWay = new Set<Promise<void>>();
let sent = 0;
const timer = setInterval(() => {
  for (; sent < ((performance.now() - startMs) / 1000) * Number(rate); sent++) {
    const due = startMs + (sent / Number(rate)) * 1000;
    const one = once(sent, due, hosts).finally(() => underWay.delete(one));
    underWay.add(one);
  }
}, 2);

const input = createInterface({ input: process.stdin });
input.on('line', () => {
  console.log(JSON.stringify(figures()));
  seen = empty();
});
input.on('close', () => {
  clearInterval(timer);
  void Promise.all(underWay).then(() => {
    console.log(JSON.stringify(figures()));
    kept.destroy();
  });
});
