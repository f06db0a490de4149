/**
 * A backup, and a cluster brought back from it: the manager's host loses power and its data; on the empty machine the backup is
 * restored. All that was declared is there again, workers come back by themselves, and their containers do not notice.
 */
import { request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host } from './host.ts';
import { eventually, Lab, run, succeed, type Result } from './lab.ts';

const DROVER = resolve(import.meta.dirname, '../../bin/drover');

/** Asks for a restore; resolves once there is an answer, or the daemon is gone. */
function restoreBy(socketPath: string, backup: Buffer): Promise<void> {
  return new Promise((done) => {
    const headers = { 'Content-Type': 'application/vnd.drover.backup' };
    const call = request({ socketPath, method: 'POST', path: '/drover/cluster/restore', headers, agent: false });
    call.on('response', (response) => response.resume());
    call.on('error', () => done());
    call.on('close', () => done());
    call.end(backup);
  });
}

describe('backup and restore', () => {
  let lab: Lab;
  let h1: Host;
  let dir: string;
  let file: string;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'drover-e2e-backup-'));
    file = join(dir, 'cluster.backup');
    lab = await Lab.up('backup', { hosts: 2 });
    h1 = await Host.open(lab, 'h1');
    await lab.docker('h1', 'network', 'create', '-d', 'overlay', 'back');
    await make('secret', 'password', 'hunter2');
    await make('config', 'settings', 'port = 80\n');
    await service('web', 'h2', '--network', 'back', '--secret', 'password', '--config', 'settings');
    await service('beside', 'h1');
    await Promise.all([lab.converged('web', 1), lab.converged('beside', 1)]);
  });
  afterAll(async () => {
    await lab?.down();
    await rm(dir, { recursive: true, force: true });
  });

  const env = async (host: string) => ({ DOCKER_HOST: await lab.socket(host), DOCKER_CONTEXT: undefined });
  const make = async (kind: string, name: string, input: string) =>
    succeed('docker', [kind, 'create', name, '-'], { env: await env('h1'), input });
  const service = (name: string, host: string, ...flags: string[]) =>
    lab.docker(
      'h1',
      'service',
      'create',
      '--detach',
      '--name',
      name,
      '--constraint',
      `node.hostname==${host}`,
      ...flags,
      lab.image('web:1'),
    );
  const drover = async (host: string, ...words: string[]): Promise<Result> =>
    run(DROVER, ['cluster', ...words], { env: await env(host) });
  const containerOf = (name: string, host: string) =>
    lab.engine(host, 'ps', '-q', '--no-trunc', '--filter', `label=com.docker.swarm.service.name=${name}`);
  const web = async () =>
    lab.engine('h2', 'inspect', '--format', '{{.Id}} {{.State.StartedAt}}', await containerOf('web', 'h2'));
  const localState = () => lab.docker('h1', 'info', '--format', '{{.Swarm.LocalNodeState}}');
  const shown = async () => {
    const parts = await Promise.all([
      lab.docker('h1', 'service', 'ls', '--format', '{{.ID}} {{.Name}} {{.Image}}'),
      lab.docker('h1', 'secret', 'ls', '--format', '{{.ID}} {{.Name}}'),
      lab.docker('h1', 'config', 'inspect', '--format', '{{.ID}} {{json .Spec}}', 'settings'),
      lab.docker('h1', 'network', 'inspect', '--format', '{{.Id}} {{json .IPAM}}', 'back'),
      lab.docker('h1', 'swarm', 'join-token', '-q', 'worker'),
      lab.docker('h1', 'info', '--format', '{{.Swarm.NodeID}} {{.Swarm.Cluster.ID}}'),
    ]);
    return parts.map((part) => part.split('\n').sort());
  };

  test('a backup is one file for its owner alone, or a stream; it is refused where it cannot be restored', async () => {
    expect(await drover('h1', 'backup', file)).toMatchObject({ code: 0 });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const { code, stdout } = await drover('h1', 'backup', '-');
    expect(code).toBe(0);
    const header = JSON.parse(stdout.split('\n')[0]!) as { clusterId: string };
    expect(header.clusterId).toBe(await lab.docker('h1', 'info', '--format', '{{.Swarm.Cluster.ID}}'));
    expect(stdout).not.toContain(Buffer.from('hunter2').toString('base64'));
    expect(await drover('h2', 'backup', file)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("Worker nodes can't be used"),
    });
    expect(await drover('h1', 'restore', file)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('This node is already part of a swarm'),
    });
  });

  test('on the emptied machine, with kills in between, all is there again, and the container of a worker has not noticed', async () => {
    const [before, container] = await Promise.all([shown(), web()]);
    await lab.drover('kill', 'h1');
    await rm(h1.dataDir, { recursive: true });
    await lab.drover('start', 'h1');
    expect(await localState()).toBe('inactive');

    const spoilt = join(dir, 'spoilt');
    await writeFile(spoilt, (await readFile(file, 'utf8')).replace('nodes/', 'modes/'));
    expect(await drover('h1', 'restore', spoilt)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/this backup is damaged \(its checksum is wrong\); nothing was changed/),
    });
    await appendFile(spoilt, 'more');
    expect(await drover('h1', 'restore', spoilt)).toMatchObject({ code: 1 });
    expect(await localState()).toBe('inactive');

    const socketPath = (await lab.socket('h1')).replace('unix://', '');
    for (const afterMs of [10, 40, 100]) {
      const pid = await h1.pid('droverd');
      const asked = restoreBy(socketPath, await readFile(file));
      await pause(afterMs);
      process.kill(pid, 'SIGKILL');
      await asked;
      await lab.drover('start', 'h1');
      const [state, rows] = await Promise.all([localState(), lab.tryDocker('h1', 'service', 'ls', '-q')]);
      expect([state, rows.stdout.split('\n').length - 1]).toEqual(state === 'active' ? ['active', 2] : ['inactive', 0]);
      if (state === 'active') await lab.docker('h1', 'swarm', 'leave', '--force');
    }

    const { code, stdout, stderr } = await drover('h1', 'restore', file);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(
      /^Cluster \w{25} is as it was at \S+Z; its manager is this node \(\w{25}\), at \S+:2377\.\n$/,
    );
    await eventually('both nodes are ready', async () => {
      const states = await lab.docker('h1', 'node', 'ls', '--format', '{{.Hostname}} {{.Status}} {{.ManagerStatus}};');
      return states.split('\n').sort().join('') === 'h1 Ready Leader;h2 Ready ;';
    });
    expect(await shown()).toEqual(before);
    await Promise.all([lab.converged('web', 1), lab.converged('beside', 1)]);
    expect(await web()).toBe(container);

    const files = 'cat /run/secrets/password /settings';
    await lab.docker('h1', 'service', 'update', '--detach', '--force', 'web');
    await eventually('web was replaced', async () => {
      const id = await containerOf('web', 'h2');
      return id !== '' && !container.startsWith(id) && !id.includes('\n');
    });
    expect(await lab.engine('h2', 'exec', await containerOf('web', 'h2'), 'sh', '-c', files)).toBe('hunter2port = 80');
  });
});
