/** Ports for the daemons of tests, which run beside other tests. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Ports of this machine that nobody listens on, below those that the kernel gives to clients, so that nobody is given one in between. */
export async function freePorts(count: number): Promise<number[]> {
  const found = new Set<number>();
  while (found.size < count) {
    const port = randomInt(10_000, 30_000);
    if (await isFree(port)) found.add(port);
  }
  return [...found];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
