import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createRootCa } from '../../pki/authority.ts';
import { saveIdentity } from '../../pki/files.ts';
import { EtcdError } from '../etcd/api.ts';
import { JournalDamaged } from '../journal.ts';
import { EtcdUnreachable } from './api.ts';
import { EtcdUnusable } from './binary.ts';
import { connectWith } from './client-api.ts';
import { clock, Hosts, type Host } from './hosts.fixture.ts';
import { saveSnapshot } from './snapshot.ts';

let hosts: Hosts;
let host: Host;
beforeEach(async () => {
  hosts = await Hosts.make();
  host = await hosts.add();
});
afterEach(() => hosts.dispose());

const etcdFolder = ({ settings }: Host) => join(settings.dataDir, 'etcd');
const kill = (pid: number | undefined, signal: NodeJS.Signals = 'SIGKILL') => process.kill(pid!, signal);

describe('a member alone', () => {
  test('is the first of a new cluster, and stops and starts again with its data', async () => {
    const member = host.member();
    expect(await member.resume()).toBe('none');
    await member.bootstrap();
    expect(member.life).toBe('running');
    await host.put('a', '1');
    await member.stop();
    await expect(host.get('a')).rejects.toThrow(EtcdError);

    expect(await member.resume()).toBe('running');
    await expect.poll(() => host.get('a').catch(() => undefined)).toBe('1');
    expect(member.degraded()).toEqual([]);
    await member.bootstrap();
    expect(await host.get('a')).toBe('1');
  });

  test('is started again when it dies, and says meanwhile why', async () => {
    const member = host.member();
    await member.bootstrap();
    await host.put('a', '1');
    const before = member.pid;
    kill(before);
    await expect.poll(() => member.degraded()[0]).toMatch(/etcd does not run: etcd has ended/);
    await expect.poll(() => host.get('a').catch(() => undefined)).toBe('1');
    expect(member.pid).not.toBe(before);
    await expect.poll(() => member.degraded()).toEqual([]);
  });

  test('lives on while droverd is away, and is adopted by the next one', async () => {
    const first = host.member();
    await first.bootstrap();
    const { pid } = first;
    await first.detach();
    await host.put('a', '1');

    const second = host.member();
    expect(await second.resume()).toBe('running');
    expect(second.pid).toBe(pid);
    expect(await second.upToDate()).toBe(true);
    kill(pid);
    await expect.poll(() => host.get('a').catch(() => undefined)).toBe('1');
    await second.stop();
    expect(existsSync(`/proc/${second.pid ?? pid}`)).toBe(false);
  });

  test('moves its data aside when it leaves, and keeps the last two', async () => {
    const names: string[] = [];
    for (let i = 0; i < 3; i++) {
      const member = host.member();
      await member.bootstrap();
      names.push(member.name!);
      await member.leave();
      expect(member.life).toBe('none');
    }
    const kept = readdirSync(etcdFolder(host)).filter((entry) => entry.startsWith('removed-'));
    expect(kept.toSorted()).toEqual(
      names
        .slice(1)
        .map((name) => `removed-${name}`)
        .toSorted(),
    );
  });

  test('takes a new root when restarted, and a new certificate at once', async () => {
    const member = host.member();
    await member.bootstrap();
    const other = await createRootCa(Date.now());
    const bundle = { ...host.tls, rootCertificate: host.tls.rootCertificate + other.certificate };
    await saveIdentity(host.settings.dataDir, bundle);
    expect(await member.upToDate()).toBe(false);
    const strange = await hosts.certificate(host.nodeId, 'manager', ['127.0.0.1'], other);
    const byOther = connectWith({
      identity: () => ({ ...strange, rootCertificate: bundle.rootCertificate }),
      clock,
    })([host.endpoint]);
    await expect(byOther.status()).rejects.toThrow(EtcdUnreachable);
    await member.restart();
    expect(await member.upToDate()).toBe(true);
    expect((await byOther.status()).learner).toBe(false);
    expect(readdirSync(etcdFolder(host)).filter((entry) => entry.endsWith('.crt'))).toHaveLength(1);
    byOther.close();

    // Its own certificate it reads by itself: whoever knows the new root alone is content now.
    await saveIdentity(host.settings.dataDir, { ...strange, rootCertificate: bundle.rootCertificate });
    const byNew = connectWith({ identity: () => strange, clock })([host.endpoint]);
    expect((await byNew.status()).learner).toBe(false);
    byNew.close();
  });

  test('gives a snapshot of all it has', async () => {
    const member = host.member();
    await member.bootstrap();
    for (let i = 0; i < 20; i++) await host.put(`key-${i}`, `${i}-`.repeat(10_000));
    const path = join(host.settings.dataDir, 'snapshot.db');
    const api = host.connect([host.endpoint]);
    const sizeBytes = await saveSnapshot(api, path);
    const bytes = readFileSync(path);
    expect(bytes.length).toBe(sizeBytes);
    expect(bytes.includes('19-19-19-')).toBe(true);
    await member.stop();
    await expect(saveSnapshot(api, path)).rejects.toThrow(EtcdUnreachable);
    expect(readFileSync(path).equals(bytes)).toBe(true);
    api.close();
  });
});

