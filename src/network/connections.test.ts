import { createServer, connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { countServed, servedConnections } from './connections.ts';

const HEADER = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';
const row = (local: string, remote: string, state: string): string =>
  `   0: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000     0        0 560450 1 0 100 0 0 10 0`;
const listen = row('00000000:0050', '00000000:0000', '0A');
const OWN = '0509000A';
const CLIENT = '0100000A';
const MAPPED = '0000000000000000FFFF0000';

test.each([
  ['nothing', [], 0],
  ['a client', [row(`${OWN}:0050`, `${CLIENT}:D54C`, '01')], 1],
  ['a client that came over IPv6 sockets', [row(`${MAPPED}${OWN}:0050`, `${MAPPED}${CLIENT}:D54C`, '01')], 1],
  ['a client that has said all and waits', [row(`${OWN}:0050`, `${CLIENT}:D54C`, '08')], 1],
  ['an answer not yet acknowledged', [row(`${OWN}:0050`, `${CLIENT}:D54C`, '04')], 1],
  ['one that is over', [row(`${OWN}:0050`, `${CLIENT}:D54C`, '06')], 0],
  ['a connection of its own to another', [row(`${OWN}:D54C`, `${CLIENT}:0050`, '01')], 0],
  ['itself through loopback', [row('0100007F:0050', '0100007F:D54C', '01')], 0],
  ['itself through loopback, over IPv6 sockets', [row(`${MAPPED}0100007F:0050`, `${MAPPED}0200007F:D54C`, '01')], 0],
  ['itself through ::1', [row(`${'0'.repeat(24)}01000000:0050`, `${'0'.repeat(24)}01000000:D54C`, '01')], 0],
  ['itself through its VIP', [row(`${OWN}:0050`, `${OWN}:D54C`, '01')], 0],
])('%s', (_what, rows, count) => {
  expect(countServed([HEADER, listen, ...rows, ''].join('\n'))).toBe(count);
});

test('what the kernel says is understood', async () => {
  const server = createServer().listen(0);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const before = await servedConnections(process.pid);
  const client = connect(port, '127.0.0.1');
  const [accepted]: Socket[] = await once(server, 'connection');
  // Both ends are in this namespace, so it counts as the task's own.
  expect(await servedConnections(process.pid)).toBe(before);
  client.destroy();
  accepted?.destroy();
  server.close();
  await expect(servedConnections(2 ** 30)).rejects.toThrow('ENOENT');
});
