import { mkdtempSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { clusterCommands, restoredText } from './cluster.ts';
import { execute } from './command.ts';

describe('drover cluster', () => {
  let dir: string;
  let server: Server;
  let play: RequestListener;
  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'drover-cluster-'));
    server = createServer((request, response) => play(request, response)).listen(join(dir, 'sock'));
    await once(server, 'listening');
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
    rmSync(dir, { recursive: true });
  });

  const path = (name: string) => join(dir, name);

  async function drover(...words: string[]) {
    const said = { code: 0, out: '', err: '' };
    const output = { out: (text: string) => void (said.out += text), err: (text: string) => void (said.err += text) };
    const all = [...words, '--host', `unix://${path('sock')}`];
    said.code = await execute(clusterCommands, all, 'drover cluster', output);
    return said;
  }

  test('backup writes a file for its owner alone, over the one before', async () => {
    play = (_request, response) => response.end('the state\n');
    writeFileSync(path('b'), 'older', { mode: 0o644 });
    const { code, err } = await drover('backup', path('b'));
    expect([code, err]).toEqual([0, expect.stringMatching(/holds the cluster's state and its keys/)]);
    expect(readFileSync(path('b'), 'utf8')).toBe('the state\n');
    expect(statSync(path('b')).mode & 0o777).toBe(0o600);
    expect(existsSync(path('b.new'))).toBe(false);
  });

  test('backup of a manager that is cut off warns that it may be old', async () => {
    play = (_request, response) => response.setHeader('Warning', '199 drover "It may be old."').end('the state\n');
    const { code, err } = await drover('backup', path('b'));
    expect([code, err]).toEqual([
      0,
      expect.stringMatching(/^Warning: It may be old\.\n.*keep it as you keep a key\n$/),
    ]);
  });

  test.each<[string, RequestListener, RegExp]>([
    [
      'is refused',
      (_request, response) => response.writeHead(503).end('{"message":"This node is not a swarm manager."}'),
      /^Error: This node is not a swarm manager\.\n$/,
    ],
    [
      'breaks off',
      (_request, response) => response.write('the st', () => response.destroy()),
      /^Error: aborted|^Error: .*(reset|premature|Premature)/,
    ],
  ])('backup that %s leaves the file of before', async (_what, listener, message) => {
    play = listener;
    writeFileSync(path('b'), 'older');
    const { code, err } = await drover('backup', path('b'));
    expect([code, err]).toEqual([1, expect.stringMatching(message)]);
    expect(readFileSync(path('b'), 'utf8')).toBe('older');
    expect(existsSync(path('b.new'))).toBe(false);
  });

  test('restore sends the file, and says what became of it', async () => {
    let sent = '';
    play = (request, response) => {
      sent = `${request.method} ${request.url} ${request.headers['content-type']} `;
      request.on('data', (chunk: Buffer) => (sent += chunk.toString()));
      request.on('end', () =>
        response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(ANSWER)),
      );
    };
    writeFileSync(path('b'), 'the state');
    expect(await drover('restore', path('b'), '--advertise-addr', '10.0.0.2')).toEqual({
      code: 0,
      out: `${restoredText(ANSWER)}\n`,
      err: '',
    });
    expect(sent).toBe('POST /drover/cluster/restore?advertiseAddr=10.0.0.2 application/vnd.drover.backup the state');
  });

  test('restore of a file that is not there says so', async () => {
    const { code, err } = await drover('restore', path('none'));
    expect([code, err]).toEqual([1, expect.stringMatching(/^Error: ENOENT/)]);
  });
});

const ANSWER = {
  ClusterID: 'c',
  NodeID: 'n',
  BackupAt: '2026-01-01T00:00:00.000Z',
  Locked: false,
  AddrBefore: '10.0.0.1:2377',
  Addr: '10.0.0.1:2377',
  FormerManagers: [],
};

test('what is said of a restored cluster', () => {
  expect(restoredText(ANSWER)).toBe(
    'Cluster c is as it was at 2026-01-01T00:00:00.000Z; its manager is this node (n), at 10.0.0.1:2377.',
  );
  const more = restoredText({
    ...ANSWER,
    Locked: true,
    Addr: '10.0.0.2:2377',
    FormerManagers: [{ NodeID: 'm', Hostname: 'h2', Addr: '10.0.0.3:2377' }],
  });
  expect(more.split('\n').slice(1)).toEqual([
    'It is locked: use "docker swarm unlock" with the unlock key of that time.',
    'Nodes look for their manager at 10.0.0.1:2377: those that do not find this one have to leave and join again.',
    'h2 (m) is no manager any more: on it, use "docker swarm leave --force" and join again.',
  ]);
});
