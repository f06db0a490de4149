/** What `drover stack` says of services on their way, of differences, of images and of credentials. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ServiceSpec } from '../model/specs.ts';
import { registryOf, taggedImage } from './compose/images.ts';
import { registryAuth } from './compose/registry-auth.ts';
import { comparable, diffLines } from './stack-diff.ts';
import { standing } from './stack-progress.ts';
import { ago } from './stack.ts';

describe('where a service stands', () => {
  const task = (State: string, more: object = {}) => ({
    Slot: 1,
    DesiredState: 'running',
    Status: { State, Message: '' },
    ...more,
  });
  const replicated = { Name: 'web', Mode: { Replicated: { Replicas: 2 } } };
  const job = { Name: 'job', Mode: { ReplicatedJob: { TotalCompletions: 2 } } };
  const done = (Slot: number) => task('complete', { Slot, DesiredState: 'complete' });
  const waits = task('ready', {
    DesiredState: 'ready',
    Status: { State: 'ready', Message: '', Err: 'waits for service db' },
  });

  test.each([
    [replicated, undefined, [], { words: '0/2 running' }],
    [replicated, undefined, [task('running'), task('running')], { words: '1/2 running' }],
    [replicated, undefined, [task('running'), task('running', { Slot: 2 })], { words: '2/2 running', outcome: 'done' }],
    [replicated, undefined, [waits], { words: '0/2 running (waits for service db)' }],
    [replicated, 'updating', [task('running'), task('running', { Slot: 2 })], { words: '2/2 running' }],
    [replicated, 'updating', [], { words: 'waiting for confirmation', outcome: 'waiting' }, 'waiting for confirmation'],
    [replicated, 'paused', [task('running')], { words: 'paused: why', outcome: 'failed' }],
    [replicated, 'rollback_started', [], { words: 'why' }],
    [replicated, 'rollback_completed', [task('running')], { words: 'why', outcome: 'failed' }],
    [replicated, 'rollback_paused', [], { words: 'rollback paused: why', outcome: 'failed' }],
    [{ Name: 'none', Mode: { Replicated: { Replicas: 0 } } }, undefined, [], { words: '0/0 running', outcome: 'done' }],
    [{ Name: 'all', Mode: { Global: {} } }, undefined, [], { words: '0/0 running' }],
    [
      { Name: 'all', Mode: { Global: {} } },
      undefined,
      [{ ...task('running'), Slot: undefined, NodeID: 'n' }],
      { words: '1/1 running', outcome: 'done' },
    ],
    [job, undefined, [done(0)], { words: '1/2 completed' }],
    [job, undefined, [done(0), done(1)], { words: '2/2 completed', outcome: 'done' }],
  ])('%#', (Spec, state, tasks, expected, Message = 'why') => {
    const status = state === undefined ? {} : { UpdateStatus: { State: state, Message } };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- an absent slot is what the API leaves out
    expect(standing({ Spec, ...status }, tasks as Parameters<typeof standing>[1])).toEqual(expected);
  });
});

describe('differences', () => {
  const spec = (more: Partial<ServiceSpec['TaskTemplate']> = {}, labels = {}): ServiceSpec => ({
    Name: 'app_web',
    Labels: labels,
    Mode: { Replicated: {} },
    TaskTemplate: { ContainerSpec: { Image: 'i:1' }, Networks: [{ Target: 'id1' }], ...more },
  });
  const networkName = (id: string): string => (id === 'id1' ? 'net' : id);
  const lines = (before: ServiceSpec | undefined, after: ServiceSpec | undefined, digests = false): string[] => {
    const map = (one: ServiceSpec | undefined): Map<string, object> =>
      new Map(one === undefined ? [] : [[one.Name, comparable(one, { networkName, digests })]]);
    return diffLines(map(before), map(after));
  };

  test('services that come and go', () => {
    expect(lines(undefined, spec())).toEqual(['+ service app_web']);
    expect(lines(spec(), undefined)).toEqual(['- service app_web']);
  });

  test('fields, with what they were and are', () => {
    const before = spec({ ContainerSpec: { Image: 'i:1', Env: ['A=1', 'B=2'], Args: ['x'] } }, { l: '1' });
    const after = spec({ ContainerSpec: { Image: 'i:2', Env: ['B=3', 'C=4'], Args: ['x', 'y'] } }, { m: '1' });
    expect(lines(before, after)).toEqual([
      '~ service app_web',
      '    Labels[l]: - 1',
      '    Labels[m]: + 1',
      '    TaskTemplate.ContainerSpec.Args: ["x"] -> ["x","y"]',
      '    TaskTemplate.ContainerSpec.Env[A]: - 1',
      '    TaskTemplate.ContainerSpec.Env[B]: 2 -> 3',
      '    TaskTemplate.ContainerSpec.Env[C]: + 4',
      '    TaskTemplate.ContainerSpec.Image: i:1 -> i:2',
    ]);
  });

  test('what the cluster added is no difference', () => {
    const stored: ServiceSpec = {
      ...spec({
        Runtime: 'container',
        ForceUpdate: 3,
        ContainerSpec: {
          Image: 'i:1@sha256:1',
          Isolation: 'default',
          Secrets: [{ SecretID: 'x', SecretName: 's', File: { Name: 's', UID: '0', GID: '0', Mode: 1 } }],
        },
        Placement: { Platforms: [{ OS: 'linux' }] },
      }),
      Mode: { Replicated: { Replicas: 1 } },
      EndpointSpec: { Mode: 'vip' },
    };
    const planned = spec({
      Networks: [{ Target: 'net' }],
      ContainerSpec: {
        Image: 'i:1',
        Secrets: [{ SecretID: '', SecretName: 's', File: { Name: 's', UID: '0', GID: '0', Mode: 1 } }],
      },
    });
    expect(lines(stored, planned)).toEqual([]);
    expect(lines(stored, planned, true)).toEqual([
      '~ service app_web',
      '    TaskTemplate.ContainerSpec.Image: i:1@sha256:1 -> i:1',
    ]);
  });
});

test.each([
  ['busybox', 'busybox:latest', 'https://index.docker.io/v1/'],
  ['docker.io/library/busybox:1', 'busybox:1', 'https://index.docker.io/v1/'],
  ['me/app', 'me/app:latest', 'https://index.docker.io/v1/'],
  ['reg:5000/app', 'reg:5000/app:latest', 'reg:5000'],
  ['localhost/app:2', 'localhost/app:2', 'localhost'],
  ['a.b/c/d@sha256:12', 'a.b/c/d@sha256:12', 'a.b'],
])('the image %s', (image, tagged, registry) => {
  expect([taggedImage(image), registryOf(image)]).toEqual([tagged, registry]);
});

test('credentials from config.json', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'drover-auth-'));
  const env = { DOCKER_CONFIG: directory };
  const of = async (image: string): Promise<unknown> => {
    const auth = await registryAuth(image, env);
    return auth === undefined ? undefined : JSON.parse(Buffer.from(auth, 'base64url').toString());
  };
  try {
    expect(await of('busybox')).toBeUndefined();
    const auth = Buffer.from('me:pass:word').toString('base64');
    const auths = { 'https://index.docker.io/v1/': { auth }, 'https://reg:5000': { identitytoken: 't' } };
    writeFileSync(join(directory, 'config.json'), JSON.stringify({ auths }));
    expect(await of('busybox')).toEqual({
      username: 'me',
      password: 'pass:word',
      serveraddress: 'https://index.docker.io/v1/',
    });
    expect(await of('reg:5000/x')).toMatchObject({ identitytoken: 't' });
    expect(await of('other/x.y')).toMatchObject({ username: 'me' });
    expect(await of('other.io/x')).toBeUndefined();
    writeFileSync(join(directory, 'config.json'), '{');
    await expect(of('busybox')).rejects.toThrow('config.json is no JSON');
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test.each([
  [0, '0 seconds ago'],
  [1_000, '1 second ago'],
  [119_000, '1 minute ago'],
  [7_200_000, '2 hours ago'],
  [-5, '0 seconds ago'],
])('%d ms', (ms, words) => {
  expect(ago(0, ms)).toBe(words);
});
