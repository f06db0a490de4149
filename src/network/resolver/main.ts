/**
 * The resolver: a small process of its own on each host (decision 5), so that names resolve while `droverd` is away.
 * `main.ts DIRECTORY [PORT]` serves what the files in DIRECTORY say until it gets SIGTERM. It needs nobody, and
 * imports little, because it is there on every host all the time.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../model/clock.ts';
import { KnowledgeFiles } from './knowledge.ts';
import { STATUS_FILE } from './names.ts';
import type { Status } from './names.ts';
import { ResolverServer } from './server.ts';
import { Upstream } from './upstream.ts';

/** Milliseconds between two attempts at an address that cannot be bound (yet). */
const BIND_RETRY_MS = 500;

const clock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, fn) {
    const timer = setTimeout(fn, delayMs).unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

function main(directory: string, port: number): ResolverServer {
  const listening = new Map<string, string | null>();
  let retry: NodeJS.Timeout | undefined;

  const report = (message: string): void => {
    process.stderr.write(`${new Date().toISOString()} ${message}\n`);
  };
  const listen = (): void => {
    const addresses = knowledge.gateways();
    for (const address of listening.keys()) if (!addresses.has(address)) listening.delete(address);
    server.listenOn(addresses);
  };
  /** Whoever reads our pid in it may end the resolver before us: not before we have tried every address. */
  const writeStatus = (): void => {
    if ([...knowledge.gateways()].some((address) => !listening.has(address))) return;
    const status: Status = { pid: process.pid, addresses: Object.fromEntries(listening) };
    const path = join(directory, STATUS_FILE);
    writeFileSync(`${path}.${process.pid}`, JSON.stringify(status));
    renameSync(`${path}.${process.pid}`, path);
  };
  const knowledge = new KnowledgeFiles(
    directory,
    () => {
      listen();
      server.changed();
    },
    report,
  );
  const server = new ResolverServer({
    port,
    knowledge: () => knowledge,
    clock,
    upstream: new Upstream(() => knowledge.upstreams()),
    onFailure: (error) => report(`cannot answer: ${String(error)}`),
    onListening: (address, error) => {
      if (error !== undefined) retry ??= setTimeout(() => ((retry = undefined), listen()), BIND_RETRY_MS);
      if (listening.get(address) === (error ?? null)) return;
      listening.set(address, error ?? null);
      report(error === undefined ? `listens on ${address}` : `cannot listen on ${address}: ${error}`);
      writeStatus();
    },
  });
  knowledge.start();
  writeStatus();
  return server;
}

const [directory, port] = process.argv.slice(2);
if (directory === undefined) {
  process.stderr.write('usage: main.ts DIRECTORY [PORT]\n');
  process.exitCode = 2;
} else {
  const server = main(directory, Number(port ?? 53));
  process.once('SIGTERM', () => void server.retire().then(() => process.exit(0)));
}
