/** Other people's clients drive a cluster: Debian's docker-py, and dockerode. What they are made to do is in a program of their own. */
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { driveWithDockerode } from './clients.dockerode.ts';
import { Lab, succeed } from './lab.ts';

describe('clients', () => {
  let lab: Lab;

  beforeAll(async () => {
    lab = await Lab.up('clients', { hosts: 1, bare: true });
  });
  afterAll(() => lab?.down());

  test('docker-py: create, list, update, logs of plain containers, events', async () => {
    const socket = (await lab.socket('h1')).replace(/^unix:\/\//, '');
    const program = resolve(import.meta.dirname, 'clients.py');
    const output = await succeed('/usr/bin/python3', [
      program,
      socket,
      await lab.address('h1'),
      lab.image('web:1'),
      lab.image('web:2'),
    ]);
    expect(JSON.parse(output)).toEqual({
      version: expect.any(String),
      api: '1.41',
      swarm: 3,
      swarmUpdated: 2,
      node: { zone: 'a' },
      networks: ['back'],
      duplicate: [409, 'network with name back already exists'],
      services: ['web'],
      slots: [1, 2],
      image: true,
      previous: true,
      notFound: 'service nobody not found',
      run: 'hello\n',
      exit: 3,
      stdout: 'one\n',
      stderr: 'two\n',
      labelled: 3,
      live: expect.arrayContaining([
        ['network', 'create', 'back'],
        ['service', 'create', 'web'],
        ['service', 'update', 'web'],
        ['service', 'remove', 'web'],
        ['network', 'remove', 'back'],
      ]),
      past: expect.arrayContaining([
        ['create', 'swarm'],
        ['update', 'swarm'],
        ['remove', 'swarm'],
      ]),
    });
  });

  test('dockerode: create, list, update, logs of plain containers, events', async () => {
    const socket = (await lab.socket('h1')).replace(/^unix:\/\//, '');
    const images: [string, string] = [lab.image('web:1'), lab.image('web:2')];
    expect(await driveWithDockerode(socket, await lab.address('h1'), images)).toEqual({
      networks: [['back', 'swarm']],
      services: ['web'],
      stale: [500, 'update out of sequence'],
      nodes: 1,
      exit: 0,
      logs: 'hello\n',
      told: ['create web', 'update web', 'remove web'],
    });
  });
});
