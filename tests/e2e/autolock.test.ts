/** Locked managers (`--autolock`) through the untouched docker client: what a locked one refuses, what goes on, and its key. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Host } from './host.ts';
import { eventually, Lab, run, type Result } from './lab.ts';

const LOCKED =
  'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.';

describe('autolock', () => {
  let lab: Lab;
  let h1: Host;
  let key: string;

  beforeAll(async () => {
    lab = await Lab.up('autolock', { hosts: 1, bare: true });
    h1 = await Host.open(lab, 'h1');
    const said = await lab.docker('h1', 'swarm', 'init', '--autolock');
    key = /^ {4}(SWMKEY-1-[\w+/]{43})$/m.exec(said)![1]!;
    await lab.docker('h1', 'service', 'create', '--detach', '--name', 'web', lab.image('web:1'));
    await lab.converged('web', 1);
  });
  afterAll(async () => {
    await lab?.down();
  });

  const state = () => lab.docker('h1', 'info', '--format', '{{.Swarm.LocalNodeState}}');
  const unlockKey = () => lab.docker('h1', 'swarm', 'unlock-key', '-q');
  const unlock = async (input: string): Promise<Result> =>
    run('docker', ['swarm', 'unlock'], {
      env: { DOCKER_HOST: await lab.socket('h1'), DOCKER_CONTEXT: undefined },
      input,
    });
  const keyFile = () => readFile(join(h1.dataDir, 'state.key'), 'utf8');
  const restart = () => lab.drover('restart-daemon', 'h1');
  const container = async () => {
    const id = await lab.engine('h1', 'ps', '-q', '--no-trunc', '--filter', 'label=com.docker.swarm.service.name=web');
    return lab.engine('h1', 'inspect', '--format', '{{.Id}} {{.State.StartedAt}}', id);
  };
  const active = () => eventually('the manager is active', async () => (await state()) === 'active', 20_000);

  test('a start after kill -9 is locked: cluster calls are refused, containers go on, the key opens it', async () => {
    const running = await container();
    expect(await unlockKey()).toBe(key);
    await restart();
    expect(await state()).toBe('locked');
    expect(await keyFile()).toMatch(/^\{"locked":/);
    for (const words of [
      ['node', 'ls'],
      ['service', 'ls'],
      ['swarm', 'unlock-key'],
      ['swarm', 'join-token', 'worker'],
    ]) {
      expect(await lab.tryDocker('h1', ...words)).toMatchObject({ code: 1, stderr: expect.stringContaining(LOCKED) });
    }
    expect(await lab.docker('h1', 'ps', '-q')).not.toBe('');
    expect(await lab.tryDocker('h1', 'swarm', 'leave')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('Swarm is encrypted and locked. Please unlock it first or use `--force`'),
    });
    expect(await unlock(`SWMKEY-1-${'A'.repeat(43)}`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('swarm could not be unlocked: invalid key provided'),
    });
    expect(await unlock('nonsense')).toMatchObject({ code: 1, stderr: expect.stringContaining('invalid key string') });
    expect(await state()).toBe('locked');
    expect(await unlock(key)).toMatchObject({ code: 0 });
    await active();
    await lab.converged('web', 1);
    expect(await container()).toBe(running);
    expect(await unlock(key)).toMatchObject({ code: 1, stderr: expect.stringContaining('swarm is not locked') });
  });

  test('a key that was rotated opens nothing any more; its successor does', async () => {
    const next = /SWMKEY-1-\S+/.exec(await lab.docker('h1', 'swarm', 'unlock-key', '--rotate'))![0];
    expect(next).not.toBe(key);
    await restart();
    expect(await unlock(key)).toMatchObject({ code: 1, stderr: expect.stringContaining('invalid key provided') });
    expect(await unlock(next)).toMatchObject({ code: 0 });
    await active();
    expect(await unlockKey()).toBe(next);
  });

  test('without the lock it starts by itself; with it again, there is a new key', async () => {
    const running = await container();
    const before = await unlockKey();
    await lab.docker('h1', 'swarm', 'update', '--autolock=false');
    expect(await keyFile()).toMatch(/^\{"keys":/);
    await restart();
    await active();
    expect(await lab.tryDocker('h1', 'swarm', 'unlock-key')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('no unlock key is set'),
    });
    const said = await lab.docker('h1', 'swarm', 'update', '--autolock=true');
    expect(/SWMKEY-1-\S+/.exec(said)![0]).not.toBe(before);
    expect(await keyFile()).toMatch(/^\{"locked":/);
    expect(await container()).toBe(running);
  });
});