// A disk of its own can be had by root only.
describe.skipIf(process.getuid?.() !== 0)('its disk is full', () => {
  beforeEach(() => {
    mkdirSync(etcdFolder(host));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'tmpfs', etcdFolder(host)]);
  });
  afterEach(() => execFileSync('umount', ['-l', etcdFolder(host)]));

  test('writes fail, it says why, and it goes on with all that was acknowledged once there is room', async () => {
    const member = host.member();
    await member.bootstrap();
    const filler = join(etcdFolder(host), 'filler');
    expect(() => writeFileSync(filler, Buffer.alloc(200 * 1024 ** 2))).toThrow(/ENOSPC/);
    let acknowledged = -1;
    const write = async () => {
      for (;;) {
        await host.put('n', `${acknowledged + 1} `.padEnd(500_000, 'x'));
        acknowledged += 1;
      }
    };
    await expect(write()).rejects.toThrow(EtcdError);
    await expect
      .poll(() => member.degraded()[0])
      .toMatch(/etcd does not run: .*the disk with .*etcd is full: \d MiB free/);
    rmSync(filler);
    await expect.poll(() => host.put('after', 'yes').then(() => 'written', String)).toBe('written');
    expect(parseInt((await host.get('n')) ?? '-1', 10)).toBeGreaterThanOrEqual(acknowledged);
  });
});

describe('before anything is changed', () => {
  const refused = async (words: RegExp, searchPath?: string) => {
    const member = host.member(searchPath === undefined ? {} : { searchPath });
    const error = await member.bootstrap().catch((error: unknown) => error);
    expect(error).toBeInstanceOf(EtcdUnusable);
    expect((error as Error).message).toMatch(words);
    expect(existsSync(etcdFolder(host))).toBe(false);
  };

  test('an etcd that is too old is refused', async () => {
    const folder = join(host.settings.dataDir, 'bin');
    mkdirSync(folder);
    writeFileSync(join(folder, 'etcd'), "#!/bin/sh\necho 'etcd Version: 3.3.25'\n");
    chmodSync(join(folder, 'etcd'), 0o755);
    await refused(/is version 3\.3\.25: install the Debian package etcd-server/, folder);
  });

  test('a port that another etcd has is refused', async () => {
    const { clientPort } = host.settings;
    const other = await hosts.add('manager', { clientPort });
    await other.member().bootstrap();
    await refused(new RegExp(`port ${clientPort}: it is in use, perhaps by another etcd`));
  });

  test('a certificate without the address is refused', async () => {
    await saveIdentity(host.settings.dataDir, await hosts.certificate(host.nodeId, 'manager', ['10.9.9.9']));
    await refused(/does not bear the address 127\.0\.0\.1/);
  });
});

