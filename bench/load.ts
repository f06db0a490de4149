/**
 * A client for the network bench, started inside a namespace: `node load.ts http URL REQUESTS CONNECTIONS` calls a URL over
 * keep-alive connections, `node load.ts dns NAME QUESTIONS` asks the resolver of a container. Prints one line of JSON;
 * latencies are in milliseconds.
 */
import { Resolver } from 'node:dns/promises';
import { Agent, request } from 'node:http';

const [kind, target = '', count = '1000', connections = '8'] = process.argv.slice(2);
const latencies: number[] = [];

async function many(total: number, workers: number, call: () => Promise<void>): Promise<number> {
  let left = total;
  const start = performance.now();
  await Promise.all(
    Array.from({ length: workers }, async () => {
      while (left-- > 0) {
        const began = performance.now();
        await call();
        latencies.push(performance.now() - began);
      }
    }),
  );
  return performance.now() - start;
}

const agent = new Agent({ keepAlive: true, maxSockets: Number(connections) });
const get = (): Promise<void> =>
  new Promise((resolve, reject) => {
    const call = request(target, { agent }, (response) => {
      response.resume();
      response.on('end', resolve);
    });
    call.on('error', reject);
    call.end();
  });

const resolver = new Resolver();
if (kind === 'dns') resolver.setServers(['127.0.0.11']);
const look = async (): Promise<void> => void (await resolver.resolve4(target));

const call = kind === 'dns' ? look : get;
const workers = kind === 'dns' ? 1 : Number(connections);
await many(Math.min(500, Number(count)), workers, call); // warm
latencies.length = 0;
const totalMs = await many(Number(count), workers, call);
latencies.sort((a, b) => a - b);
const at = (share: number) => latencies[Math.floor(latencies.length * share)] ?? 0;
console.log(JSON.stringify({ perSecond: Number(count) / (totalMs / 1000), p50: at(0.5), p99: at(0.99) }));
agent.destroy();
