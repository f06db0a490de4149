/**
 * The keys of several managers: the root CA rotated, managers locked and unlocked, backups of any of them restored; and their
 * droverd replaced one after the other. A client writes meanwhile, another asks what runs.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host } from './host.ts';
import { eventually, get, Lab, run, succeed, type Result } from './lab.ts';
import { Stream } from './stream.ts';
import type { Traffic } from './traffic.ts';
import { Writer } from './writer.ts';

const DROVER = resolve(import.meta.dirname, '../../bin/drover');
const SERVER = readFileSync(join(import.meta.dirname, 'patient-server.cjs'), 'utf8');
const managers = ['h1', 'h2', 'h3'];
const worker = 'h4';
const SOAK = Boolean(process.env['DROVER_SOAK']);
/** In a row: members that take up one root while the next comes must not lose each other. */
const ROTATIONS = SOAK ? 5 : 1;
const PORT = 8080;
const LOCKED = 'Swarm is encrypted and needs to be unlocked before it can be used.';
/** From the loss of a leader to the next acknowledged write (issue 5). */
const NEXT_WRITE_MS = 6_000;

describe('keys of several managers', () => {
  let lab: Lab;
  let dir: string;
  let hosts: Map<string, Host>;
  /** Of the last test that locked the managers. */
  let unlockKey: string;
  const written: string[] = [];

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'drover-e2e-keys-'));
    lab = await Lab.up('managers-keys', { hosts: 4, managers: managers.length });
    hosts = new Map(
      await Promise.all([...managers, worker].map(async (name) => [name, await Host.open(lab, name)] as const)),
    );
    await succeed('docker', ['secret', 'create', 'password', '-'], { env: await env('h1'), input: 'hunter2' });
    await lab.docker('h1', 'network', 'create', '-d', 'overlay', 'back');
    await create('steady', '--constraint', `node.hostname==${worker}`, '--network', 'back', lab.image('web:1'));
    const published = ['--publish', `${PORT}:8080`, '--env', 'VERSION=1'];
    const image = lab.image('calculator:1');
    await create('site', '--replicas', '2', '--constraint', 'node.role==manager', ...published, image, ...server);
    await Promise.all([lab.converged('steady', 1), lab.converged('site', 2)]);
    for (const name of hosts.keys())
      await eventually('the site answers', async () => (await get(await url(name))).status);
  });
  afterAll(async () => {
    await lab?.down();
    await rm(dir, { recursive: true, force: true });
  });

  const server = ['/usr/bin/node', '-e', SERVER];
  const env = async (host: string) => ({ DOCKER_HOST: await lab.socket(host), DOCKER_CONTEXT: undefined });
  const url = async (host: string) => `http://${await lab.address(host)}:${PORT}`;
  const create = (name: string, ...args: string[]) =>
    lab.docker('h1', 'service', 'create', '--detach', '--no-resolve-image', '--name', name, ...args);
  const state = (host: string) => lab.docker(host, 'info', '--format', '{{.Swarm.LocalNodeState}}');
  const update = (host: string, value: string) =>
    lab.docker(host, 'service', 'update', '--detach', '--label-add', `by=${value}`, 'steady');
  const drover = async (host: string, ...words: string[]): Promise<Result> =>
    run(DROVER, ['cluster', ...words], { env: await env(host) });

  /** Resolves with the one that leads, once each of `some` says that all managers are there. */
  const settled = (some = managers) =>
    eventually('one leader, the other managers reachable', async () => {
      const said = await Promise.all(
        some.map((host) => lab.docker(host, 'node', 'ls', '--format', '{{.Hostname}} {{.ManagerStatus}}')),
      );
      const rows = said.map((list) =>
        list
          .split('\n')
          .filter((row) => !row.endsWith(' '))
          .sort()
          .join(),
      );
      const leader = /(\w+) Leader/.exec(rows[0]!)?.[1];
      const all = rows[0]!.match(/ (Leader|Reachable)/g)?.length === managers.length;
      return all && rows.every((row) => row === rows[0]) && leader;
    });

  /** The containers of steady, on the worker: whatever happens to managers, they go on. */
  async function steady(): Promise<string> {
    const filter = 'label=com.docker.swarm.service.name=steady';
    const ids = await lab.engine(worker, 'ps', '-q', '--no-trunc', '--filter', filter);
    return lab.engine(worker, 'inspect', '--format', '{{.Id}} {{.State.StartedAt}}', ...ids.split('\n'));
  }

  /** Writes at a steady rate by these managers while `change` happens, and says what that did to it. */
  async function writingBy(some: readonly string[], name: string, change: () => Promise<unknown>): Promise<Writer> {
    const writer = new Writer(await Promise.all(some.map((host) => lab.socket(host))), {
      perSecond: 10,
      prefix: `${name}-`,
    });
    const sinceMs = performance.now();
    try {
      await change();
      const changedMs = performance.now();
      const gapMs = await eventually('the next write', async () => writer.longestGap(sinceMs, changedMs));
      expect(gapMs).toBeLessThan(NEXT_WRITE_MS);
      const refused = JSON.stringify([...writer.refusals]);
      console.log(
        `${name}: ${writer.acknowledged.length} writes in ${Math.round(changedMs - sinceMs)} ms, none for ${Math.round(gapMs)} ms, refused: ${refused}`,
      );
    } finally {
      await writer.stop();
    }
    expect(writer.wrong).toEqual([]);
    written.push(...writer.acknowledged.map((write) => write.name));
    return writer;
  }

  async function kept(host: string): Promise<void> {
    const there = new Set((await lab.docker(host, 'config', 'ls', '--format', '{{.Name}}')).split('\n'));
    expect(written.filter((name) => !there.has(name))).toEqual([]);
  }

  test('droverd of each manager is replaced in turn, the leader’s last: only the change of leader is noticed', async () => {
    const [before, leader] = [await steady(), await settled()];
    const urls = await Promise.all([...hosts.keys()].map((host) => url(host)));
    const asking = new Stream(process.execPath, [join(import.meta.dirname, 'traffic.ts'), '50', ...urls]);
    for (const host of [...managers.filter((name) => name !== leader), leader]) {
      const others = managers.filter((name) => name !== host);
      const { refusals } = await writingBy(others, `${host} replaced`.replaceAll(' ', '-'), async () => {
        await hosts.get(host)!.stop('droverd');
        await hosts.get(host)!.start('droverd');
        await settled();
      });
      if (host !== leader) expect([...refusals]).toEqual([]);
    }
    asking.end();
    await asking.ended;
    const traffic = JSON.parse(asking.output) as Traffic;
    console.log(`${traffic.requests} requests by the mesh meanwhile, ${traffic.failed} failed, p99 ${traffic.p99} ms`);
    expect(traffic.failures).toEqual([]);
    expect(await steady()).toBe(before);
    await kept('h1');
  });

  /** The root certificates that the managers' etcd run with. */
  async function rootsInUse(): Promise<string[]> {
    const lines = await Promise.all(managers.map((host) => lab.exec(host, 'pgrep', '-a', '-x', 'etcd')));
    return lines.map((line) => / --trusted-ca-file=\S*\/root-(\w+)\.crt/.exec(line)![1]!);
  }

  test('a rotated root CA reaches every manager’s etcd, one after the other, and no write fails', async () => {
    const [before, leader, [root]] = [await steady(), await settled(), await rootsInUse()];
    expect(await drover(leader, 'backup', join(dir, 'before-rotation'))).toMatchObject({ code: 0 });
    const { refusals } = await writingBy(managers, 'rotated', async () => {
      for (let i = 0; i < ROTATIONS; i++) await lab.docker('h2', 'swarm', 'ca', '--rotate');
      await eventually('every etcd runs with the new root', async () => {
        const roots = await rootsInUse();
        return !roots.includes(root!) && new Set(roots).size === 1;
      });
    });
    expect([...refusals]).toEqual([]);
    await settled();
    expect(await steady()).toBe(before);
    await kept('h3');
  });

  const keyFile = (host: string) => readFile(join(hosts.get(host)!.dataDir, 'state.key'), 'utf8');
  const unlock = async (host: string, key: string): Promise<Result> =>
    run('docker', ['swarm', 'unlock'], { env: await env(host), input: key });
  const refused = { code: 1, stderr: expect.stringContaining('swarm could not be unlocked: invalid key provided') };
  const opened = { code: 0 };

  test('locked: one waits for its key while the others serve; all of them, and two keys bring the quorum back', async () => {
    const [before, leader] = [await steady(), await settled()];
    const keyIn = (said: string) => /SWMKEY-1-\S+/.exec(said)![0];
    const first = keyIn(await lab.docker('h2', 'swarm', 'update', '--autolock=true'));
    for (const host of managers)
      await eventually('the key file is locked', async () => (await keyFile(host)).startsWith('{"locked":'));

    const away = managers.find((name) => name !== leader)!;
    await hosts.get(away)!.stop('droverd');
    unlockKey = keyIn(await lab.docker(leader, 'swarm', 'unlock-key', '--rotate'));
    await hosts.get(away)!.start('droverd');
    expect(await state(away)).toBe('locked');
    expect((await lab.tryDocker(away, 'node', 'ls')).stderr).toContain(LOCKED);
    await update(leader, 'others');
    const lockedBefore = await keyFile(away);
    expect(await unlock(away, unlockKey)).toMatchObject(refused);
    expect(await unlock(away, first)).toMatchObject(opened);
    await settled();
    await eventually('it has the new lock', async () => (await keyFile(away)) !== lockedBefore);

    for (const host of managers)
      await lab.exec(host, 'sh', '-c', "kill -9 $(pgrep -f '[d]aemon/main') $(pgrep -x etcd)");
    for (const host of managers) await lab.drover('start', host);
    expect(await Promise.all(managers.map((host) => state(host)))).toEqual(['locked', 'locked', 'locked']);
    expect(await unlock(away, first)).toMatchObject(refused);
    expect(await unlock(away, unlockKey)).toMatchObject(opened);
    const alone = await lab.tryDocker(away, 'service', 'update', '--detach', '--label-add', 'by=alone', 'steady');
    expect(alone.stderr).toMatch(/does not have a leader|does not know the state/);
    expect(await unlock(leader, unlockKey)).toMatchObject(opened);
    await eventually('two of three take writes', () => update(away, 'two'));
    const last = managers.find((name) => name !== away && name !== leader)!;
    expect(await state(last)).toBe('locked');
    expect(await unlock(last, unlockKey)).toMatchObject(opened);
    await settled();
    expect(await steady()).toBe(before);
    await kept(last);
  });

  const shown = async (host: string) => {
    const parts = await Promise.all([
      lab.docker(host, 'service', 'ls', '--format', '{{.ID}} {{.Name}} {{.Image}}'),
      lab.docker(host, 'secret', 'ls', '--format', '{{.ID}} {{.Name}}'),
      lab.docker(host, 'config', 'ls', '--format', '{{.ID}} {{.Name}}'),
      lab.docker(host, 'network', 'inspect', '--format', '{{.Id}} {{json .IPAM}}', 'back'),
      lab.docker(host, 'swarm', 'join-token', '-q', 'worker'),
      lab.docker(host, 'info', '--format', '{{.Swarm.Cluster.ID}}'),
    ]);
    return parts.map((part) => part.split('\n').sort());
  };
  const workerState = async (host: string) =>
    (await lab.docker(host, 'node', 'ls', '--filter', `name=${worker}`, '--format', '{{.Status}}')).split('\n').sort();

  /** The keys of the rows in a backup: its values are encrypted anew each time. */
  const rowsIn = async (file: string) =>
    (await readFile(file, 'utf8'))
      .split('\n')
      .slice(1, -2)
      .map((line) => (JSON.parse(line) as [string, string])[0])
      .sort();

  /** An empty machine in the place of the managers of before. */
  let fresh: string;
  let declared: string[][];
  const restored = async (file: string, ...flags: string[]) => {
    const { code, stdout, stderr } = await drover(fresh, 'restore', ...flags, join(dir, file));
    expect([code, stderr]).toEqual([0, '']);
    return stdout;
  };
  const workerIsBack = () =>
    eventually('the worker is back', async () => (await workerState(fresh)).join() === 'Ready');

  test('backups of the leader and of a follower hold the same; that of the follower makes the cluster anew', async () => {
    const [before, leader] = [await steady(), await settled()];
    fresh = managers.find((name) => name !== leader)!;
    declared = await shown(leader);
    expect(await drover(leader, 'backup', join(dir, 'leader'))).toMatchObject({ code: 0 });
    expect(await drover(fresh, 'backup', join(dir, 'follower'))).toMatchObject({ code: 0 });
    expect(await rowsIn(join(dir, 'follower'))).toEqual(await rowsIn(join(dir, 'leader')));

    await Promise.all(managers.map((host) => lab.drover('kill', host)));
    await rm(hosts.get(fresh)!.dataDir, { recursive: true });
    await lab.drover('start', fresh);
    const said = await restored('follower');
    for (const host of managers.filter((name) => name !== fresh)) expect(said).toContain(`${host} `);
    expect(await state(fresh)).toBe('locked');
    expect(await unlock(fresh, unlockKey)).toMatchObject(opened);
    await workerIsBack();
    expect(await shown(fresh)).toEqual(declared);
    expect(await lab.docker(fresh, 'node', 'ls', '-q', '--filter', 'role=manager')).not.toContain('\n');
    expect(await steady()).toBe(before);
    await kept(fresh);
  });

  test.runIf(SOAK)(
    'that of the leader, too; and one from before a rotation, for which nodes have to come anew',
    async () => {
      const place = ['--advertise-addr', await lab.address(fresh)];
      await lab.docker(fresh, 'swarm', 'leave', '--force');
      await restored('leader', ...place);
      expect(await unlock(fresh, unlockKey)).toMatchObject(opened);
      await workerIsBack();
      expect(await shown(fresh)).toEqual(declared);

      await lab.docker(fresh, 'swarm', 'leave', '--force');
      await restored('before-rotation', ...place);
      // It trusts the root of after the rotation alone.
      await eventually('the worker is not there', async () => (await workerState(fresh)).join() === 'Down');
      await lab.docker(worker, 'swarm', 'leave');
      const token = await lab.docker(fresh, 'swarm', 'join-token', '-q', 'worker');
      await lab.docker(worker, 'swarm', 'join', '--token', token, `${await lab.address(fresh)}:2377`);
      expect(await workerState(fresh)).toEqual(['Down', 'Ready']);
      const replicas = ['service', 'ls', '--filter', 'name=steady', '--format', '{{.Replicas}}'];
      await eventually('steady runs', async () => (await lab.docker(fresh, ...replicas)) === '1/1');
    },
  );
});