describe('who may speak to it', () => {
  test('managers of the cluster only', async () => {
    await host.member().bootstrap();
    const as = (identity: typeof host.tls) =>
      connectWith({ identity: () => identity, clock })([host.endpoint]).status();
    expect((await as(await hosts.certificate('m'.repeat(25), 'manager'))).version).toMatch(/^3\./);
    await expect(as(await hosts.certificate('w'.repeat(25), 'worker'))).rejects.toThrow(EtcdUnreachable);
    const strange = await createRootCa(Date.now());
    const forged = await hosts.certificate(host.nodeId, 'manager', ['127.0.0.1'], strange);
    await expect(as({ ...forged, rootCertificate: hosts.root.certificate })).rejects.toThrow(EtcdUnreachable);
  });

  test('nobody in plain', async () => {
    await host.member().bootstrap();
    for (const port of [host.settings.clientPort, host.settings.peerPort]) {
      const socket = connect(port, '127.0.0.1');
      socket.write('GET /version HTTP/1.1\r\nHost: etcd\r\n\r\n');
      const said: Buffer[] = [];
      socket.on('data', (bytes: Buffer) => said.push(bytes));
      socket.on('error', () => {});
      await once(socket, 'close');
      expect(Buffer.concat(said).toString()).not.toMatch(/200 OK|etcdserver/);
    }
  });
});

describe('a life that was broken off', () => {
  const begin = fileURLToPath(new URL('begin.fixture.ts', import.meta.url));

  /** Kills it `afterMs` after it has begun; resolves with whether it was done before. */
  async function killed(life: 'bootstrap' | 'force', afterMs: number): Promise<boolean> {
    const child = spawn(process.execPath, [begin, JSON.stringify(host.settings), life], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    await expect.poll(() => said).toContain('begun');
    setTimeout(() => child.kill('SIGKILL'), afterMs);
    await once(child, 'close');
    return said.includes('done');
  }

  test('a first start is finished, wherever it was killed', async () => {
    for (const afterMs of [1, 60, 150, 400]) {
      host = await hosts.add();
      await killed('bootstrap', afterMs);
      const member = host.member();
      await member.resume();
      await member.bootstrap();
      await host.put('a', '1');
      expect(member.life).toBe('running');
      await member.leave();
    }
  });

  test('going on alone is finished, wherever it was killed', async () => {
    const member = host.member();
    await member.bootstrap();
    await host.put('a', '1');
    await member.detach();
    for (const afterMs of [5, 150, 500]) {
      await killed('force', afterMs);
      const next = host.member();
      expect(await next.resume()).toBe('running');
      await expect.poll(() => host.get('a').catch(() => undefined)).toBe('1');
      await next.detach();
    }
  });

  test('leaving is finished', async () => {
    const member = host.member();
    await member.bootstrap();
    await member.detach();
    writeFileSync(join(etcdFolder(host), 'member.json'), JSON.stringify({ phase: 'leaving', name: member.name }));
    const next = host.member();
    expect(await next.resume()).toBe('none');
    await expect(host.get('a')).rejects.toThrow(EtcdError);
  });

  test('a first start that cannot succeed leaves nothing', async () => {
    const member = host.member();
    rmSync(join(host.settings.dataDir, 'certificates', 'swarm-node.key'));
    await expect(member.bootstrap()).rejects.toThrow(/etcd does not come up: etcd has ended.*swarm-node\.key/);
    expect(member.life).toBe('none');
    expect(readdirSync(etcdFolder(host)).filter((entry) => !entry.endsWith('.crt'))).toEqual([]);
  });

  test('a member whose data is lost does not begin an empty cluster', async () => {
    const member = host.member();
    await member.bootstrap();
    await member.stop();
    rmSync(join(etcdFolder(host), member.name!), { recursive: true });
    expect(await member.resume()).toBe('running');
    await expect.poll(() => member.degraded()[0]).toMatch(/does not run: etcd has ended/);
    await expect(host.get('a')).rejects.toThrow(EtcdError);
  });

  test('a damaged state file is left as it is', () => {
    mkdirSync(etcdFolder(host));
    writeFileSync(join(etcdFolder(host), 'member.json'), '{"phase":"dancing"}');
    expect(() => host.member().life).toThrow(JournalDamaged);
  });
});
