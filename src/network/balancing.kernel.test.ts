/** Rules that change while connections are made through them: none may meet half of a change. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Balanced } from './balancing.ts';
import { BalancingTable } from './balancing.ts';
import type { Connects } from './connects.fixture.ts';
import { whyNoNamespaces } from './fake-hosts.fixture.ts';

const CLIENT = join(import.meta.dirname, 'connects.fixture.ts');
/** Long enough to find every other time what refuses one connection in fifty thousand. */
const CONNECTING_MS = 4_000;

const SHAPE = {
  name: 'drover_test',
  keyType: 'inet_proto . inet_service',
  chains: `chain output {
    type nat hook output priority -110
    meta l4proto . th dport vmap @targets
  }`,
};

const service = (port: number, ...backends: number[]): [Balanced] => [
  { key: `tcp . ${port}`, protocol: 'tcp', backends: backends.map((backend) => `127.0.0.1 . ${backend}`) },
];
const reason = whyNoNamespaces();

describe.skipIf(reason !== undefined)(`in the kernel${reason === undefined ? '' : ` (${reason})`}`, () => {
  test('while backends and other services come and go and the table is made anew, each connection is made', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'drover-rules-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const transactions: string[] = [];
    const told = async (rules: string) => transactions.push(rules);
    const table = new BalancingTable();
    const first = new Map([['web', service(8080, 9001, 9002, 9003)]]);
    await table.make(SHAPE, first, told);
    await table.change(new Map([['web', service(8080, 9001, 9002)]]), told);
    await table.change(new Map([['other', service(8081, 9003)]]), told);
    await table.change(new Map([['web', service(8080, 9002, 9003)]]), told);
    await table.change(new Map([['other', []]]), told);
    await table.make(SHAPE, first, told);
    const files = await Promise.all(
      transactions.map(async (rules, i) => {
        const file = join(directory, `${i}.nft`);
        await writeFile(file, rules);
        return file;
      }),
    );
    const command = `ip link set lo up; exec "$@"`;
    const args = ['-n', 'sh', '-c', command, 'sh', process.execPath, CLIENT, String(CONNECTING_MS), ...files];
    const { stdout } = await promisify(execFile)('unshare', args);
    const seen: Connects = JSON.parse(stdout);
    expect(seen.failures).toEqual([]);
    expect(Math.min(seen.connected, seen.rounds)).toBeGreaterThan(1);
  });
});
