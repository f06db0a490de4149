/**
 * For a namespace of its own: connects to 127.0.0.1:8080 as often as it can while each FILE is given to nft in turn, again
 * and again for MS milliseconds, and prints as JSON what came of it (Connects). It listens on ports 9001 to 9003.
 *
 * node connects.fixture.ts MS FILE…
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { promisify } from 'node:util';

export interface Connects {
  connected: number;
  /** How often each file was put in force. */
  rounds: number;
  /** What failed, each kind once. */
  failures: string[];
}

const CLIENTS = 8;
const [forMs = '0', ...files] = process.argv.slice(2);
const nft = (file: string) => promisify(execFile)('nft', ['-f', file]);
const server = () => createServer((socket) => socket.on('error', () => {}).resume());
const seen: Connects = { connected: 0, rounds: 0, failures: [] };

for (const port of [9001, 9002, 9003]) await once(server().listen(port, '127.0.0.1'), 'listening');
for (const file of files) await nft(file);
const endMs = performance.now() + Number(forMs);
const isOver = () => performance.now() >= endMs;

async function client(): Promise<void> {
  while (!isOver()) {
    const socket = connect(8080, '127.0.0.1');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.once('connect', () => {
      seen.connected++;
      // So that no port waits for the end of what went before on it.
      socket.resetAndDestroy();
    });
    socket.on('error', ({ message }) => {
      if (!seen.failures.includes(message)) seen.failures.push(message);
    });
    await closed;
  }
}

async function changes(): Promise<void> {
  for (; !isOver(); seen.rounds++) for (const file of files) await nft(file);
}

await Promise.all([changes(), ...Array.from({ length: CLIENTS }, client)]);
console.log(JSON.stringify(seen));
process.exit(0);
